"""The SQL that recomputes every number in the table of effects: differences, health, intervals.

It is a second way to the same numbers as `effects.effect_table`, from the stored trials alone. Only
Student's quantiles stand in it as numbers, because SQL has no function for them.
"""

import json
import math
from collections.abc import Sequence

from scipy.stats import t as student

from sickbay.service.analysis.effects import EffectTable, LevelEffect
from sickbay.service.analysis.statistics import ALPHA
from sickbay.service.query.outcomes import RANKS_LAST
from sickbay.service.query.sqltext import name, text
from sickbay.trials.contract import Scalar

_Z = "1.959963984540054"  # the normal quantile at 97.5 %


def effects_sql(sweep_id: str, table: EffectTable, factors: Sequence[str]) -> str:
    """Recompute the table's rows in its order; `factors` are all columns that make a context.

    Empty where there is nothing to compare.
    """
    numbered = list(enumerate(table.effects, start=1))
    branches = [
        _branch(factor, [(nr, one) for nr, one in numbered if one.factor == factor], factors)
        for factor in dict.fromkeys(one.factor for one in table.effects)
        if factor in factors
    ]
    if not branches:
        return ""
    lower = "<" if table.goal.value == "minimize" else ">"
    levels = ", ".join(name(factor) for factor in factors)
    return (
        "WITH ended AS (\n"  # noqa: S608 - quoted by `name` and `text`
        f"  SELECT seed, {levels}, objective,\n"
        "    outcome = 'cancelled' AS cancelled, outcome IN ('cancelled', 'pruned') AS cut,\n"
        f"    outcome = 'healthy' AS healthy,\n    {RANKS_LAST.format('o')} AS last\n"
        f"  FROM outcomes o WHERE sweep_id = {text(sweep_id)}\n"
        f"  QUALIFY count(*) OVER (PARTITION BY seed, {levels}) = 1),\n"
        f"pairs AS (\n  {'  UNION ALL '.join(branches)}  ),\n{_DIFFERENCES}{_SCORES.format(lower)}"
    )


def _branch(factor: str, effects: Sequence[tuple[int, LevelEffect]], factors: Sequence[str]) -> str:
    """Pair the trials of every level of one factor with those of its baseline."""
    known = [one.level for _, one in effects] + [effects[0][1].baseline]
    rows = ", ".join(
        f"({nr}, {literal(one.level, known)}, {_quantile(one)})" for nr, one in effects
    )
    others = [one for one in factors if one != factor]
    same = "".join(f" AND l.{name(one)} IS NOT DISTINCT FROM b.{name(one)}" for one in others)
    context = f"CAST(row({', '.join(f'b.{name(one)}' for one in others)}) AS VARCHAR)"
    return (
        "SELECT nr, t, l.seed, "  # noqa: S608 - quoted by `name` and `literal`
        f"{context if others else text('')} AS context,\n"
        "    l.objective - b.objective AS d, l.objective AS lo, b.objective AS bo,\n"
        "    l.healthy AS lh, b.healthy AS bh, l.last AS ll, b.last AS bl,"
        " l.cancelled AS lc, b.cancelled AS bc,\n"
        "    l.cut AS lx, b.cut AS bx\n"
        f"  FROM (VALUES {rows}) AS v(nr, level, t)\n"
        f"  JOIN ended l ON l.{name(factor)} = v.level\n"
        f"  JOIN ended b ON l.seed = b.seed{same}\n"
        f"    AND b.{name(factor)} = {literal(effects[0][1].baseline, known)}\n"
    )


def _quantile(one: LevelEffect) -> str:
    degrees = one.difference.degrees
    if math.isnan(one.difference.low) or math.isnan(degrees):
        return "CAST(NULL AS DOUBLE)"
    return f"CAST({float(student.isf(ALPHA / 2, degrees))!r} AS DOUBLE)"


def literal(level: Scalar, known: Sequence[Scalar]) -> str:
    """Write a level as its column holds it: levels of several kinds are stored as text."""
    if all(isinstance(one, bool) for one in known):
        return str(level).lower()
    if any(isinstance(one, str | bool) for one in known):
        return text(level if isinstance(level, str) else json.dumps(level))
    return f"CAST({level!r} AS DOUBLE)"


