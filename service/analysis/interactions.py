"""Two-way interactions: what a level does together with another factor's level, but not alone.

    table = interaction_table(rows, {"loss": ("mvm", "uniform"), "init": ("zeros", "random")}, goal)

A **quad** is four trials of one seed, equal in all other factors: neither level, the one alone, the
other alone, both. Its interaction, (both - b alone) - (a alone - neither), is zero where the
effects add up. `difference` averages it over the sound quads (all four healthy); `health` averages
that of "is healthy" (1 or 0) over all quads, so that "only both are pathological" shows. Pure.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from sickbay.service.analysis.rows.pairs import (
    BoolArray,
    Coded,
    FloatArray,
    IntArray,
    Levels,
    TrialRow,
    coded,
    groups,
)
from sickbay.service.analysis.statistics import ALPHA, FEWEST_SEEDS
from sickbay.service.analysis.statistics.estimates import NOTHING, Estimate, paired_effect
from sickbay.service.analysis.statistics.shares import clustered_wilson, sign_flip
from sickbay.trials.contract import Goal, Scalar
from sickbay.trials.evidence.statistics import holm_adjusted

NEITHER, A_ALONE, B_ALONE, BOTH = range(4)
SIGNS = np.array([1.0, -1.0, -1.0, 1.0])  # of the four cells in the difference of differences


class InteractionVerdict(StrEnum):
    """What the difference of differences says. `unclear` is never "they add up"."""

    INTERACTS = "interacts"
    UNCLEAR = "unclear"
    UNKNOWN = "unknown"  # fewer than three seeds have a sound quad


@dataclass(frozen=True)
class Cell:
    """The trials of one of the four combinations: `healthy` of `trials`, with Wilson's interval.

    `mean` is the mean objective in the sound quads over equally weighted contexts; None without
    any.
    """

    trials: int
    healthy: int
    low: float
    high: float
    mean: float | None


@dataclass(frozen=True)
class Interaction:
    """A level of each of two factors against both baselines, all else equal.

    `cells` are neither, a alone, b alone, both. `quads` count those whose four trials all ended;
    `cut_short` the others. `seeds` and `contexts` are of the sound quads. The p-value of `health`
    is exact (`sign_flip` over seeds), its interval Student's; `conclusion` joins both verdicts.
    """

    factor_a: str
    level_a: Scalar
    baseline_a: Scalar
    factor_b: str
    level_b: Scalar
    baseline_b: Scalar
    quads: int
    sound_quads: int
    seeds: int
    contexts: int
    cut_short: int
    cells: tuple[Cell, Cell, Cell, Cell]
    difference: Estimate
    health: Estimate
    p_holm: float
    health_p_holm: float
    verdict: InteractionVerdict
    health_verdict: InteractionVerdict = InteractionVerdict.UNKNOWN
    conclusion: str = ""


@dataclass(frozen=True)
class InteractionTable:
    """The two-way interactions of a sweep, and the pairs of factors without one, with reasons."""

    goal: Goal
    interactions: tuple[Interaction, ...]
    skipped: Mapping[str, str]


@np.errstate(over="ignore", invalid="ignore")  # squares of absurdly large values: infinity
def interaction_table(rows: Sequence[TrialRow], levels: Levels, goal: Goal) -> InteractionTable:
    """Compare every pair of levels of two factors.

    `levels` must hold every factor that trials differ in, even without levels. Two factors without
    all four combinations in any seed are in `skipped`.
    """
    trials = coded(rows, levels)
    interactions: list[Interaction] = []
    skipped: dict[str, str] = {}
    several = [factor for factor, known in levels.items() if len(known) > 1]
    for pair in itertools.combinations(several, 2):
        made = list(_of_factors(trials, pair, levels))
        if any(interaction.quads or interaction.cut_short for interaction in made):
            interactions.extend(made)
        else:
            skipped[f"{pair[0]} x {pair[1]}"] = (
                "no seed has all four combinations of any two levels: use a grid, or a "
                "fractional design that crosses these two factors"
            )
    return InteractionTable(goal, _adjusted(interactions), skipped)


def _of_factors(trials: Coded, pair: tuple[str, str], levels: Levels) -> Iterator[Interaction]:
    factor, other = pair
    contexts, seeds, table = _table(trials, pair, levels)
    for a, b in itertools.product(range(1, len(levels[factor])), range(1, len(levels[other]))):
        cells = np.stack([table[:, 0, 0], table[:, a, 0], table[:, 0, b], table[:, a, b]], axis=1)
        there = (cells >= 0).all(axis=1)
        made = _interaction(trials, cells[there], seeds[there], contexts[there])
        yield replace(
            made,
            factor_a=factor,
            level_a=levels[factor][a],
            baseline_a=levels[factor][0],
            factor_b=other,
            level_b=levels[other][b],
            baseline_b=levels[other][0],
        )


def _table(
    trials: Coded, pair: tuple[str, str], levels: Levels
) -> tuple[IntArray, IntArray, IntArray]:
    """Arrange trials by context, seed and the two factors' levels.

    Returns context and seed of every place, (places,), and the trials' numbers, (places, levels of
    a, levels of b): -1 for none or several.
    """
    n = len(trials.rows)
    others = [places for factor, places in trials.levels.items() if factor not in pair]
    context = groups(others, n)
    _, seed = np.unique(trials.seeds, return_inverse=True)
    place = groups([context, seed], n)
    shape = (int(place.max(initial=-1)) + 1, len(levels[pair[0]]), len(levels[pair[1]]))
    a, b = trials.levels[pair[0]], trials.levels[pair[1]]
    listed = (a < shape[1]) & (b < shape[2])
    flat = np.ravel_multi_index((place[listed], a[listed], b[listed]), shape)
    table = np.full(np.prod(shape), -1, dtype=np.int64)
    table[flat] = np.flatnonzero(listed)
    table[np.bincount(flat, minlength=len(table)) > 1] = -1
    first = np.zeros(shape[0], dtype=np.int64)
    first[place] = np.arange(n)
    return context[first], trials.seeds[first], table.reshape(shape)


def _interaction(
    trials: Coded, cells: IntArray, seeds: IntArray, contexts: IntArray
) -> Interaction:
    """Test quads, (quads, 4); the caller fills in the factors and levels."""
    stopped = trials.cut_short[cells].any(axis=1)
    cells, seeds, contexts = cells[~stopped], seeds[~stopped], contexts[~stopped]
    healthy = trials.healthy[cells]
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.where(healthy, trials.objective[cells], np.nan) @ SIGNS
    sound = healthy.all(axis=1) & np.isfinite(values)
    seen = len(np.unique(seeds[sound]))
    difference = _estimate(values[sound], seeds[sound], contexts[sound])
    of_health = healthy.astype(np.float64) @ SIGNS
    health = _estimate(of_health, seeds, contexts)
    if len(np.unique(seeds)) >= FEWEST_SEEDS:
        margins = [round(float(of_health[seeds == seed].sum())) for seed in np.unique(seeds)]
        health = replace(health, p_value=sign_flip(margins))
    return Interaction(
        factor_a="",
        level_a="",
        baseline_a="",
        factor_b="",
        level_b="",
        baseline_b="",
        quads=len(cells),
        sound_quads=int(sound.sum()),
        seeds=seen,
        contexts=len(np.unique(contexts[sound])),
        cut_short=int(stopped.sum()),
        cells=_cells(trials, cells, (seeds, contexts), sound),
        difference=difference,
        health=health,
        p_holm=float("nan"),
        health_p_holm=float("nan"),
        verdict=InteractionVerdict.UNKNOWN,
    )


def _estimate(values: FloatArray, seeds: IntArray, contexts: IntArray) -> Estimate:
    estimate = paired_effect(values.tolist(), seeds.tolist(), contexts.tolist())
    if len(np.unique(seeds)) < FEWEST_SEEDS:
        return replace(NOTHING, mean=estimate.mean)
    return estimate


def _cells(
    trials: Coded, cells: IntArray, place: tuple[IntArray, IntArray], sound: BoolArray
) -> tuple[Cell, Cell, Cell, Cell]:
    made, (seeds, contexts) = [], place
    for column in (NEITHER, A_ALONE, B_ALONE, BOTH):
        well = trials.healthy[cells[:, column]]
        low, high = clustered_wilson(well.astype(np.float64).tolist(), seeds.tolist())
        values = trials.objective[cells[sound, column]]
        mean = _mean_of_contexts(values, contexts[sound]) if len(values) else None
        made.append(Cell(len(well), int(well.sum()), low, high, mean))
    return made[0], made[1], made[2], made[3]


def _mean_of_contexts(values: FloatArray, contexts: IntArray) -> float:
    """Average over contexts with equal weights, as the differences do."""
    _, place = np.unique(contexts, return_inverse=True)
    return float((np.bincount(place, weights=values) / np.bincount(place)).mean())


def _adjusted(interactions: Sequence[Interaction]) -> tuple[Interaction, ...]:
    of_means = holm_adjusted([interaction.difference.p_value for interaction in interactions])
    of_health = holm_adjusted([interaction.health.p_value for interaction in interactions])
    return tuple(
        _concluded(replace(interaction, p_holm=mean, health_p_holm=health))
        for interaction, mean, health in zip(interactions, of_means, of_health, strict=True)
    )


def _concluded(interaction: Interaction) -> Interaction:
    verdict, of_health = _verdict(interaction.p_holm), _verdict(interaction.health_p_holm)
    sentence = str(verdict)
    if of_health is InteractionVerdict.INTERACTS:
        sentence += f", health interacts ({interaction.health.mean:+.2g})"
    return replace(interaction, verdict=verdict, health_verdict=of_health, conclusion=sentence)


def _verdict(p_holm: float) -> InteractionVerdict:
    if np.isnan(p_holm):
        return InteractionVerdict.UNKNOWN
    return InteractionVerdict.INTERACTS if p_holm <= ALPHA else InteractionVerdict.UNCLEAR
