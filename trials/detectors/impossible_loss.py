"""`impossible_loss`: a loss, a metric or a count has a value that it cannot take."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sickbay.trials.contract import Severity, TaskFacts, TaskKind
from sickbay.trials.detector import RuleResult, clear, detector, fired, suspect
from sickbay.trials.evidence.classes import CLASSIFICATION, COUNTS, confusion
from sickbay.trials.evidence.skill import epoch_at, floor_of, sample_counts
from sickbay.trials.evidence.statistics import BoolArray, FloatArray, persistent
from sickbay.trials.evidence.thresholds import margin, whole
from sickbay.trials.history import History

LOSSES = {
    "val_loss": "validation loss",
    "train_loss": "training loss",
    "test_loss": "test loss",
    "val_density_kl": "divergence of the density",
}
SHARES = {
    "val_accuracy": "validation accuracy",
    "train_accuracy": "training accuracy",
    "val_auroc": "validation AUROC",
    "train_auroc": "training AUROC",
    "val_auprc": "validation average precision",
    "val_recall": "validation recall",
    "val_precision": "validation precision",
}
CERTAIN = (Severity.FATAL, Severity.WARNING, Severity.INFO)  # the surest first
NLL_REMEDY = (
    "The values lie in [-1, 0]: a negative log-likelihood loss was given probabilities. Pass "
    "log-probabilities (`log_softmax`), or use `cross_entropy` on the logits."
)
CLASS_REMEDY = (
    "Look at the sign of the loss (minimise -log p, not log p); at `nll_loss`, which takes "
    "log-probabilities and not logits; and at binary targets, which must lie in [0, 1]."
)


@dataclass(frozen=True)
class _Sign:
    """One contradiction, found at an evaluation. Only a certain one is fatal."""

    index: int
    reason: str
    statistic: float
    threshold: float
    severity: Severity = Severity.FATAL
    remedy: str | None = None


@detector(
    name="impossible_loss",
    version="1.2",
    title="Impossible loss or metric",
    severity=Severity.FATAL,
    online=True,
    blocks_healthy=True,
    signals=("|".join((*LOSSES, *SHARES, *COUNTS)),),
    optional_signals="val_n",
    rule="A loss is below its least value (the declared one, or zero for classes and divergences) "
    "by more than 1 % of the floor; for a regression without a declared least value, by more than "
    "a hundred times the floor, or by the end of a run that began at minus 80 % of the floor or "
    "less, as a loss of the wrong sign does. Or an accuracy, recall, precision, AUROC or average "
    "precision lies outside [0, 1], or a count is negative. Once is enough. A warning, but not "
    "`healthy`: counts that contradict the number of samples or the accuracy, three times in a "
    "row; a loss without a declared least value that was negative from the start, while its floor "
    "is positive.",
    formula="L < L_min - 0.01 |H0|; regression: L < -100 |H0|; finished, H0 > 0: every L < 0 and "
    "L_1 <= -0.8 H0; share < 0 or > 1; warning: "
    "|counts / n - 1| > 0.05 or |accuracy - hits / counts| > 0.05, k = 3",
    source="Definitions: cross-entropy, squared error and Kullback-Leibler divergence have a least "
    "value, so a gain of more than 100 % over the best constant predictor is an error.",
    remedy="Look at the line that computes the loss: its sign, its reduction, and whether the "
    "difference is squared.",
    false_alarms="A log-likelihood may be negative: state the task as `density`, or declare "
    "`loss_minimum`. Shares that are logged in per cent are recognised as such.",
    margins="impossible_slack impossible_gain mirrored_floor count_slack persistence",
)
def detect(history: History) -> RuleResult:
    """Fire on the first value that contradicts the definition of what was recorded."""
    signs = [*_losses(history), *_shares(history), *_counts(history)]
    signs.sort(key=lambda sign: CERTAIN.index(sign.severity))
    if not signs:
        return clear("Every loss, metric and count lies in its range.")
    sign = signs[0]
    since = epoch_at(history, sign.index)
    reason = f"{sign.reason}, since epoch {since}"
    if sign.severity is Severity.INFO:
        return suspect(
            f"{reason}; whether that is possible was not declared (`loss_minimum`).", onset=since
        )
    return fired(
        f"{reason}.",
        onset=since,
        severity=sign.severity,
        statistic=sign.statistic,
        threshold=sign.threshold,
        confidence=1.0,
        remedy=sign.remedy,
    )


def _losses(history: History) -> Iterator[_Sign]:
    facts = history.facts
    for signal, name in LOSSES.items():
        if not history.has(signal):
            continue
        loss = history.column(signal)
        least = _least(facts, signal)
        scale = abs(floor_of(facts, signal) or facts.floor_loss or 1.0)
        bar = (least or 0.0) - margin("impossible_slack") * scale
        if least is None and facts.kind not in (TaskKind.REGRESSION, TaskKind.UNKNOWN):
            continue
        severity, why = Severity.FATAL, f"it cannot be under {least or 0.0:g}"
        if least is None:
            severity, why = _undeclared(history, signal, loss)
        if severity is Severity.INFO and facts.kind is TaskKind.UNKNOWN:
            continue
        for index in _first(loss < bar):
            worst = float(loss[np.isfinite(loss)].min(initial=bar))
            yield _Sign(
                index,
                f"The {name} is {loss[index]:.4g}, and {worst:.4g} at its lowest: {why}",
                worst,
                bar,
                severity,
                _remedy(facts, worst),
            )


def _undeclared(history: History, signal: str, loss: FloatArray) -> tuple[Severity, str]:
    """How sure it is that a loss of which no least value is declared should not be negative.

    An untrained model's loss is about the floor H0, so one of the wrong sign begins near -H0; a
    log-density seldom does, and a running trial has the benefit of the doubt.
    """
    facts = history.facts
    floor, known = floor_of(facts, signal), loss[np.isfinite(loss)]
    far = -margin("impossible_gain") * abs(floor or facts.floor_loss or 1.0)
    if facts.kind is TaskKind.REGRESSION and known.min(initial=0.0) < far:
        return Severity.FATAL, "it cannot be under 0"
    if floor is None or floor <= 0.0 or not (known < 0.0).all():
        return Severity.INFO, "it cannot be under 0"
    may = "its floor is over 0 (declare `loss_minimum` if it may)"
    if history.finished and (known[:1] <= -margin("mirrored_floor") * floor).any():
        return Severity.FATAL, f"it began near minus its floor, as with the wrong sign, and {may}"
    return Severity.WARNING, f"it began under 0 and {may}"


def _least(facts: TaskFacts, signal: str) -> float | None:
    if signal == "val_density_kl":
        return 0.0
    if facts.loss_minimum is not None:
        return facts.loss_minimum
    return 0.0 if facts.kind in CLASSIFICATION else None


def _remedy(facts: TaskFacts, worst: float) -> str | None:
    if facts.kind not in CLASSIFICATION:
        return None
    return NLL_REMEDY if worst >= -1.0 else CLASS_REMEDY


def _shares(history: History) -> Iterator[_Sign]:
    for signal, name in SHARES.items():
        if not history.has(signal):
            continue
        values = history.column(signal)
        known = values[np.isfinite(values)]
        top = 100.0 if known.max(initial=0.0) > 2.0 else 1.0  # else it was logged in per cent
        outside = np.isfinite(values) & ((values < -1e-6) | (values > top * (1.0 + 1e-6)))
        for index in _first(outside):
            yield _Sign(
                index,
                f"The {name} is {values[index]:.4g}: it cannot be outside [0, {top:g}]",
                float(values[index]),
                top,
                remedy="Divide the hits by the number of samples that were counted: the last batch "
                "is smaller than the others, and a mean of sums is no mean.",
            )


def _counts(history: History) -> Iterator[_Sign]:
    for signal in filter(history.has, COUNTS):
        counts = history.vectors(signal)
        for index in _first(np.fmin.reduce(counts, axis=1) < 0.0):
            yield _Sign(index, f"`{signal}` counts fewer than no samples", counts.min(), 0.0)
    confusions, slack = confusion(history), margin("count_slack")
    if confusions is None or (not history.has("val_confusion") and not history.has(*COUNTS[1:])):
        return
    n, accuracy = sample_counts(history), history.column("val_accuracy")
    times = confusions.total / np.where(n > 0.0, n, np.nan)
    # several labels a sample are counted several times
    apart = np.abs(times / np.maximum(np.round(times), 1.0) - 1.0)
    yield from _contradiction(
        apart, slack, "The counts of the confusion table do not add up to the number of samples"
    )
    top = np.where(np.nanmax(np.nan_to_num(accuracy), initial=0.0) > 2.0, 100.0, 1.0)
    yield from _contradiction(
        np.abs(accuracy / top - confusions.accuracy),
        slack,
        "The accuracy contradicts the confusion table",
    )


def _contradiction(apart: FloatArray, slack: float, reason: str) -> Iterator[_Sign]:
    index = persistent(apart > slack, apart <= slack, k=whole("persistence"))
    if index is not None:
        known = apart[~np.isnan(apart)]
        yield _Sign(
            index,
            f"{reason} (by {known[-1]:.1%})",
            float(known[-1]),
            slack,
            Severity.WARNING,
            "Compute both over the same samples, once each.",
        )


def _first(where: BoolArray) -> list[int]:
    return [int(index) for index in np.flatnonzero(where)[:1]]
