"""The tables of effects and their parts, each built once for every format."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from sickbay.service.analysis.comparison import ArmPair, ArmSide, Comparison
from sickbay.service.analysis.effects import EffectTable, LevelEffect, Side
from sickbay.service.analysis.fixes import Fixes, sweep_fixes, words
from sickbay.service.analysis.importance import Importance, ImportanceTable
from sickbay.service.analysis.interactions import Interaction, InteractionTable, InteractionVerdict
from sickbay.service.analysis.main_effects import MainEffectTable
from sickbay.service.analysis.statistics import FEWEST_SEEDS
from sickbay.service.analysis.statistics.estimates import Estimate
from sickbay.service.analysis.study import EffectStudy, SweepEffects, load_study
from sickbay.service.analysis.verdicts import Verdict
from sickbay.service.query.lookup import SweepError
from sickbay.service.query.outcomes import CUT_SHORT, HEALTHY
from sickbay.service.summary.formatting import (
    counted,
    estimate,
    healthy_of,
    level,
    number,
    p_value,
    probability,
    risk,
    short_arm,
    shown,
    signed,
    with_sign,
)
from sickbay.service.summary.table import Table
from sickbay.service.summary.values import Values
from sickbay.trials.store import Store

MOST_INTERACTIONS = 60
MOST_FIXES = 40
MOST_CHANGES = 3  # of one configuration
FEWEST_WEIGHED, MOST_WEIGHED = 30, 2000  # trials: fewer say nothing, more take seconds
_MOST_COMPARISONS = 300_000  # of configurations with each other, in the search for fixes

EFFECTS_LEGEND = """\
difference: level - baseline, same seed, all other factors equal, both trials healthy, with the
  paired t-interval over the seeds, its noise in part the level's own and in part the mean of the
  table's levels; bootstrap: the studentised bootstrap interval, longer on the
  side where the differences are skewed; IQM: the interquartile mean. The verdict follows from the
  p-value of the difference after Holm's correction.
P(better): how often the level wins over all pairs without a cancelled trial; pathological, failed
  and non-finite trials rank last. Its p-value cannot be under 2 / 2^seeds.
healthy: shares of healthy trials and their difference in points, tested exactly by itself.
p, Holm: unadjusted, and adjusted over the table, for each of these questions."""
INTERACTIONS_LEGEND = """\
difference of differences: (both - second alone) - (first alone - neither), same seed, all else
  equal, all four healthy. Zero where effects add up. "unclear" does not mean that they add up.
