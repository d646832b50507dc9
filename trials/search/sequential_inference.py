"""Sequential tests of an arm against the reference, valid however often one looks.

Effect. The differences between an arm and the reference, paired by seed where both trials are
healthy, are taken for draws of one normal distribution. After n pairs Student's t-test gives the
nominal p-value p(n). With the weights s(n) = min(1, n / 6) min(1, 12 / n) the least p(n) / s(n)
over all looks at 3 to 100 pairs has a distribution that depends on nothing else, and

    P(least p(n) / s(n) <= x)  <=  x (1 + 3 log10(1 / x))

(simulated: 500,000 runs; 7 % too much at x = 0.01, 11 % at 0.001). The right side is the p-value
of the sequence: it may be looked at after every pair, and more seeds may be asked for later. All
means that the same test would not reject are the interval that decides: a repeated confidence
interval (Jennison & Turnbull 1989).

Health. Pathological or not, seed by seed, in both arms: the e-process of two Bernoulli streams
(Turner, Ly & Grünwald 2024), whose highest value exceeds 1 / a with probability a at most
(Ville 1939) where both are equally often pathological. Seeds that make both arms pathological
alike make it smaller, not larger.

Familywise: with m arms each claim is tested at its share of ALPHA / m; each claim that was made
gives its part to the others (Holm's procedure over the sequence; Bartroff & Song 2014).
"""

import functools
import math
from dataclasses import dataclass, field

import numpy as np

EFFECT_ALPHA, HEALTH_ALPHA = 0.04, 0.01  # that any claim of a sweep is false: 5 % together
FEWEST_PAIRS, MOST_PAIRS = 3, 100
LEAST_CHANCE = 0.2  # of a claim by the last seed, below which an arm is given up
PRIOR = 0.18  # of the e-process: successes and failures that each stream begins with
ROUNDING = 1e-12


@dataclass
class EffectTest:
    """The differences of an arm's healthy pairs so far, in the order of the seeds."""

    differences: list[float] = field(default_factory=list)
    _least: float = 1.0

    def add(self, difference: float) -> None:
        """Take in one more finite difference, arm minus reference, and look."""
        self.differences.append(difference)
        n = len(self.differences)
        if FEWEST_PAIRS <= n <= MOST_PAIRS and self.error > 0.0:
            nominal = 2.0 * _below(-abs(self.mean) / self.error, n - 1)
            self._least = min(self._least, nominal / _weight(n))

    @property
    def mean(self) -> float:
        """The mean difference; NaN before the first."""
        return float(np.mean(self.differences)) if self.differences else math.nan

    @property
    def error(self) -> float:
        """The standard error of the mean; 0 where nothing varies, NaN for fewer than two."""
        if len(self.differences) < 2:
            return math.nan
        error = float(np.std(self.differences, ddof=1) / math.sqrt(len(self.differences)))
        return error if error > ROUNDING * max(map(abs, self.differences)) else 0.0

    @property
    def p_value(self) -> float:
        """The p-value of "there is no difference", over all looks so far."""
        return sequence_p(self._least)

    def interval(self, alpha: float) -> tuple[float, float]:
        """All mean differences that a test at level `alpha` does not reject now."""
        n = len(self.differences)
        if n < FEWEST_PAIRS or not self.error > 0.0:
            return -math.inf, math.inf
        half = _quantile(n, alpha) * self.error
        return self.mean - half, self.mean + half

    def chance(self, alpha: float, n: int, margin: float | None) -> float:
        """The probability of a claim, by the predictive distribution of the mean of `n` pairs.

        With a flat prior the final mean is the present one plus sd sqrt((n - k) / (n k)) times
        Student's t of k - 1 degrees of freedom.
        """
        k = len(self.differences)
        if k < FEWEST_PAIRS:
            return 1.0 if n >= FEWEST_PAIRS else 0.0
        if n <= k or self.error == 0.0:
            return 0.0
        sd = self.error * math.sqrt(k)
        spread = sd * math.sqrt((n - k) / (n * k))
        needed = _quantile(min(n, MOST_PAIRS), alpha) * sd / math.sqrt(n)

        def below(value: float) -> float:
            return _below((value - self.mean) / spread, k - 1)

        chance = below(-needed) + 1.0 - below(needed)
        inside = 0.0 if margin is None else margin - needed
        return chance + (below(inside) - below(-inside) if inside > 0.0 else 0.0)


@dataclass
class HealthTest:
    """How often an arm and the reference were pathological in the seeds that judged both."""

    seeds: int = 0
    arm: int = 0
    reference: int = 0
    _log_e: float = 0.0
    _most: float = 0.0

    def add(self, arm: bool, reference: bool) -> None:  # noqa: FBT001 - two alike
        """Take in one more seed: which of the two trials is pathological."""
        self._log_e += _log_factor(
            arm, self._share(self.arm), reference, self._share(self.reference)
        )
        self._most = max(self._most, self._log_e)
        self.seeds += 1
        self.arm += arm
        self.reference += reference

    def _share(self, count: int) -> float:
        return (count + PRIOR) / (self.seeds + 2 * PRIOR)

    @property
    def p_value(self) -> float:
        """The p-value of "both are equally often pathological", over all looks so far."""
        return math.exp(-self._most)

    def reaches(self, alpha: float, seeds: int) -> bool:
        """Whether a claim comes within `seeds` seeds if the rest fare like those so far."""
        if self.arm == self.reference or not self.seeds:
            return self.seeds < FEWEST_PAIRS
        a, b = self._share(self.arm), self._share(self.reference)
        growth = sum(
            (a if is_pathological else 1 - a)
            * (b if other else 1 - b)
            * _log_factor(is_pathological, a, other, b)
            for is_pathological in (True, False)
            for other in (True, False)
        )
        return self._log_e + (seeds - self.seeds) * growth >= -math.log(alpha)


def sequence_p(least: float) -> float:
    """The p-value of the least weighted nominal p-value of a sequence of looks."""
    return min(1.0, least * (1.0 + 3.0 * math.log10(1.0 / least))) if least > 0.0 else 0.0


@functools.cache
def nominal_level(alpha: float) -> float:
    """The weighted nominal level whose sequence has the level `alpha`: `sequence_p` inverted."""
    low, high = -30.0, math.log10(alpha)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if sequence_p(10**middle) > alpha else (middle, high)
    return float(10**low)


def _quantile(n: int, alpha: float) -> float:
    """How many standard errors a mean of n pairs must lie from zero for a claim at `alpha`."""
    from scipy.special import stdtrit  # noqa: PLC0415 - slow, and reading a sweep needs none

    return -float(stdtrit(n - 1, nominal_level(alpha) * _weight(n) / 2))


def _below(value: float, degrees: int) -> float:
    """The chance that Student's t is below a value."""
    from scipy.special import stdtr  # noqa: PLC0415 - slow, and reading a sweep needs none

    return float(stdtr(degrees, value))


def _weight(n: int) -> float:
    return min(1.0, n / 6) * min(1.0, 12 / n)


def _log_factor(arm: bool, a: float, reference: bool, b: float) -> float:  # noqa: FBT001
    """The log likelihood ratio of one seed: shares a and b against the mean of the two."""
    both = (a + b) / 2

    def log(hit: bool, share: float) -> float:  # noqa: FBT001
        return math.log(share if hit else 1 - share)

    return log(arm, a) + log(reference, b) - log(arm, both) - log(reference, both)
