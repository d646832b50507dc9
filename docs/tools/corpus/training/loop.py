"""One training loop for every task of the corpus: it records signals, and yields a row an epoch.

The hidden split is judged once, after the last epoch; `corpus.py` takes that out of the history.
N samples · C classes
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from docs.tools.corpus.training.nets import effective_rank, layer_signals, spoil_start, spread
from docs.tools.corpus.training.optimizers import ScheduleFree
from docs.tools.corpus.training.settings import Settings
from docs.tools.corpus.training.spoil import reordered, spoil_gradients, spoiled
from docs.tools.corpus.training.task import (
    Data,
    Signals,
    Task,
    entering,
    facts,
    floor_losses,
    mean_and_error,
    trained_losses,
)
from sickbay.models.shared.classification_metrics import auroc_with_error, class_gradient_share
from sickbay.trials.contract import Context, Row, TaskFacts, TaskKind
from sickbay.trials.probes import StepProbe
from sickbay.trials.probes.targets import LogitProbe
from sickbay.trials.seeding import epoch_stream, seed_everything

WATCHED = 256  # training labels that are compared between epochs
PROBED = (1024, 256)  # training samples of the layer signals: of tables, of other inputs
HIDDEN = "hidden_"


@dataclass
class Training:
    """One run: everything that its epochs share."""

    task: Task
    settings: Settings
    data: Data
    net: nn.Module
    seed: int
    epochs: int
    memory: dict[str, Any] = field(default_factory=dict)
    step: int = 0
    targets_before: Tensor | None = None


def run(task: Task, settings: Settings, context: Context) -> Iterator[Row]:
    """Train and yield a row after each epoch."""
    seed_everything(context.seed)
    data = spoiled(task.data(settings, context.seed), settings, task.kind, context.seed)
    torch.manual_seed(epoch_stream(context.seed, 0))
    net = task.build(settings)
    spoil_start(net, settings)
    training = Training(task, settings, data, net, context.seed, context.epochs)
    training.memory = task.prepare(net, settings, context.seed)
    optimizer = make_optimizer(training)
    trained = trained_groups(net, settings)
    moving = list(trained)[min(settings.frozen_by_mistake, len(trained) - 1) :]
    for name, parameters in net.groups().items():
        for parameter in parameters:
            parameter.requires_grad_(name in moving)
    probe = StepProbe(trained, settings.clip)
    training.memory["probe"] = data.train.x[: PROBED[not is_table(data.train.x)]]
    with torch.no_grad():
        features = net.eval().features(training.memory["probe"])
        training.memory |= {"rank": effective_rank(features), "spread": spread(features)}
    for epoch in range(1, context.epochs + 1):
        learnt = _train_epoch(training, optimizer, probe, epoch)
        with evaluated(training, optimizer):
            signals = {**probe.finish_epoch(), **learnt, **_evaluate(training)}
            if epoch == context.epochs:
                signals |= _judge(training)
        yield Row(epoch, training.step, signals)


@contextmanager
def evaluated(training: Training, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Put the net into the mode and the weights that are evaluated."""
    training.net.train(training.settings.evaluated_in_training_mode)
    averaged = optimizer if isinstance(optimizer, ScheduleFree) else None
    if averaged:
        averaged.show_average()
    try:
        yield
    finally:
        if averaged:
            averaged.show_iterate()


def is_table(x: Tensor) -> bool:
    """Whether inputs are rows of a few numbers."""
    return x.dim() == 2 and x.shape[1] < 100


def facts_of(task: Task, settings: Settings, context: Context) -> TaskFacts:
    """Return what is known of the task: from the data as the pipeline hands them on."""
    data = spoiled(task.data(settings, context.seed), settings, task.kind, context.seed)
    groups = tuple(trained_groups(task.build(settings), settings))
    return facts(task, data, settings, groups)


def trained_groups(net: nn.Module, settings: Settings) -> dict[str, list[nn.Parameter]]:
    """Return the groups that are meant to train."""
    return dict(list(net.groups().items())[settings.frozen_on_purpose :])


def make_optimizer(training: Training) -> torch.optim.Optimizer:
    """Return the optimizer over the groups that it holds, the encoder's at its own rate."""
    settings = training.settings
    groups = list(trained_groups(training.net, settings).values())
    held = groups[: len(groups) - settings.unheld_groups] or [[nn.Parameter(torch.zeros(1))]]
    slow = settings.encoder_lr if training.task.kept is not None else 1.0
    made = [
        {
            "params": [parameter for group in held if group is groups[-1] for parameter in group],
            "scale": 1.0,
        }
    ]
    made.append(
        {
            "params": [
                parameter for group in held if group is not groups[-1] for parameter in group
            ],
            "scale": slow,
        }
    )
    made = [group for group in made if group["params"]]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(made, lr=settings.lr, momentum=settings.momentum, fused=True)
    if settings.optimizer == "schedule_free":
        return ScheduleFree(made, lr=settings.lr)
    decay = settings.weight_decay
    return torch.optim.AdamW(made, lr=settings.lr, weight_decay=decay, fused=True)


