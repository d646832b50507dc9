"""How the detector is trained: from scratch without weights, then with them, part by part."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch.nn import Parameter
from torch.nn.utils import clip_grad_norm_

from sickbay.models.reweighting.losses import detection_losses
from sickbay.models.reweighting.network import Batch, QueryDetector
from sickbay.models.shared.pretraining import Log, Pretraining

CLIP = 35.0  # norm of the gradient, as CMT has it
DECAY = 0.01
WARM = 0.3  # share of the pretraining over which the learning rate rises


@dataclass(frozen=True)
class Rates:
    """Learning rates by part; 0 freezes the encoders."""

    encoders: float
    generator: float
    references: float
    decoder: float


def pretrain(
    net: QueryDetector, draw: Callable[[int], Batch], steps: int, lr: float, log: Log
) -> None:
    """Train without weights, in place: AdamW, one cycle. `draw` gives the batch of a step."""
    parameters = list(net.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=DECAY)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=WARM)
    run = Pretraining({"net": net, "optimizer": optimizer, "cycle": cycle}, steps, log)
    for step in range(run.done):
        draw(step)
    for step in run.remaining():
        batch = draw(step)
        predicted = net.decode(net.encode(batch))
        losses = detection_losses(predicted.logits, predicted.codes, batch.boxes, batch.classes)
        optimizer.zero_grad()
        loss = losses.total.mean()
        loss.backward()  # type: ignore[no-untyped-call]
        clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        run.add(loss, float(optimizer.param_groups[0]["lr"]))
        cycle.step()


def part_optimizer(net: QueryDetector, rates: Rates) -> torch.optim.AdamW:
    """Return an optimiser with a learning rate for each part. Frozen encoders get no gradient."""
    groups = net.groups()
    frozen = rates.encoders <= 0.0
    for name in ("grid_encoder", "view_encoder"):
        for parameter in groups[name]:
            parameter.requires_grad_(not frozen)
    encoders = [] if frozen else [*groups["grid_encoder"], *groups["view_encoder"]]
    return torch.optim.AdamW(
        [
            {"params": encoders, "lr": rates.encoders, "weight_decay": DECAY},
            # No decay: a generator that no gradient reaches must not change.
            {"params": groups["generator"], "lr": rates.generator, "weight_decay": 0.0},
            {"params": groups["references"], "lr": rates.references, "weight_decay": 0.0},
            {
                "params": [*groups["decoder"], *groups["heads"]],
                "lr": rates.decoder,
                "weight_decay": DECAY,
            },
        ]
    )


def clear_gradients(groups: Mapping[str, list[Parameter]]) -> None:
    """Set the gradients of parts that should train to zero, not to None.

    A part that is cut off from the loss then shows a gradient of exactly zero: None would say that
    it was never meant to train.
    """
    for parameter in (member for group in groups.values() for member in group):
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        else:
            parameter.grad.zero_()
