"""The statistics of effects: differences between paired trials, with intervals that hold at n = 5.

    seed      drawn at random and shared by both trials of a pair; the unit that repeats
    context   the levels of all *other* factors; chosen, not drawn, all equally weighted

Every interval is two-sided at 95 %. `docs/effects.md` has the formulas, decision 9 the simulations
that chose them.
"""

import functools
import itertools
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from sickbay.service.analysis.statistics import ALPHA

FloatArray = NDArray[np.float64]

ROUNDING = 1e-12  # a spread below this share of the values is what rounding makes of none
TRIMMED = 0.25  # from each end: what is left between the quartiles


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval, and the p-value of "it is zero".

    `error` is the standard error, `degrees` its degrees of freedom. All but `mean` are NaN where
    nothing repeats, `mean` too without a value. Where all values are equal `error` is 0.0, `low`
    and `high` are NaN: agreement to the last bit says nothing about noise.
    """

    mean: float
    error: float
    degrees: float
    low: float
    high: float
    p_value: float


NOTHING = Estimate(*[float("nan")] * 6)


def paired_effect(
    differences: Sequence[float], seeds: Sequence[Hashable], contexts: Sequence[Hashable]
) -> Estimate:
    """Average finite differences, shape (n,), over contexts, with the noise between seeds.

    mean = mean over contexts of the mean over their pairs. With its weights w and the residuals r
    around each context's mean, the error is clustered by seed (Liang, Zeger 1986), V = sum over
    seeds of (sum of w r)², scaled to be unbiased, with Satterthwaite's degrees of freedom (Bell,
    McCaffrey 2002), both for independent pairs of one variance. With one context, or every pair
    present, it is the paired t-interval of the seeds' means. Raises ValueError for unlike lengths,
    or two pairs of a seed in a context.
    """
    table, present = _as_table(differences, seeds, contexts)
    if not present.any():
        return NOTHING
    sizes = present.sum(axis=1, keepdims=True)
    centres = np.where(present, table, 0.0).sum(axis=1, keepdims=True) / sizes
    mean = float(centres.mean())
    weights = present / (len(sizes) * sizes)
    moment, norm_squared = _expected_spread(weights, sizes)
    if moment <= ROUNDING * float((weights**2).sum()):
        return Estimate(mean, *[float("nan")] * 5)  # every context has a single pair
    residuals = np.where(present, table - centres, 0.0)
    by_seed = (weights * residuals).sum(axis=0)
    scale = float((weights**2).sum()) / moment
    error = float(np.sqrt((by_seed**2).sum() * scale))
    if error <= ROUNDING * float(np.abs(table[present]).max()):
        return _without_spread(mean, table.shape[1])
    return student_estimate(mean, error, moment**2 / norm_squared)


def seed_values(
    differences: Sequence[float], seeds: Sequence[Hashable], contexts: Sequence[Hashable]
) -> FloatArray:
    """One value a seed, (n,) to (seeds,): how far its pairs lie off their contexts, plus the mean.

    With one context these are the differences; with every pair present the seeds' means.
    """
    table, present = _as_table(differences, seeds, contexts)
    if not present.any():
        return np.empty(0)
    filled = np.where(present, table, 0.0)
    centres = filled.sum(axis=1, keepdims=True) / present.sum(axis=1, keepdims=True)
    off = np.where(present, table - centres, 0.0).sum(axis=0) / present.sum(axis=0)
    return np.asarray(off + centres.mean(), dtype=np.float64)


def interquartile_mean(values: FloatArray) -> Estimate:
    """Interquartile mean of finite values, (n,): without the floor(n / 4) lowest and highest.

    The interval is Yuen's (1974): with h values kept, error² = (n - 1) s² / (h (h - 1)), s being
    the winsorized standard deviation, and h - 1 degrees of freedom. Nothing is cut for n < 4.
    """
    n = len(values)
    if n == 0:
        return NOTHING
    ordered = np.sort(values)
    cut = int(TRIMMED * n)
    kept = n - 2 * cut
    mean = float(ordered[cut : n - cut].mean())
    if n < 2:
        return Estimate(mean, *[float("nan")] * 5)
    winsorized = np.clip(ordered, ordered[cut], ordered[n - cut - 1])
    error = float(winsorized.std(ddof=1) * np.sqrt((n - 1) / (kept * (kept - 1))))
    if error <= ROUNDING * float(np.abs(ordered).max()):
        return _without_spread(mean, kept)
    return student_estimate(mean, error, kept - 1.0)


def interquartile_effect(
    differences: Sequence[float], seeds: Sequence[Hashable], contexts: Sequence[Hashable]
) -> Estimate:
    """`interquartile_mean` of the seeds' values; the arguments are those of `paired_effect`.

    Where pairs are missing, values centred on contexts with few pairs lie too close together: error
    and degrees are corrected by what `paired_effect` finds for the plain mean.
    """
    values = seed_values(differences, seeds, contexts)
    plain = interquartile_mean(values)
    whole = paired_effect(differences, seeds, contexts)
    if np.isnan(whole.error):
        return replace(NOTHING, mean=plain.mean)
    if not plain.error > 0.0 or whole.error == 0.0:
        return plain
    naive = float(values.std(ddof=1) / np.sqrt(len(values)))
    degrees = plain.degrees * min(1.0, whole.degrees / (len(values) - 1))
    return student_estimate(plain.mean, plain.error * max(1.0, whole.error / naive), degrees)


def _as_table(
    differences: Sequence[float], seeds: Sequence[Hashable], contexts: Sequence[Hashable]
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Spread pairs over (contexts, seeds); where there is no pair, `present` is false."""
    columns = {seed: index for index, seed in enumerate(dict.fromkeys(seeds))}
    rows = {context: index for index, context in enumerate(dict.fromkeys(contexts))}
    table = np.full((len(rows), len(columns)), np.nan)
    present = np.zeros(table.shape, dtype=np.bool_)
    for value, seed, context in zip(differences, seeds, contexts, strict=True):
        place = rows[context], columns[seed]
        if present[place]:
            raise ValueError(f"seed {seed!r} has two pairs in the context {context!r}")
        table[place], present[place] = value, True
    return table, present


