"""All that the effects of a stored sweep are made of, in one value: what a page or a report draws.

    study = load_study(store, sweep_id, parts=ALL_PARTS)

Every part is a frozen dataclass of plain values; NaN where nothing can be said, and a sentence that
says why. Every group of numbers has the SQL that recomputes it, in `study.sql` by the part's name.

    study.effects.table      EffectTable        service/analysis/effects.py        (always)
        .effects             LevelEffect        one level against its baseline: `difference`,
                                                `iqm` (Estimate), `improvement` (Share),
                                                `bootstrap` (Interval), `of_level` and
                                                `of_baseline` (Side: healthy of trials, causes),
                                                `p_holm`, `verdict`
        .skipped             factor -> why it has no effects
    study.interactions       InteractionTable   service/analysis/interactions.py   ("interactions")
        .interactions        Interaction        two levels: four `cells` (Cell), `difference`
                                                (of differences) and `health` (Estimate)
    study.main_effects       MainEffectTable    service/analysis/main_effects.py  ("main_effects")
        .effects             MainEffect         one level over the whole design: `difference`,
                                                `rank` (Estimate)
    study.importance         ImportanceTable    service/analysis/importance.py     ("importance")
        .targets             Importance         `fanova` and `ped_anova`: factor -> share of one;
                                                `explained`: the share that is no noise

    Estimate   mean, error, degrees, low, high, p_value             service/analysis/statistics.py
    Share      value, low, high, p_value
    Interval   low, high

The smallest changes that fix a trial: `fixes_for(store, trial_id)` in `fixes` gives a
`Fixes` with `known` (Fix: changes, healthy, of, low) and `next` (Candidate: changes, reason), and
`sweep_fixes(store, sweep_id)` one for each configuration that is not healthy in all its seeds; both
at once for a whole sweep, in sentences: `fix_lines(fixes)` in `reports.fix_printed`. Two sweeps
side by side: `compare(open_half(opener, a), open_half(opener, b))` in `comparison`.

A part that was not asked for is None. Importance takes seconds; the others far less.
"""

import json
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sickbay.service.analysis.effects import EffectTable, Levels, effect_table
from sickbay.service.analysis.importance import ImportanceTable, importance_table
from sickbay.service.analysis.interactions import InteractionTable, interaction_table
from sickbay.service.analysis.main_effects import MainEffectTable, main_effect_table
from sickbay.service.analysis.pairs import Span, TrialRow, level_key
from sickbay.service.analysis.sql import (
    better_sql,
    causes_sql,
    importance_sql,
    interactions_sql,
    main_effects_sql,
    pairs_sql,
    seeds_sql,
    trials_sql,
)
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


def sweep_effects(store: Store, sweep_id: str) -> tuple[SweepEffects | None, str]:
    """Load the effects; where there can be none, say why instead."""
    try:
        return load_effects(store, sweep_id), ""
    except SweepError as error:
        return None, str(error)


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
            skipped[factor] = "comes from an earlier spec, and its baseline is unknown"
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


ALL_PARTS = ("interactions", "main_effects", "importance")


@dataclass(frozen=True)
class EffectStudy:
    """The effects of a sweep, and the parts that were asked for.

    `sql` has, besides those of `effects.sql`, the texts `interactions`, `main_effects` and one
    `importance NAME` for each target. The models' and the forests' own numbers cannot be SQL; what
    goes into them can, and is.
    """

    effects: SweepEffects
    interactions: InteractionTable | None
    main_effects: MainEffectTable | None
    importance: ImportanceTable | None
    sql: Mapping[str, str]

    def as_data(self) -> dict[str, Any]:
        """Give all of it as dictionaries, lists and scalars; parts not asked for are left out."""
        parts = {
            name: asdict(part) for name in ALL_PARTS if (part := getattr(self, name)) is not None
        }
        return {**self.effects.as_data(), **parts, "sql": dict(self.sql)}


def load_study(store: Store, sweep_id: str, parts: Collection[str] = ()) -> EffectStudy:
    """Read a sweep once and work out its effects and these parts; raises as `load_effects` does."""
    return study_of(load_rows(store, sweep_id), parts)


def study_of(found: SweepRows, parts: Collection[str] = ()) -> EffectStudy:
    """Work out the effects of rows, and these parts: any of `ALL_PARTS`."""
    unknown = set(parts) - set(ALL_PARTS)
    assert not unknown, unknown
    effects = effects_of(found)
    levels, others = found.stored
    sql = dict(effects.sql)
    interactions = main_effects = importance = None
    if "interactions" in parts:
        interactions = interaction_table(found.rows, found.contexts, found.goal)
        sql["interactions"] = interactions_sql(found.sweep_id, levels, others)
    if "main_effects" in parts:
        main_effects = main_effect_table(found.rows, found.contexts, found.goal)
        sql["main_effects"] = main_effects_sql(found.sweep_id, levels)
    if "importance" in parts:
        spans = {name: _span(ends) for name, ends in found.ranges.items()}
        importance = importance_table(found.rows, list(found.contexts), found.goal, spans)
        for target in importance.targets:
            sql[f"importance {target.target}"] = importance_sql(
                found.sweep_id,
                importance.factors,
                target.target,
                within_seeds=target.within_seeds,
            )
    return EffectStudy(effects, interactions, main_effects, importance, sql)


def _span(ends: Mapping[str, Any]) -> Span:
    return Span(float(ends["low"]), float(ends["high"]), bool(ends.get("log", False)))
