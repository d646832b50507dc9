"""The effects of a stored sweep with all parts, in one value that pages and reports render.

    study = load_study(store, sweep_id, parts=ALL_PARTS)

    study.effects.table.effects           LevelEffect    always (`effects`)
    study.interactions.interactions       Interaction    "interactions"
    study.main_effects.effects            MainEffect     "main_effects"
    study.importance.targets              Importance     "importance", which takes seconds

Frozen dataclasses of plain values; NaN where unknown, and a sentence that says why. `study.sql` has
the SQL that recomputes each part. A part that was not requested is None.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from sickbay.service.analysis.effects import EffectTable, LevelEffect, effect_table
from sickbay.service.analysis.importance import ImportanceTable, importance_table
from sickbay.service.analysis.interactions import InteractionTable, interaction_table
from sickbay.service.analysis.main_effects import MainEffectTable, main_effect_table
from sickbay.service.analysis.rows.comparable import comparable, over
from sickbay.service.analysis.rows.load import SweepRows, load_rows, trials_sql
from sickbay.service.analysis.rows.pairs import Span
from sickbay.service.analysis.rows.reference import BASELINE, DECLARED, Reference, with_reference
from sickbay.service.analysis.sql import (
    better_sql,
    causes_sql,
    effects_sql,
    importance_sql,
    interactions_sql,
    main_effects_sql,
    pairs_sql,
    seeds_sql,
)
from sickbay.service.analysis.statistics.estimates import NOTHING, Estimate
from sickbay.service.analysis.verdicts import HealthVerdict, Verdict, conclusion
from sickbay.service.query.lookup import SweepError
from sickbay.trials.evidence.statistics import holm_adjusted
from sickbay.trials.search.sequential import ArmVerdict, Effect, HealthEffect, Progress
from sickbay.trials.spec.plan import arm_name
from sickbay.trials.store import Store


@dataclass(frozen=True)
class EffectOptions:
    """Options of an effects study.

    `reference` is `baseline`, `best`, or levels such as `lr=0.1, init=random`; None is the declared
    one if it is healthy, else the best healthy arm. `smallest_effect` is the difference under which
    levels are equivalent; None is the spec's. `all_pairs` compares every two levels of a factor;
    `within` names factors as strata, in each of which the others are compared.
    """

    reference: str | None = None
    smallest_effect: float | None = None
    all_pairs: bool = False
    within: tuple[str, ...] = ()


DEFAULT_OPTIONS = EffectOptions()


@dataclass(frozen=True)
class SweepEffects:
    """The effects of a stored sweep and the rows behind them.

    `sql` has one query a group of numbers: `trials` (all rows), `effects` (the table), `pairs`
    (counts, differences), `seeds` (IQM, error), `better` (P(better)), `causes`. `problems` are
    unreadable files.
    """

    sweep_id: str
    signal: str
    table: EffectTable
    sql: Mapping[str, str]
    problems: tuple[str, ...] = ()

    def as_data(self) -> dict[str, Any]:
        """Return everything as dictionaries, lists and scalars; NaN where unknown."""
        table = asdict(self.table)
        return {"sweep_id": self.sweep_id, "signal": self.signal, **table, "sql": dict(self.sql)}


def load_effects(
    store: Store, sweep_id: str, options: EffectOptions = DEFAULT_OPTIONS
) -> SweepEffects:
    """Read a sweep's ended trials and compare every level with its factor's baseline.

    Raises SweepError if there is no such sweep, no objective in its spec, or no such reference arm;
    StoreError or QueryError if the store cannot be read.
    """
    rows, reference = _prepared(load_rows(store, sweep_id), options)
    return _effects_of(rows, reference, options)


def _prepared(rows: SweepRows, options: EffectOptions) -> tuple[SweepRows, Reference]:
    """Make rows comparable and choose the reference arm: of a sequential sweep, the baseline."""
    wanted = options.reference or (BASELINE if rows.progress is not None else None)
    return with_reference(comparable(rows), wanted)


def sweep_effects(store: Store, sweep_id: str) -> tuple[SweepEffects | None, str]:
    """Load the effects; where there are none, return the reason instead."""
    try:
        return load_effects(store, sweep_id), ""
    except SweepError as error:
        return None, str(error)


def _effects_of(rows: SweepRows, reference: Reference, options: EffectOptions) -> SweepEffects:
    """Compare every level of the rows with its factor's baseline."""
    _check_strata(rows, options.within)
    smallest = options.smallest_effect or rows.spec.get("smallest_effect")
    table = effect_table(
        rows.rows,
        rows.contexts,
        rows.goal,
        smallest_effect=smallest,
        choice=reference.choice,
        all_pairs=options.all_pairs,
        within=options.within,
    )
    notes = (*([reference.note] if reference.note else []), *rows.notes)
    table = replace(
        table, skipped={**table.skipped, **rows.skipped}, reference=reference, notes=notes
    )
    if rows.progress is not None:
        table = with_sequential_verdicts(table, rows.progress, scaled=bool(rows.source))
    sweep_id, (levels, others) = rows.sweep_id, rows.stored
    sql = {"effects": effects_sql(sweep_id, table, [*levels, *others])}
    if not (options.all_pairs or options.within):
        sql |= {
            "pairs": pairs_sql(sweep_id, levels, others),
            "seeds": seeds_sql(sweep_id, levels, others),
            "better": better_sql(sweep_id, levels, rows.goal, others),
            "causes": causes_sql(sweep_id, levels, others),
        }
    return SweepEffects(
        sweep_id=sweep_id,
        signal=rows.signal,
        table=table,
        sql={"trials": trials_sql(sweep_id)}
        | {what: over(rows.source, text) for what, text in sql.items()},
        problems=rows.problems,
    )


