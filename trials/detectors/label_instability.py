"""Detector 17, `label_instability`: the targets of fixed training samples change."""

import numpy as np

from sickbay.trials.contract import Severity
from sickbay.trials.detector import RuleResult, clear, detector, fired, insufficient, suspect
from sickbay.trials.evidence.classes import (
    CLASSIFICATION,
    RANKING_SIGNALS,
    metric_skill,
    skill_on_its_way,
)
from sickbay.trials.evidence.skill import epoch_at, gain, lasting, percent
from sickbay.trials.evidence.statistics import FloatArray, clopper_pearson_lower, persistent
from sickbay.trials.evidence.thresholds import margin, whole
from sickbay.trials.history import History

SAMPLE = 256  # fixed training samples that a workload watches, or all if there are fewer


def no_watched_targets(history: History) -> str | None:
    """`not_applicable`: the task has no classes and records no change of targets."""
    watched = history.has("label_flip_rate") or history.has("target_change")
    if watched or history.facts.kind in CLASSIFICATION:
        return None
    return "The task has no classes, and no change of its targets (`target_change`) is recorded."


@detector(
    name="label_instability",
    version="3.0",
    title="Unstable labels",
    severity=Severity.FATAL,
    online=True,
    subject=no_watched_targets,
    signals="label_flip_rate|target_change",
    optional_signals=(
        "label_flip_n",
        "val_loss",
        "val_loss_se",
        "val_floor_gap_se",
        "val_n",
        "group_update_ratio",
        *RANKING_SIGNALS,
    ),
    rule="More than 1 % (lower bound) of a fixed sample of training labels differ from those of "
    "the epoch before, in two transitions in a row; for numbers, the mean change is over 1 % of "
    "the targets' standard deviation. Only a warning if the validation loss or the ranking proves "
    "skill nevertheless. A running trial is stopped at once if labels change as often as if "
    "drawn anew, or no measure of skill is recorded; else it waits for ten evaluations and a "
    "quarter of its plan, and while the validation loss falls.",
    formula="CP_95 lower bound of flips / n > 0.01, k = 2; or mean |dy| / sd(y) > 0.01, k = 2; "
    "drawn anew: bound >= 0.8 (1 - sum p_c^2), or |dy| / sd(y) >= 0.8 * 2 / sqrt(pi)",
    source="A direct test for random pseudo-labels: labels drawn anew with rate p flip at "
    "2 p (1 - p).",
    remedy="Draw the labels once, from a seed of their own, and keep them; check the join of ids "
    "and labels, and that the split does not move.",
    false_alarms="Mixup and pseudo-labels change on purpose: record the target before them. Noise "
    "that averages out over the epochs may do no harm: then skill is proven.",
    margins="label_flips label_transitions labels_drawn skill_gain",
)
def detect(history: History) -> RuleResult:
    """Fire when labels of the same samples keep changing between epochs."""
    flips, limit = history.column("label_flip_rate"), margin("label_flips")
    moved = history.column("target_change")
    lower = _lower(history, flips) if not np.isnan(flips).all() else moved
    shown = flips if not np.isnan(flips).all() else moved
    k = whole("label_transitions")
    transitions = int((~np.isnan(lower)).sum())
    over = lower > limit
    index = persistent(over, lower <= limit, k=k)
    value, now = lasting(shown), lasting(lower, k)
    surely = float(lower[~np.isnan(lower)][-k:].min(initial=np.inf))  # in each of the last ones
    if index is not None:
        since = epoch_at(history, index)
        claim = (
            f"{value:.1%} of the watched targets change between epochs, at least {now:.1%} (limit "
            f"{limit:.0%}), since epoch {since}"
        )
        again = _open(history, surely, counted=shown is flips)
        if again:
            return suspect(f"{claim}; but {again}.", onset=since, statistic=now, threshold=limit)
        proof = _skill(history)
        return fired(
            f"{claim}; but {proof}." if proof else f"{claim}: nothing can be learnt from them.",
            onset=since,
            severity=Severity.WARNING if proof else Severity.FATAL,
            statistic=now,
            threshold=limit,
            confidence=1.0 - 0.05**k,
        )
    if transitions < k:
        return insufficient(
            f"It needs {k} transitions between epochs and there are {transitions}: "
            f"{k - transitions} more.",
            statistic=float(transitions),
            threshold=float(k),
        )
    if over.any():
        first = epoch_at(history, int(np.flatnonzero(over)[0]))
        return suspect(
            f"Targets changed once, at epoch {first}, and not again in a row.",
            onset=first,
            statistic=now,
            threshold=limit,
        )
    return clear(
        f"{value:.1%} of the watched targets change between epochs.", statistic=now, threshold=limit
    )


def _skill(history: History) -> str | None:
    """What proves that something was learnt nevertheless."""
    gains = gain(history)
    if gains is not None and lasting(gains.lower) > margin("skill_gain"):
        return f"the validation loss still improves by at least {percent(lasting(gains.lower))}"
    return metric_skill(history)


def _open(history: History, change: float, *, counted: bool) -> str | None:
    """Why a running trial may still learn: some labels stay, and skill is measured."""
    if history.finished or gain(history) is None:
        return None
    counts = np.asarray(history.facts.class_counts, dtype=np.float64)
    drawn = 2.0 / np.sqrt(np.pi)  # mean |y - y'| / sd of two draws from a normal distribution
    if counted:
        drawn = 1.0 - ((counts / counts.sum()) ** 2).sum() if counts.sum() > 0.0 else np.inf
    if change >= margin("labels_drawn") * drawn:
        return None
    return skill_on_its_way(history, history.column("val_loss"))


def _lower(history: History, rate: FloatArray) -> FloatArray:
    known = float(min(SAMPLE, history.facts.n.get("train", SAMPLE)))
    n = np.where(np.isnan(history.column("label_flip_n")), known, history.column("label_flip_n"))
    share = np.where((rate >= 0.0) & (rate <= 1.0), rate, np.nan)
    sound = ~np.isnan(share) & np.isfinite(n) & (n >= 1.0)
    lower = clopper_pearson_lower(
        np.where(sound, np.round(np.where(sound, share, 0.0) * np.where(sound, n, 1.0)), 0.0),
        np.where(sound, n, 1.0),
    )
    return np.where(sound, lower, np.nan)
