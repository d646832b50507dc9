"""What each level of each factor does, against the baseline, with health beside every number.

    table = effect_table(rows, {"initialization": ("zeros", "random")}, Goal.MINIMIZE)

Two views of the same pairs: `difference` is over the pairs in which both trials are healthy,
`improvement` over all, those that are pathological, failed or not finite ranked last. Pure.
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from sickbay.service.analysis.rows.pairs import (
    NEARLY,
    Levels,
    Pair,
    TrialRow,
    index_by_level,
    level_key,
    pairs_of,
    score,
)
from sickbay.service.analysis.rows.reference import DECLARED_CHOICE, Choice, Reference, arm_text
from sickbay.service.analysis.statistics import ALPHA, FEWEST_SEEDS
from sickbay.service.analysis.statistics.estimates import (
    NO_INTERVAL,
    NOTHING,
    Estimate,
    Interval,
    bootstrap_effect,
    equivalence,
    interquartile_effect,
    paired_effect,
    seed_values,
)
from sickbay.service.analysis.statistics.moderated import Measured, Moderated, moderated
from sickbay.service.analysis.statistics.shares import (
    NO_RISK,
    Proportion,
    RiskDifference,
    clustered_wilson,
    improvement,
    risk_difference,
)
from sickbay.service.analysis.verdicts import (
    HealthVerdict,
    Verdict,
    conclusion,
    health_verdict_of,
    verdict_of,
)
from sickbay.service.query.outcomes import CANCELLED, CUT_SHORT, HEALTHY
from sickbay.trials.contract import Goal, Scalar
from sickbay.trials.evidence.statistics import holm_adjusted


@dataclass(frozen=True)
class Side:
    """The trials of one level in the pairs: how many are healthy, and the causes of the others.

    `trials` leaves out those cut short. `low` and `high` are Wilson's 95 % interval of the healthy
    share, wider where trials of one seed fare alike. `causes` adds up with `healthy` to `trials`.
    `mean` is the mean objective in the sound pairs over equally weighted contexts; None without
    any.
    """

    level: Scalar | None
    trials: int
    healthy: int
    low: float
    high: float
    causes: Mapping[str, int]
    mean: float | None


@dataclass(frozen=True)
class LevelEffect:
    """One level of one factor against the baseline level, all else equal.

    `pairs` = `sound_pairs` + the sum of `left_out`, by the trial that was not sound: `level`,
    `baseline`, `both`, or `overflow` of their difference. `seeds` and `contexts` are of the sound
    pairs. `difference` and `iqm` are level minus baseline over the sound pairs; `bootstrap` is a
    second interval of `difference`, skewed as the seeds are. `improvement` is over `ranked_pairs`,
    all without a cancelled trial. `health` compares healthy shares among the pairs that both ended.
    The `*_p_holm` adjust over the table, NaN without a test; that of `equivalence` tests "at least
    the smallest effect of interest". The noise of `difference` is shared over the table
    (`moderated`): error² is `own` times this level's, plus `borrowed`. `identical`: at least two
    sound pairs, each with equal objectives. `conclusion` says all in a line. `stratum` are the
    levels of other factors that all trials of the comparison have; empty for all.
    """

    factor: str
    level: Scalar
    baseline: Scalar
    pairs: int
    sound_pairs: int
    seeds: int
    contexts: int
    left_out: Mapping[str, int]
    unpaired: int
    ambiguous: int
    of_level: Side
    of_baseline: Side
    difference: Estimate
    iqm: Estimate
    ranked_pairs: int
    improvement: Proportion
    p_holm: float
    improvement_p_holm: float
    verdict: Verdict
    bootstrap: Interval = NO_INTERVAL
    health: RiskDifference = NO_RISK
    health_p_holm: float = math.nan
    health_verdict: HealthVerdict = HealthVerdict.UNKNOWN
    equivalence_p_value: float = math.nan
    equivalence_p_holm: float = math.nan
    own: float = 1.0
    borrowed: float = 0.0
    identical: bool = False
    conclusion: str = ""
    stratum: Mapping[str, Scalar] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """The factor, and the stratum that it is compared in, if any."""
        return f"{self.factor} where {arm_text(self.stratum)}" if self.stratum else self.factor


@dataclass(frozen=True)
class EffectTable:
    """The effects of a sweep in the order of its factors, and why other factors have none.

    `trials` counts all rows, `cancelled` those that were cancelled. `smallest_effect` is the
    difference under which levels are equivalent, None if not given. `reference` is the chosen arm
    whose levels are the baselines, if any. `notes` say what was done to the rows.
    """

    goal: Goal
    effects: tuple[LevelEffect, ...]
    skipped: Mapping[str, str]
    trials: int
    cancelled: int
    smallest_effect: float | None = None
    reference: Reference | None = None
    notes: tuple[str, ...] = ()


@np.errstate(over="ignore", invalid="ignore")  # squares of absurdly large values: infinity
def effect_table(
    rows: Sequence[TrialRow],
    levels: Levels,
    goal: Goal,
    smallest_effect: float | None = None,
    choice: Choice = DECLARED_CHOICE,
    *,
    all_pairs: bool = False,
    within: Sequence[str] = (),
) -> EffectTable:
    """Compare every level with its factor's first, in pairs that share the seed and other factors.

    `levels` must hold every factor that trials differ in; levels that no trial has are unknown.
    `smallest_effect` is above zero, in the objective's unit. `choice` says from how many arms the
    baselines were chosen by these rows. With `all_pairs` every level is compared with every one
    before it. `within` names factors as strata: the others are compared within each, corrected over
    all.
    """
    ordered = sorted(rows, key=lambda row: (row.seed, row.trial_id))
    effects: list[LevelEffect] = []
    measured: list[Measured] = []
    skipped: dict[str, str] = {}
    for factor, known in levels.items():
        if len(known) < 2:
            skipped[factor] = "has only one level: nothing to compare"
    compared = [factor for factor in levels if factor not in (*skipped, *within)]
    for factor, (stratum, mine) in itertools.product(compared, _strata(ordered, levels, within)):
        index = index_by_level(mine, factor, list(levels))
        for first, level in _compared(levels[factor], all_pairs=all_pairs):
            pairing = pairs_of(index, level, first)
            made = replace(
                _level_effect(pairing.pairs, (factor, level, first), goal),
                unpaired=pairing.unpaired,
                ambiguous=pairing.ambiguous,
                stratum=stratum,
            )
            effects.append(made)
            measured.append(_measured(made, pairing.pairs))
    effects = [
        _with_noise(effect, noise, smallest_effect)
        for effect, noise in zip(effects, moderated(measured), strict=True)
    ]
    cancelled = sum(row.outcome == CANCELLED for row in rows)
    adjusted = _adjusted(effects, goal, choice, smallest_effect)
    return EffectTable(goal, adjusted, skipped, len(rows), cancelled, smallest_effect)


def _strata(
    rows: Sequence[TrialRow], levels: Levels, within: Sequence[str]
) -> list[tuple[dict[str, Scalar], list[TrialRow]]]:
    """The trials of each combination of levels of these factors that any trial has."""
    strata = []
    for combination in itertools.product(*(levels[factor] for factor in within)):
        keys = {factor: level_key(level) for factor, level in zip(within, combination, strict=True)}
        mine = [
            row
            for row in rows
            if all(level_key(row.levels.get(factor)) == key for factor, key in keys.items())
        ]
        if mine or not within:
            strata.append((dict(zip(within, combination, strict=True)), mine))
    return strata


def _compared(known: Sequence[Scalar], *, all_pairs: bool) -> Iterator[tuple[Scalar, Scalar]]:
    """Return the levels to compare, the baseline of each factor first."""
    for place, level in enumerate(known[1:], start=1):
        for first in known[:place] if all_pairs else known[:1]:
            yield first, level


def _level_effect(
    pairs: Sequence[Pair], which: tuple[str, Scalar, Scalar], goal: Goal
) -> LevelEffect:
    factor, level, baseline = which
    sound = [pair for pair in pairs if pair.sound]
    seeds = [pair.seed for pair in sound]
    ranked = [(pair.seed, won) for pair in pairs if (won := score(pair, goal)) is not None]
    difference, iqm, bootstrap = _differences(sound)
    return LevelEffect(
        factor=factor,
        level=level,
        baseline=baseline,
        pairs=len(pairs),
        sound_pairs=len(sound),
        seeds=len(set(seeds)),
        contexts=len({pair.context for pair in sound}),
        left_out=_left_out(pairs),
        unpaired=0,
        ambiguous=0,
        of_level=_side(level, [pair.level for pair in pairs], sound, 0),
        of_baseline=_side(baseline, [pair.baseline for pair in pairs], sound, 1),
        difference=difference,
        iqm=iqm,
        ranked_pairs=len(ranked),
        improvement=improvement([won for _, won in ranked], [seed for seed, _ in ranked]),
        p_holm=float("nan"),
        improvement_p_holm=float("nan"),
        verdict=Verdict.UNKNOWN,
        bootstrap=bootstrap,
        health=_health(pairs),
        identical=len(sound) > 1 and all(map(_same, sound)),
    )


def _same(pair: Pair) -> bool:
    """Whether both objectives are equal up to the rounding of a GPU's order of summation."""
    return math.isclose(pair.level.value, pair.baseline.value, rel_tol=NEARLY)