def _check_strata(found: SweepRows, within: Collection[str]) -> None:
    unknown = [factor for factor in within if factor not in found.levels]
    if unknown:
        raise SweepError(
            f"--within {unknown[0]}: no factor with levels has this name; there are "
            f"{', '.join(found.levels) or 'none'}"
        )
    if within and found.progress is not None:
        raise SweepError(
            "--within: a sequential sweep adds seeds until each arm is settled against the "
            "baseline; its test holds for these comparisons alone"
        )


def with_sequential_verdicts(
    table: EffectTable, progress: Progress, *, scaled: bool = False
) -> EffectTable:
    """Replace the fixed-sample verdicts by those of the sequential test.

    A level's verdict is that of the arm that changes it alone; other levels, and tables with
    another reference, have none, as a plain test does not hold for seeds added until settled. Where
    values are `scaled` to another unit, no interval is shown: the test's is in the objective's.
    """
    if table.reference is not None and table.reference.origin != DECLARED:
        return replace(table, notes=(*table.notes, OTHER_REFERENCE_NOTE))
    arms = {verdict.arm: verdict for verdict in progress.verdicts}
    verdicts = [
        arms.get(arm_name({effect.factor: effect.level}, (effect.factor,)))
        for effect in table.effects
    ]
    of_means = holm_adjusted([verdict.p_value if verdict else math.nan for verdict in verdicts])
    of_health = holm_adjusted(
        [verdict.health_p_value if verdict else math.nan for verdict in verdicts]
    )
    effects = [
        _sequential(effect, verdict, p_holm, health_p_holm)
        for effect, verdict, p_holm, health_p_holm in zip(
            table.effects, verdicts, of_means, of_health, strict=True
        )
    ]
    if scaled:
        effects = [
            replace(effect, difference=_without_interval(effect.difference)) for effect in effects
        ]
    return replace(table, effects=tuple(effects), notes=(*table.notes, SEQUENTIAL_NOTE))


SEQUENTIAL_NOTE = (
    "a sequential sweep: seeds were added until each arm was settled. Verdicts, intervals and "
    "p-values of objective and health are those of the sequential test, which hold however often "
    "one looks (chance of any false claim: 5 %); the other columns, interactions and main effects "
    "are only descriptive"
)
OTHER_REFERENCE_NOTE = (
    "a sequential sweep, whose seeds were added until each arm was settled against the baseline: "
    "against another reference, p-values and intervals are too good; see `--reference baseline`"
)
_SEQUENTIAL_VERDICTS = {
    Effect.BETTER: Verdict.BETTER,
    Effect.WORSE: Verdict.WORSE,
    Effect.EQUIVALENT: Verdict.EQUIVALENT,
    Effect.IDENTICAL: Verdict.SAME,
    Effect.UNCLEAR: Verdict.UNCLEAR,
    Effect.OPEN: Verdict.UNCLEAR,
}
_SEQUENTIAL_HEALTH = {
    HealthEffect.HEALTHIER: HealthVerdict.HEALTHIER,
    HealthEffect.LESS_HEALTHY: HealthVerdict.LESS_HEALTHY,
}


def _without_interval(difference: Estimate) -> Estimate:
    return replace(difference, low=math.nan, high=math.nan)


