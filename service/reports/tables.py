"""The table of effects as a report writes it: the same cells for a page, Markdown and LaTeX."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sickbay.service.analysis.effects import LevelEffect, Side, Verdict
from sickbay.service.analysis.fixes import Fixes, sweep_fixes, words
from sickbay.service.analysis.importance import Importance
from sickbay.service.analysis.interactions import Interaction, InteractionVerdict
from sickbay.service.analysis.sql import effects_sql
from sickbay.service.analysis.statistics import Estimate, Proportion
from sickbay.service.analysis.study import EffectStudy, SweepEffects, load_study
from sickbay.service.query.lookup import SweepError
from sickbay.service.query.outcomes import CUT_SHORT, HEALTHY
from sickbay.service.reports.terminal_effects import notes
from sickbay.service.summary.formatting import level, number
from sickbay.service.summary.values import Values
from sickbay.trials.store import Store

SIGNS_OF_VERDICTS = {
    Verdict.BETTER: "✓",
    Verdict.WORSE: "✗",
    Verdict.UNCLEAR: "~",
    Verdict.UNKNOWN: "?",
}


@dataclass(frozen=True)
class EffectLine:
    """One level in words; `nr` is its row in the SQL. `causes` are those of the level's trials."""

    nr: int
    factor: str
    level: str
    baseline: str
    pairs: str
    difference: str
    better: str
    healthy: str
    baseline_healthy: str
    causes: tuple[tuple[str, int], ...]
    verdict: Verdict

    @property
    def sign(self) -> str:
        """A sign that says the same as the verdict."""
        return SIGNS_OF_VERDICTS[self.verdict]


@dataclass(frozen=True)
class EffectSection:
    """All that a report says of effects; `missing` says why there is nothing, where that is so."""

    lines: tuple[EffectLine, ...] = ()
    notes: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    signal: str = ""
    goal: str = ""
    sql: str = ""
    missing: str = ""


def effect_section(
    sweep_id: str, found: SweepEffects | None, factors: Sequence[str], missing: str = ""
) -> EffectSection:
    """Write the effects of a sweep in words; `factors` are the columns that make a context."""
    if found is None:
        return EffectSection(missing=missing)
    table = found.table
    lines = tuple(_line(nr, one) for nr, one in enumerate(table.effects, start=1))
    return EffectSection(
        lines=lines,
        notes=tuple(notes(table)),
        skipped=tuple(table.skipped.items()),
        signal=found.signal,
        goal=table.goal.value,
        sql=effects_sql(sweep_id, table, factors),
        missing="" if lines else "No factor has two levels, so there is nothing to compare.",
    )


def _line(nr: int, one: LevelEffect) -> EffectLine:
    return EffectLine(
        nr=nr,
        factor=one.factor,
        level=level(one.level),
        baseline=level(one.baseline),
        pairs=f"{one.sound_pairs} of {one.pairs}",
        difference=estimate(one.difference),
        better=share(one.improvement),
        healthy=health(one.of_level),
        baseline_healthy=health(one.of_baseline),
        causes=tuple(one.of_level.causes.items()),
        verdict=one.verdict,
    )


def estimate(one: Estimate) -> str:
    """Write a difference with its interval; `unknown` where noise could not be measured."""
    if math.isnan(one.mean):
        return "none"
    mean = signed(one.mean)
    if math.isnan(one.low):
        return f"{mean} [unknown]"
    return f"{mean} [{signed(one.low)}, {signed(one.high)}]"


def signed(value: float) -> str:
    """Write a difference with its sign."""
    return f"{'+' if value > 0 else ''}{number(value)}"


def share(one: Proportion) -> str:
    """Write a probability with its interval."""
    return "none" if math.isnan(one.value) else f"{one.value:.2f} [{one.low:.2f}, {one.high:.2f}]"


def health(side: Side) -> str:
    """Write how many trials are healthy, with the interval of the share in percent."""
    if not side.trials:
        return "0 of 0"
    return f"{side.healthy} of {side.trials} [{100 * side.low:.0f}, {100 * side.high:.0f}] %"


MOST_INTERACTIONS = 60
MOST_FIXES = 40
MOST_CHANGES = 3  # of one configuration
FEWEST_WEIGHED, MOST_WEIGHED = 30, 2000  # trials: fewer say nothing, more take seconds
_MOST_COMPARISONS = 300_000  # of configurations that are sick with all, in the search for fixes
_SIGNS = {
    InteractionVerdict.INTERACTS: "×",
    InteractionVerdict.UNCLEAR: "~",
    InteractionVerdict.UNKNOWN: "?",
}


@dataclass(frozen=True)
class InteractionLine:
    """Two levels in words, and whether they do together what each does alone."""

    first: str
    second: str
    quads: str
    difference: str
    verdict: str


