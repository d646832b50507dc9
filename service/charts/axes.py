"""How a factor is laid out on a chart's axis: by its levels, or in bins where it has too many.

The SQL of a picture groups by `FactorAxis.sql`, so its numbers can be recomputed as they are drawn.
"""

import itertools
import json
import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from sickbay.service.analysis.rows.pairs import level_key
from sickbay.service.query.outcomes import CUT_SHORT, HEALTHY
from sickbay.service.query.sqltext import name
from sickbay.service.summary.formatting import level
from sickbay.service.summary.values import TrialLine, Values

MOST_LEVELS = 24  # a number with more of them is drawn in bins
BINS, FEW_BINS = 12, 8
_MANY = 300  # trials, for which there are more bins
_LOG_SPAN = 100.0  # positive values over more than this are binned in the logarithm


@dataclass(frozen=True)
class FactorAxis:
    """A factor as an axis: the name of every tick, and the SQL that maps trials to ticks.

    `sql` is what to group by: the factor's column, or the number of its bin. `edges` are those of
    the bins, one more than there are places; empty for levels.
    """

    factor: str
    sql: str
    names: tuple[str, ...]
    places: dict[Hashable, int]
    edges: tuple[float, ...] = ()
    log: bool = False

    def place(self, group: object) -> int:
        """The tick of a value that SQL grouped by."""
        return self.places[level_key(group)]  # type: ignore[arg-type]

    def find(self, value: object) -> int:
        """The tick of a trial's own level."""
        if not self.edges:
            return self.place(value)
        place = int(np.searchsorted(self.edges, value, side="right")) - 1  # type: ignore[call-overload]
        return min(max(place, 0), len(self.names) - 1)


def axis_of(values: Values, factor: str) -> FactorAxis | None:
    """Lay out a factor; None if it has one level, or too many that are not numbers."""
    column = 1 + values.factors.index(factor)
    seen = Counter(level_key(trial.key[column]) for trial in values.trials)
    if len(seen) < 2:
        return None
    levels = [key[1] for key in seen]  # type: ignore[index]
    plain = all(isinstance(value, int | float) and not isinstance(value, bool) for value in levels)
    span = _range_of(values, factor)
    if span is not None and plain:
        return _binned(factor, *span, len(values.trials))
    if len(levels) <= MOST_LEVELS:
        ordered = sorted(levels) if plain else _in_order(levels, _listed(values, factor))
        places = {level_key(value): place for place, value in enumerate(ordered)}
        return FactorAxis(factor, name(factor), tuple(level(value) for value in ordered), places)
    if not plain:
        return None
    low, high = float(min(levels)), float(max(levels))
    log = low > 0 and high / low > _LOG_SPAN
    return _binned(factor, low, high, log, len(values.trials))


def telling_axes(values: Values, most: int) -> tuple[FactorAxis, ...]:
    """Lay out the factors whose levels differ most in health, the largest difference first.

    Their order is by the mean square between levels of the share that is healthy.
    """
    ranked = []
    for index, factor in enumerate(values.factors):
        axis = axis_of(values, factor)
        if axis is not None:
            ranked.append((-_contrast(values.trials, 1 + index, axis), index, axis))
    return tuple(axis for _, _, axis in sorted(ranked, key=lambda entry: entry[:2])[:most])


def _listed(values: Values, factor: str) -> list[object]:
    """Return the levels in the spec's order, the baseline first; empty if it lists none."""
    spec = json.loads(values.record.spec)
    listed = spec.get("factors", {}).get(factor, ())
    if not isinstance(listed, list):
        return []
    baseline = spec.get("baseline", {}).get(factor)
    return [baseline, *listed] if baseline is not None else listed


def _in_order(levels: Sequence[object], listed: Sequence[object]) -> list[object]:
    """Sort levels in their listed order, then by their text; a missing one comes last."""
    places = {level_key(value): k for k, value in reversed(list(enumerate(listed)))}  # type: ignore[arg-type]

    def rank(value: object) -> tuple[bool, int, str]:
        return value is None, places.get(level_key(value), len(places)), str(value)  # type: ignore[arg-type]

    return sorted(levels, key=rank)


def _range_of(values: Values, factor: str) -> tuple[float, float, bool] | None:
    """Return the ends of a range in the spec, and whether its axis is logarithmic."""
    listed = json.loads(values.record.spec).get("factors", {}).get(factor)
    if not isinstance(listed, dict):
        return None
    return float(listed["low"]), float(listed["high"]), bool(listed.get("log", False))


def _binned(factor: str, low: float, high: float, log: bool, trials: int) -> FactorAxis | None:  # noqa: FBT001 - the ends belong together
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return None
    bins = BINS if trials >= _MANY else FEW_BINS
    start, stop = (math.log10(low), math.log10(high)) if log else (low, high)
    width = (stop - start) / bins
    value = f"log10({name(factor)})" if log else name(factor)
    sql = (
        f"greatest(0, least({bins - 1}, CAST(floor(({value} - {start!r}) / {width!r}) AS INTEGER)))"
    )
    ends = [start + width * k for k in range(bins + 1)]
    edges = tuple(10.0**end if log else end for end in ends)
    names = tuple(f"{a:.3g} – {b:.3g}" for a, b in itertools.pairwise(edges))
    return FactorAxis(factor, sql, names, {level_key(k): k for k in range(bins)}, edges, log)


def _contrast(trials: Sequence[TrialLine], column: int, axis: FactorAxis) -> float:
    """Mean square between levels of the healthy share, over its expectation under chance."""
    ended = [trial for trial in trials if trial.outcome not in CUT_SHORT]
    share = sum(trial.outcome == HEALTHY for trial in ended) / max(1, len(ended))
    if share in {0.0, 1.0}:
        return 0.0
    counts: dict[int, list[int]] = {}
    for trial in ended:
        pair = counts.setdefault(axis.find(trial.key[column]), [0, 0])
        pair[0] += 1
        pair[1] += trial.outcome == HEALTHY
    between = sum(n * (k / n - share) ** 2 for n, k in counts.values())
    return between / (share * (1.0 - share) * max(1, len(counts) - 1))
