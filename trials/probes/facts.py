"""Facts of a task from its loss and its targets: above all the loss of the best constant predictor.

    facts = TaskFacts.of(torch.nn.CrossEntropyLoss(weight=w, label_smoothing=0.1), y_val)
    facts = TaskFacts.of("bce", y_val, weights=9.0)              # the weight of the positives

Every floor is that of the very loss that is trained, weights and smoothing included, in the mean
over the samples as torch's `reduction="mean"` takes it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sickbay.trials.contract import TaskFacts, TaskKind

CONSTANT_STEPS = 100  # of the numerical search for the best constant, where there is no formula
Loss = Callable[[Tensor, Tensor], Tensor]
_CLASSES = (nn.CrossEntropyLoss, nn.NLLLoss)
_REGRESSION = (nn.MSELoss, nn.L1Loss, nn.HuberLoss, nn.SmoothL1Loss)


def facts_of(
    loss: "nn.Module | Loss | str",
    targets: Any,
    *,
    weights: "Sequence[float] | Tensor | float | None" = None,
    train_targets: Any = None,
    classes: int | None = None,
    smoothing: float = 0.0,
    gamma: float = 2.0,
    delta: float = 1.0,
) -> TaskFacts:
    """Facts from a loss and the validation targets, (n,) classes or numbers, or (n, k).

    `loss` is a torch module (cross-entropy, NLL, BCE with or without logits, MSE, L1, Huber, smooth
    L1), its name, or any function of predictions and targets, whose best constant is searched over
    `classes` outputs. Names: "cross_entropy" and "nll" (`weights` by class, `smoothing`), "bce" on
    logits (weight of the positives), "focal" on logits (`gamma`; `weights` is alpha, the positives'
    share, or one a class), "mse", "l1", "huber" (`delta`). `train_targets` are counted instead of
    the targets. Raises ValueError for an unknown name, weights beside a loss that has its own, and
    empty targets.
    """
    values = torch.as_tensor(targets)
    if isinstance(loss, str):
        options = _Options(weights, smoothing, gamma, delta)
        made = _named(loss, options)
    elif weights is not None:
        raise ValueError("weights: are for a loss by its name; this loss holds its own")
    else:
        made = loss
    if loss == "focal" and not values.is_floating_point() and classes is None:
        classes = max(2, int(values.max()) + 1) if len(values) else None
    if len(values) == 0:
        raise ValueError("targets: there are none, so no floor can be known")
    counted = values if train_targets is None else torch.as_tensor(train_targets)
    kind = _kind(made, values, classes)
    return TaskFacts(
        kind=kind,
        floors={"val_loss": floor_of(made, values, classes=classes)},
        class_counts=_counts(counted, kind, classes),
        n={"val": len(values)},
    )


def floor_of(loss: "nn.Module | Loss", targets: Tensor, *, classes: int | None = None) -> float:
    """The mean loss of the best constant predictor."""
    if isinstance(loss, _CLASSES):
        return _cross_entropy(loss, targets)
    if isinstance(loss, nn.BCEWithLogitsLoss | nn.BCELoss):
        return _binary(targets, getattr(loss, "pos_weight", None))
    if isinstance(loss, nn.MSELoss):
        return float(_columns(targets).var(dim=0, correction=0).mean())
    if isinstance(loss, nn.L1Loss):
        columns = _columns(targets)
        return float((columns - columns.median(dim=0).values).abs().mean())
    return _searched(loss, targets, classes)


def _cross_entropy(loss: "nn.CrossEntropyLoss | nn.NLLLoss", targets: Tensor) -> float:
    """-sum a log(a / sum a), a_c being what the loss weighs -log p_c with, in the mean.

    For classes torch divides by the summed weights of the samples, for shares by their number.
    """
    smoothing = float(getattr(loss, "label_smoothing", 0.0))
    if targets.is_floating_point():
        shares = targets.double().mean(dim=0)
        k, norm = len(shares), 1.0
        weight = _weight(loss, k)
    else:
        kept = targets[targets != loss.ignore_index].flatten()
        k = len(loss.weight) if loss.weight is not None else int(kept.max()) + 1
        counts = torch.bincount(kept, minlength=k).double()
        weight = _weight(loss, k)
        norm = float((counts * weight).sum() / counts.sum())
        shares = counts / counts.sum()
    mass = weight * ((1.0 - smoothing) * shares + smoothing / k) / norm
    return float(-torch.special.xlogy(mass, mass / mass.sum()).sum())


def _weight(loss: "nn.CrossEntropyLoss | nn.NLLLoss", k: int) -> Tensor:
    return torch.ones(k, dtype=torch.float64) if loss.weight is None else loss.weight.double().cpu()


def _binary(targets: Tensor, pos_weight: Tensor | None) -> float:
    """The same for two outcomes, q weighed by `pos_weight` and 1 - q; the mean over columns."""
    q = _columns(targets).mean(dim=0)
    positive = q * (1.0 if pos_weight is None else pos_weight.double().cpu())
    negative = 1.0 - q
    total = positive + negative
    parts = torch.special.xlogy(positive, positive / total)
    parts = parts + torch.special.xlogy(negative, negative / total)
    return float(-parts.mean())


def _searched(loss: "nn.Module | Loss", targets: Tensor, classes: int | None) -> float:
    """The least mean loss over constant outputs, found by quasi-Newton steps from several starts.

    The loss of classes is taken on logits; each number is searched for on its own.
    """
    labels = not targets.is_floating_point() and classes is not None and classes > 2
    goal = targets if labels else targets.double()
    columns = classes if labels and classes else _columns(targets).shape[1]
    starts = [torch.zeros(columns, dtype=torch.float64)]
    if labels:
        shares = torch.bincount(targets.flatten(), minlength=columns).double() + 0.5
        starts.append((shares / shares.sum()).log())
    else:
        starts += [_columns(targets).mean(dim=0), _columns(targets).median(dim=0).values]
    return min(_descended(loss, goal, start, labels=labels) for start in starts)


def _descended(loss: "nn.Module | Loss", targets: Tensor, start: Tensor, *, labels: bool) -> float:
    constant = start.clone().requires_grad_()
    steps = torch.optim.LBFGS(
        [constant], max_iter=CONSTANT_STEPS, tolerance_grad=1e-10, line_search_fn="strong_wolfe"
    )

    def value() -> Tensor:
        n = len(targets)
        output = constant.expand(n, -1)
        output = output if labels else output.reshape(targets.shape if targets.dim() > 1 else (n,))
        return loss(output, targets).mean()

    def closure() -> float:
        steps.zero_grad()
        objective = value()
        objective.backward()  # type: ignore[no-untyped-call]
        return float(objective.detach())

    steps.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        lowest = float(value())
    return lowest if math.isfinite(lowest) else math.inf


def _columns(targets: Tensor) -> Tensor:
    return targets.double().reshape(len(targets), -1)


def _kind(loss: "nn.Module | Loss", targets: Tensor, classes: int | None) -> TaskKind:
    if isinstance(loss, _REGRESSION):
        return TaskKind.REGRESSION
    binary = isinstance(loss, nn.BCEWithLogitsLoss | nn.BCELoss)
    if binary:
        return TaskKind.BINARY if _columns(targets).shape[1] == 1 else TaskKind.UNKNOWN
    if not isinstance(loss, _CLASSES) and classes is None:
        two = bool(((targets == 0) | (targets == 1)).all())
        return TaskKind.BINARY if two else TaskKind.REGRESSION
    width = targets.shape[1] if targets.is_floating_point() else int(targets.max()) + 1
    return TaskKind.BINARY if max(width, classes or 0) == 2 else TaskKind.MULTICLASS


def _counts(targets: Tensor, kind: TaskKind, classes: int | None) -> tuple[int, ...]:
    if kind not in (TaskKind.BINARY, TaskKind.MULTICLASS):
        return ()
    labels = targets.argmax(dim=1) if targets.dim() > 1 and targets.shape[1] > 1 else targets
    known = labels[labels >= 0].flatten().long()
    return tuple(torch.bincount(known, minlength=classes or 2).tolist())


@dataclass(frozen=True)
class _Options:
    weights: "Sequence[float] | Tensor | float | None"
    smoothing: float
    gamma: float
    delta: float


def _named(name: str, options: _Options) -> "nn.Module | Loss":
    given = options.weights
    weight = None if given is None else torch.as_tensor(given, dtype=torch.float64)
    smoothing = options.smoothing
    known: dict[str, Callable[[], nn.Module | Loss]] = {
        "cross_entropy": lambda: nn.CrossEntropyLoss(weight, label_smoothing=smoothing),
        "nll": lambda: nn.NLLLoss(weight=weight),
        "bce": lambda: nn.BCEWithLogitsLoss(pos_weight=weight),
        "focal": lambda: _focal(weight, options.gamma),
        "mse": nn.MSELoss,
        "l1": nn.L1Loss,
        "huber": lambda: nn.HuberLoss(delta=options.delta),
    }
    if name not in known:
        raise ValueError(f"loss: {name!r} is none of {', '.join(known)}; or hand in the module")
    return known[name]()


def _focal(weight: Tensor | None, gamma: float) -> Loss:
    """Focal loss on logits (Lin et al. 2017): -w (1 - p)^gamma log p of the true class's p.

    Of two classes with one logit the positive's w is alpha, the negative's 1 - alpha.
    """

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        if logits.dim() > 1 and logits.shape[1] > 1:
            logs = torch.log_softmax(logits, dim=1)
            log_p = logs.gather(1, targets.reshape(-1, 1)).flatten()
            w = torch.ones(()) if weight is None else weight[targets.flatten()]
        else:
            sign = 2.0 * targets.double().reshape(logits.shape) - 1.0
            log_p = nn.functional.logsigmoid(sign * logits)
            alpha = torch.ones(()) if weight is None else weight
            w = alpha if weight is None else torch.where(sign > 0.0, alpha, 1.0 - alpha)
        return (-w * (1.0 - log_p.exp()) ** gamma * log_p).mean()

    return loss