# The paired difference and its standard error, clustered by seed (docs/effects.md).
_DIFFERENCES = """\
sound AS (
  SELECT *, count(*) OVER (PARTITION BY nr, context) AS size,
    avg(d) OVER (PARTITION BY nr, context) AS centre
  FROM pairs WHERE lh AND bh AND isfinite(d)),
weighed AS (
  SELECT *, 1.0 / (contexts * size) AS w FROM sound
  JOIN (SELECT nr, count(DISTINCT context) AS contexts FROM sound GROUP BY nr) USING (nr)),
seeds AS (
  SELECT nr, seed, sum(w * d) AS part, sum(w * (d - centre)) AS off,
    sum(w * w) AS squares, sum(w * w / size) AS taken
  FROM weighed GROUP BY ALL),
crossed AS (
  SELECT nr, sum(k * k) AS crossed FROM (
    SELECT a.nr, sum(a.w * b.w / sqrt(a.size * b.size)) AS k
    FROM weighed a JOIN weighed b ON a.nr = b.nr AND a.seed = b.seed
    GROUP BY a.nr, a.context, b.context)
  GROUP BY nr),
differences AS (
  SELECT nr, sum(part) AS difference,
    sqrt(sum(off * off) * sum(squares) / sum(squares - taken)) AS error,
    sum(squares - taken) ** 2
      / (sum(squares * squares) - 2 * sum(squares * taken) + any_value(crossed)) AS degrees
  FROM seeds JOIN crossed USING (nr) GROUP BY nr),
"""
# Shares with Wilson's interval, wider where the trials of one seed fare alike.
_SCORES = """\
scores AS (
  SELECT nr, 'level' AS side, seed, CAST(lh AS DOUBLE) AS score FROM pairs WHERE NOT lx
  UNION ALL SELECT nr, 'baseline', seed, CAST(bh AS DOUBLE) FROM pairs WHERE NOT bx
  UNION ALL SELECT nr, 'better', seed,
    CASE WHEN ll OR bl THEN 0.5 + (CAST(bl AS INTEGER) - CAST(ll AS INTEGER)) / 2
      WHEN lo = bo THEN 0.5 ELSE CAST(lo {0} bo AS DOUBLE) END
    FROM pairs WHERE NOT lc AND NOT bc),
shares AS (
  SELECT nr, side, sum(score) AS won, count(*) AS n, count(DISTINCT seed) AS g, avg(score) AS p
  FROM scores GROUP BY ALL),
spread AS (
  SELECT nr, side, sum(off * off) AS spread FROM (
    SELECT nr, side, seed, sum(score - p) AS off
    FROM scores JOIN shares USING (nr, side) GROUP BY ALL)
  GROUP BY ALL),
sized AS (
  SELECT *, CASE WHEN n = g THEN n WHEN p IN (0, 1) THEN sqrt(n * g) WHEN g = 1 THEN 1
    ELSE n / least(n / g, greatest(1,
      spread * g / (g - 1) / (n * p * (1 - p)) * (1 + sqrt(2 / (g - 1))))) END AS m
  FROM shares JOIN spread USING (nr, side)),
wilson AS (
  SELECT nr, side, won, n, p, (p + z * z / (2 * m)) / (1 + z * z / m) AS middle,
    z * sqrt(p * (1 - p) / m + z * z / (4 * m * m)) / (1 + z * z / m) AS half
  FROM sized, (SELECT {1} AS z)),
ends AS (
  SELECT nr, side, won, n, p, greatest(0, least(p, middle - half)) AS low,
    least(1, greatest(p, middle + half)) AS high
  FROM wilson)
SELECT nr, any_value(counted.pairs) AS pairs, any_value(counted.sound) AS sound_pairs,
  any_value(difference) AS difference,
  any_value(difference - t * error) AS low, any_value(difference + t * error) AS high,
  any_value(p) FILTER (side = 'better') AS better,
  any_value(low) FILTER (side = 'better') AS better_low,
  any_value(high) FILTER (side = 'better') AS better_high,
  any_value(n) FILTER (side = 'better') AS better_pairs,
  any_value(won) FILTER (side = 'level') AS healthy,
  any_value(n) FILTER (side = 'level') AS trials,
  any_value(low) FILTER (side = 'level') AS healthy_low,
  any_value(high) FILTER (side = 'level') AS healthy_high,
  any_value(won) FILTER (side = 'baseline') AS baseline_healthy,
  any_value(n) FILTER (side = 'baseline') AS baseline_trials,
  any_value(low) FILTER (side = 'baseline') AS baseline_low,
  any_value(high) FILTER (side = 'baseline') AS baseline_high
FROM (SELECT nr, any_value(t) AS t, count(*) AS pairs,
    count(*) FILTER (lh AND bh AND isfinite(d)) AS sound FROM pairs GROUP BY nr) counted
  LEFT JOIN differences USING (nr) LEFT JOIN ends USING (nr)
GROUP BY nr ORDER BY nr""".replace("{1}", _Z)
