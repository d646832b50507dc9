"""Detector `throughput_decay`: steps take longer and longer."""

import math

import numpy as np

from sickbay.trials.contract import Severity
from sickbay.trials.detector import RuleResult, clear, detector, fired, insufficient
from sickbay.trials.evidence.machine import quarter, settled, since, too_early
from sickbay.trials.evidence.skill import epoch_at
from sickbay.trials.evidence.statistics import mann_kendall
from sickbay.trials.evidence.thresholds import margin
from sickbay.trials.history import History


@detector(
    name="throughput_decay",
    version="1.0",
    title="Falling throughput",
    severity=Severity.WARNING,
    online=False,
    signals="step_seconds|throughput",
    optional_signals="evaluation_seconds",
    rule="A step of the last quarter of the evaluations takes 1.5 times as long as one of the "
    "first quarter, and the seconds per step rise over the run (Mann-Kendall).",
    formula="median(last quarter) / median(first quarter) >= 1.5 and p < 0.001",
    source="A ratio of medians, so that single slow evaluations (checkpoints, other programs) do "
    "not count; the trend test keeps noise from passing for one.",
    remedy="Look for what grows with the run: lists of losses with their graphs (`loss` instead of "
    "`loss.item()`), hooks that are added in each epoch, a cache, a log; or a GPU that throttles.",
    false_alarms="Sequences or resolutions that grow by a curriculum; other programs on the node.",
    margins="throughput_ratio machine_trend_p machine_evaluations machine_seconds",
)
def detect(history: History) -> RuleResult:
    """Warn when the time per step grows over the run."""
    seconds = settled(_step_times(history))
    early = too_early(history, seconds)
    if early is not None:
        return insufficient(early)
    first, last, limit = quarter(seconds, 1), quarter(seconds, 4), margin("throughput_ratio")
    ratio = last / first if first > 0.0 else math.inf
    rises = mann_kendall(seconds, rising=True) < margin("machine_trend_p")
    claim = f"A step takes {ratio:.2g} times as long at the end as at the beginning"
    if ratio >= limit and rises:
        onset = since(seconds, first * math.sqrt(limit), above=True)
        return fired(
            f"{claim} (limit {limit:g}).",
            onset=epoch_at(history, onset),
            statistic=ratio,
            threshold=limit,
        )
    return clear(f"{claim}.", statistic=ratio, threshold=limit)


def _step_times(history: History) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Seconds per step, or the inverse of a throughput, whose unit does not matter; (n,)."""
    times = history.column("step_seconds") if history.has("step_seconds") else None
    if times is not None and not np.isnan(times).all():
        return np.where(times > 0.0, times, np.nan)
    rate = history.column("throughput")
    return np.where(rate > 0.0, 1.0 / rate, np.nan)
