"""Effects out of a store: the rows by one SQL query, and the SQL that recomputes the numbers."""

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sickbay.service.analysis.effects import EffectTable, Levels, effect_table
from sickbay.service.analysis.pairs import TrialRow, level_key
from sickbay.service.analysis.sql import better_sql, causes_sql, pairs_sql, seeds_sql, trials_sql
from sickbay.service.query.engine import query
from sickbay.service.query.lookup import SweepError, stored_spec
from sickbay.trials.contract import Goal, Scalar
from sickbay.trials.store import Store


@dataclass(frozen=True)
class SweepRows:
    """The ended trials of a stored sweep, as their effects need them.

    `levels` are the factors with their levels, the baseline first; `skipped` those without, with
    why; `ranges` those of them that are ranges, as the spec has them. `columns` are the factors
    that are columns of `trials`: all but those that no stored trial has.
    """

    sweep_id: str
    signal: str
    goal: Goal
    rows: tuple[TrialRow, ...]
    levels: Levels
    skipped: Mapping[str, str]
    ranges: Mapping[str, Mapping[str, Any]]
    columns: frozenset[str]
    problems: tuple[str, ...] = ()

    @property
    def contexts(self) -> Levels:
        """All factors: one that cannot be compared is still part of every context."""
        return {**self.levels, **dict.fromkeys(self.skipped, ())}

    @property
    def stored(self) -> tuple[Levels, list[str]]:
        """Give the factors that SQL can name: those with levels, and the others."""
        known = {factor: some for factor, some in self.levels.items() if factor in self.columns}
        return known, [factor for factor in self.skipped if factor in self.columns]


@dataclass(frozen=True)
class SweepEffects:
    """The effects of a stored sweep, and where they come from.

    `sql` has one query a group of numbers: `trials` lists the rows that all is computed from;
    `pairs` recomputes counts and differences, `seeds` IQM and error, `better` P(better), `causes`
    what the others had. `problems` are files that could not be read.
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
    return effects_of(load_rows(store, sweep_id))


def effects_of(found: SweepRows) -> SweepEffects:
    """Compare every level of the rows with its factor's baseline."""
    table = effect_table(found.rows, found.contexts, found.goal)
    sweep_id, (levels, others) = found.sweep_id, found.stored
    return SweepEffects(
        sweep_id=sweep_id,
        signal=found.signal,
        table=replace(table, skipped={**table.skipped, **found.skipped}),
        sql={
            "trials": trials_sql(sweep_id),
            "pairs": pairs_sql(sweep_id, levels, others),
            "seeds": seeds_sql(sweep_id, levels, others),
            "better": better_sql(sweep_id, levels, found.goal, others),
            "causes": causes_sql(sweep_id, levels, others),
        },
        problems=found.problems,
    )


def load_rows(store: Store, sweep_id: str) -> SweepRows:
    """Read a sweep's ended trials and its factors; raises what `load_effects` raises."""
    spec = stored_spec(store, sweep_id)
    objective = spec.get("objective")
    if not objective:
        raise SweepError(
            f"the stored spec of {sweep_id} does not say which signal its trials are compared by: "
            "set `objective` in the spec and run it again, which only rewrites the spec"
        )
    found = query(store, trials_sql(sweep_id), sweep_ids=[sweep_id])
    records = [dict(zip(found.columns, row, strict=True)) for row in found.rows]
    configs = [json.loads(record.pop("config") or "{}") for record in records]
    changed = [record.pop("changed") or [] for record in records]
    levels, skipped = known_levels(spec, configs, changed)
    rows = [
        TrialRow(levels={factor: config.get(factor) for factor in [*levels, *skipped]}, **record)
        for record, config in zip(records, configs, strict=True)
    ]
    factors = spec.get("factors", {})
    return SweepRows(
        sweep_id=sweep_id,
        signal=objective["signal"],
        goal=Goal(objective["goal"]),
        rows=tuple(rows),
        levels=levels,
        skipped=skipped,
        ranges={one: factors[one] for one in skipped if isinstance(factors.get(one), Mapping)},
        columns=frozenset(factor for config in configs for factor in config),
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


def _distinct(levels: Sequence[Scalar]) -> list[Scalar]:
    found: dict[Hashable, Scalar] = {}
    for level in levels:
        found.setdefault(level_key(level), level)
    return list(found.values())
