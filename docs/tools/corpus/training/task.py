"""What a small task of the corpus must answer; `loop.py` trains any of them.

N samples · B samples of a batch
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from docs.tools.corpus.training.settings import Settings
from sickbay.trials.contract import TaskFacts, TaskKind

Signals = dict[str, float | list[float]]


@dataclass(frozen=True)
class Split:
    """Inputs (N, …) and targets (N, …)."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class Data:
    """The three splits; the test split is for the truth alone."""

    train: Split
    val: Split
    test: Split


@dataclass(frozen=True)
class Outcome:
    """How good a model is on the hidden test split: higher is better.

    `lower` is the one-sided 95 % bound of its skill over the trivial predictor, 0 meaning none.
    """

    score: float
    lower: float


@dataclass(frozen=True)
class Task:
    """One small task: its data, its net, its loss of each sample, its best constant, its truth.

    `constant(y_train, settings)` is the output of the best constant predictor for one sample,
    (1, …); `truth(output, y, constant_output)` judges on the hidden split. `measure` adds signals
    of an output on the validation split, `watch` adds signals that need the net itself.
    """

    name: str
    kind: TaskKind
    settings: Settings
    data: Callable[[Settings, int], Data]
    build: Callable[[Settings], nn.Module]
    losses: Callable[[Tensor, Tensor, Settings], Tensor]
    constant: Callable[[Tensor, Settings], Tensor]
    truth: Callable[[Tensor, Tensor, Tensor], Outcome]
    measure: Callable[[Tensor, Tensor, Settings], Signals] = lambda *_: {}
    watch: Callable[[nn.Module, Data, Settings, dict[str, Any]], Signals] = lambda *_: {}
    prepare: Callable[[nn.Module, Settings, int], dict[str, Any]] = lambda *_: {}
    kept: Callable[[nn.Module, dict[str, Any]], float] | None = None  # skill of a pretrained part
    predicted: Callable[[Tensor], Tensor] = lambda output: output
    wanted: Callable[[Tensor], Tensor] = lambda y: y
    components: int | None = None
    loss_floor: Callable[[Tensor, Settings], float] | None = None  # where no constant is known
    density_floor: Callable[[Tensor], float] | None = None
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    loss_minimum: float | None = 0.0
    epochs: int = 40
    # how runs of one task differ by their seed: optimizers, sizes of the validation split
    vary: Callable[[Settings, int], Settings] = lambda settings, seed: settings
    # class scores (M, C) and labels (M,) of everything that is scored, padding left out
    flat: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = lambda output, y: (output, y)


def mean_and_error(values: Tensor) -> tuple[float, float]:
    """Return the mean of (N,) values and its standard error."""
    values = values.double()
    return float(values.mean()), float(values.std() / math.sqrt(len(values)))


def gained(losses: Tensor, floors: Tensor) -> Outcome:
    """Judge by losses (N,) against the best constant's on the same samples: the share gained."""
    scale = float(floors.double().mean())
    mean, error = mean_and_error((floors - losses).double())
    return Outcome(mean / scale, (mean - 1.645 * error) / scale)


def judged_by(
    losses: Callable[[Tensor, Tensor, Settings], Tensor],
) -> Callable[[Tensor, Tensor, Tensor], Outcome]:
    """Return a judge by a task's own loss against the best constant's; outputs are (N, K)."""
    plain = Settings()
    return lambda output, y, constant: gained(
        losses(output, y, plain), losses(constant.expand(len(y), -1), y, plain)
    )


def matched(right: Tensor, trivial: Tensor) -> Outcome:
    """Judge by hits (N,) against the hits of always naming the commonest class."""
    mean, error = mean_and_error(right.double() - trivial.double())
    return Outcome(float(right.double().mean()), mean - 1.645 * error)


def splits(x: Tensor, y: Tensor, settings: Settings) -> Data:
    """Cut n_train + n_val + n_test samples into the three splits."""
    a, b = settings.n_train, settings.n_train + settings.n_val
    return Data(Split(x[:a], y[:a]), Split(x[a:b], y[a:b]), Split(x[b:], y[b:]))


def total(settings: Settings) -> int:
    """Return how many samples the three splits take."""
    return settings.n_train + settings.n_val + settings.n_test


def facts(task: Task, data: Data, settings: Settings, groups: tuple[str, ...]) -> TaskFacts:
    """Return the task's facts, the floor measured through the trained loss itself."""
    if task.loss_floor is not None:
        floors = {"val_loss": task.loss_floor(data.val.y, settings) * settings.loss_scale}
    else:
        constant = task.constant(data.train.y, settings)
        floors = {
            f"{name}_loss": float(floor_losses(task, split.y, constant, settings).double().mean())
            for name, split in (("val", data.val), ("train", data.train))
        }
    if task.density_floor is not None:
        floors["val_density_kl"] = task.density_floor(data.val.y)
    counts: tuple[int, ...] = ()
    if task.kind in (TaskKind.BINARY, TaskKind.MULTICLASS):
        labels = data.train.y.long().flatten()
        counts = tuple(torch.bincount(labels[labels >= 0]).tolist())
    return TaskFacts(
        kind=task.kind,
        floors=floors,
        class_counts=counts,
        n={"train": len(data.train), "val": len(data.val)},
        groups=groups,
        components=task.components,
        bounds=task.bounds,
        loss_minimum=task.loss_minimum,
    )


def entering(task: Task, output: Tensor, settings: Settings) -> Tensor:
    """Return what enters the loss where logits belong: a fault applies an activation first."""
    for _ in range(settings.activated):
        output = output.softmax(-1) if task.kind is TaskKind.MULTICLASS else output.sigmoid()
    return output


def trained_losses(task: Task, output: Tensor, y: Tensor, settings: Settings) -> Tensor:
    """Return the loss of each sample as it is trained and logged, (N,): with the loss's faults."""
    output = entering(task, output, settings)
    if settings.loss_form == "unsquared":
        return (output.reshape(len(y), -1) - y.reshape(len(y), -1)).mean(1)
    losses = task.losses(output, y, settings)
    if settings.loss_form == "negated":
        losses = -losses
    if settings.loss_form == "probability":  # of the right class: the logarithm was forgotten
        losses = -(-losses).exp()
    return losses * settings.loss_scale


def floor_losses(task: Task, y: Tensor, constant: Tensor, settings: Settings) -> Tensor:
    """Return the best constant predictor's loss of each sample, (N,)."""
    output = constant.expand(len(y), *constant.shape[1:])
    return task.losses(output, y, settings) * settings.loss_scale
