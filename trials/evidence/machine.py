"""Shared by the detectors of a trial's machine: which evaluations count, and trends.

The first evaluation is left out: it holds what is done once (compilation, caches, the first look at
the data). Where the runner timed the evaluations, those of less than a minute in all say nothing:
other programs, not the training, decide what they look like.
"""

import numpy as np

from sickbay.trials.evidence.statistics import FloatArray
from sickbay.trials.evidence.thresholds import margin, whole
from sickbay.trials.history import History


def too_early(history: History, values: FloatArray) -> str | None:
    """Why `values` (n,) cannot be judged yet: too few numbers, or too short; else None."""
    needed = whole("machine_evaluations")
    known = int(np.isfinite(values[1:]).sum())
    if known < needed:
        return (
            f"It needs {needed} numbers after the first evaluation and there are {known}: "
            f"{needed - known} more."
        )
    if history.has("evaluation_seconds"):
        least = margin("machine_seconds")
        if np.nansum(history.column("evaluation_seconds")[1:]) < least:
            return f"Evaluations of less than {least:g} s in all are too short to judge."
    return None


def settled(values: FloatArray) -> FloatArray:
    """The values (n,) with NaN where they do not count: the first, and non-finite ones."""
    kept = np.where(np.isfinite(values), values, np.nan)
    kept[:1] = np.nan
    return kept


def quarter(values: FloatArray, number: int) -> float:
    """Median of a quarter (1 to 4) of the values that are numbers."""
    kept = values[~np.isnan(values)]
    n = len(kept)
    return float(np.median(kept[(number - 1) * n // 4 : number * n // 4]))


def since(values: FloatArray, limit: float, *, above: bool) -> int:
    """Index from which on all values are beyond a limit; of the last quarter if none is."""
    inside = values <= limit if above else values >= limit
    before = np.flatnonzero(inside)  # NaN is neither
    numbers = np.flatnonzero(~np.isnan(values))
    last_quarter = int(numbers[3 * len(numbers) // 4])
    later = numbers[numbers > before[-1]] if len(before) else numbers
    return int(later[0]) if len(later) else last_quarter