healthy: -1 means that only both levels together are never healthy."""
MAIN_EFFECTS_LEGEND = """\
difference, rank: what a level changes on average over the design, in additive models; rank is in
  shares of the trials of a seed (+0.25: behind a quarter more of them), all failures tied last."""
IMPORTANCE_LEGEND = """\
`explained` is the share of the variance that lies between configurations, and not between their
  seeds. fANOVA splits that variance: factors by themselves, pairs of factors, and the rest add up
  to 1; over a full grid exactly. PED-ANOVA splits what distinguishes the best tenth, or the
  pathological trials, from all trials; its shares add up to 1 whatever the noise."""
FIXES_LEGEND = """\
smallest change: of the configurations in this store that are healthy in all seeds, those that
  differ in the fewest settings; untried changes are ranked by the healthy share of their level."""
COMPARISON_LEGEND = """\
B - A: paired by seed among trials healthy in both, or, marked with *, Welch's where fewer than
  three such seeds are shared. "no drift seen" is not "none": the interval says what could hide."""


def effects_table(table: EffectTable, sql: Mapping[str, str] | None = None) -> Table:
    """One row per level, numbered as in its SQL; `healthy` carries marks of pathologies."""
    rows = [_effect_row(nr, effect) for nr, effect in enumerate(table.effects, start=1)]
    return Table(
        columns=(
            *("nr", "factor", "level", "baseline", "healthy pairs"),
            *("difference [95 %]", "bootstrap", "IQM", "p", "Holm", "verdict"),
            *("P(better) [95 %]", "of pairs", "p of P(better)", "Holm of P(better)"),
            *("healthy [95 %]", "baseline healthy [95 %]", "causes of the level"),
            *("healthy, difference [95 %]", "p of healthy", "Holm of healthy"),
            *("p, Holm", "p, Holm of P(better)", "p, Holm of healthy"),
            "healthy, level and baseline",
        ),
        rows=tuple(rows),
        words=frozenset({"factor", "level", "baseline", "verdict", "causes of the level"}),
        marks={
            (row, column): tuple(effect.of_level.causes)
            for row, effect in enumerate(table.effects)
            if effect.of_level.causes
            for column in ("healthy [95 %]", "healthy, level and baseline")
        },
        notes=(
            *table.notes,
            *notes(table),
            *(f"{name}: {why}" for name, why in table.skipped.items()),
        ),
        legend=EFFECTS_LEGEND,
        sql=sql or {},
    )


def _effect_row(nr: int, effect: LevelEffect) -> tuple[str, ...]:
    bootstrap, better = effect.bootstrap, effect.improvement
    return (
        str(nr),
        effect.where,
        level(effect.level),
        level(effect.baseline),
        f"{effect.sound_pairs} of {effect.pairs}",
        _estimate(effect.difference),
        "" if math.isnan(bootstrap.low) else _interval(bootstrap.low, bootstrap.high),
        f"IQM {_estimate(effect.iqm)}",
        p_value(effect.difference.p_value),
        p_value(effect.p_holm),
        with_sign(effect.conclusion),
        probability(better.value, better.low, better.high),
        f"{effect.ranked_pairs} pairs",
        p_value(better.p_value),
        p_value(effect.improvement_p_holm),
        _health(effect.of_level),
        _health(effect.of_baseline),
        counted(effect.of_level.causes),
        risk(effect.health.value, effect.health.low, effect.health.high),
        p_value(effect.health.p_value),
        p_value(effect.health_p_holm),
        _both_p(effect.difference.p_value, effect.p_holm),
        _both_p(better.p_value, effect.improvement_p_holm),
        _both_p(effect.health.p_value, effect.health_p_holm),
        f"{_counts(effect.of_level)}, {_counts(effect.of_baseline)}",
    )


def _counts(side: Side) -> str:
    return f"{side.healthy} of {side.trials}"


def _both_p(plain: float, adjusted: float) -> str:
    return "" if math.isnan(plain) else f"p {p_value(plain)}, Holm {p_value(adjusted)}"


def interactions_table(table: InteractionTable, sql: str = "") -> Table:
    """One row per pair of levels of two factors; interacting ones first."""
    order = list(InteractionVerdict)
    interactions = sorted(
        table.interactions, key=lambda interaction: order.index(interaction.verdict)
    )
    return Table(
        columns=(
            *("first", "second", "all four healthy", "difference of differences [95 %]"),
            *("p", "Holm", "healthy: neither, first", "healthy: second, both"),
            *("difference of healthy [95 %]", "p of healthy", "Holm of healthy", "verdict"),
        ),
        rows=tuple(map(_interaction_row, interactions)),
        words=frozenset({"first", "second", "verdict"}),
        notes=tuple(f"{pair}: {why}" for pair, why in table.skipped.items()),
        legend=INTERACTIONS_LEGEND,
        sql={"interactions": sql} if sql else {},
    )


def _interaction_row(interaction: Interaction) -> tuple[str, ...]:
    neither, first, second, both = (f"{cell.healthy}/{cell.trials}" for cell in interaction.cells)
    return (
        f"{interaction.factor_a}: {level(interaction.baseline_a)} → {level(interaction.level_a)}",
        f"{interaction.factor_b}: {level(interaction.baseline_b)} → {level(interaction.level_b)}",
        f"{interaction.sound_quads} of {interaction.quads}",
        _estimate(interaction.difference, 3),
        p_value(interaction.difference.p_value),
        p_value(interaction.p_holm),
        f"{neither}, {first}",
        f"{second}, {both}",
        _estimate(interaction.health, 3),
        p_value(interaction.health.p_value),
        p_value(interaction.health_p_holm),
        with_sign(interaction.conclusion),
    )


def main_effects_table(table: MainEffectTable, sql: str = "") -> Table:
    """One row per level, averaged over the whole design."""
    left = f"; left out: {counted(table.left_out)}" if table.left_out else ""
    seeds = (
        ""
        if math.isnan(table.seed_share)
        else f"; seeds make up {100 * table.seed_share:.0f} % of the remaining variance"
    )
    model = f"difference: {table.method or 'no model'}, {table.used} healthy trials{left}{seeds}"
    skipped = (f"{factor}: {why}" for factor, why in table.skipped.items())
    return Table(
        columns=(
            *("factor", "level", "baseline", "healthy", "difference [95 %]", "p", "Holm"),
            *("rank [95 %]", "p of rank", "Holm of rank", "verdict"),
        ),
        rows=tuple(
            (
                effect.factor,
                level(effect.level),
                level(effect.baseline),
                f"{effect.healthy} of {effect.trials}",
                _estimate(effect.difference, 3),
                p_value(effect.difference.p_value),
                p_value(effect.p_holm),
                _estimate(effect.rank, 3),
                p_value(effect.rank.p_value),
                p_value(effect.rank_p_holm),
                with_sign(effect.verdict),
            )
            for effect in table.effects
        ),
        words=frozenset({"factor", "level", "baseline", "verdict"}),
        notes=(*([model] if table.effects else []), *table.notes, *skipped),
        legend=MAIN_EFFECTS_LEGEND,
        sql={"main effects": sql} if sql else {},
    )


def importance_table(table: ImportanceTable, sql: Mapping[str, str]) -> Table:
    """One row per target: the factors' shares by fANOVA, and below them by PED-ANOVA."""
    notes_of = [f"{target.target}: {target.note}" for target in table.targets if target.note]
    notes_of += [
        f"{target.target}: fANOVA over {target.configurations} of {target.of_configurations} "
        "configurations, drawn by a fixed seed"
        for target in table.targets
        if target.configurations < target.of_configurations
    ]
    return Table(
        columns=("target", "trials", "explained", "by", *table.factors, "pairs, rest"),
        rows=tuple(
            (
                target.target,
                f"{target.trials}"
                if target.positives is None
                else f"{target.positives} of {target.trials}",
                "none" if math.isnan(target.explained) else f"{100 * target.explained:.0f} %",
                "fANOVA\nPED-ANOVA",
                *(
                    f"{_part(target.fanova, f)}\n{_part(target.ped_anova, f)}"
                    for f in table.factors
                ),
                _pairs_and_rest(target),
            )
            for target in table.targets
        ),
        words=frozenset({"target", "by"}),
        notes=tuple(notes_of),
        legend=IMPORTANCE_LEGEND,
        sql={name: text for name, text in sql.items() if name.startswith("importance ")},
    )


