"""Effects out of a store: the rows by one SQL query, and the SQL that recomputes the numbers."""

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sickbay.service.effect_pairs import TrialRow, level_key
from sickbay.service.effects import EffectTable, Levels, effect_table
from sickbay.service.query import query
from sickbay.service.report_questions import name, text
from sickbay.service.stored import SweepError, stored_spec
from sickbay.trials.contract import Goal, Scalar
from sickbay.trials.store import Store

_SOUND = "{0}.label = 'healthy' AND isfinite({0}.objective)"


@dataclass(frozen=True)
class SweepEffects:
    """The effects of a stored sweep, and where they come from.

    `sql` has two queries: `trials` lists the rows that all is computed from, `pairs` recomputes the
    counts and differences of every level. `problems` are files that could not be read.
    """

    sweep_id: str
    signal: str
    table: EffectTable
    sql: Mapping[str, str]
    problems: tuple[str, ...] = ()

    def as_data(self) -> dict[str, Any]:
        """Give all of it as dictionaries, lists and scalars; NaN where nothing can be said."""
        table = asdict(self.table)
        return {"sweep_id": self.sweep_id, "signal": self.signal, **table, "sql": dict(self.sql)}


def load_effects(store: Store, sweep_id: str) -> SweepEffects:
    """Read a sweep's ended trials and compare every level with its factor's baseline.

    Raises SweepError if there is no such sweep, or if its spec names no objective; StoreError or
    QueryError if the store cannot be read.
    """
    spec = stored_spec(store, sweep_id)
    objective = spec.get("objective")
    if not objective:
        raise SweepError(
            f"the stored spec of {sweep_id} does not say which signal its trials are compared by: "
            "set `objective` in the spec and run it again, which only rewrites the spec"
        )
    sql = trials_sql(sweep_id)
    found = query(store, sql, sweep_ids=[sweep_id])
    records = [dict(zip(found.columns, row, strict=True)) for row in found.rows]
    configs = [json.loads(record.pop("config") or "{}") for record in records]
    changed = [record.pop("changed") or [] for record in records]
    levels, skipped = known_levels(spec, configs, changed)
    rows = [
        TrialRow(levels={factor: config.get(factor) for factor in [*levels, *skipped]}, **record)
        for record, config in zip(records, configs, strict=True)
    ]
    # A factor that cannot be compared is still part of every context: as one of a single level.
    contexts: Levels = dict.fromkeys(skipped, ())
    table = effect_table(rows, {**levels, **contexts}, Goal(objective["goal"]))
    columns = {factor for config in configs for factor in config}
    stored = {factor: known for factor, known in levels.items() if factor in columns}
    return SweepEffects(
        sweep_id=sweep_id,
        signal=objective["signal"],
        table=replace(table, skipped={**table.skipped, **skipped}),
        sql={
            "trials": sql,
            "pairs": pairs_sql(sweep_id, stored, [one for one in skipped if one in columns]),
        },
        problems=tuple(map(str, found.problems)),
    )


def known_levels(
    spec: Mapping[str, Any],
    configs: Sequence[Mapping[str, Scalar]],
    changed: Sequence[Sequence[str]],
) -> tuple[Levels, dict[str, str]]:
    """Find the levels of every factor, baseline first, and the factors that have no levels.

    Besides the spec's these are factors and levels of earlier specs of the same sweep. Of a factor
    that the spec no longer varies, the baseline is what trials have that did not change it.
    """
    levels: dict[str, list[Scalar]] = {}
    skipped: dict[str, str] = {}
    for factor, listed in spec.get("factors", {}).items():
        if isinstance(listed, Mapping):
            skipped[factor] = "is a range: it has no levels to compare"
        else:
            first = spec.get("baseline", {}).get(factor, listed[0])
            levels[factor] = _distinct([first, *listed])
    for factor in sorted({one for words in changed for one in words} - {*levels, *skipped}):
        plain = [
            config[factor]
            for config, words in zip(configs, changed, strict=True)
            if factor in config and factor not in words
        ]
        if len(_distinct(plain)) == 1:
            levels[factor] = plain[:1]
        else:
            skipped[factor] = "is of an earlier spec, and its baseline cannot be told any more"
    for factor, known in levels.items():
        seen = _distinct([config[factor] for config in configs if factor in config])
        more = sorted(seen, key=lambda level: (str(type(level)), level))
        levels[factor] = _distinct([*known, *more])
    return levels, skipped


def trials_sql(sweep_id: str) -> str:
    """List the ended trials with all that their effects are computed from."""
    return (
        "SELECT trial_id, seed, config, changed, state, label, pathology, objective\n"
        f"FROM trials WHERE sweep_id = {text(sweep_id)}\nORDER BY seed, trial_id"
    )


def pairs_sql(sweep_id: str, levels: Levels, others: Sequence[str] = ()) -> str:
    """Recompute pairs, health and mean difference of every level: its pairs differ in it alone.

    `others` are factors that have no levels but must agree too. All must be columns of `trials`.
    Empty where there is nothing to compare.
    """
    compared = {factor: known for factor, known in levels.items() if len(known) > 1}
    if not compared:
        return ""
    differ = {one: f"(l.{name(one)} IS DISTINCT FROM b.{name(one)})" for one in [*levels, *others]}
    which = " ".join(f"WHEN {differ[one]} THEN {text(one)}" for one in compared)
    level = " ".join(f"WHEN {differ[one]} THEN CAST(l.{name(one)} AS VARCHAR)" for one in compared)
    baselines = "".join(
        f"\n    AND (NOT {differ[one]} OR b.{name(one)} = {_literal(known)})"
        for one, known in compared.items()
    )
    count = " + ".join(f"CAST({one} AS INTEGER)" for one in differ.values())
    context = ", ".join(f"b.{name(one)}" for one in differ)
    both = f"{_SOUND.format('l')} AND {_SOUND.format('b')}"
    return (
        "SELECT factor, level, sum(pairs) AS pairs, sum(sound) AS sound_pairs,\n"  # noqa: S608
        "  sum(healthy) AS level_healthy, sum(baseline_healthy) AS baseline_healthy,\n"
        "  avg(difference) AS difference\n"
        f"FROM (SELECT CASE {which} END AS factor,\n    CASE {level} END AS level,\n"
        f"    count(*) AS pairs, count(*) FILTER ({both}) AS sound,\n"
        f"    count(*) FILTER ({_SOUND.format('l')}) AS healthy,\n"
        f"    count(*) FILTER ({_SOUND.format('b')}) AS baseline_healthy,\n"
        f"    avg(l.objective - b.objective) FILTER ({both}) AS difference\n"
        "  FROM trials l JOIN trials b USING (sweep_id, seed)\n"
        f"  WHERE sweep_id = {text(sweep_id)}\n    AND {count} = 1{baselines}\n"
        f"  GROUP BY factor, level, {context})\n"
        "GROUP BY ALL ORDER BY ALL"
    )


def _distinct(levels: Sequence[Scalar]) -> list[Scalar]:
    found: dict[Hashable, Scalar] = {}
    for level in levels:
        found.setdefault(level_key(level), level)
    return list(found.values())


def _literal(known: Sequence[Scalar]) -> str:
    """Write the baseline as its column holds it: levels of several kinds are stored as text."""
    first = known[0]
    if isinstance(first, bool) and all(isinstance(level, bool) for level in known):
        return str(first).lower()
    if any(isinstance(level, str | bool) for level in known):
        return text(first if isinstance(first, str) else json.dumps(first))
    return repr(first)
