"""The numbers behind the figures of a whole sweep, each with the SQL that gives it."""

import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from sickbay.service.analysis.rows.pairs import Span
from sickbay.service.charts.axes import FactorAxis, telling_axes
from sickbay.service.query.engine import query
from sickbay.service.query.outcomes import (
    CANCELLED,
    COUNTS,
    FAILED,
    HEALTHY,
    INCONCLUSIVE,
    NOT_FINITE,
    PRUNED,
    UNLABELLED,
)
from sickbay.service.query.sqltext import name, text
from sickbay.service.summary.values import Values, sample
from sickbay.trials.search.boundary_model import Frontier
from sickbay.trials.store import Store

MOST_MAPS = 3
MOST_FLOWS = 6
MOST_FITTED = 400  # trials that a frontier is estimated from: its time grows with their cube


@dataclass(frozen=True)
class HealthMap:
    """How many trials are healthy, by the ticks of two factors.

    `cells` is (x, y) -> (healthy, trials), without trials that were cut short. `frontier` is
    estimated where both factors are ranges.
    """

    x: FactorAxis
    y: FactorAxis
    cells: Mapping[tuple[int, int], tuple[int, int]]
    sql: str
    frontier: Frontier | None = None

    @property
    def title(self) -> str:
        """Name the two factors."""
        return f"{self.x.factor} × {self.y.factor}"


@dataclass(frozen=True)
class Flow:
    """How the trials of every level ended: (tick, outcome) -> trials."""

    axis: FactorAxis
    outcomes: tuple[str, ...]
    counts: Mapping[tuple[int, str], int]
    sql: str


def health_maps(store: Store, values: Values) -> tuple[HealthMap, ...]:
    """Health over the pairs of the three most important factors; for one factor, over seeds."""
    axes = telling_axes(values, MOST_MAPS)
    if len(axes) == 1:
        seeds = tuple(map(str, values.seeds))
        if len(seeds) < 2 or len(seeds) > MOST_SEEDS:
            return ()
        places = {(False, seed): place for place, seed in enumerate(values.seeds)}
        return (
            health_map_of(store, values, FactorAxis("seed", "seed", seeds, dict(places)), axes[0]),
        )
    pairs = itertools.combinations(axes, 2)
    wide = [(a, b) if len(a.names) >= len(b.names) else (b, a) for a, b in pairs]
    return tuple(health_map_of(store, values, x, y) for x, y in wide)


MOST_SEEDS = 40


def health_map_of(store: Store, values: Values, x: FactorAxis, y: FactorAxis) -> HealthMap:
    """Health over two factors."""
    sweep = values.record.sweep_id
    sql = (
        f"SELECT {x.sql} AS x, {y.sql} AS y,\n"
        "  count(*) FILTER (outcome = 'healthy') AS healthy, count(*) AS trials\n"
        f"FROM outcomes o WHERE sweep_id = {text(sweep)} AND {COUNTS.format('o')}\n"
        "GROUP BY ALL ORDER BY ALL"
    )
    rows = query(store, sql, sweep_ids=[sweep]).rows
    cells = {(x.place(a), y.place(b)): (healthy, trials) for a, b, healthy, trials in rows}
    return HealthMap(x, y, cells, sql, _frontier(values, x, y))


def _frontier(values: Values, x: FactorAxis, y: FactorAxis) -> Frontier | None:
    """Estimate where half of the trials are pathological, over all other factors."""
    if not (x.edges and y.edges):
        return None
    a, b = (1 + values.factors.index(axis.factor) for axis in (x, y))
    known = [trial for trial in values.trials if None not in (trial.key[a], trial.key[b])]
    chosen = sample([trial for trial in known if trial.label is not None], MOST_FITTED)
    if not chosen:
        return None
    # scikit-learn takes seconds, which only a sweep of ranges shall wait for
    from sickbay.trials.search.boundary_model import estimate_frontier  # noqa: PLC0415

    spans = [Span(axis.edges[0], axis.edges[-1], axis.log) for axis in (x, y)]
    points = [(float(trial.key[a]), float(trial.key[b])) for trial in chosen]
    frontier = estimate_frontier(points, [trial.label for trial in chosen], spans)
    return frontier if frontier.fitted else None


def flows(store: Store, values: Values) -> tuple[Flow, ...]:
    """Count how the trials of every level ended, for the most important factors."""
    sweep, made = values.record.sweep_id, []
    for axis in telling_axes(values, MOST_FLOWS):
        sql = (
            f"SELECT {axis.sql} AS {name(axis.factor)}, outcome,\n"
            f"  count(*) AS trials\nFROM outcomes WHERE sweep_id = {text(sweep)}\n"
            "GROUP BY ALL ORDER BY ALL"
        )
        rows = query(store, sql, sweep_ids=[sweep]).rows
        counts = {(axis.place(group), outcome): n for group, outcome, n in rows}
        totals: Counter[str] = Counter()
        for (_, outcome), n in counts.items():
            totals[outcome] += n
        made.append(Flow(axis, _ordered(totals), counts, sql))
    return tuple(made)


def _ordered(totals: Mapping[str, int]) -> tuple[str, ...]:
    """Sort outcomes: healthy first, then causes by number, then those without a verdict."""
    last = (INCONCLUSIVE, NOT_FINITE, UNLABELLED, FAILED, PRUNED, CANCELLED)
    return tuple(
        sorted(
            totals,
            key=lambda outcome: (
                outcome != HEALTHY,
                last.index(outcome) + 1 if outcome in last else 0,
                -totals[outcome],
                outcome,
            ),
        )
    )
