"""Main effects of factorial and fractional designs, where no two trials differ in one factor alone.

    table = main_effect_table(rows, levels, Goal.MINIMIZE)

Additive models over all factors. `difference`: the objective of the healthy trials, fitted within
each seed, the coefficients averaged with a t-interval over the seeds. With fewer than three seeds
that can be fitted alone, a mixed model with a random intercept for each seed (statsmodels' MixedLM,
restricted likelihood), which assumes equal effects in every seed. `rank`: the place of a trial
within its seed, 0 best, 1 worst, all that went wrong tied last, by least squares (rank transform,
Conover & Iman 1981). Additivity is assumed; see `interactions`. Pure.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sickbay.service.analysis.rows.pairs import (
    BoolArray,
    Coded,
    FloatArray,
    IntArray,
    Levels,
    TrialRow,
    coded,
    shares_of_places,
)
from sickbay.service.analysis.statistics import FEWEST_SEEDS
from sickbay.service.analysis.statistics.estimates import (
    NOTHING,
    ROUNDING,
    Estimate,
    student_estimate,
)
from sickbay.service.analysis.verdicts import Verdict, verdict_of
from sickbay.trials.contract import Goal, Scalar
from sickbay.trials.evidence.statistics import holm_adjusted

FEWEST_DEGREES = 3  # of freedom that must be left for the noise

CONTRASTS = "contrasts within each seed, a t-test over the seeds"
MIXED = "mixed model, a random intercept for each seed"
FIXED = "least squares, a constant for each seed"


@dataclass(frozen=True)
class MainEffect:
    """One level against its factor's baseline, averaged over the whole design.

    `healthy` of `trials` (without those cut short) have the level; `mean` is the healthy trials'
    mean objective, None without any. `difference` is level minus baseline, `rank` the same in
    shares of a seed's places (+0.25: a quarter worse). NaN where the design cannot tell.
    """

    factor: str
    level: Scalar
    baseline: Scalar
    trials: int
    healthy: int
    mean: float | None
    difference: Estimate
    rank: Estimate
    p_holm: float
    rank_p_holm: float
    verdict: Verdict


@dataclass(frozen=True)
class MainEffectTable:
    """The main effects of a sweep; `notes` say what the models could not do, and why.

    `method` names the model of `difference`, over `used` trials; `ranked` are in the rank model,
    `left_out` the others by outcome. `seed_share` is the seeds' share of the remaining variance,
    NaN without a mixed model.
    """

    goal: Goal
    effects: tuple[MainEffect, ...]
    skipped: Mapping[str, str]
    method: str
    used: int
    ranked: int
    left_out: Mapping[str, int]
    seed_share: float
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Fit:
    """Estimates by factor and index of the level; absent levels are left out."""

    found: Mapping[tuple[str, int], Estimate]
    method: str = ""
    seed_share: float = float("nan")
    notes: tuple[str, ...] = ()


@np.errstate(over="ignore", invalid="ignore")  # squares of absurdly large values: infinity
def main_effect_table(rows: Sequence[TrialRow], levels: Levels, goal: Goal) -> MainEffectTable:
    """Fit both models, without factors that are ranges; never raises for odd data.

    A model that does not converge, or has too few trials, leaves NaN and a note.
    """
    trials = coded(rows, levels)
    compared = {factor: known for factor, known in levels.items() if len(known) > 1}
    skipped = {factor: _WHY_NOT for factor in levels if factor not in compared}
    apart = sum((trials.levels[factor] > 0).astype(np.int64) for factor in compared)
    if len(compared) < 2 or not np.any(np.asarray(apart) > 1):
        return _nothing(goal, dict.fromkeys(compared, _ONE_AT_A_TIME) | skipped)
    used = trials.healthy
    ranked = ~trials.cancelled
    of_values = _fit(trials, compared, (trials.objective, used))
    of_ranks = _fit(trials, compared, (shares_of_places(trials, goal), ranked), mixed=False)
    effects = [
        _main_effect(trials, (factor, place), compared, of_values, of_ranks)
        for factor, known in compared.items()
        for place in range(1, len(known))
    ]
    outcomes = [word for word, well in zip(trials.outcomes, used, strict=True) if not well]
    return MainEffectTable(
        goal=goal,
        effects=_adjusted(effects, goal),
        skipped=skipped,
        method=of_values.method,
        used=int(used.sum()),
        ranked=int(ranked.sum()),
        left_out={word: outcomes.count(word) for word in sorted(set(outcomes))},
        seed_share=of_values.seed_share,
        notes=of_values.notes + tuple(f"ranks: {note}" for note in of_ranks.notes),
    )


_WHY_NOT = "has fewer than two levels: it is not in the models"
_ONE_AT_A_TIME = "no trial changes two factors: the paired effects say all"


def _nothing(goal: Goal, skipped: Mapping[str, str]) -> MainEffectTable:
    return MainEffectTable(goal, (), skipped, "", 0, 0, {}, float("nan"), ())


def _fit(
    trials: Coded, compared: Levels, what: tuple[FloatArray, BoolArray], *, mixed: bool = True
) -> _Fit:
    """Fit one additive model to the trials with finite values."""
    values, used = what
    y, seeds = values[used], trials.seeds[used]
    columns, names = _columns({name: trials.levels[name][used] for name in compared})
    if len(y) == 0:
        return _Fit({}, notes=("no trial can be used",))
    spread = float(y.std())
    if not math.isfinite(spread):
        return _Fit({}, notes=("the values are too large to be squared",))
    if spread == 0.0:
        return _Fit({}, notes=("all values are identical: there is nothing to explain",))
    kept = _independent(columns)
    estimable = _estimable(names, columns, kept)
    design = np.column_stack([np.ones(len(y)), *(columns[index] for index in kept)])
    degrees = len(y) - design.shape[1] - (len(np.unique(seeds)) - 1)
    if degrees < FEWEST_DEGREES:
        few = f"{len(y)} trials leave {degrees} degrees of freedom, and {FEWEST_DEGREES} are needed"
        return _Fit({}, notes=(few,))
    scaled = (y - y.mean()) / spread
    solved, degrees, notes = _solve(scaled, design, seeds, degrees, by_seed=mixed)
    coefficients, errors, seed_share, method = solved
    if not float(errors.min()) > ROUNDING:
        return _Fit({}, notes=("the factors explain every value exactly: there is no noise",))
    estimates = {
        names[index]: student_estimate(
            float(coefficients[1 + place] * spread), float(errors[1 + place] * spread), degrees
        )
        for place, index in enumerate(kept)
        if names[index][0] in estimable
    }
    confounded = sorted({factor for factor, _ in names} - estimable)
    if confounded:
        listed = ", ".join(confounded)
        notes += (f"{listed}: confounded with other factors in these trials",)
    return _Fit(estimates, method, seed_share, notes)


def _columns(levels: Mapping[str, IntArray]) -> tuple[list[FloatArray], list[tuple[str, int]]]:
    """Dummy coding: one 0/1 column per level present, except the first of each factor."""
    columns, names = [], []
    for factor, places in levels.items():
        for place in np.unique(places)[1:]:
            columns.append((places == place).astype(np.float64))
            names.append((factor, int(place)))
    return columns, names


def _independent(columns: Sequence[FloatArray]) -> list[int]:
    """Indices of the columns that are linearly independent of those before them and a constant."""
    kept: list[int] = []
    basis: list[FloatArray] = []
    for index, column in enumerate(columns):
        rest = column - column.mean()
        for vector in basis:
            rest = rest - (rest @ vector) * vector
        length = float(np.sqrt(rest @ rest))
        if length > 1e-8 * np.sqrt(len(column)):
            basis.append(rest / length)
            kept.append(index)
    return kept


def _estimable(
    names: Sequence[tuple[str, int]], columns: Sequence[FloatArray], kept: Sequence[int]
) -> set[str]:
    """Name the factors whose columns are independent of all other factors' columns."""
    factors = set()
    for factor in {name for name, _ in names}:
        own = [index for index, name in enumerate(names) if name[0] == factor]
        others = [columns[index] for index in range(len(columns)) if index not in own]
        without = len(_independent(others))
        if len(kept) - without == len(own):
            factors.add(factor)
    return factors


