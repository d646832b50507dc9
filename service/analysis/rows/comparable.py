"""Makes the rows of a sweep comparable, and says how.

- *Joint factors.* Factors that always change together (`zip`, or a constraint such as `a == b`)
  are compared as one factor, `a + b`.
- *Skill.* Losses under different definitions (as class weights) differ in their floors and are
  compared as the gain over each trial's own floor, 1 - loss / floor: 0 is the best constant.
- *Copies.* Seeds with equal objectives in every arm are one observation: the seed is not wired.

`source` holds the same as SQL, so that the printed SQL recomputes the same numbers.
"""

import json
import math
import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace

from sickbay.service.analysis.rows.load import SweepRows
from sickbay.service.analysis.rows.pairs import NEARLY, Levels, TrialRow, level_key
from sickbay.service.query.outcomes import HEALTHY
from sickbay.service.query.sqltext import name, text
from sickbay.trials.contract import Goal, Scalar

SAME_FLOOR = 0.01  # relative difference up to which two floors are of one loss
JOINT = " + "
# Columns of the printed SQL's own: a factor of such a name has a `_` behind it there.
SQL_WORDS = frozenset(
    ("factor", "level", "y", "n", "s", "within", "healthy", "cut", "cancelled", "last")
)


def comparable(found: SweepRows) -> SweepRows:
    """Join factors, convert losses to skill and drop copies, each where needed."""
    floors = _different_floors(found)
    copies = seed_copies(found.rows, list(found.contexts))
    joint = joint_factors(found)
    rows = [row for row in found.rows if row.seed not in copies]
    notes = list(found.notes)
    levels = dict(found.levels)
    columns = set(found.columns)
    for group in joint:
        rows, levels = _joined(rows, levels, group)
        columns.add(JOINT.join(group))
        notes.append(
            f"{JOINT.join(group)}: these factors always change together, so only their joint "
            "effect can be known"
        )
    if floors:
        rows = [replace(row, objective=_skill(row)) for row in rows]
        notes.append(floors)
    if copies:
        notes.append(_copied(copies))
    skipped = dict(found.skipped)
    return replace(
        found,
        rows=tuple(rows),
        levels=levels,
        skipped=skipped,
        columns=frozenset(columns),
        signal=f"gain in {found.signal} over its floor" if floors else found.signal,
        goal=Goal.MAXIMIZE if floors else found.goal,
        notes=tuple(notes),
        source=_source(found, joint, levels, copies, skill=bool(floors)),
    )


def joint_factors(rows: SweepRows) -> list[tuple[str, ...]]:
    """Groups of factors that always change together among the trials, and the spec's `zip`."""
    listed = [tuple(group) for group in rows.spec.get("zip", ())]
    groups = [group for group in listed if all(factor in rows.levels for factor in group)]
    grouped = {factor for group in groups for factor in group}
    alike: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for factor in rows.levels:
        if factor not in grouped:
            partition = _partition(row.levels.get(factor) for row in rows.rows)
            if max(partition, default=0) > 0:
                alike[partition].append(factor)
    return groups + [tuple(some) for some in alike.values() if len(some) > 1]


def _partition(levels: Iterable[Scalar | None]) -> tuple[int, ...]:
    """Number the trials' levels in order of first appearance."""
    places: dict[Hashable, int] = {}
    return tuple(places.setdefault(level_key(level), len(places)) for level in levels)


def _joined(
    rows: Sequence[TrialRow], levels: Levels, group: Sequence[str]
) -> tuple[list[TrialRow], dict[str, Sequence[Scalar]]]:
    """Replace a group of factors by one factor with text levels."""
    whole, first = JOINT.join(group), {factor: levels[factor][0] for factor in group}
    met = dict.fromkeys(
        [_joint_level(first, group), *(_joint_level(row.levels, group) for row in rows)]
    )
    made: dict[str, Sequence[Scalar]] = {}
    for factor, known in levels.items():
        if factor == group[0]:
            made[whole] = list(met)
        elif factor not in group:
            made[factor] = known
    changed = [
        replace(
            row,
            levels={
                **{factor: level for factor, level in row.levels.items() if factor not in group},
                whole: _joint_level(row.levels, group),
            },
        )
        for row in rows
    ]
    return changed, made


def _joint_level(levels: Mapping[str, Scalar | None], group: Sequence[str]) -> str:
    return JOINT.join(_written(levels.get(factor)) for factor in group)


def _written(level: Scalar | None) -> str:
    return level if isinstance(level, str) else json.dumps(level)


def _different_floors(rows: SweepRows) -> str:
    """A note that losses are compared as skill, where their floors differ; else None."""
    if rows.goal is not Goal.MINIMIZE:
        return ""
    floors: dict[int, list[float]] = defaultdict(list)
    for row in rows.rows:
        if row.outcome == HEALTHY:
            floors[row.seed].append(row.floor if row.floor is not None else math.nan)
    every = [floor for some in floors.values() for floor in some]
    if not all(floor > 0.0 for floor in every):  # unknown, or no loss of which a share makes sense
        return ""
    if all(max(some) - min(some) <= SAME_FLOOR * max(some) for some in floors.values()):
        return ""
    return (
        f"trials of one seed have {rows.signal} floors from {min(every):.3g} to {max(every):.3g}: "
        "their losses are on different scales, so each counts as its gain over its own floor, "
        "1 - loss / floor (0: no skill; higher is better)"
    )