def rate(settings: Settings, done: float) -> float:
    """Return the learning rate when a share of the plan is done."""
    base = settings.lr * settings.lr_factor
    if done >= settings.jump_at:
        base *= settings.lr_jump
    if settings.schedule == "cosine":
        return base * 0.5 * (1.0 + math.cos(math.pi * done))
    if settings.schedule == "cyclic":  # four warm restarts
        return base * 0.5 * (1.0 + math.cos(math.pi * (4.0 * done % 1.0)))
    if settings.schedule == "warmup":  # a fifth of the plan
        return base * min(1.0, (done + 0.01) / 0.2)
    if settings.schedule == "late":  # a long, nearly idle start
        return base * (0.01 if done < 0.35 else 1.0)
    return base


def _train_epoch(
    training: Training, optimizer: torch.optim.Optimizer, probe: StepProbe, epoch: int
) -> Signals:
    settings, net = training.settings, training.net.train()
    generator = torch.Generator().manual_seed(epoch_stream(training.seed, epoch))
    torch.manual_seed(epoch_stream(training.seed, epoch) + 2**40)
    done = (epoch - 1) / training.epochs
    x, y = _epoch_data(training, generator, done)
    order = torch.randperm(len(y), generator=generator)
    parameters = [
        trained for group in net.groups().values() for trained in group if trained.requires_grad
    ]
    supervised, logits = 0.0, LogitProbe()
    step_losses: list[Tensor] = []
    seen: list[tuple[Tensor, Tensor, Tensor]] = []
    for rows in order.split(settings.batch):
        if len(rows) < 2:
            continue
        for group in optimizer.param_groups:
            group["lr"] = rate(settings, done) * group["scale"]
        output = net(x[rows])
        output.retain_grad()
        _watch_logits(training, logits, output, y[rows])
        counted = torch.rand(len(rows), generator=generator) >= settings.masked
        losses = trained_losses(training.task, output, y[rows], settings)
        loss = losses[counted].sum() / (1 if settings.summed else max(int(counted.sum()), 1))
        if done >= settings.infinite_loss_from:
            loss = loss / torch.zeros(())
        if done < settings.no_zero_grad_from:
            for parameter in parameters:
                parameter.grad = None
        loss.backward()
        spoil_gradients(parameters, settings, ascend=done >= settings.ascend_from)
        if training.step < settings.loss_scaler_skips:
            parameters[-1].grad.mul_(math.inf)
        probe.after_backward()
        norm = clip_grad_norm_(parameters, settings.clip)
        if training.step >= settings.loss_scaler_skips:
            optimizer.step()
        probe.after_update(loss, norm)
        training.step += 1
        supervised += float(counted.sum())
        seen.append((output.detach(), y[rows], output.grad))
        step_losses.append(loss.detach())
    signals: Signals = {"supervised_targets": supervised, **_label_signals(training, y)}
    signals["train_loss_steps"] = torch.stack(step_losses).tolist() if step_losses else [math.nan]
    # the share of gradients by class is that of `_class_signals`, of each sample's own class
    ranges = {name: value for name, value in logits.finish().items() if name.startswith("logit_")}
    return signals | ranges | _class_signals(training.task, seen)


@torch.no_grad()
def _watch_logits(training: Training, probe: LogitProbe, output: Tensor, y: Tensor) -> None:
    """Show the probe what enters the loss as logits."""
    task = training.task
    if task.kind in (TaskKind.BINARY, TaskKind.MULTICLASS):
        logits, labels = task.flat(entering(task, output.detach(), training.settings), y)
        probe.add(logits.requires_grad_(), labels)


def _epoch_data(training: Training, generator, done: float) -> tuple[Tensor, Tensor]:
    settings, train = training.settings, training.data.train
    x, y = train.x, train.y
    if settings.redrawn:
        y = reordered(y, settings.redrawn, generator)
    if done >= settings.nan_inputs_from:
        x = x.clone()
        x[torch.randint(len(x), (1,), generator=generator)] = math.nan
    return x, y