def _solve(
    y: FloatArray, design: FloatArray, seeds: IntArray, degrees: int, *, by_seed: bool
) -> "tuple[_Solved, int, tuple[str, ...]]":
    """Fit per seed where three seeds allow it, else a mixed model, else least squares."""
    several = len(np.unique(seeds))
    if not by_seed or several < 2:
        return _least_squares(y, design, seeds, degrees), degrees, ()
    fitted = _coefficients(y, design, seeds)
    if len(fitted) >= FEWEST_SEEDS:
        few = f"{len(fitted)} of {several} seeds have enough trials to be fitted on their own"
        notes = (few,) if len(fitted) < several else ()
        return _contrasts(fitted, y, design, seeds), len(fitted) - 1, notes
    note = f"under {FEWEST_SEEDS} seeds can be fitted alone: {_SAME_IN_EVERY_SEED}"
    solved = _mixed(y, design, seeds)
    if solved is not None:
        return solved, degrees, (note,)
    failed = "the mixed model did not converge: least squares is used instead"
    return _least_squares(y, design, seeds, degrees), degrees, (note, failed)


_SAME_IN_EVERY_SEED = "the model takes a factor to do the same in every seed"


def _coefficients(y: FloatArray, design: FloatArray, seeds: IntArray) -> FloatArray:
    """Fit each seed by itself, (seeds, columns); seeds that lack trials for it are left out."""
    coefficients = []
    for seed in np.unique(seeds):
        mine = seeds == seed
        if np.linalg.matrix_rank(design[mine]) == design.shape[1]:
            coefficients.append(np.linalg.lstsq(design[mine], y[mine], rcond=None)[0])
    return np.array(coefficients, dtype=np.float64).reshape(len(coefficients), design.shape[1])


