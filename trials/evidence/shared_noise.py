"""Noise that differences to one baseline share, which gives more power from few seeds.

With five seeds a difference's own variance has four degrees of freedom, and its interval is wide
for that alone. The arms of a sweep usually have noise of one size, so each takes

    variance = own share * own variance + (1 - own share) * mean variance of all,
    own share = degrees / (degrees + PRIOR_DEGREES),

in the spirit of moderated variances (Smyth 2004, limma): the more seeds an arm has, the less it
borrows. From an arm that is noisier than its own noise can be (the upper bound of its variance at
1 - TOO_NOISY), it borrows that bound instead. The degrees of freedom are Satterthwaite's (1946).
The differences have their baseline in common, so their variances are correlated and their mean
counts for less. Taken for independent or pooled outright, they make false alarms in 7 to 16 % of
tables where one arm is three times noisier (docs/effects.md, "What was simulated").
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

PRIOR_DEGREES = 6.0  # what the mean variance counts for; chosen by simulation (decision 93)
TOO_NOISY = 0.03  # the same
LEAST_CORRELATION = 0.25  # squared, of two differences to one baseline under equal noise
FEWEST_SHARED = 3  # seeds that two arms must share for their correlation to be estimated

FloatArray = NDArray[np.float64]
Numbers = TypeVar("Numbers", float, NDArray[np.float64])


@dataclass(frozen=True)
class SharedNoise:
    """Variances and degrees of freedom of k differences, and the weight of each one's own."""

    variances: FloatArray
    degrees: FloatArray
    own: FloatArray


def shared_noise(variances: FloatArray, degrees: FloatArray, values: FloatArray) -> SharedNoise:
    """Share the noise of k >= 1 differences; one alone keeps its own.

    `variances`, (k,), are their own, above zero, with these degrees of freedom; `values`, (k,
    seeds), the differences themselves, NaN where a seed has none.
    """
    k = len(variances)
    correlation = np.full((k, k), squared_correlation(values))
    np.fill_diagonal(correlation, 1.0)
    # of two estimated variances: 2 s⁴ / degrees, and 2 ρ² s² s'² / degrees between them
    spread = np.outer(variances, variances) * correlation / np.maximum.outer(degrees, degrees)
    weights = _weights(variances, degrees)
    shared = weights @ variances
    freedom = shared**2 / np.einsum("ka,ab,kb->k", weights, spread, weights)
    return SharedNoise(shared, np.clip(freedom, degrees, degrees.sum()), np.diag(weights))


def own_share(degrees: Numbers) -> Numbers:
    """The share of its own variance in an arm's noise."""
    return degrees / (degrees + PRIOR_DEGREES)


def _weights(variances: FloatArray, degrees: FloatArray) -> FloatArray:
    """The weights of all variances in the noise of each difference, (k, k)."""
    from scipy.special import gammaincinv  # noqa: PLC0415 - slow; the shares need none

    k, own = len(variances), own_share(degrees)
    bound = degrees / (2.0 * gammaincinv(degrees / 2.0, TOO_NOISY))  # over the own variance
    others = np.repeat((1.0 - own)[:, None] / k, k, axis=1)
    too_noisy = variances[None, :] > (bound * variances)[:, None]
    own_again = (others * too_noisy).sum(axis=1) * bound
    return np.where(too_noisy, 0.0, others) + np.diag(own + own_again)


def squared_correlation(values: FloatArray) -> float:
    """Mean squared correlation of two rows over the seeds they share, less its bias, in [1/4, 1].

    `values` are (k, seeds), NaN where there is none. Under independence r² has the mean
    1 / (n - 1). 1, the cautious end, where too few seeds are shared.
    """
    there = np.isfinite(values).astype(np.float64)
    known = np.where(there > 0.0, values, 0.0)
    means = known.sum(axis=1) / np.maximum(there.sum(axis=1), 1.0)
    centred = np.where(there > 0.0, known - means[:, None], 0.0)
    first, second = np.triu_indices(len(values), 1)
    n = (there @ there.T)[first, second]
    enough = n >= FEWEST_SHARED
    first, second, n = first[enough], second[enough], n[enough]
    sums, squares = centred @ there.T, centred**2 @ there.T  # of the first, where both are there
    product = (centred @ centred.T)[first, second] - sums[first, second] * sums[second, first] / n
    scale = (squares[first, second] - sums[first, second] ** 2 / n) * (
        squares[second, first] - sums[second, first] ** 2 / n
    )
    varied = scale > 0.0
    if not varied.any():
        return 1.0
    n = n[varied]
    unbiased = ((n - 1.0) * product[varied] ** 2 / scale[varied] - 1.0) / (n - 2.0)
    return float(np.clip(unbiased.mean(), LEAST_CORRELATION, 1.0))
