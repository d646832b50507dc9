"""Detector 29, `gradient_conflict`: the losses of several tasks have opposing gradients."""

import numpy as np

from sickbay.trials.contract import Severity
from sickbay.trials.detector import (
    RuleResult,
    clear,
    detector,
    fired,
    insufficient,
    more_evaluations,
    suspect,
)
from sickbay.trials.evidence.skill import epoch_at, lasting, may_recover
from sickbay.trials.evidence.statistics import (
    FloatArray,
    mann_kendall,
    noise,
    persistent,
    student_quantiles,
)
from sickbay.trials.evidence.thresholds import margin, whole
from sickbay.trials.history import History

BATCHES = 8  # batches an epoch at which gradients are compared


def one_loss(history: History) -> str | None:
    """`missing_signal`: gradients of several losses are not compared."""
    if history.has("loss_gradient_cosine") or history.has("loss_gradient_norms"):
        return None
    return "Gradients of several losses are not compared (`loss_gradient_cosine`)."


@detector(
    name="gradient_conflict",
    version="1.1",
    title="Gradient conflict",
    severity=Severity.FATAL,
    online=True,
    subject=one_loss,
    signals="loss_gradient_cosine",
    optional_signals="loss_gradient_cosine_se loss_gradient_batches loss_gradient_norms "
    "task_losses group_update_ratio",
    rule="The mean cosine between the losses' gradients at shared features is under -0.1 (upper "
    "bound of a t-test over at least 8 batches an epoch), three times in a row: a warning; fatal "
    "if one task's loss rises too. Norms that differ by more than ten are a warning "
    "(gradient_domination).",
    formula="mean cos + t_95 SE < -0.1, k = 3; fatal: Mann-Kendall up p < 0.01 of a task's L; "
    "max |g| / min |g| > 10, k = 3",
    source="PCGrad: conflict is a negative cosine; its harm needs a rising loss. Random directions "
    "in d dimensions scatter by 1 / sqrt(d) around 0.",
    remedy="Project conflicting gradients (PCGrad), balance the losses' weights (GradNorm), or "
    "stop one gradient before the shared part.",
    false_alarms="Late in training gradients are noise around zero: the margin is under it.",
    margins="conflict_cosine domination_ratio rising_p persistence hysteresis online_evaluations",
)
def detect(history: History) -> RuleResult:
    """Fire on gradients that provably oppose each other; fatal when a task's loss rises."""
    mean, upper = _bound(history)
    if np.isnan(upper).all():
        return insufficient("The cosine's error over batches is not known, nor its scatter.")
    limit, k = margin("conflict_cosine"), whole("persistence")
    index = persistent(upper < limit, upper > limit / margin("hysteresis"), np.isnan(upper), k)
    value, bound = lasting(mean), lasting(upper)
    claim = f"The mean cosine between the losses' gradients is {value:.3f}"
    if index is None:
        short = more_evaluations(history, k)
        return short or _domination(history) or _no_conflict(claim, value, bound)
    since = epoch_at(history, index)
    reason = f"{claim}, at most {bound:.3f} (limit {limit:g}), since epoch {since}"
    losses = history.vectors("task_losses")
    rises = [mann_kendall(losses[:, task], rising=True) for task in range(losses.shape[1])]
    rise, task = min(rises), int(np.argmin(rises))
    if rise >= margin("rising_p"):
        return fired(
            f"{reason}; no task's loss is seen to rise.",
            onset=since,
            severity=Severity.WARNING,
            statistic=bound,
            threshold=limit,
        )
    again = may_recover(history, mean, recovery_rises=True)
    if again:
        return suspect(f"{reason}; but {again}.", onset=since, statistic=bound, threshold=limit)
    return fired(
        f"{reason}, and the loss of task {task + 1} rises (Mann-Kendall p = {rise:.2g}).",
        onset=since,
        statistic=bound,
        threshold=limit,
        evidence={"rise_p": rise},
    )


def _bound(history: History) -> tuple[FloatArray, FloatArray]:
    """Mean cosine of each evaluation and its one-sided 95 % bound by Student's t, each (n,).

    A vector holds the cosines of the epoch's batches; a number is their mean, with its standard
    error beside it, or else judged by the scatter between evaluations.
    """
    cosines = history.vectors("loss_gradient_cosine")
    if cosines.shape[1] > 1:
        n = np.isfinite(cosines).sum(axis=1).astype(np.float64)
        sound = np.where(n >= 2.0, n, np.nan)
        kept = np.where(np.isfinite(cosines), cosines, 0.0)
        mean = kept.sum(axis=1) / sound
        apart = np.where(np.isfinite(cosines), (cosines - mean[:, None]) ** 2, 0.0).sum(axis=1)
        error = np.sqrt(apart / (sound - 1.0) / sound)
    else:
        mean, n = cosines[:, 0], np.full(len(cosines), float(BATCHES))
        counted = history.column("loss_gradient_batches")
        n = np.where(counted >= 2.0, counted, n)
        error = history.column("loss_gradient_cosine_se")
        if np.isnan(error).all():
            error = np.full(len(mean), noise(mean))
    return mean, mean + student_quantiles(0.05, np.maximum(n - 1.0, 1.0)) * error


def _domination(history: History) -> RuleResult | None:
    norms = history.vectors("loss_gradient_norms")
    if norms.shape[1] < 2:
        return None
    sound = np.where(np.isfinite(norms) & (norms > 0.0), norms, np.nan)
    ratio = np.fmax.reduce(sound, axis=1) / np.fmin.reduce(sound, axis=1)
    limit = margin("domination_ratio")
    index = persistent(ratio > limit, ratio <= limit, k=whole("persistence"))
    if index is None:
        return None
    since, now = epoch_at(history, index), lasting(ratio)
    return fired(
        f"One loss's gradient is {now:.3g} times another's (limit {limit:g}), since epoch {since}: "
        f"the other hardly counts (gradient_domination).",
        onset=since,
        severity=Severity.WARNING,
        statistic=now,
        threshold=limit,
        remedy="Raise the weight of the weaker loss, or balance the gradients (GradNorm).",
    )


def _no_conflict(claim: str, value: float, bound: float) -> RuleResult:
    limit = margin("conflict_cosine")
    if value < limit <= bound:
        return insufficient(
            f"{claim}, but it may be {bound:.3f} (limit {limit:g}): more batches would settle it.",
            statistic=bound,
            threshold=limit,
        )
    return clear(f"{claim}.", statistic=value, threshold=limit)