def _skill(row: TrialRow) -> float | None:
    if row.objective is None or row.floor is None or not row.floor > 0.0:
        return row.objective if row.objective is None else math.nan
    return 1.0 - row.objective / row.floor


def seed_copies(rows: Sequence[TrialRow], factors: Sequence[str]) -> dict[int, int]:
    """Seeds whose objectives equal those of an earlier seed in every arm (of two or more)."""
    by_seed: dict[int, dict[Hashable, float]] = defaultdict(dict)
    for row in rows:
        if math.isfinite(row.value):
            arm = tuple(level_key(row.levels.get(factor)) for factor in factors)
            by_seed[row.seed][arm] = row.value
    copies: dict[int, int] = {}
    firsts: list[int] = []
    for seed in sorted(by_seed):
        mine = by_seed[seed]
        original = next((one for one in firsts if _copied_from(mine, by_seed[one])), None)
        if original is None:
            firsts.append(seed)
        else:
            copies[seed] = original
    return copies


def _copied_from(values: Mapping[Hashable, float], others: Mapping[Hashable, float]) -> bool:
    shared = values.keys() & others.keys()
    return (
        len(shared) > 1
        and len({round(values[arm], 9) for arm in shared}) > 1
        and all(math.isclose(values[arm], others[arm], rel_tol=NEARLY) for arm in shared)
    )


def _copied(copies: Mapping[int, int]) -> str:
    seeds = ", ".join(map(str, sorted({*copies, *copies.values()})))
    return (
        f"seeds {seeds} give the same objective in every arm: the seed is not wired to the "
        f"training, and {len(copies) + len(set(copies.values()))} equal runs count as "
        f"{len(set(copies.values()))}"
    )


def column(factor: str) -> str:
    """Name a factor's column in the printed SQL."""
    return name(f"{factor}_" if factor.casefold() in SQL_WORDS else factor)


def over(source: str, sql: str) -> str:
    """Make a query of the view `outcomes` select from `source` instead, if there is one."""
    if not source or not sql:
        return sql
    body = re.sub(r"\b(FROM|JOIN) outcomes\b", r"\1 compared", sql)
    head = f"WITH compared AS (\n{source})"
    return f"{head},\n{body[5:]}" if body.startswith("WITH ") else f"{head}\n{body}"


def _source(
    rows: SweepRows,
    joint: Sequence[Sequence[str]],
    levels: Levels,
    copies: Mapping[int, int],
    *,
    skill: bool,
) -> str:
    """The query of `outcomes` that does what `comparable` did; empty where it did nothing."""
    renamed = [one for one in sorted(rows.columns) if column(one) != name(one)]
    if not (renamed or joint or copies or skill):
        return ""
    floor = f"CAST(json_extract(facts, {text(f'$.floors.{rows.signal}')}) AS DOUBLE)"
    left_out = f" EXCLUDE ({', '.join(map(name, renamed))})" if renamed else ""
    replaced = f" REPLACE (1 - objective / {floor} AS objective)" if skill else ""
    columns = [
        f"*{left_out}{replaced}",
        *(f"{name(factor)} AS {column(factor)}" for factor in renamed),
    ]
    for group in joint:
        whole = JOINT.join(group)
        parts = f" || {text(JOINT)} || ".join(
            f"CAST({name(factor)} AS VARCHAR)" for factor in group
        )
        cases = "".join(
            f"\n      WHEN {_matches(rows, group, str(level))} THEN {text(str(level))}"
            for level in levels[whole]
        )
        columns.append(f"CASE{cases}\n      ELSE {parts} END AS {name(whole)}")
    where = f"sweep_id = {text(rows.sweep_id)}"
    if copies:
        where += f" AND seed NOT IN ({', '.join(map(str, sorted(copies)))})"
    chosen = ",\n    ".join(columns)
    return f"  SELECT {chosen}\n  FROM outcomes WHERE {where}"  # noqa: S608 - quoted by `name`


def _matches(rows: SweepRows, group: Sequence[str], whole: str) -> str:
    row = next((one for one in rows.rows if _joint_level(one.levels, group) == whole), None)
    if row is None:
        return "false"
    known = {factor: literal(row.levels.get(factor), rows.levels[factor]) for factor in group}
    return " AND ".join(
        f"{name(factor)} IS NOT DISTINCT FROM {level}" for factor, level in known.items()
    )


def literal(level: Scalar | None, known: Sequence[Scalar]) -> str:
    """SQL literal of a level as its column holds it: levels of mixed types are stored as text."""
    if level is None:
        return "NULL"
    if all(isinstance(known_level, bool) for known_level in known):
        return str(level).lower()
    if any(isinstance(known_level, str | bool) for known_level in known):
        return text(level if isinstance(level, str) else json.dumps(level))
    return f"CAST({level!r} AS DOUBLE)"
