"""The studentised bootstrap of an effect: an interval that leans to where the seeds lean.

Beside Student's interval, which assumes differences that are not very skew. With few seeds there
are so few resamples that all of them are counted, each with its chance; with more they are drawn by
a fixed generator. So the same seeds give the same interval, to the last bit.
"""

import functools
import itertools
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from sickbay.service.analysis.codes import FloatArray
from sickbay.service.analysis.statistics import ALPHA, ROUNDING, paired_effect, seed_values

FEWEST_SEEDS = 4  # with three, resamples of one value alone take up both tails
COUNTED_SEEDS = 7  # up to here all resamples are counted: 1,716 of them
RESAMPLES = 2999


@dataclass(frozen=True)
class Interval:
    """A 95 % interval; NaN where there are too few seeds to resample. `resamples` made it."""

    low: float
    high: float
    resamples: int


NO_INTERVAL = Interval(math.nan, math.nan, 0)


def bootstrap_effect(
    differences: Sequence[float], seeds: Sequence[Hashable], contexts: Sequence[Hashable]
) -> Interval:
    """Studentised bootstrap (Efron 1979; Hall 1992) over the seeds' values.

    A resample draws n seeds with replacement; its t = (mean* - mean) / error* gives the quantiles
    that Student's would. A resample of one value alone has no error and lies beyond all others on
    its side. Where pairs are missing, the error is that of `paired_effect`. NaN for fewer than
    four seeds, and where nothing varies.
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
    return Interval(whole.mean - high * whole.error, whole.mean - low * whole.error, len(chances))


def _quantiles(pivots: FloatArray, chances: FloatArray) -> tuple[float, float]:
    """Give the smallest pivots that leave no more than α/2 of the chances beyond them."""
    order = np.argsort(pivots, kind="stable")
    below = np.cumsum(chances[order])
    low = order[int(np.searchsorted(below, ALPHA / 2))]
    high = order[min(int(np.searchsorted(below, 1.0 - ALPHA / 2)), len(order) - 1)]
    return float(pivots[low]), float(pivots[high])


@functools.lru_cache(maxsize=64)
def _resamples(n: int) -> tuple[FloatArray, FloatArray]:
    """How often each of n values is in a resample, (resamples, n), and each resample's chance."""
    if n <= COUNTED_SEEDS:
        drawn = list(itertools.combinations_with_replacement(range(n), n))
        counts = np.array([np.bincount(one, minlength=n) for one in drawn], dtype=np.float64)
        ways = [
            math.factorial(n) / math.prod(math.factorial(int(k)) for k in row) for row in counts
        ]
        return counts, np.array(ways) / float(n) ** n
    generator = np.random.default_rng(n)
    counts = generator.multinomial(n, np.full(n, 1.0 / n), size=RESAMPLES).astype(np.float64)
    return counts, np.full(RESAMPLES, 1.0 / RESAMPLES)
