"""The SQL that recomputes the effects of a sweep: to be copied, and run by `sickbay query`.

Every text selects from the view `outcomes` and takes the factors that are columns of it: `levels`
with their levels, the baseline first, `others` that have none but must agree too. Empty where there
is nothing to compare.
"""

import itertools
import math
from collections.abc import Hashable, Mapping, Sequence

from sickbay.service.analysis.effects import EffectTable, LevelEffect
from sickbay.service.analysis.rows.comparable import column, literal
from sickbay.service.analysis.rows.pairs import level_key
from sickbay.service.analysis.statistics.estimates import t_quantile
from sickbay.service.query.outcomes import COUNTS, RANKS_LAST
from sickbay.service.query.sqltext import text
from sickbay.trials.contract import Goal, Scalar

Levels = Mapping[str, Sequence[Scalar]]

SOUND = "{0}.outcome = 'healthy'"


def pairs_sql(sweep_id: str, levels: Levels, others: Sequence[str] = ()) -> str:
    """Recompute pairs, health and mean difference of every level: its pairs differ in it alone."""
    if not _compared(levels):
        return ""
    both = f"{SOUND.format('l')} AND {SOUND.format('b')}"
    return (
        "SELECT factor, level, sum(pairs) AS pairs, sum(sound) AS sound_pairs,\n"
        "  sum(healthy) AS level_healthy, sum(baseline_healthy) AS baseline_healthy,\n"
        "  avg(difference) AS difference\n"
        f"FROM (SELECT {_which(levels, others)},\n"
        f"    count(*) AS pairs, count(*) FILTER ({both}) AS sound,\n"
        f"    count(*) FILTER ({SOUND.format('l')}) AS healthy,\n"
        f"    count(*) FILTER ({SOUND.format('b')}) AS baseline_healthy,\n"
        f"    avg(l.objective - b.objective) FILTER ({both}) AS difference\n"
        f"  {_joined(sweep_id, levels, others)}\n"
        f"  GROUP BY factor, level, {_context(levels, others)})\n"
        "GROUP BY ALL ORDER BY ALL"
    )


def seeds_sql(sweep_id: str, levels: Levels, others: Sequence[str] = ()) -> str:
    """Recompute IQM and standard error of every level from one value a seed.

    `plain_error` is a level's own error where one context, or every pair, is there; where pairs are
    missing in several contexts it is corrected beyond what SQL can say. The error that decides
    shares the noise of the table's levels, see `effects_sql`.
    """
    if not _compared(levels):
        return ""
    both = f"{SOUND.format('l')} AND {SOUND.format('b')}"
    context = _context(levels, others)
    return (
        "WITH pairs AS (\n"  # noqa: S608
        f"  SELECT {_which(levels, others)}, seed, concat_ws('/', {context}) AS context,\n"
        "    l.objective - b.objective AS d\n"
        f"  {_joined(sweep_id, levels, others)} AND {both}),\n"
        "contexts AS (SELECT factor, level, context, avg(d) AS centre FROM pairs GROUP BY ALL),\n"
        "means AS (SELECT factor, level, avg(centre) AS mean FROM contexts GROUP BY ALL),\n"
        "seeds AS (\n"
        "  SELECT factor, level, seed, avg(d - centre) + any_value(mean) AS value\n"
        "  FROM pairs JOIN contexts USING (factor, level, context)\n"
        "    JOIN means USING (factor, level)\n"
        "  GROUP BY ALL),\n"
        "ranked AS (\n"
        "  SELECT *, count(*) OVER arm AS n,\n"
        "    row_number() OVER (PARTITION BY factor, level ORDER BY value, seed) AS place\n"
        "  FROM seeds WINDOW arm AS (PARTITION BY factor, level))\n"
        "SELECT factor, level, count(*) AS seeds,\n"
        "  avg(value) FILTER (place > n // 4 AND place <= n - n // 4) AS iqm,\n"
        "  stddev_samp(value) / sqrt(count(*)) AS plain_error\n"
        "FROM ranked GROUP BY ALL ORDER BY ALL"
    )