@dataclass(frozen=True)
class FixLine:
    """A configuration that is not healthy in all seeds, and what heals it, or what to try."""

    arm: str
    trial_id: str
    known: tuple[tuple[str, str], ...]  # the change, and in how many trials it is healthy
    more: int
    candidates: tuple[tuple[str, str], ...]  # the change, and why it is worth a trial
    sql: str


@dataclass(frozen=True)
class WeightLine:
    """Importance for one target: a factor's share by fANOVA and by PED-ANOVA, in percent."""

    target: str
    counts: str
    shares: tuple[str, ...]
    note: str
    sql: str


@dataclass(frozen=True)
class StudySection:
    """Interactions and importance; `unknown` counts pairs of levels that too few seeds tell of."""

    interactions: tuple[InteractionLine, ...] = ()
    left_out: int = 0
    unknown: int = 0
    interactions_sql: str = ""
    factors: tuple[str, ...] = ()
    weights: tuple[WeightLine, ...] = ()
    weights_note: str = ""


@dataclass(frozen=True)
class FixSection:
    """The smallest fixes of a sweep; `note` says why there are none, where that is so."""

    lines: tuple[FixLine, ...] = ()
    left_out: int = 0
    note: str = ""


def sweep_study(store: Store, values: Values) -> tuple[EffectStudy | None, str]:
    """Work out effects and their parts for a page; where there can be none, say why instead."""
    parts = ["interactions"]
    parts += ["importance"] if FEWEST_WEIGHED <= len(values.trials) <= MOST_WEIGHED else []
    try:
        return load_study(store, values.record.sweep_id, parts), ""
    except SweepError as error:
        return None, str(error)


def study_section(study: EffectStudy | None) -> StudySection:
    """Write interactions and importance in words; those that interact come first."""
    if study is None or study.interactions is None:
        return StudySection()
    every, order = study.interactions.interactions, list(_SIGNS)
    known = [one for one in every if one.verdict is not InteractionVerdict.UNKNOWN]
    found = sorted(known, key=lambda one: order.index(one.verdict))
    weights = study.importance.targets if study.importance else ()
    factors = study.importance.factors if study.importance else ()
    return StudySection(
        interactions=tuple(map(_interaction, found[:MOST_INTERACTIONS])),
        left_out=max(0, len(found) - MOST_INTERACTIONS),
        unknown=len(every) - len(known),
        interactions_sql=study.sql.get("interactions", ""),
        factors=tuple(factors),
        weights=tuple(
            _weight(one, factors, study.sql.get(f"importance {one.target}", "")) for one in weights
        ),
        weights_note=""
        if study.importance
        else f"Which factors matter is worked out here for {FEWEST_WEIGHED} to {MOST_WEIGHED}"
        " trials; for others by: sickbay effects --importance",
    )


def _interaction(one: Interaction) -> InteractionLine:
    mean = one.difference.mean
    return InteractionLine(
        f"{one.factor_a}: {level(one.baseline_a)} → {level(one.level_a)}",
        f"{one.factor_b}: {level(one.baseline_b)} → {level(one.level_b)}",
        f"{one.sound_quads} of {one.quads}",
        signed(mean) if one.sound_quads else "none",
        f"{_SIGNS[one.verdict]} {one.verdict}",
    )


def _weight(one: Importance, factors: Iterable[str], sql: str) -> WeightLine:
    positives = "" if one.positives is None else f", {one.positives} of them so"
    return WeightLine(
        one.target,
        f"{one.trials} trials{positives}",
        tuple(_share(one, factor) for factor in factors),
        one.note,
        sql,
    )


def _share(one: Importance, factor: str) -> str:
    shares = [method.get(factor) for method in (one.fanova, one.ped_anova)]
    return " / ".join("–" if share is None else f"{100 * share:.0f}" for share in shares) + " %"


def fix_section(store: Store, values: Values) -> FixSection:
    """Look for the smallest changes that are healthy in the store, for every sick configuration."""
    sick = {one.key for one in values.trials if one.outcome not in (HEALTHY, *CUT_SHORT)}
    if len(sick) * len(values.arms) > _MOST_COMPARISONS:
        return FixSection(
            note=f"{len(sick)} configurations are not healthy in all seeds, too many to look for a"
            " fix of each: `sickbay explain TRIAL` looks for one."
        )
    arms = {one.trial_id: one.arm for one in values.trials}
    found = sweep_fixes(store, values.record.sweep_id)
    lines = tuple(_fix(one, arms.get(one.trial_id, "")) for one in found[:MOST_FIXES])
    return FixSection(lines, max(0, len(found) - MOST_FIXES))


def _fix(one: Fixes, arm: str) -> FixLine:
    return FixLine(
        arm=arm,
        trial_id=one.trial_id,
        known=tuple(
            (words(fix.changes), f"healthy in {fix.healthy} of {fix.of}")
            for fix in one.known[:MOST_CHANGES]
        ),
        more=max(0, len(one.known) - MOST_CHANGES),
        candidates=tuple((words(other.changes), other.reason) for other in one.next[:MOST_CHANGES]),
        sql=one.sql,
    )
