"""The encoder before Strategy A begins: trained alone, with a linear head and cross-entropy."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from sickbay.models.longtail.network import Encoder
from sickbay.models.shared.pretraining import Log, Part, Pretraining

RATE, MOMENTUM = 0.05, 0.9
DECAY = 1e-2  # in a short run as much as 5e-4 in a long one: the weights end small


def pretrain(
    encoder: Encoder, classes: int, steps: int, batches: Iterator[tuple[Tensor, Tensor]], log: Log
) -> dict[str, Tensor]:
    """Train the encoder in place for so many batches, and return its state.

    SGD with momentum 0.9; the rate rises to 0.1 and falls to nothing, in one cycle. Weights decay;
    scales and biases do not.
    """
    head = nn.Linear(encoder.dimensions, classes).to(next(encoder.parameters()).device)
    every = [*encoder.parameters(), *head.parameters()]
    groups: list[dict[str, Any]] = [
        {"params": [parameter for parameter in every if parameter.ndim > 1], "weight_decay": DECAY},
        {"params": [parameter for parameter in every if parameter.ndim <= 1]},
    ]
    optimizer = torch.optim.SGD(groups, lr=RATE, momentum=MOMENTUM)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2.0 * RATE, steps)
    parts: dict[str, Part] = {"encoder": encoder, "head": head}
    parts |= {"optimizer": optimizer, "cycle": cycle}
    run = Pretraining(parts, steps, log)
    encoder.train()
    for _ in range(run.done):
        next(batches)
    for _ in run.remaining():
        images, labels = next(batches)
        loss = nn.functional.cross_entropy(head(encoder(images)), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        run.add(loss, float(optimizer.param_groups[0]["lr"]))
        cycle.step()
    return encoder.state_dict()