def better_sql(sweep_id: str, levels: Levels, goal: Goal, others: Sequence[str] = ()) -> str:
    """Recompute P(better) of every level over all pairs but those with a cancelled trial."""
    if not _compared(levels):
        return ""
    wins = "<" if goal is Goal.MINIMIZE else ">"
    lost, won = RANKS_LAST.format("l"), RANKS_LAST.format("b")
    return (
        "SELECT factor, level, count(*) AS ranked_pairs, avg(score) AS p_better\n"
        f"FROM (SELECT {_which(levels, others)},\n"
        f"    CASE WHEN {lost}\n      AND {won} THEN 0.5\n"
        f"      WHEN {lost} THEN 0.0\n      WHEN {won} THEN 1.0\n"
        "      WHEN l.objective = b.objective THEN 0.5\n"
        f"      WHEN l.objective {wins} b.objective THEN 1.0 ELSE 0.0 END AS score\n"
        f"  {_joined(sweep_id, levels, others)}\n"
        "    AND l.outcome <> 'cancelled' AND b.outcome <> 'cancelled')\n"
        "GROUP BY ALL ORDER BY ALL"
    )


def causes_sql(sweep_id: str, levels: Levels, others: Sequence[str] = ()) -> str:
    """Recount how the trials of the pairs ended, for the level and for its baseline."""
    if not _compared(levels):
        return ""
    return (
        "WITH pairs AS (\n"  # noqa: S608
        f"  SELECT {_which(levels, others)}, l.outcome AS of_level, b.outcome AS of_baseline\n"
        f"  {_joined(sweep_id, levels, others)})\n"
        "SELECT factor, level, side, outcome, count(*) AS trials FROM (\n"
        "  SELECT factor, level, 'level' AS side, of_level AS outcome FROM pairs UNION ALL\n"
        "  SELECT factor, level, 'baseline', of_baseline FROM pairs)\n"
        "WHERE outcome NOT IN ('cancelled', 'pruned') GROUP BY ALL ORDER BY ALL"
    )


def interactions_sql(sweep_id: str, levels: Levels, others: Sequence[str] = ()) -> str:
    """Recompute quads, sound quads and the difference of differences of every two levels."""
    every = [*levels, *others]
    parts = [
        _crossed(sweep_id, factor, other, [f for f in every if f not in (factor[0], other[0])])
        for factor, other in itertools.combinations(_compared(levels).items(), 2)
    ]
    return "\nUNION ALL\n".join(parts) + "\nORDER BY ALL" if parts else ""


def main_effects_sql(sweep_id: str, levels: Levels) -> str:
    """Recount the trials of every level, and take the plain mean of its healthy objectives."""
    sound = SOUND.format("t")
    parts = [
        f"SELECT {text(factor)} AS factor, CAST(t.{column(factor)} AS VARCHAR) AS level,\n"
        f"  count(*) FILTER ({COUNTS.format('t')}) AS trials,\n"
        f"  count(*) FILTER ({sound}) AS healthy, avg(t.objective) FILTER ({sound}) AS mean\n"
        f"FROM outcomes t WHERE t.sweep_id = {text(sweep_id)} GROUP BY ALL"
        for factor in _compared(levels)
    ]
    return "\nUNION ALL\n".join(parts) + "\nORDER BY ALL" if parts else ""


def importance_sql(
    sweep_id: str, factors: Sequence[str], target: str, *, within_seeds: bool
) -> str:
    """Recompute a target's trials, positives, configurations and explained share of variance."""
    value, which = {
        "objective": (
            "objective - avg(objective) OVER (PARTITION BY seed)" if within_seeds else "objective",
            " AND outcome = 'healthy'",
        ),
        "pathological": ("CAST(label = 'pathological' AS DOUBLE)", ""),
    }.get(target, (f"CAST(pathology IS NOT DISTINCT FROM {text(target)} AS DOUBLE)", ""))
    columns = ", ".join(column(factor) for factor in factors) or "sweep_id"
    return (
        f"WITH targets AS (\n  SELECT {columns}, {value} AS y FROM outcomes\n"  # noqa: S608
        f"  WHERE sweep_id = {text(sweep_id)} AND label IS NOT NULL{which}),\n"
        "cells AS (SELECT count(*) AS n, sum(y) AS s, count(*) * var_pop(y) AS within\n"
        f"  FROM targets GROUP BY {columns})\n"
        "SELECT sum(n) AS trials, sum(s) AS positives, count(*) AS configurations,\n"
        "  1 - sum(within) / nullif(sum(n) - count(*), 0)\n"
        "    / nullif((SELECT var_samp(y) FROM targets), 0) AS explained\n"
        "FROM cells"
    )