def _measured(effect: LevelEffect, pairs: Sequence[Pair]) -> Measured:
    """The level's noise, pooled with levels of as many contexts (if several: of its factor)."""
    sound = [pair for pair in pairs if pair.sound]
    seeds = [pair.seed for pair in sound]
    values = seed_values(
        [pair.difference for pair in sound], seeds, [pair.context for pair in sound]
    )
    group = (
        effect.contexts,
        effect.factor if effect.contexts > 1 else "",
        tuple(effect.stratum.items()),
    )
    return Measured(effect.difference, dict(zip(dict.fromkeys(seeds), values, strict=True)), group)


def _with_noise(effect: LevelEffect, noise: Moderated, smallest: float | None) -> LevelEffect:
    return replace(
        effect,
        difference=noise.estimate,
        own=noise.own,
        borrowed=noise.borrowed,
        equivalence_p_value=(
            math.nan if smallest is None else equivalence(noise.estimate, smallest)
        ),
    )


def _health(pairs: Sequence[Pair]) -> RiskDifference:
    """Compare health within the pairs whose trials both ended."""
    ended = [
        pair
        for pair in pairs
        if pair.level.outcome not in CUT_SHORT and pair.baseline.outcome not in CUT_SHORT
    ]
    return risk_difference(
        [pair.level.outcome == HEALTHY for pair in ended],
        [pair.baseline.outcome == HEALTHY for pair in ended],
        [pair.seed for pair in ended],
    )


