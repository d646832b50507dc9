"""What a page says beyond single effects: interactions, importance, and the smallest fixes."""

from collections.abc import Iterable
from dataclasses import dataclass

from sickbay.service.analysis.fix_values import Fixes, words
from sickbay.service.analysis.fixes import sweep_fixes
from sickbay.service.analysis.importance import Importance
from sickbay.service.analysis.interactions import Interaction, InteractionVerdict
from sickbay.service.analysis.study import EffectStudy, load_study
from sickbay.service.query.lookup import SweepError
from sickbay.service.query.outcomes import CUT_SHORT, HEALTHY
from sickbay.service.reports.tables import signed
from sickbay.service.summary.formatting import level
from sickbay.service.summary.values import Values
from sickbay.trials.store import Store

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