def _expected_spread(weights: FloatArray, sizes: NDArray[np.int_]) -> tuple[float, float]:
    """Trace and squared norm of M, where by-seed sums of independent unit noise have covariance M.

    M = diag(sum over contexts of w²) - w' diag(1 / sizes) w, never built: there may be many seeds.
    """
    squares = weights**2
    diagonal = squares.sum(axis=0)
    taken = (squares / sizes).sum(axis=0)
    scaled = weights / np.sqrt(sizes)
    small = scaled @ scaled.T if len(scaled) <= scaled.shape[1] else scaled.T @ scaled
    norm_squared = (diagonal**2).sum() - 2.0 * (diagonal * taken).sum() + (small**2).sum()
    return float((diagonal - taken).sum()), float(norm_squared)


def student_estimate(mean: float, error: float, degrees: float) -> Estimate:
    """Return a mean its interval and p-value by its standard error, above zero, and Student's t."""
    half = t_quantile(degrees) * error
    p_value = 2.0 * float(stdtr(degrees, -abs(mean) / error))
    return Estimate(mean, error, degrees, mean - half, mean + half, p_value)


def t_quantile(degrees: float) -> float:
    """The quantile of Student's t that a two-sided 95 % interval reaches to.

    `scipy.special` has the digits of `scipy.stats.t`, which takes half a second to import.
    """
    return -float(stdtrit(degrees, ALPHA / 2))


