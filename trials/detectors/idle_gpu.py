"""Detector `idle_gpu`: an allocated GPU is hardly used."""

import numpy as np

from sickbay.trials.contract import Severity
from sickbay.trials.detector import RuleResult, clear, detector, fired, insufficient
from sickbay.trials.evidence.machine import settled, since, too_early
from sickbay.trials.evidence.skill import epoch_at, percent
from sickbay.trials.evidence.thresholds import margin
from sickbay.trials.history import History


def no_gpu(history: History) -> str | None:
    """`not_applicable`: no GPU was recorded."""
    seen = history.has("gpu_utilisation") or history.has("gpu_memory")
    return None if seen else "No GPU was recorded."


@detector(
    name="idle_gpu",
    version="1.0",
    title="Idle GPU",
    severity=Severity.WARNING,
    online=False,
    subject=no_gpu,
    signals="gpu_utilisation",
    optional_signals="gpu_memory evaluation_seconds",
    rule="In the median of the evaluations, the first left out, the GPU is used for less than "
    "30 % of the time.",
    formula="median(utilisation) < 0.3",
    source="The driver's utilisation: the share of time in which at least one kernel ran. It says "
    "nothing of how much of the GPU a kernel fills.",
    remedy="Look at `slow_input` first; raise the batch size, or let several trials share the GPU "
    "(`resources: {gpu: pack}` measures how many fit; `resources: {gpu: 0.25}` fixes the share).",
    false_alarms="A GPU whose trials are small on purpose and share it: the utilisation is the "
    "device's.",
    margins="idle_gpu machine_evaluations machine_seconds",
)
def detect(history: History) -> RuleResult:
    """Warn when the GPU is idle most of the time."""
    share = settled(history.column("gpu_utilisation"))
    early = too_early(history, share)
    if early is not None:
        return insufficient(early)
    value, limit = float(np.nanmedian(share)), margin("idle_gpu")
    claim = f"The GPU is used for {percent(value)} of the time"
    if value >= limit:
        return clear(f"{claim}.", statistic=value, threshold=limit)
    return fired(
        f"{claim} (limit {limit:.0%}).",
        onset=epoch_at(history, since(share, 1.5 * limit, above=False)),
        statistic=value,
        threshold=limit,
    )