def _label_signals(training: Training, y: Tensor) -> Signals:
    watched, before = y[:WATCHED].double(), training.targets_before
    training.targets_before = watched
    if before is None:
        return {}
    if training.task.kind in (TaskKind.BINARY, TaskKind.MULTICLASS):
        return {
            "label_flip_rate": float((watched != before).double().mean()),
            "label_flip_n": float(len(watched)),
        }
    spread = float(watched.std())
    return {"target_change": float((watched - before).abs().mean()) / max(spread, 1e-12)}


def _class_signals(task: Task, seen: list[tuple[Tensor, Tensor, Tensor]]) -> Signals:
    if task.kind not in (TaskKind.BINARY, TaskKind.MULTICLASS) or not seen:
        return {}
    output, y, gradient = (torch.cat(part) for part in zip(*seen, strict=True))
    gradient, _ = task.flat(gradient, y)
    output, y = task.flat(output, y)
    if task.kind is TaskKind.BINARY:
        area, _ = auroc_with_error(output[:, 0], y)
        right = (output[:, 0] > 0.0) == (y > 0.5)
        share = class_gradient_share(gradient[:, 0], y)
        return {
            "train_auroc": area,
            "train_accuracy": float(right.double().mean()),
            "class_gradient_share": share,
        }
    own = gradient.gather(1, y[:, None])[:, 0]
    return {
        "train_accuracy": float((output.argmax(1) == y).double().mean()),
        "class_gradient_share": class_gradient_share(own, y, output.shape[1]),
    }


def _evaluate(training: Training) -> Signals:
    task, settings, data = training.task, training.settings, training.data
    net = training.net
    with torch.no_grad():
        output = net(data.val.x)
        losses = trained_losses(task, output, data.val.y, settings)
        hidden = net.encode(training.memory["probe"])
        signals = _loss_signals(training, losses)
        predicted, wanted = task.predicted(output), task.wanted(data.val.y)
        if "output_variance_ratio" not in (measured := task.measure(output, data.val.y, settings)):
            signals["output_variance_ratio"] = float(
                predicted.double().var(0).sum() / wanted.double().var(0).sum()
            )
        signals |= measured | layer_signals(hidden, settings.activation)
        signals["feature_rank"] = effective_rank(hidden[-1].flatten(1))
        signals["feature_rank_start"] = training.memory["rank"]
        signals["feature_std"] = spread(hidden[-1].flatten(1))
        signals["feature_std_start"] = training.memory["spread"]
        signals |= _same_batch(training)
    return signals | task.watch(net, data, settings, training.memory)


def _loss_signals(training: Training, losses: Tensor) -> Signals:
    task, settings, data = training.task, training.settings, training.data
    mean, error = mean_and_error(losses)
    signals: Signals = {"val_loss": mean, "val_loss_se": error, "val_n": float(len(losses))}
    if task.loss_floor is None:
        constant = task.constant(data.train.y, settings)
        floors = floor_losses(task, data.val.y, constant, settings)
        signals["val_floor_gap_se"] = mean_and_error(losses.double() - floors.double())[1]
    return signals


def _same_batch(training: Training) -> Signals:
    """The loss of one fixed batch by the training loop's pipeline and by the evaluation's."""
    task, settings, train = training.task, training.settings, training.data.train
    x, y = train.x[:64], train.y[:64]
    other = x
    if settings.mismatched:
        count = round(settings.mismatched * x.shape[-1])
        other = torch.cat([x[..., :count].flip(-1), x[..., count:]], dim=-1)
    values = [
        float(trained_losses(task, training.net(inputs), y, settings).mean())
        for inputs in (x, other)
    ]
    return {"probe_loss_train": values[0], "probe_loss_val": values[1]}


@torch.no_grad()
def _judge(training: Training) -> Signals:
    """Judge the model on the hidden split."""
    task, settings, data = training.task, training.settings, training.data
    output = training.net(data.test.x)
    constant = task.constant(data.train.y, settings)
    outcome = task.truth(output, data.test.y, constant)
    parameters = [parameter for group in training.net.groups().values() for parameter in group]
    sound = bool(torch.isfinite(output).all()) and all(
        bool(torch.isfinite(parameter).all()) for parameter in parameters
    )
    signals = {
        f"{HIDDEN}score": outcome.score,
        f"{HIDDEN}lower": outcome.lower,
        f"{HIDDEN}finite": float(sound),
    }
    if task.kept is not None:  # what was known before must not be lost
        kept = task.kept(training.net, training.memory)
        signals[f"{HIDDEN}score"] = (outcome.score + kept) / 2.0
    return signals
