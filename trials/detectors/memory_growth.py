"""Detector `memory_growth`: memory use keeps rising."""

from sickbay.trials.contract import Severity
from sickbay.trials.detector import RuleResult, clear, detector, fired, insufficient
from sickbay.trials.evidence.machine import quarter, settled, since, too_early
from sickbay.trials.evidence.skill import epoch_at, percent
from sickbay.trials.evidence.statistics import FloatArray, mann_kendall
from sickbay.trials.evidence.thresholds import margin
from sickbay.trials.history import History

SIGNALS = {"host_memory": "The memory of the process", "gpu_memory": "The GPU's memory in use"}


@detector(
    name="memory_growth",
    version="1.0",
    title="Memory growth",
    severity=Severity.WARNING,
    online=False,
    signals="host_memory|gpu_memory",
    optional_signals="evaluation_seconds",
    rule="The memory in use, of the host or the GPU, is a fifth larger in the last quarter of the "
    "evaluations than in the second, and rises over these three quarters (Mann-Kendall). The first "
    "quarter fills caches.",
    formula="median(fourth quarter) / median(second quarter) - 1 >= 0.2 and p < 0.001",
    source="A leak is growth that does not end; what is allocated once is over in the first "
    "quarter.",
    remedy="Keep numbers, not tensors, of past steps (`loss.item()`); look at lists that grow, "
    "caches without a limit and the data loader's workers.",
    false_alarms="Data that are read into memory over several epochs; allocators that give memory "
    "back late.",
    margins="memory_growth machine_trend_p machine_evaluations machine_seconds",
)
def detect(history: History) -> RuleResult:
    """Warn of the memory that grows most."""
    columns = {name: settled(history.column(name)) for name in SIGNALS if history.has(name)}
    early = {name: too_early(history, values) for name, values in columns.items()}
    judged = {name: values for name, values in columns.items() if early[name] is None}
    if not judged:
        return insufficient(next(reason for reason in early.values() if reason is not None))
    limit = margin("memory_growth")
    growth = {name: _growth(values) for name, values in judged.items()}
    worst = max(growth, key=lambda name: growth[name])
    claim = f"{SIGNALS[worst]} grew by {percent(growth[worst])} since the second quarter of the run"
    if growth[worst] < limit:
        return clear(f"{claim}.", statistic=growth[worst], threshold=limit)
    values = judged[worst]
    onset = since(values, quarter(values, 2) * (1.0 + limit / 2.0), above=True)
    return fired(
        f"{claim} (limit {limit:.0%}).",
        onset=epoch_at(history, onset),
        statistic=growth[worst],
        threshold=limit,
    )


def _growth(values: FloatArray) -> float:
    """Growth from the second to the fourth quarter as a share; 0 without a trend."""
    later = values.copy()
    later[: len(values) // 4] = float("nan")
    if mann_kendall(later, rising=True) >= margin("machine_trend_p"):
        return 0.0
    start = quarter(values, 2)
    return quarter(values, 4) / start - 1.0 if start > 0.0 else 0.0