MOST_PAIRS = 3  # of a row of importance


def _pairs_and_rest(importance: Importance) -> str:
    """The largest pairs of factors by their shares, and what no main effect or pair explains."""
    if math.isnan(importance.rest):
        return ""
    largest = sorted(importance.pairs.items(), key=lambda pair: -pair[1])[:MOST_PAIRS]
    lines = [f"{names} {share:.2f}" for names, share in largest if share >= 0.005]
    return "\n".join([*lines, f"rest {importance.rest:.2f}"])


def _part(shares: Mapping[str, float], factor: str) -> str:
    return f"{shares[factor]:.2f}" if factor in shares else "–"


def comparison_table(comparison: Comparison) -> Table:
    """One row for each arm that both sides have."""
    return Table(
        columns=(
            *("arm", "healthy A", "healthy B", "mean A", "mean B", "pairs"),
            *("B - A [95 %]", "p", "Holm", "drift"),
        ),
        rows=tuple(
            (
                short_arm(pair.arm),
                _side_health(pair.a),
                _side_health(pair.b),
                "none" if pair.a.mean is None else number(pair.a.mean),
                "none" if pair.b.mean is None else number(pair.b.mean),
                f"{pair.pairs} of {pair.shared_seeds}",
                arm_difference(pair) + ("" if pair.paired else " *"),
                p_value(pair.difference.p_value),
                p_value(pair.p_holm),
                with_sign(pair.drift),
            )
            for pair in comparison.arms
        ),
        words=frozenset({"arm", "drift"}),
        legend=COMPARISON_LEGEND,
    )


