"""Shares of pairs and of healthy trials: intervals, exact tests, and the difference of two shares.

Trials of one seed share its luck, so the seed is the unit that repeats. Every interval is two-sided
at 95 %; `docs/effects.md` has the formulas.
"""

import functools
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sickbay.trials.evidence.statistics import wilson_bounds

NUISANCE_SHARES, NUISANCE_ROUNDS = 401, 4  # the common share is found to one in 10⁸
MOST_UNPAIRED = 30  # seeds: above, the paired test has the power, and takes far less time


@dataclass(frozen=True)
class Proportion:
    """A probability with its 95 % interval, and the p-value of "it is one half".

    NaN, 0.0, 1.0 and NaN where there is no pair.
    """

    value: float
    low: float
    high: float
    p_value: float


def improvement(scores: Sequence[float], seeds: Sequence[Hashable]) -> Proportion:
    """Average scores of pairs, shape (n,): 1 for won, 0 for lost, 0.5 for a tie.

    The interval is `clustered_wilson`'s. The p-value is that of flipping who won in whole seeds,
    counted exactly over all flips (two-sided; with one pair a seed this is the sign test).
    Raises ValueError for a score that is none, and for sequences of unlike lengths.
    """
    if not set(scores) <= {0.0, 0.5, 1.0}:
        raise ValueError(f"scores are 0, 0.5 or 1; these are {sorted(set(scores))}")
    if not scores:
        return Proportion(float("nan"), 0.0, 1.0, float("nan"))
    margins: dict[Hashable, int] = {}
    for score, seed in zip(scores, seeds, strict=True):
        margins[seed] = margins.get(seed, 0) + round(2 * score) - 1
    value = float(np.mean(scores))
    low, high = clustered_wilson(scores, seeds)
    return Proportion(value, low, high, sign_flip(list(margins.values())))


def clustered_wilson(scores: Sequence[float], seeds: Sequence[Hashable]) -> tuple[float, float]:
    """Wilson's interval of the mean of scores from 0 to 1, which are correlated within a seed.

    n is divided by the design effect (Kish 1965), the variance between seeds relative to that of
    independent draws, taken at one standard error above its estimate (seeds - 1 degrees of freedom)
    and kept between 1 and n / seeds. Where all scores are 0, or all 1, n is the geometric mean of
    both ends. With one score a seed this is Wilson's interval.
    """
    values, names = np.asarray(scores, dtype=np.float64), list(dict.fromkeys(seeds))
    n, groups = len(values), len(names)
    if n <= 1 or groups == n:
        return wilson(float(values.mean()) if n else 0.0, n)
    share = float(values.mean())
    if share in {0.0, 1.0}:
        return wilson(share, np.sqrt(n * groups))
    if groups == 1:
        return wilson(share, 1)
    places = {name: index for index, name in enumerate(names)}
    off = np.bincount([places[seed] for seed in seeds], weights=values - share)
    between = float((off**2).sum()) * groups / (groups - 1)
    estimate = between / (n * share * (1.0 - share))
    upper = estimate * (1.0 + np.sqrt(2.0 / (groups - 1)))
    return wilson(share, n / min(max(upper, 1.0), n / groups))


def wilson(share: float, n: float) -> tuple[float, float]:
    """Score interval of a share of n draws (Wilson 1927); share and n may count parts of draws.

    (0, 1) if nothing was drawn.
    """
    low, high = (float(end) for end in wilson_bounds(share * n, n))
    return max(0.0, min(share, low)) if n else 0.0, min(1.0, max(share, high))


def sign_flip(margins: Sequence[int]) -> float:
    """Two-sided p-value of the exact sign-flip test of a sum of integers.

    Exact (Fisher 1935): the distribution of the sum is convolved, not sampled. 1.0 if all are zero.
    The smallest value that k margins other than zero can give is 2 / 2^k.
    """
    sizes = [abs(margin) for margin in margins if margin]
    chances = np.ones(1)  # of the sums -total, -total + 1, …, total
    for size in sizes:
        grown = np.zeros(len(chances) + 2 * size)
        grown[: len(chances)] += chances / 2
        grown[2 * size :] += chances / 2
        chances = grown
    total = sum(sizes)
    sums = np.arange(-total, total + 1)
    return min(1.0, float(chances[np.abs(sums) >= abs(sum(margins))].sum()))


@dataclass(frozen=True)
class RiskDifference:
    """The share of healthy trials of a level minus that of its baseline, over `pairs` pairs.

    NaN, -1.0, 1.0 and NaN where there is no pair. `test` names the exact test of "no difference":
    `Boschloo`, `permutation of seeds`, or `McNemar`; empty without one.
    """

    pairs: int
    value: float
    low: float
    high: float
    p_value: float
    test: str


NO_RISK = RiskDifference(0, math.nan, -1.0, 1.0, math.nan, "")


