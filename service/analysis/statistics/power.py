"""What a design can detect: power of a difference, before anything has run.

In units of the standard deviation of a paired difference over seeds, which levels share as in
`moderated`; Holm's correction counts as Bonferroni's. The power of the t-test (noncentral t) is
integrated here, so that `plan` need not import scipy.
"""

import functools
import math

import numpy as np
from numpy.typing import NDArray

from sickbay.service.analysis.statistics import ALPHA, FEWEST_SEEDS
from sickbay.trials.evidence.shared_noise import LEAST_CORRELATION, own_share

WANTED = 0.8  # the power that a design should have
MOST_SEEDS = 200
_POINTS = 400  # of the integral over the estimated noise
_HALVINGS = 50

FloatArray = NDArray[np.float64]


def power(difference: float, seeds: int, levels: int) -> float:
    """Probability to find a true difference, in units of its noise, among so many levels.

    0.0 below three seeds, which give no verdict.
    """
    if seeds < FEWEST_SEEDS or levels < 1:
        return 0.0
    degrees = shared_degrees(seeds, levels)
    limit = _limit(ALPHA / levels, degrees)
    return _beyond(limit, degrees, abs(difference) * math.sqrt(seeds))


def shared_degrees(seeds: int, levels: int) -> float:
    """Degrees of freedom of noise that levels of equal noise share, as `moderated` counts them."""
    share = own_share(seeds - 1.0)
    other = (1.0 - share) / levels
    own = other + share
    rest = levels - 1
    squares = own**2 + rest * other**2
    crossed = 2.0 * rest * own * other + rest * (rest - 1) * other**2
    return (seeds - 1) / (squares + LEAST_CORRELATION * crossed)


def smallest_detectable(seeds: int, levels: int) -> float:
    """The difference, in units of its noise, that is found with 80 % probability; inf below 3."""
    if seeds < FEWEST_SEEDS:
        return math.inf
    low, high = 0.0, 1.0
    while power(high, seeds, levels) < WANTED:
        high *= 2.0
    for _ in range(_HALVINGS // 2):
        middle = (low + high) / 2.0
        low, high = (low, middle) if power(middle, seeds, levels) >= WANTED else (middle, high)
    return high


def seeds_needed(difference: float, levels: int) -> int | None:
    """The fewest seeds that find this difference with 80 % probability; None above 200."""
    low, high = FEWEST_SEEDS, MOST_SEEDS
    if power(difference, high, levels) < WANTED:
        return None
    while low < high:
        middle = (low + high) // 2
        if power(difference, middle, levels) >= WANTED:
            high = middle
        else:
            low = middle + 1
    return low


def _beyond(limit: float, degrees: float, shift: float) -> float:
    """P(|T| > limit) of a noncentral t: the normal tails, averaged over the estimated noise s.

    s² times the degrees of freedom is chi-squared; shape of the integral: (points,).
    """
    spread = 1.0 / math.sqrt(2.0 * degrees)
    low, high = max(1e-9, 1.0 - 10.0 * spread), 1.0 + 12.0 * spread
    s = np.linspace(low, high, _POINTS)
    logs = (degrees - 1.0) * np.log(s) - degrees * s**2 / 2.0
    density = np.exp(logs - logs.max())
    tails = _tail(limit * s - shift) + _tail(limit * s + shift)
    return float((density * tails).sum() / density.sum())


def _tail(z: FloatArray) -> FloatArray:
    """P(Z > z) of a standard normal value."""
    return np.array([0.5 * math.erfc(value / math.sqrt(2.0)) for value in z.tolist()])


@functools.lru_cache(maxsize=256)
def _limit(alpha: float, degrees: float) -> float:
    """The t beyond which Student's t lies, either side, with probability alpha."""
    low, high = 0.0, 1.0
    while _beyond(high, degrees, 0.0) > alpha:
        high *= 2.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        low, high = (low, middle) if _beyond(middle, degrees, 0.0) <= alpha else (middle, high)
    return high