def _contrasts(fitted: FloatArray, y: FloatArray, design: FloatArray, seeds: IntArray) -> "_Solved":
    """Average the seeds' own coefficients, (seeds, columns)."""
    errors = fitted.std(axis=0, ddof=1) / np.sqrt(len(fitted))
    mean = fitted.mean(axis=0)
    return mean, errors, _seed_share(y - design @ mean, seeds), CONTRASTS


def _seed_share(residuals: FloatArray, seeds: IntArray) -> float:
    """The seeds' share of the residual variance, by analysis of variance."""
    _, place = np.unique(seeds, return_inverse=True)
    sizes = np.bincount(place)
    means = np.bincount(place, weights=residuals) / sizes
    within = float(((residuals - means[place]) ** 2).sum()) / max(1, len(residuals) - len(sizes))
    between = max(0.0, float(means.var(ddof=1)) - within / float(sizes.mean()))
    return between / (between + within) if between + within > 0.0 else math.nan


_Solved = tuple[FloatArray, FloatArray, float, str]  # coefficients, errors, seeds' share, method


def _mixed(y: FloatArray, design: FloatArray, seeds: IntArray) -> _Solved | None:
    """Fit by restricted maximum likelihood; None if it does not converge."""
    from statsmodels.regression.mixed_linear_model import MixedLM  # noqa: PLC0415 - 2 s to import

    with warnings.catch_warnings():  # no convergence is seen in the result, a boundary is fine
        warnings.simplefilter("ignore")
        try:
            result = MixedLM(y, design, groups=seeds).fit(reml=True)
        except (np.linalg.LinAlgError, ValueError, ZeroDivisionError):
            return None
        errors = np.asarray(result.bse_fe, dtype=np.float64)
        between = float(np.asarray(result.cov_re)[0, 0])
        noise = float(result.scale)
    if not result.converged or not np.all(np.isfinite(errors)) or not noise > 0.0:
        return None
    share = between / (between + noise)
    return np.asarray(result.fe_params, dtype=np.float64), errors, share, MIXED


def _least_squares(y: FloatArray, design: FloatArray, seeds: IntArray, degrees: int) -> _Solved:
    """Fit with a constant per seed, removed beforehand (Frisch, Waugh 1933), which is cheaper."""
    from statsmodels.regression.linear_model import OLS  # noqa: PLC0415 - 2 s to import

    _, place = np.unique(seeds, return_inverse=True)
    sizes = np.bincount(place)
    within = [
        column - (np.bincount(place, weights=column) / sizes)[place]
        for column in (y, *design.T[1:])
    ]
    result = OLS(within[0], np.column_stack(within[1:])).fit(method="qr")
    errors = np.asarray(result.bse) * np.sqrt(result.df_resid / degrees)
    coefficients = np.asarray(result.params, dtype=np.float64)
    return np.append(0.0, coefficients), np.append(np.inf, errors), math.nan, FIXED


def _main_effect(
    trials: Coded, which: tuple[str, int], levels: Levels, of_values: _Fit, of_ranks: _Fit
) -> MainEffect:
    factor, place = which
    mine = (trials.levels[factor] == place) & ~trials.cut_short
    baseline = (trials.levels[factor] == 0) & ~trials.cut_short
    well = trials.objective[mine & trials.healthy]
    # Without a baseline among the trials, differences to it are not what the columns mean.
    there = (baseline & trials.healthy).any(), baseline.any()
    return MainEffect(
        factor=factor,
        level=levels[factor][place],
        baseline=levels[factor][0],
        trials=int(mine.sum()),
        healthy=len(well),
        mean=float(well.mean()) if len(well) else None,
        difference=of_values.found.get(which, NOTHING) if there[0] else NOTHING,
        rank=of_ranks.found.get(which, NOTHING) if there[1] else NOTHING,
        p_holm=float("nan"),
        rank_p_holm=float("nan"),
        verdict=Verdict.UNKNOWN,
    )


def _adjusted(effects: Sequence[MainEffect], goal: Goal) -> tuple[MainEffect, ...]:
    of_means = holm_adjusted([effect.difference.p_value for effect in effects])
    of_ranks = holm_adjusted([effect.rank.p_value for effect in effects])
    return tuple(
        replace(
            effect, p_holm=mean, rank_p_holm=rank, verdict=verdict_of(effect.difference, mean, goal)
        )
        for effect, mean, rank in zip(effects, of_means, of_ranks, strict=True)
    )
