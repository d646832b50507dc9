"""Detector `slow_input`: training waits for its data."""

import numpy as np

from sickbay.trials.contract import Severity
from sickbay.trials.detector import RuleResult, clear, detector, fired, insufficient
from sickbay.trials.evidence.machine import settled, since, too_early
from sickbay.trials.evidence.skill import epoch_at, percent
from sickbay.trials.evidence.thresholds import margin
from sickbay.trials.history import History


@detector(
    name="slow_input",
    version="1.0",
    title="Slow input",
    severity=Severity.WARNING,
    online=False,
    signals="data_wait_share",
    optional_signals="evaluation_seconds",
    rule="In the median of the evaluations, the first left out, the training loop waits for the "
    "next batch for 30 % of its time.",
    formula="median(wait / loop) >= 0.3",
    source="Measured around the loader's iterator. At 30 %, an input that takes no time would "
    "allow 43 % more steps in the same time.",
    remedy="Give the loader more workers (`num_workers`, `persistent_workers`, `pin_memory`), "
    "decode and augment once instead of in every epoch, or keep the data in memory.",
    false_alarms="Work on the GPU that was only queued ends while the loop seems to wait.",
    margins="slow_input machine_evaluations machine_seconds",
)
def detect(history: History) -> RuleResult:
    """Warn when much of the loop's time is spent waiting."""
    share = settled(history.column("data_wait_share"))
    early = too_early(history, share)
    if early is not None:
        return insufficient(early)
    value, limit = float(np.nanmedian(share)), margin("slow_input")
    claim = f"The training loop waits for data in {percent(value)} of its time"
    if value < limit:
        return clear(f"{claim}.", statistic=value, threshold=limit)
    return fired(
        f"{claim} (limit {limit:.0%}).",
        onset=epoch_at(history, since(share, limit / 2.0, above=True)),
        statistic=value,
        threshold=limit,
    )