def _sequential(
    effect: LevelEffect, arm: ArmVerdict | None, p_holm: float, health_p_holm: float
) -> LevelEffect:
    if arm is None:
        nothing = replace(NOTHING, mean=effect.difference.mean)
        return replace(
            effect,
            difference=nothing,
            p_holm=math.nan,
            verdict=Verdict.UNKNOWN,
            conclusion=Verdict.UNKNOWN,
        )
    verdict = _SEQUENTIAL_VERDICTS.get(arm.effect, Verdict.UNKNOWN)
    health = _SEQUENTIAL_HEALTH.get(arm.health, HealthVerdict.UNCLEAR)
    low, high = (value if math.isfinite(value) else math.nan for value in (arm.low, arm.high))
    level, baseline = effect.of_level, effect.of_baseline
    concluded = conclusion(
        verdict,
        (level.healthy, level.trials),
        (baseline.healthy, baseline.trials),
        level.causes,
        health,
    )
    return replace(
        effect,
        difference=replace(effect.difference, low=low, high=high, p_value=arm.p_value),
        p_holm=p_holm,
        verdict=verdict,
        health=replace(effect.health, p_value=arm.health_p_value),
        health_p_holm=health_p_holm,
        health_verdict=health,
        conclusion=f"{concluded}; open"
        if not arm.settled
        else f"{concluded}, after {arm.seeds} seeds",
    )


ALL_PARTS = ("interactions", "main_effects", "importance")


@dataclass(frozen=True)
class EffectStudy:
    """The effects of a sweep, and the requested parts.

    `sql` adds `interactions`, `main_effects` and one `importance NAME` a target to `effects.sql`:
    what goes into the models, as their own numbers cannot be SQL.
    """

    effects: SweepEffects
    interactions: InteractionTable | None
    main_effects: MainEffectTable | None
    importance: ImportanceTable | None
    sql: Mapping[str, str]

    def as_data(self) -> dict[str, Any]:
        """Return everything as dictionaries, lists and scalars, without parts not requested."""
        parts = {
            name: asdict(part) for name in ALL_PARTS if (part := getattr(self, name)) is not None
        }
        return {**self.effects.as_data(), **parts, "sql": dict(self.sql)}


def load_study(
    store: Store,
    sweep_id: str,
    parts: Collection[str] = (),
    options: EffectOptions = DEFAULT_OPTIONS,
) -> EffectStudy:
    """Read a sweep once and compute its effects and these parts; raises as `load_effects` does."""
    return study_of(load_rows(store, sweep_id), parts, options)


def study_of(
    loaded: SweepRows, parts: Collection[str] = (), options: EffectOptions = DEFAULT_OPTIONS
) -> EffectStudy:
    """Compute the effects of rows, and these parts: any of `ALL_PARTS`.

    Main effects are always computed where no two trials differ in one factor alone.
    """
    unknown = set(parts) - set(ALL_PARTS)
    assert not unknown, unknown
    sweep_rows, reference = _prepared(loaded, options)
    effects = _effects_of(sweep_rows, reference, options)
    levels, others = sweep_rows.stored
    sql = dict(effects.sql)
    made: dict[str, str] = {}
    interactions = main_effects = importance = None
    if "interactions" in parts:
        interactions = interaction_table(sweep_rows.rows, sweep_rows.contexts, sweep_rows.goal)
        made["interactions"] = interactions_sql(sweep_rows.sweep_id, levels, others)
    unpaired = bool(effects.table.effects) and not any(
        effect.pairs for effect in effects.table.effects
    )
    if "main_effects" in parts or unpaired:
        main_effects = main_effect_table(sweep_rows.rows, sweep_rows.contexts, sweep_rows.goal)
        made["main_effects"] = main_effects_sql(sweep_rows.sweep_id, levels)
    if "importance" in parts:
        spans = {name: _span(ends) for name, ends in sweep_rows.ranges.items()}
        importance = importance_table(
            sweep_rows.rows, list(sweep_rows.contexts), sweep_rows.goal, spans
        )
        for target in importance.targets:
            made[f"importance {target.target}"] = importance_sql(
                sweep_rows.sweep_id,
                importance.factors,
                target.target,
                within_seeds=target.within_seeds,
            )
    sql |= {what: over(sweep_rows.source, text) for what, text in made.items()}
    return EffectStudy(effects, interactions, main_effects, importance, sql)


def _span(ends: Mapping[str, Any]) -> Span:
    return Span(float(ends["low"]), float(ends["high"]), bool(ends.get("log", False)))