def arm_difference(pair: ArmPair) -> str:
    """Write the difference of an arm between two sides with its interval."""
    missing = "no noise" if pair.difference.error == 0.0 else "unknown"
    return _estimate(pair.difference, missing=missing)


def _estimate(interval: Estimate, digits: int = 4, missing: str = "unknown") -> str:
    return estimate(interval.mean, interval.low, interval.high, digits, missing)


def _interval(low: float, high: float) -> str:
    return f"[{signed(low)}, {signed(high)}]"


def _health(side: Side) -> str:
    return healthy_of(side.healthy, side.trials, side.low, side.high)


def _side_health(side: ArmSide) -> str:
    causes = f" ({counted(side.causes)})" if side.causes else ""
    return f"{side.healthy} of {side.trials}{causes}"


def notes(table: EffectTable) -> Iterator[str]:
    """Notes on each level: what its numbers leave out, and where they disagree."""
    for effect in table.effects:
        head = f"{effect.factor} {shown(effect.level)}{_where(effect)}: "
        for line in _notes(effect):
            yield head + line


def _where(effect: LevelEffect) -> str:
    return effect.where.removeprefix(effect.factor)


def _notes(row: LevelEffect) -> Iterator[str]:
    if row.left_out:
        sides = ", ".join(f"{_LEFT_OUT[side]} {n}" for side, n in row.left_out.items())
        causes = [
            f"{side} had {counted(trials.causes)}"
            for side, trials in (("the level", row.of_level), ("the baseline", row.of_baseline))
            if trials.causes
        ]
        yield (
            f"{row.pairs - row.sound_pairs} of {row.pairs} pairs are not in the difference "
            f"({sides}): {'; '.join(causes) or 'see the trials'}"
        )
    if row.verdict is Verdict.UNKNOWN and not row.pairs:
        yield (
            "no two trials differ in this factor alone between these levels: see the main effects"
            if row.unpaired
            else "no trial has this level"
        )
    elif row.verdict is Verdict.UNKNOWN:
        yield (
            f"unknown, not 'no effect': an interval needs {FEWEST_SEEDS} seeds with a healthy "
            f"pair, and there {'is' if row.seeds == 1 else 'are'} {row.seeds}"
            if row.seeds < FEWEST_SEEDS
            else "unknown, not 'no effect': no comparison is repeated by two healthy pairs"
        )
    if row.verdict is Verdict.BETTER and row.improvement.value < 0.5:
        yield "better only where both are healthy: over all pairs it loses more often than it wins"
    if row.verdict is Verdict.WORSE and row.improvement.value > 0.5:
        yield "worse only where both are healthy: over all pairs it wins more often than it loses"
    if row.identical:
        yield "no difference: identical runs. Does the training use this setting?"
    elif row.difference.error == 0.0:
        yield (
            f"the difference is {row.difference.mean:+.4g} in all {row.seeds} seeds to the last "
            "digit, so no noise can be measured and there is no interval"
        )
    if row.unpaired:
        yield f"{row.unpaired} trials have no partner that differs in this factor alone"
    if row.ambiguous:
        yield f"{row.ambiguous} trials share all levels and the seed with another trial: not paired"


_LEFT_OUT = {
    "level": "only the level's trial is not healthy in",
    "baseline": "only the baseline's in",
    "both": "both in",
    "overflow": "the difference is not finite in",
}


@dataclass(frozen=True)
class EffectSection:
    """The table of effects of a document, or the reason for its absence in `missing`."""

    table: Table | None = None
    signal: str = ""
    goal: str = ""
    missing: str = ""