def _differences(sound: Sequence[Pair]) -> tuple[Estimate, Estimate, Interval]:
    """Mean and IQM of the differences; intervals are NaN where there are too few seeds."""
    values = [pair.difference for pair in sound]
    seeds = [pair.seed for pair in sound]
    contexts = [pair.context for pair in sound]
    difference = paired_effect(values, seeds, contexts)
    iqm = interquartile_effect(values, seeds, contexts)
    if len(set(seeds)) < FEWEST_SEEDS:
        return replace(NOTHING, mean=difference.mean), replace(NOTHING, mean=iqm.mean), NO_INTERVAL
    return difference, iqm, bootstrap_effect(values, seeds, contexts)


def _left_out(pairs: Sequence[Pair]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for pair in pairs:
        if not pair.sound:
            level, baseline = pair.level.outcome != HEALTHY, pair.baseline.outcome != HEALTHY
            both = "both" if level and baseline else ""
            counts[both or (level and "level") or (baseline and "baseline") or "overflow"] += 1
    return dict(sorted(counts.items()))


def _side(level: Scalar, trials: Sequence[TrialRow], sound: Sequence[Pair], which: int) -> Side:
    ended = [(row.seed, word) for row in trials if (word := row.outcome) not in CUT_SHORT]
    outcomes = [word for _, word in ended]
    low, high = clustered_wilson(
        [float(word == HEALTHY) for word in outcomes], [seed for seed, _ in ended]
    )
    causes = Counter(word for word in outcomes if word != HEALTHY)
    values = [(pair.level, pair.baseline)[which].objective or 0.0 for pair in sound]
    mean = paired_effect(
        values, [pair.seed for pair in sound], [pair.context for pair in sound]
    ).mean
    return Side(
        level,
        len(outcomes),
        outcomes.count(HEALTHY),
        low,
        high,
        dict(sorted(causes.items(), key=lambda entry: (-entry[1], entry[0]))),
        mean if sound else None,
    )


def _adjusted(
    effects: Sequence[LevelEffect], goal: Goal, choice: Choice, smallest: float | None
) -> tuple[LevelEffect, ...]:
    """Fill in what depends on the whole table: adjusted p-values and verdicts."""
    families = [
        holm_adjusted([times * p for p in p_values])
        for times, p_values in (
            (choice.of_differences, [effect.difference.p_value for effect in effects]),
            (choice.of_differences, [effect.improvement.p_value for effect in effects]),
            (choice.of_health, [effect.health.p_value for effect in effects]),
            (choice.of_differences, [effect.equivalence_p_value for effect in effects]),
        )
    ]
    return tuple(
        _concluded(
            replace(
                effect,
                p_holm=mean,
                improvement_p_holm=rank,
                health_p_holm=health,
                equivalence_p_holm=equivalent,
            ),
            goal,
            smallest,
        )
        for effect, mean, rank, health, equivalent in zip(effects, *families, strict=True)
    )


def _concluded(effect: LevelEffect, goal: Goal, smallest: float | None) -> LevelEffect:
    verdict = verdict_of(effect.difference, effect.p_holm, goal)
    if effect.equivalence_p_holm <= ALPHA:
        verdict = Verdict.EQUIVALENT
    if effect.identical:
        verdict = Verdict.SAME
    health = health_verdict_of(effect.health.value, effect.health_p_holm)
    sentence = conclusion(
        f"{verdict} within ±{smallest:g}" if verdict is Verdict.EQUIVALENT else verdict,
        (effect.of_level.healthy, effect.of_level.trials),
        (effect.of_baseline.healthy, effect.of_baseline.trials),
        effect.of_level.causes,
        health,
    )
    return replace(effect, verdict=verdict, health_verdict=health, conclusion=sentence)
