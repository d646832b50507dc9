"""Sequential tests of arms against the reference, valid however often one looks.

Effect. The differences between an arm and the reference, paired by seed where both trials are
healthy, are taken for draws of one normal distribution. At each look the arms share their noise
(`trials.evidence.shared_noise`), and Student's t-test gives the nominal p-value p(n) of n pairs.
With the weights s(n) = min(1, n / 5) min(1, (10 / n)^2) and an arm's own noise alone, the least
p(n) / s(n) over all looks at 3 to 100 pairs has a distribution that depends on nothing else, and

    P(least p(n) / s(n) <= x)  <=  x (1 + 2.1 log10(1 / x))

(simulated: 500,000 runs). The right side is the p-value of the sequence: it may be looked at after
every pair, and more seeds may be asked for later. Shared noise keeps it, whichever arm is noisier
(simulated, decision 93). All means that the same test would not reject are the interval that
decides: a repeated confidence interval (Jennison & Turnbull 1989).

Health. Pathological or not, seed by seed, in both arms, by the better of two tests. The e-process
of two Bernoulli streams (Turner, Ly & Grünwald 2024) exceeds 1 / a with probability a at most
(Ville 1939) where both are equally often pathological, and in fact with less than half of that. An
unbroken run of k seeds from the first, in which one of the two is pathological and the other never,
has a probability of 2 / 4^k at most, for which 3 / 4^k is charged. Together they keep their level
(simulated: 800,000 runs). Seeds that make both arms pathological alike make either claim rarer.

Familywise: with m arms each claim is tested at its share of ALPHA / m; each claim that was made
gives its part to the others (Holm's procedure over the sequence; Bartroff & Song 2014).
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from sickbay.trials.evidence.shared_noise import shared_noise

EFFECT_ALPHA, HEALTH_ALPHA = 0.035, 0.015  # that any claim of a sweep is false: 5 % together
FEWEST_PAIRS, MOST_PAIRS = 3, 100
LEAST_CHANCE = 0.3  # of a claim by the last seed, below which an arm is given up
PRIOR = 0.18  # of the e-process: successes and failures that each stream begins with
LOOKING = 2.1  # the price for looking, see above
ROUNDING = 1e-12


@dataclass(eq=False)
class EffectTest:
    """The differences of an arm's healthy pairs so far by seed, and its test at the last look.

    `error` is the standard error of the mean (0.0 where nothing varies), `degrees` its degrees of
    freedom; NaN before the first look.
    """

    differences: dict[int, float] = field(default_factory=dict)
    error: float = math.nan
    degrees: float = math.nan
    _least: float = 1.0

    @property
    def pairs(self) -> int:
        """The number of pairs so far."""
        return len(self.differences)

    @property
    def mean(self) -> float:
        """The mean difference; NaN before the first."""
        return float(np.mean(list(self.differences.values()))) if self.differences else math.nan

    @property
    def p_value(self) -> float:
        """The p-value of "there is no difference", over all looks so far."""
        return sequence_p(self._least)

    def own_error(self) -> float:
        """The standard error by this arm alone; 0 where nothing varies, NaN for too few pairs."""
        if self.pairs < FEWEST_PAIRS:
            return math.nan
        values = np.array(list(self.differences.values()))
        error = float(np.std(values, ddof=1) / math.sqrt(len(values)))
        return error if error > ROUNDING * float(np.abs(values).max()) else 0.0

    def take(self, error: float, degrees: float) -> None:
        """Look: take in the noise, and the nominal p-value by it."""
        self.error, self.degrees = error, degrees
        if error > 0.0 and self.pairs <= MOST_PAIRS:
            nominal = 2.0 * _below(-abs(self.mean) / error, degrees)
            self._least = min(self._least, nominal / _weight(self.pairs))

    def interval(self, alpha: float) -> tuple[float, float]:
        """All mean differences that a test at level `alpha` does not reject now."""
        if not self.error > 0.0:
            return -math.inf, math.inf
        half = self._quantile(self.pairs, alpha) * self.error
        return self.mean - half, self.mean + half

    def equivalent(self, alpha: float, margin: float) -> bool:
        """Whether two one-sided tests at level `alpha` place the mean within ± `margin`."""
        low, high = self.interval(2.0 * alpha)
        return -margin < low and high < margin

    def chance(self, alpha: float, n: int, margin: float | None) -> float:
        """The probability of a claim, by the predictive distribution of the mean of `n` pairs.

        With a flat prior the final mean is the present one plus sd sqrt((n - k) / (n k)) times
        Student's t of the present degrees of freedom.
        """
        k = self.pairs
        if k < FEWEST_PAIRS:
            return 1.0 if n >= FEWEST_PAIRS else 0.0
        if n <= k or not self.error > 0.0:
            return 0.0
        sd = self.error * math.sqrt(k)
        spread = sd * math.sqrt((n - k) / (n * k))
        last, scale = min(n, MOST_PAIRS), sd / math.sqrt(n)

        def below(value: float) -> float:
            return _below((value - self.mean) / spread, self.degrees)

        needed = self._quantile(last, alpha) * scale
        chance = below(-needed) + 1.0 - below(needed)
        if margin is None:
            return chance
        inside = margin - self._quantile(last, 2.0 * alpha) * scale
        return chance + (below(inside) - below(-inside) if inside > 0.0 else 0.0)

    def _quantile(self, n: int, alpha: float) -> float:
        """How many standard errors a mean of n pairs must lie from zero for a claim at `alpha`."""
        from scipy.special import stdtrit  # noqa: PLC0415 - slow; reading a sweep needs none

        degrees = self.degrees * (n - 1) / (self.pairs - 1)
        return -float(stdtrit(degrees, nominal_level(alpha) * _weight(n) / 2))


def look(tests: Sequence[EffectTest], running: Sequence[EffectTest]) -> None:
    """Share the noise of all arms, and take it into the tests of those that are running."""
    own = [test.own_error() for test in tests]
    varied = [test for test, error in zip(tests, own, strict=True) if error > 0.0]
    for test, error in zip(tests, own, strict=True):
        if error == 0.0 and test in running:
            test.take(0.0, test.pairs - 1.0)
    if not varied:
        return
    seeds = sorted({seed for test in varied for seed in test.differences})
    sizes = np.array([test.pairs for test in varied], dtype=np.float64)
    noise = shared_noise(
        np.array([error**2 for error in own if error > 0.0]) * sizes,
        sizes - 1.0,
        np.array([[test.differences.get(seed, math.nan) for seed in seeds] for test in varied]),
    )
    errors = np.sqrt(noise.variances / sizes).tolist()
    for test, error, degrees in zip(varied, errors, noise.degrees.tolist(), strict=True):
        if test in running:
            test.take(error, degrees)


@dataclass
class HealthTest:
    """How often an arm and the reference were pathological in the seeds that judged both."""

    seeds: int = 0
    arm: int = 0
    reference: int = 0
    _log_e: float = 0.0
    _most: float = 0.0
    _streak: float = 1.0

    def add(self, arm: bool, reference: bool) -> None:  # noqa: FBT001 - two alike
        """Take in one more seed: which of the two trials is pathological."""
        self._log_e += _log_factor(
            arm, self._share(self.arm), reference, self._share(self.reference)
        )
        self._most = max(self._most, self._log_e)
        self.seeds += 1
        self.arm += arm
        self.reference += reference
        if {self.arm, self.reference} == {self.seeds, 0}:
            self._streak = 3.0 / 4.0**self.seeds

    def _share(self, count: int) -> float:
        return (count + PRIOR) / (self.seeds + 2 * PRIOR)

    @property
    def p_value(self) -> float:
        """The p-value of "both are equally often pathological", over all looks so far."""
        return min(1.0, math.exp(-self._most), self._streak)

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
    return min(1.0, least * (1.0 + LOOKING * math.log10(1.0 / least))) if least > 0.0 else 0.0


@functools.cache
def nominal_level(alpha: float) -> float:
    """The weighted nominal level whose sequence has the level `alpha`: `sequence_p` inverted."""
    low, high = -30.0, math.log10(alpha)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if sequence_p(10**middle) > alpha else (middle, high)
    return float(10**low)


def _below(value: float, degrees: float) -> float:
    """The chance that Student's t is below a value."""
    from scipy.special import stdtr  # noqa: PLC0415 - slow, and reading a sweep needs none

    return float(stdtr(degrees, value))


def _weight(n: int) -> float:
    return min(1.0, n / 5) * min(1.0, (10 / n) ** 2)


def _log_factor(arm: bool, a: float, reference: bool, b: float) -> float:  # noqa: FBT001
    """The log likelihood ratio of one seed: shares a and b against the mean of the two."""
    both = (a + b) / 2

    def log(hit: bool, share: float) -> float:  # noqa: FBT001
        return math.log(share if hit else 1 - share)

    return log(arm, a) + log(reference, b) - log(arm, both) - log(reference, both)