def effect_section(effects: SweepEffects | None, missing: str = "") -> EffectSection:
    """Lay out a sweep's effects, or say why there are none."""
    if effects is None:
        return EffectSection(missing=missing)
    table = effects_table(effects.table, {"effects": effects.sql["effects"]})
    none = "" if table.rows else "No factor has two levels, so there is nothing to compare."
    return EffectSection(table, effects.signal, effects.table.goal.value, none)


@dataclass(frozen=True)
class StudySection:
    """Interactions and importance for a page; None where there is nothing to show.

    `unknown` counts pairs of levels with too few healthy seeds to say anything.
    """

    interactions: Table | None = None
    left_out: int = 0
    unknown: int = 0
    importance: Table | None = None
    importance_note: str = ""


def sweep_study(store: Store, values: Values) -> tuple[EffectStudy | None, str]:
    """Compute effects and their parts for a page; if there are none, say why."""
    parts = ["interactions"]
    parts += ["importance"] if FEWEST_WEIGHED <= len(values.trials) <= MOST_WEIGHED else []
    try:
        return load_study(store, values.record.sweep_id, parts), ""
    except SweepError as error:
        return None, str(error)


def study_section(study: EffectStudy | None) -> StudySection:
    """Lay out interactions and importance; unknown interactions are only counted."""
    if study is None or study.interactions is None:
        return StudySection()
    every = study.interactions.interactions
    known = tuple(
        interaction
        for interaction in every
        if interaction.verdict is not InteractionVerdict.UNKNOWN
    )
    kept = replace(study.interactions, interactions=known, skipped={})
    table = interactions_table(kept, study.sql.get("interactions", ""))
    return StudySection(
        interactions=replace(table, rows=table.rows[:MOST_INTERACTIONS]) if every else None,
        left_out=max(0, len(known) - MOST_INTERACTIONS),
        unknown=len(every) - len(known),
        importance=importance_table(study.importance, study.sql) if study.importance else None,
        importance_note=""
        if study.importance
        else f"The importance of the factors is computed for {FEWEST_WEIGHED} to {MOST_WEIGHED}"
        " trials; outside that range use: sickbay effects SWEEP --importance",
    )


def fixes_table(store: Store, values: Values) -> Table:
    """One row a configuration that is not healthy in all seeds: what fixes it, or what to try.

    No row but a note where there are too many configurations to compare.
    """
    unhealthy = {trial.key for trial in values.trials if trial.outcome not in (HEALTHY, *CUT_SHORT)}
    columns = ("arm", "trial", "smallest change", "healthy in")
    text = frozenset({"arm", "trial", "smallest change"})
    if len(unhealthy) * len(values.arms) > _MOST_COMPARISONS:
        note = (
            f"{len(unhealthy)} configurations are not healthy in all seeds, too many to look"
            " for a fix of each: `sickbay explain TRIAL` looks for one."
        )
        return Table(columns, (), text, notes=(note,))
    arms = {trial.trial_id: trial.arm for trial in values.trials}
    every = sweep_fixes(store, values.record.sweep_id)
    fixes, left_out = every[:MOST_FIXES], max(0, len(every) - MOST_FIXES)
    more = (f"{left_out} more configurations: `sickbay explain TRIAL`",) if left_out else ()
    return Table(
        columns,
        tuple((arms.get(one.trial_id, ""), one.trial_id[:8], *_changes(one)) for one in fixes),
        text,
        notes=more,
        legend=FIXES_LEGEND,
        sql={f"fix of {one.trial_id[:8]}": one.sql for one in fixes},
    )


def _changes(fixes: Fixes) -> tuple[str, str]:
    """The smallest changes, one a line, and in how many trials each is healthy."""
    if not fixes.known:
        untried = [f"untried: {words(one.changes)} ({one.reason})" for one in fixes.next]
        return "\n".join(["no fix is known", *untried[:MOST_CHANGES]]), ""
    known = fixes.known[:MOST_CHANGES]
    hidden = len(fixes.known) - len(known)
    lines = [words(fix.changes) for fix in known] + ([f"{hidden} more"] if hidden else [])
    return "\n".join(lines), "\n".join(f"{fix.healthy} of {fix.of}" for fix in known)
