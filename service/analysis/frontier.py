"""Where a sweep over ranges turns pathological: the estimated frontier."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sickbay.service.analysis.rows.pairs import Span
from sickbay.service.query.engine import query
from sickbay.service.query.lookup import SweepError, stored_spec
from sickbay.service.query.sqltext import name, text
from sickbay.trials.search.boundary_model import Frontier
from sickbay.trials.store import Store

MOST_RANGES = 4
MOST_FITTED = 600  # configurations that are fitted: the time grows with their cube


@dataclass(frozen=True)
class SweepFrontier:
    """The frontier of a sweep over its ranges, other factors and seeds together."""

    sweep_id: str
    spans: Mapping[str, Span]
    found: Frontier
    sql: str


def load_frontier(store: Store, sweep_id: str) -> SweepFrontier:
    """Estimate the frontier over the ranges of a sweep's spec.

    Raises SweepError if the spec has no range, or more than four.
    """
    factors = stored_spec(store, sweep_id).get("factors", {})
    ranges = {factor: value for factor, value in factors.items() if isinstance(value, Mapping)}
    if not 1 <= len(ranges) <= MOST_RANGES:
        raise SweepError(
            f"{sweep_id} has {len(ranges)} ranges; a frontier is drawn over 1 to {MOST_RANGES}, "
            "as in factors: {lr: {low: 1e-4, high: 1.0, log: true}}"
        )
    from sickbay.trials.search.boundary_model import estimate_frontier  # noqa: PLC0415  slow

    columns = ", ".join(map(name, ranges))
    sql = (
        f"SELECT {columns}, label FROM outcomes\n"  # noqa: S608  names are quoted
        f"WHERE sweep_id = {text(sweep_id)} AND label IS NOT NULL ORDER BY trial_id"
    )
    rows = query(store, sql, sweep_ids=[sweep_id]).rows
    if not rows:
        raise SweepError(f"no trial of {sweep_id} has a label yet")
    rows = rows[:: -(-len(rows) // MOST_FITTED)]
    spans = {
        factor: Span(value["low"], value["high"], value["log"]) for factor, value in ranges.items()
    }
    points = [[float(value) for value in row[:-1]] for row in rows]
    frontier = estimate_frontier(points, [row[-1] for row in rows], list(spans.values()))
    return SweepFrontier(sweep_id, spans, frontier, sql)


def as_plain(swept: SweepFrontier) -> dict[str, Any]:
    """A frontier as plain data: axes, P(pathological) with its 95 % band, counts."""
    frontier = swept.found
    return {
        "sweep_id": swept.sweep_id,
        "axes": {key: frontier.axes[place].tolist() for place, key in enumerate(swept.spans)},
        "probability": frontier.probability.tolist(),
        "lower": frontier.lower.tolist(),
        "upper": frontier.upper.tolist(),
        "inconclusive": frontier.inconclusive.tolist(),
        "healthy": frontier.healthy,
        "pathological": frontier.pathological,
        "unsure": frontier.unsure,
        "fitted": frontier.fitted,
        "left_out": None if frontier.errors is None else asdict(frontier.errors),
        "warning": frontier.warning,
        "sql": swept.sql,
    }
