"""Detector 19, `metric_inconsistency`: numbers that should agree do not."""

import numpy as np

from sickbay.trials.contract import Severity
from sickbay.trials.detector import RuleResult, clear, detector, fired, more_evaluations
from sickbay.trials.evidence.classes import (
    RANKING_SIGNALS,
    confusion,
    metric_skill,
    no_classes,
    ranking_lower,
)
from sickbay.trials.evidence.skill import epoch_at, floor_of, gain, lasting, sample_counts
from sickbay.trials.evidence.statistics import (
    FloatArray,
    mann_kendall,
    persistent,
    rank_correlation,
    wilson_bounds,
)
from sickbay.trials.evidence.thresholds import margin, whole
from sickbay.trials.history import History

# the same loss on the same samples, computed twice
PAIRS = (
    ("probe_loss_train", "probe_loss_val", "as in training", "as in validation"),
    ("val_loss", "val_loss_recomputed", "as recorded", "from the stored scores"),
)
METRICS = {"val_auroc": "AUROC", "val_accuracy": "accuracy"}


def nothing_to_compare(history: History) -> str | None:
    """`not_applicable` if nothing was measured in two ways; None if so, or if there are classes."""
    if history.has("probe_loss_train") or history.has("val_loss_recomputed"):
        return None
    return no_classes(history)


@detector(
    name="metric_inconsistency",
    version="2.0",
    title="Inconsistent metrics",
    severity=Severity.WARNING,
    online=False,
    subject=nothing_to_compare,
    blocks_healthy=True,
    signals="probe_loss_val|val_loss_recomputed|val_auroc|val_accuracy",
    optional_signals=(
        "probe_loss_train",
        "val_loss",
        "val_loss_se",
        "val_floor_gap_se",
        *RANKING_SIGNALS,
    ),
    rule="The loss of the same samples, computed as in training and as in validation or once more "
    "from the stored scores, differs by more than a factor of two, three times in a row; or over "
    "ten evaluations or more the validation loss falls by a tenth of its floor and proves skill, "
    "while the metric neither moves with it, nor shows skill of its own, nor is near its best "
    "(0.95). Not fatal, but the trial is not called healthy.",
    formula="|log(L_1 / L_2)| > log 2, k = 3; or |Spearman(L, metric)| < 0.5 with n >= 10, "
    "Mann-Kendall down p < 0.01, max L - min L >= 0.10 H0, G - z SE > 0.02 and no AUROC over 0.5",
    source="Recorded run of Stack Overflow 60335387 (a ratio of 0.02); TheDeepChecker (0.5).",
    remedy="Average over the same samples with the same weights, and put the model into "
    "evaluation mode for both.",
    false_alarms="Dropout and batch normalisation change the loss: compare in evaluation mode. A "
    "metric at its best moves no more, hence the check whether it shows skill.",
    margins="same_samples metric_correlation metric_best had_skill_gain skill_gain rising_p "
    "trend_window persistence",
)
def detect(history: History) -> RuleResult:
    """Warn when two computations of one loss, or loss and metric, disagree."""
    twice = [_compared(history, *pair) for pair in PAIRS]
    odd = next(
        (outcome for outcome in twice if outcome is not None and outcome.state == "fired"), None
    )
    apart = odd or _apart(history)
    if apart is not None:
        return apart
    if history.has("probe_loss_train") or history.has("val_loss_recomputed"):
        needed = whole("persistence")
    else:
        needed = whole("trend_window")
    compared = next((outcome for outcome in twice if outcome is not None), None)
    return (
        more_evaluations(history, needed)
        or compared
        or clear("The validation loss and the metric move together, or hardly at all.")
    )


def _compared(
    history: History, signal: str, other: str, first: str, second: str
) -> RuleResult | None:
    left, right = history.column(signal), history.column(other)
    sound = (left > 0.0) & (right > 0.0) & np.isfinite(left) & np.isfinite(right)
    if not sound.any():
        return None
    ratio = np.where(sound, left, np.nan) / np.where(sound, right, np.nan)
    limit = margin("same_samples")
    far = np.maximum(ratio, 1.0 / ratio)
    index = persistent(far > limit, far <= limit, k=whole("persistence"))
    claim = (
        f"The loss of the same samples is {lasting(left):.4g} {first} and {lasting(right):.4g} "
        f"{second}, a ratio of {lasting(ratio):.3g}"
    )
    if index is None:
        return clear(f"{claim}.", statistic=lasting(far), threshold=limit)
    since = epoch_at(history, index)
    return fired(
        f"{claim} (limit {limit:g}), since epoch {since}.",
        onset=since,
        statistic=lasting(far),
        threshold=limit,
    )


def _apart(history: History) -> RuleResult | None:
    signal = next((name for name in METRICS if history.has(name)), None)
    loss, floor = history.column("val_loss"), floor_of(history.facts, "val_loss")
    if signal is None or floor is None:
        return None
    metric = history.column(signal)
    both = np.isfinite(loss) & np.isfinite(metric)
    if both.sum() < whole("trend_window"):
        return None
    if _explained(history, metric[both]) or not _loss_alone_shows_skill(history, signal):
        return None
    fallen = float(np.ptp(loss[both])) >= margin("had_skill_gain") * abs(floor)
    if not fallen or mann_kendall(loss[both], rising=False) >= margin("rising_p"):
        return None
    together, limit = rank_correlation(loss, metric), margin("metric_correlation")
    if not abs(together) < limit:  # a metric that does not move at all is not defined here
        return None
    return fired(
        f"The validation loss fell to {lasting(loss):.4g} and the {METRICS[signal]} "
        f"{lasting(metric):.4g} did not move with it: their rank correlation is {together:.2f} "
        f"(limit {limit:g}).",
        onset=epoch_at(history, 0),
        statistic=abs(together),
        threshold=limit,
    )


def _explained(history: History, metric: FloatArray) -> bool:
    """Whether a metric need not move: it proves skill, is near its best, or moved within noise."""
    if metric_skill(history) or lasting(metric) >= margin("metric_best"):
        return True
    n, share = lasting(sample_counts(history)), min(max(lasting(metric), 0.0), 1.0)
    return n >= 1.0 and float(np.ptp(metric)) < 2.0 * np.sqrt(share * (1.0 - share) / n)


def _loss_alone_shows_skill(history: History, signal: str) -> bool:
    """Whether the loss proves skill that the metric does not show: only then do they disagree."""
    gains = gain(history)
    if gains is None or not lasting(gains.lower) > margin("skill_gain"):
        return False
    if signal == "val_auroc":
        return (ranking_lower(history) or 0.0) <= 0.5
    counted = confusion(history)
    if counted is None:
        return True
    low, _ = wilson_bounds(counted.hits.sum(axis=1), counted.total)
    return lasting(low - counted.majority_rate) <= 0.0
