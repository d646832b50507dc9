"""Detector 26, `weight_map_out_of_range`: a weight map leaves its declared range."""

import numpy as np

from sickbay.trials.contract import Severity
from sickbay.trials.detector import RuleResult, clear, detector, fired, missing_fact
from sickbay.trials.evidence.features import largest, no_weight_map, smallest
from sickbay.trials.evidence.skill import epoch_at
from sickbay.trials.evidence.statistics import FloatArray, persistent
from sickbay.trials.evidence.thresholds import margin
from sickbay.trials.history import History

BOUNDED = ("map_max", "map_min", "map_mean_after", "map_overlap_sum")


@detector(
    name="weight_map_out_of_range",
    version="1.0",
    title="Weight map out of range",
    severity=Severity.WARNING,
    online=False,
    subject=no_weight_map,
    signals="map_max|map_overlap_sum",
    optional_signals="map_min map_mean_after",
    rule="A weight map lies outside the range declared for it in the task's facts, beyond "
    "rounding, in one evaluation and up to the end.",
    formula="max w > high + 1e-3 (high - low), or min w < low - 1e-3 (high - low)",
    source="The task's own contract (`bounds` of its facts): weights declared in [0, 1] were found "
    "at 8.78 where many objects overlap.",
    remedy="Compose overlapping weights by their maximum instead of their sum, or clamp.",
    false_alarms="A declared range that is too narrow.",
    margins="bound_slack",
)
def detect(history: History) -> RuleResult:
    """Warn as soon as a declared bound is broken."""
    bounds = {name: history.facts.bounds[name] for name in BOUNDED if name in history.facts.bounds}
    if not bounds:
        return missing_fact("the range of the weight map (`bounds['map_max']`)")
    over = {name: _excess(history, name, *bounds[name]) for name in bounds}
    worst = max(over, key=lambda name: float(np.nanmax(over[name], initial=-np.inf)))
    slack = margin("bound_slack")
    broken = over[worst] > slack
    index = persistent(broken, over[worst] <= slack, k=1)
    values = history.vectors(worst)
    now = float((largest(values) if worst != "map_min" else smallest(values))[-1])
    low, high = bounds[worst]
    if index is None:
        return clear(
            f"The weight map stays in its range: `{worst}` is {now:.4g} in [{low:g}, {high:g}].",
            statistic=now,
            threshold=high,
        )
    since = epoch_at(history, index)
    return fired(
        f"The weight map leaves its range [{low:g}, {high:g}]: `{worst}` is {now:.4g}, since epoch "
        f"{since}.",
        onset=since,
        statistic=now,
        threshold=low if worst == "map_min" else high,
        confidence=1.0,
    )


def _excess(history: History, name: str, low: float, high: float) -> FloatArray:
    """How far a signal lies outside its bounds, in widths of the range, shape (n,)."""
    values = history.vectors(name)
    width = high - low if np.isfinite(high - low) and high > low else 1.0
    return np.fmax(largest(values) - high, low - smallest(values)) / width