def risk_difference(
    level: Sequence[bool], baseline: Sequence[bool], seeds: Sequence[Hashable]
) -> RiskDifference:
    """Compare health pair by pair; all arrays of shape (n,).

    The interval is Newcombe's (1998, method 10) for paired shares, from `clustered_wilson`'s ends.
    The test is exact: with one pair a seed and up to 30 seeds Boschloo's (1970) of the two arms;
    with several pairs a seed the seeds' counts are permuted between the arms (Fisher, Pitman);
    above 30 seeds arms are swapped within seeds (McNemar). The first two ignore the pairing: valid
    unless the trials of a seed tend to opposite outcomes. Raises ValueError for unlike lengths.
    """
    of_level, other = np.asarray(level, dtype=np.float64), np.asarray(baseline, dtype=np.float64)
    if not len(of_level) == len(other) == len(seeds):
        raise ValueError(f"{len(of_level)}, {len(other)} and {len(seeds)} values do not make pairs")
    if not len(of_level):
        return NO_RISK
    p, q = float(of_level.mean()), float(other.mean())
    (p_low, p_high), (q_low, q_high) = (
        clustered_wilson(side.tolist(), seeds) for side in (of_level, other)
    )
    phi = _paired_correlation(of_level, other)
    down = _joined(p - p_low, q_high - q, phi)
    up = _joined(p_high - p, q - q_low, phi)
    p_value, test = _exact(of_level, other, seeds)
    low, high = max(-1.0, p - q - down), min(1.0, p - q + up)
    return RiskDifference(len(of_level), p - q, low, high, p_value, test)


def _joined(width: float, other: float, phi: float) -> float:
    return math.sqrt(max(0.0, width**2 - 2.0 * phi * width * other + other**2))


def _paired_correlation(column: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Correlation of two columns of 0 and 1, corrected for continuity if positive (Newcombe)."""
    n = len(column)
    both, neither = float((column * other).sum()), float(((1.0 - column) * (1.0 - other)).sum())
    first, second = float(column.sum()), float(other.sum())
    scale = first * (n - first) * second * (n - second)
    if scale == 0.0:
        return 0.0
    crossed = both * neither - (first - both) * (second - both)
    corrected = max(crossed - n / 2.0, 0.0) if crossed > 0.0 else crossed
    return corrected / math.sqrt(scale)


def _exact(
    outcomes: NDArray[np.float64], other: NDArray[np.float64], seeds: Sequence[Hashable]
) -> tuple[float, str]:
    names = list(dict.fromkeys(seeds))
    places = {name: index for index, name in enumerate(names)}
    which = [places[seed] for seed in seeds]
    ours = np.bincount(which, weights=outcomes).round().astype(int)
    theirs = np.bincount(which, weights=other).round().astype(int)
    if len(names) > MOST_UNPAIRED:
        return sign_flip((ours - theirs).tolist()), "McNemar"
    if len(names) == len(outcomes):
        n = len(outcomes)
        return boschloo(int(ours.sum()), n, int(theirs.sum()), n), "Boschloo"
    return permuted(ours.tolist(), theirs.tolist()), "permutation of seeds"


@functools.lru_cache(maxsize=4096)
def boschloo(hits: int, n: int, other_hits: int, other_n: int) -> float:
    """Two-sided p-value of Boschloo's (1970) exact unconditional test of two shares.

    Twice the smaller one-sided value: the largest chance, over the arms' common share, of a table
    whose one-sided Fisher p-value is no larger. As `scipy.stats.boschloo_exact`, which takes a
    second to import; up to MOST_UNPAIRED units a side.
    """
    assert max(n, other_n) <= MOST_UNPAIRED, (n, other_n)
    if hits / n == other_hits / other_n:
        return 1.0
    fewer = _boschloo_less(hits, n, other_hits, other_n)
    more = _boschloo_less(other_hits, other_n, hits, n)
    return min(1.0, 2.0 * min(fewer, more))


def _boschloo_less(hits: int, n: int, other_hits: int, other_n: int) -> float:
    """One-sided: how likely so few hits in the first arm are, at the least favourable share."""
    ours, theirs = np.arange(n + 1), np.arange(other_n + 1)
    ways = np.outer(_choices(n), _choices(other_n))  # (n + 1, other_n + 1) tables
    together = ours[:, None] + theirs
    fisher = np.ones(ways.shape)
    for total in range(n + other_n + 1):  # of all tables with so many hits in both arms
        same = together == total
        fisher[same] = np.cumsum(ways[same]) / ways[same].sum()  # rising hits of the first arm
    extreme = fisher <= fisher[hits, other_hits] * (1.0 + 1e-13)
    counts = np.bincount(together[extreme], weights=ways[extreme], minlength=n + other_n + 1)

    def chance(share: NDArray[np.float64]) -> NDArray[np.float64]:
        powers = np.arange(n + other_n + 1)
        lost = (n + other_n) - powers
        return np.asarray((share[:, None] ** powers * (1.0 - share[:, None]) ** lost) @ counts)

    low, high = 0.0, 1.0
    for _ in range(NUISANCE_ROUNDS):
        shares = np.linspace(low, high, NUISANCE_SHARES)
        best = int(np.argmax(chance(shares)))
        low, high = shares[max(0, best - 1)], shares[min(NUISANCE_SHARES - 1, best + 1)]
    return float(chance(np.array([(low + high) / 2.0]))[0])


def _choices(n: int) -> NDArray[np.float64]:
    return np.array([math.comb(n, k) for k in range(n + 1)], dtype=np.float64)


def permuted(sample: Sequence[int], other: Sequence[int]) -> float:
    """Two-sided p-value of the permutation test of a difference of sums.

    Exact (Fisher 1935; Pitman 1937): the sums of all choices of len(sample) units are counted.
    """
    units = [*sample, *other]
    whole = sum(units)
    ways = np.zeros((len(sample) + 1, whole + 1))  # by the number of units chosen, and their sum
    ways[0, 0] = 1.0
    for unit in units:
        ways[1:, unit:] += ways[:-1, : whole + 1 - unit].copy()
    chances = ways[-1] / ways[-1].sum()
    off = np.abs(np.arange(whole + 1) - whole * len(sample) / len(units))
    seen = abs(sum(sample) - whole * len(sample) / len(units))
    return min(1.0, float(chances[off >= seen - 1e-9].sum()))