def _compared(levels: Levels) -> Levels:
    return {factor: known for factor, known in levels.items() if len(known) > 1}


def _differ(levels: Levels, others: Sequence[str]) -> dict[str, str]:
    return {
        factor: f"(l.{column(factor)} IS DISTINCT FROM b.{column(factor)})"
        for factor in [*levels, *others]
    }


def _which(levels: Levels, others: Sequence[str]) -> str:
    """Tell in which factor a pair differs, and at which level."""
    differ = _differ(levels, others)
    which = " ".join(f"WHEN {differ[factor]} THEN {text(factor)}" for factor in _compared(levels))
    level = " ".join(
        f"WHEN {differ[factor]} THEN CAST(l.{column(factor)} AS VARCHAR)"
        for factor in _compared(levels)
    )
    return f"CASE {which} END AS factor,\n    CASE {level} END AS level"


def _context(levels: Levels, others: Sequence[str]) -> str:
    return ", ".join(f"b.{column(factor)}" for factor in [*levels, *others])


def _joined(sweep_id: str, levels: Levels, others: Sequence[str]) -> str:
    """Pair trials of one seed that differ in one compared factor, from its baseline."""
    differ = _differ(levels, others)
    count = " + ".join(f"CAST({condition} AS INTEGER)" for condition in differ.values())
    baselines = "".join(
        f"\n    AND (NOT {differ[factor]} OR b.{column(factor)} = {literal(known[0], known)})"
        for factor, known in _compared(levels).items()
    )
    return (
        "FROM outcomes l JOIN outcomes b USING (sweep_id, seed)\n"
        f"  WHERE sweep_id = {text(sweep_id)}\n    AND {count} = 1{baselines}"
    )


def _crossed(
    sweep_id: str,
    factor: tuple[str, Sequence[Scalar]],
    other: tuple[str, Sequence[Scalar]],
    rest: Sequence[str],
) -> str:
    """Recompute the interactions of two factors: neither, a alone, b alone, both."""
    a, b = column(factor[0]), column(other[0])
    all_equal = "".join(f" AND n.{column(f)} IS NOT DISTINCT FROM {{0}}.{column(f)}" for f in rest)
    same = "n.sweep_id = {0}.sweep_id AND n.seed = {0}.seed" + all_equal
    sound = " AND ".join(SOUND.format(side) for side in ("n", "a", "b", "c"))
    there = " AND ".join(COUNTS.format(side) for side in ("n", "a", "b", "c"))
    context = "".join(f", n.{column(f)}" for f in rest)
    return (
        "SELECT factor_a, level_a, factor_b, level_b, sum(quads) AS quads,\n"  # noqa: S608
        "  sum(sound) AS sound_quads, avg(difference) AS difference\n"
        f"FROM (SELECT {text(factor[0])} AS factor_a, CAST(a.{a} AS VARCHAR) AS level_a,\n"
        f"    {text(other[0])} AS factor_b, CAST(b.{b} AS VARCHAR) AS level_b,\n"
        f"    count(*) AS quads, count(*) FILTER ({sound}) AS sound,\n"
        "    avg((c.objective - b.objective) - (a.objective - n.objective))\n"
        f"      FILTER ({sound}) AS difference\n"
        f"  FROM outcomes n JOIN outcomes a ON {same.format('a')}\n"
        f"    JOIN outcomes b ON {same.format('b')}\n    JOIN outcomes c ON {same.format('c')}\n"
        f"  WHERE n.sweep_id = {text(sweep_id)}\n"
        f"    AND n.{a} = {literal(factor[1][0], factor[1])}\n"
        f"    AND n.{b} = {literal(other[1][0], other[1])}\n"
        f"    AND a.{a} <> n.{a} AND a.{b} = n.{b} AND b.{a} = n.{a} AND b.{b} <> n.{b}\n"
        f"    AND c.{a} = a.{a} AND c.{b} = b.{b}\n    AND {there}\n"
        f"  GROUP BY a.{a}, b.{b}{context})\n"
        "GROUP BY ALL"
    )


_Z = "1.959963984540054"  # the normal quantile at 97.5 %


