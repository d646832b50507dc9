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

The smallest changes that heal a trial: `fixes_for(store, trial_id)` in `fixes` gives a
`Fixes` with `known` (Fix: changes, healthy, of, low) and `next` (Candidate: changes, reason), and
`sweep_fixes(store, sweep_id)` one for each configuration that is not healthy in all its seeds; both
at once for a whole sweep, in sentences: `fix_lines(fixes)` in `reports.fix_printed`. Two sweeps
side by side: `compare(open_half(opener, a), open_half(opener, b))` in `comparison`.

A part that was not asked for is None. Importance takes seconds; the others far less.
"""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sickbay.service.analysis.importance import ImportanceTable, Span, importance_table
from sickbay.service.analysis.interactions import InteractionTable, interaction_table
from sickbay.service.analysis.main_effects import MainEffectTable, main_effect_table
from sickbay.service.analysis.questions import SweepEffects, SweepRows, effects_of, load_rows
from sickbay.service.analysis.sql import importance_sql, interactions_sql, main_effects_sql
from sickbay.trials.store import Store

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
        spans = {name: _span(told) for name, told in found.ranges.items()}
        importance = importance_table(found.rows, list(found.contexts), found.goal, spans)
        for target in importance.targets:
            sql[f"importance {target.target}"] = importance_sql(
                found.sweep_id,
                importance.factors,
                target.target,
                within_seeds=target.within_seeds,
            )
    return EffectStudy(effects, interactions, main_effects, importance, sql)


def _span(told: Mapping[str, Any]) -> Span:
    return Span(float(told["low"]), float(told["high"]), bool(told.get("log", False)))