def equivalence(difference: Estimate, smallest: float) -> float:
    """Two one-sided t-tests (Schuirmann 1987): p of "the true difference is at least `smallest`".

    At most 0.05 where the 90 % interval lies within ±smallest. NaN where no noise was measured.
    """
    assert smallest > 0.0, smallest
    if not difference.error > 0.0:
        return math.nan
    nearest = (smallest - abs(difference.mean)) / difference.error
    return float(stdtr(difference.degrees, -nearest))


def _without_spread(mean: float, n: int) -> Estimate:
    """All values are equal to the last bit: only a sign test is possible, and no interval."""
    p_value = 1.0 if mean == 0.0 else min(1.0, 2.0 ** (1 - n))
    return Estimate(mean, 0.0, n - 1.0, float("nan"), float("nan"), p_value)


FEWEST_SEEDS = 4  # with three, resamples of one value alone take up both tails
COUNTED_SEEDS = 7  # up to here all resamples are counted: 1,716 of them
RESAMPLES = 2999


@dataclass(frozen=True)
class Interval:
    """A 95 % interval from `resamples` resamples; NaN where there are too few seeds."""

    low: float
    high: float
    resamples: int


NO_INTERVAL = Interval(math.nan, math.nan, 0)


def bootstrap_effect(
    differences: Sequence[float], seeds: Sequence[Hashable], contexts: Sequence[Hashable]
) -> Interval:
    """Studentised bootstrap (Efron 1979; Hall 1992) over the seeds' values.

    A resample draws n seeds with replacement; its t = (mean* - mean) / error* gives the quantiles
    in place of Student's. A resample of one value alone lies beyond all others on its side. With
    missing pairs the error is that of `paired_effect`. NaN for fewer than four seeds, or no
    variation.
    """
    values = seed_values(differences, seeds, contexts)
    n = len(values)
    whole = paired_effect(differences, seeds, contexts)
    if n < FEWEST_SEEDS or not whole.error > 0.0:
        return NO_INTERVAL
    counts, chances = _resamples(n)
    means = counts @ values / n
    spreads = np.sqrt(np.maximum(counts @ values**2 / n - means**2, 0.0) / (n - 1))
    mean = float(values.mean())
    off = means - mean
    flat = spreads <= ROUNDING * float(np.abs(values).max())
    pivots = np.where(flat, np.copysign(np.inf, off), off / np.where(flat, 1.0, spreads))
    low, high = _quantiles(pivots, chances)
    if not (math.isfinite(low) and math.isfinite(high)):
        return NO_INTERVAL  # ties: too many resamples are one value alone
    return Interval(whole.mean - high * whole.error, whole.mean - low * whole.error, len(chances))


def _quantiles(pivots: FloatArray, chances: FloatArray) -> tuple[float, float]:
    """Return the pivots beyond which at most α/2 of the probability lies."""
    order = np.argsort(pivots, kind="stable")
    below = np.cumsum(chances[order])
    low = order[int(np.searchsorted(below, ALPHA / 2))]
    high = order[min(int(np.searchsorted(below, 1.0 - ALPHA / 2)), len(order) - 1)]
    return float(pivots[low]), float(pivots[high])


@functools.lru_cache(maxsize=64)
def _resamples(n: int) -> tuple[FloatArray, FloatArray]:
    """Counts of the n values in each resample, (resamples, n), and each resample's probability."""
    if n <= COUNTED_SEEDS:
        drawn = list(itertools.combinations_with_replacement(range(n), n))
        counts = np.array(
            [np.bincount(resample, minlength=n) for resample in drawn], dtype=np.float64
        )
        ways = [
            math.factorial(n) / math.prod(math.factorial(int(k)) for k in row) for row in counts
        ]
        return counts, np.array(ways) / float(n) ** n
    generator = np.random.default_rng(n)
    counts = generator.multinomial(n, np.full(n, 1.0 / n), size=RESAMPLES).astype(np.float64)
    return counts, np.full(RESAMPLES, 1.0 / RESAMPLES)