def effects_sql(sweep_id: str, table: EffectTable, factors: Sequence[str]) -> str:
    """Recompute the table's rows in its order; `factors` are all columns that make a context.

    Student's quantile and the noise that a level borrows from the others stand in it as numbers.
    Empty where there is nothing to compare.
    """
    numbered = list(enumerate(table.effects, start=1))
    branches = [
        _branch(
            [(nr, o) for nr, o in numbered if _group(o) == group],
            factors,
            _inside(group, table.effects),
        )
        for group in dict.fromkeys(map(_group, table.effects))
        if group[0] in factors
    ]
    if not branches:
        return ""
    lower = "<" if table.goal.value == "minimize" else ">"
    levels = ", ".join(column(factor) for factor in factors)
    return (
        "WITH ended AS (\n"  # noqa: S608 - quoted by `name` and `text`
        f"  SELECT seed, {levels}, objective,\n"
        "    outcome = 'cancelled' AS cancelled, outcome IN ('cancelled', 'pruned') AS cut,\n"
        f"    outcome = 'healthy' AS healthy,\n    {RANKS_LAST.format('o')} AS last\n"
        f"  FROM outcomes o WHERE sweep_id = {text(sweep_id)}\n"
        f"  QUALIFY count(*) OVER (PARTITION BY seed, {levels}) = 1),\n"
        f"pairs AS (\n  {'  UNION ALL '.join(branches)}  ),\n{_DIFFERENCES}{_SCORES.format(lower)}"
    )


_Group = tuple[str, Hashable, tuple[tuple[str, Scalar], ...]]


def _group(one: LevelEffect) -> _Group:
    return one.factor, level_key(one.baseline), tuple(one.stratum.items())


def _inside(group: _Group, effects: Sequence[LevelEffect]) -> str:
    """The condition of a group's stratum."""
    return "".join(
        f" AND l.{column(name)} = {literal(level, [one.stratum[name] for one in effects])}"
        for name, level in group[2]
    )


def _branch(effects: Sequence[tuple[int, LevelEffect]], factors: Sequence[str], inside: str) -> str:
    """Pair the trials of every level of one factor with those of its baseline."""
    factor = effects[0][1].factor
    known = [effect.level for _, effect in effects] + [effects[0][1].baseline]
    rows = ", ".join(
        f"({nr}, {literal(effect.level, known)}, {_quantile(effect)}, "
        f"{effect.own!r}, {effect.borrowed!r})"
        for nr, effect in effects
    )
    others = [one for one in factors if one != factor]
    same = "".join(
        f" AND l.{column(other_factor)} IS NOT DISTINCT FROM b.{column(other_factor)}"
        for other_factor in others
    )
    context = (
        f"CAST(row({', '.join(f'b.{column(other_factor)}' for other_factor in others)}) AS VARCHAR)"
    )
    return (
        "SELECT nr, t, own, borrowed, l.seed, "  # noqa: S608 - quoted by `name` and `literal`
        f"{context if others else text('')} AS context,\n"
        "    l.objective - b.objective AS d, l.objective AS lo, b.objective AS bo,\n"
        "    l.healthy AS lh, b.healthy AS bh, l.last AS ll, b.last AS bl,"
        " l.cancelled AS lc, b.cancelled AS bc,\n"
        "    l.cut AS lx, b.cut AS bx\n"
        f"  FROM (VALUES {rows}) AS v(nr, level, t, own, borrowed)\n"
        f"  JOIN ended l ON l.{column(factor)} = v.level{inside}\n"
        f"  JOIN ended b ON l.seed = b.seed{same}\n"
        f"    AND b.{column(factor)} = {literal(effects[0][1].baseline, known)}\n"
    )


def _quantile(effect: LevelEffect) -> str:
    degrees = effect.difference.degrees
    if math.isnan(effect.difference.low) or math.isnan(degrees):
        return "CAST(NULL AS DOUBLE)"
    return f"CAST({t_quantile(degrees)!r} AS DOUBLE)"


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
    sqrt(sum(off * off) * sum(squares) / sum(squares - taken)) AS own_error,
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
  any_value(difference - t * sqrt(own * own_error ** 2 + borrowed)) AS low,
  any_value(difference + t * sqrt(own * own_error ** 2 + borrowed)) AS high,
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
FROM (SELECT nr, any_value(t) AS t, any_value(own) AS own, any_value(borrowed) AS borrowed,
    count(*) AS pairs,
    count(*) FILTER (lh AND bh AND isfinite(d)) AS sound FROM pairs GROUP BY nr) counted
  LEFT JOIN differences USING (nr) LEFT JOIN ends USING (nr)
GROUP BY nr ORDER BY nr""".replace("{1}", _Z)
