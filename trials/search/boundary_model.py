"""The estimated frontier between healthy and pathological trials.

A Gaussian-process classifier (Rasmussen & Williams, Gaussian Processes for Machine Learning, ch. 3:
Laplace's approximation, hyperparameters by their posterior mode) over the ranges scaled to [0, 1],
logarithmic ones by their logarithm. Inconclusive trials are not fitted, only shown.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Array = NDArray[np.float64]

HEALTHY, PATHOLOGICAL, INCONCLUSIVE = "healthy", "pathological", "inconclusive"
GRID_CELLS = 4096  # of the grid that is estimated, in all dimensions together
NEAR = 0.08  # how far an inconclusive trial reaches, as a share of a range
FOLDS, FEWEST_LEFT_OUT = 5, 10  # of the cross-validation; trials of both kinds together
WORSE = 0.05  # how much worse than the nearest trial a classifier may be
LENGTH, SPREAD = 0.3, 0.5  # log-normal prior of the lengths: median (share of a range), sd of log
STARTS = (0.25, 0.8)  # lengths from which the fit begins
WIDTH = 1.96  # standard deviations of a 95 % band


class Range(Protocol):
    """One dimension: from `low` to `high`, even in the logarithm if `log`."""

    @property
    def low(self) -> float:
        """The least value."""

    @property
    def high(self) -> float:
        """The largest value."""

    @property
    def log(self) -> bool:
        """Whether distances are measured in the logarithm."""


@dataclass(frozen=True)
class Frontier:
    """P(pathological) on a grid over d ranges, with a 95 % band.

    `axes` are d arrays of g values; `probability`, `lower`, `upper` and `inconclusive` (the share
    of inconclusive trials nearby) have the shape (g, …, g). `healthy`, `pathological`, `unsure`
    count the trials. With one class only, `fitted` is false, the probability is Laplace's (k + 1) /
    (n + 2) and the band [0, 1]. `errors` are cross-validated error rates, None with too few trials.
    """

    axes: tuple[Array, ...]
    probability: Array
    lower: Array
    upper: Array
    inconclusive: Array
    healthy: int
    pathological: int
    unsure: int
    fitted: bool
    errors: "LeftOut | None" = None

    @property
    def warning(self) -> str:
        """Why the frontier should not be trusted; empty if nothing speaks against it."""
        return "" if self.errors is None else self.errors.warning


@dataclass(frozen=True)
class LeftOut:
    """Cross-validated error rates of the classifier and two baselines.

    `constant` predicts the majority everywhere, `nearest` the class of the nearest trial.
    """

    classifier: float
    constant: float
    nearest: float

    @property
    def warning(self) -> str:
        """Why the classifier should not be trusted; empty if it is better than both."""
        beaten = self.classifier >= self.constant or self.classifier > self.nearest + WORSE
        if not beaten:
            return ""
        return (
            f"the frontier misses what the trials show: of trials left out of the fit it puts "
            f"{self.classifier:.0%} on the wrong side, a constant {self.constant:.0%}, the nearest "
            f"trial {self.nearest:.0%}; more trials, or look at the trials themselves"
        )


def estimate_frontier(
    points: Sequence[Sequence[float]], labels: Sequence[str | None], ranges: Sequence[Range]
) -> Frontier:
    """Estimate P(pathological) on a grid over 1 to 4 ranges from labelled trials.

    `points` has a row a trial and a column a range; trials without a label are left out. Raises
    ValueError for an unknown label, or points of another shape than the ranges.
    """
    scaled = to_unit(np.asarray(points, dtype=float).reshape(len(points), len(ranges)), ranges)
    unknown = set(labels) - {HEALTHY, PATHOLOGICAL, INCONCLUSIVE, None}
    if unknown or len(labels) != len(scaled):
        raise ValueError(f"one label a point, healthy, pathological or inconclusive: {unknown}")
    pathological = np.array([label == PATHOLOGICAL for label in labels], dtype=bool)
    sure = np.array([label in (HEALTHY, PATHOLOGICAL) for label in labels], dtype=bool)
    unsure = np.array([label == INCONCLUSIVE for label in labels], dtype=bool)
    g = round(GRID_CELLS ** (1 / len(ranges))) if len(ranges) > 1 else 257
    units = np.linspace(0, 1, g)
    cells = np.stack(np.meshgrid(*[units] * len(ranges), indexing="ij"), axis=-1)
    flat = cells.reshape(-1, len(ranges))
    shape = cells.shape[:-1]
    model = fit(scaled[sure], pathological[sure])
    if model is None:
        share = (pathological[sure].sum() + 1) / (sure.sum() + 2)
        probability, lower, upper = (np.full(len(flat), value) for value in (share, 0.0, 1.0))
    else:
        mean, sd = model.latent(flat)
        probability = model.probability(flat)
        lower, upper = expit(mean - WIDTH * sd), expit(mean + WIDTH * sd)
    near = inconclusive_near(flat, scaled[unsure], scaled[sure])
    return Frontier(
        axes=tuple(from_unit(units, span) for span in ranges),
        probability=probability.reshape(shape),
        lower=lower.reshape(shape),
        upper=upper.reshape(shape),
        inconclusive=near.reshape(shape),
        healthy=int((sure & ~pathological).sum()),
        pathological=int(pathological.sum()),
        unsure=int(unsure.sum()),
        fitted=model is not None,
        errors=None if model is None else left_out(scaled[sure], pathological[sure], model.kernel),
    )


def left_out(units: Array, pathological: NDArray[np.bool_], kernel: Any) -> LeftOut | None:
    """Cross-validate a fitted kernel in five folds; None for too few trials."""
    n = len(units)
    if n < FEWEST_LEFT_OUT:
        return None
    wrong = np.zeros(3)
    for fold in range(FOLDS):
        out = np.arange(n) % FOLDS == fold
        truth, kept = pathological[out], pathological[~out]
        common = kept.mean() >= 0.5
        model = fit(units[~out], kept, kernel)
        guess = np.full(out.sum(), common) if model is None else model.latent(units[out])[0] > 0
        distance = ((units[out][:, None] - units[~out][None]) ** 2).sum(axis=2)
        nearest = kept[distance.argmin(axis=1)]
        wrong += [
            (truth != prediction).sum()
            for prediction in (guess, np.full(out.sum(), common), nearest)
        ]
    return LeftOut(*(float(share) for share in wrong / n))


class Model:
    """A fitted classifier over the unit cube."""

    def __init__(self, classifier: Any) -> None:
        """Wrap a fitted GaussianProcessClassifier of scikit-learn."""
        self._classifier = classifier

    @property
    def kernel(self) -> Any:
        """The kernel with its hyperparameters."""
        return self._classifier.kernel_

    def latent(self, units: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of the latent function, of which P is the logistic."""
        mean, variance = self._classifier.latent_mean_and_variance(units)
        return np.asarray(mean), np.sqrt(np.maximum(variance, 1e-12))

    def probability(self, units: Array) -> Array:
        """P(pathological), averaged over the latent function."""
        probability: Array = self._classifier.predict_proba(units)[:, 1]
        return probability


def fit(units: Array, pathological: NDArray[np.bool_], kernel: Any = None) -> Model | None:
    """Fit a classifier; None if there are not trials of both kinds. A kernel is kept as it is."""
    if len(units) == 0 or pathological.all() or not pathological.any():
        return None
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415 - slow, and rarely wanted
    from sklearn.gaussian_process import GaussianProcessClassifier  # noqa: PLC0415
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel  # noqa: PLC0415

    optimizer = None if kernel is not None else _posterior_mode
    # Bounds, because trials that crowd on both sides of a frontier make a flat latent function of
    # short lengths likely, which knows nothing of the rest of the space.
    kernel = kernel or (
        ConstantKernel(100.0, (50.0, 1e3)) * RBF(np.full(units.shape[1], LENGTH), (0.2, 3.0))
    )
    classifier = GaussianProcessClassifier(kernel, optimizer=optimizer, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        return Model(classifier.fit(units, pathological))


def _posterior_mode(cost: Callable[..., Any], start: Array, bounds: Any) -> tuple[Array, float]:
    """Optimise the kernel's logarithms, the amplitude's and d lengths', from all STARTS.

    `cost` is the negative log likelihood with its gradient. Without a prior, few trials of a
    frontier that is closed or thin (an annulus) are most likely noise of infinite length.
    """
    from scipy.optimize import fmin_l_bfgs_b  # noqa: PLC0415 - slow, and rarely wanted

    def negative_posterior(logs: Array) -> tuple[float, Array]:
        value, gradient = cost(logs, eval_gradient=True)
        z = (logs[1:] - np.log(LENGTH)) / SPREAD
        return float(value + 0.5 * (z**2).sum()), gradient + np.concatenate([[0.0], z / SPREAD])

    ends = []
    for length in STARTS:
        logs = np.concatenate([start[:1], np.full(len(start) - 1, np.log(length))])
        ends.append(fmin_l_bfgs_b(negative_posterior, logs, bounds=bounds))
    best, value, _ = min(ends, key=lambda end: float(end[1]))
    return best, float(value)


def inconclusive_near(units: Array, unsure: Array, sure: Array) -> Array:
    """The share of inconclusive trials near each point: Gaussian weights of width NEAR.

    A pseudo-count of one pulls it to 0 where no trial is near.
    """
    weight = np.zeros((2, len(units)))
    for row, trials in enumerate((unsure, sure)):
        for trial in trials:
            weight[row] += np.exp(-0.5 * ((units - trial) ** 2).sum(axis=1) / NEAR**2)
    share: Array = weight[0] / (weight.sum(axis=0) + 1.0)
    return share


def to_unit(points: Array, ranges: Sequence[Range]) -> Array:
    """Bring points (n, d) to the unit cube."""
    columns = []
    for column, span in zip(points.T, ranges, strict=True):
        low, high = (np.log(span.low), np.log(span.high)) if span.log else (span.low, span.high)
        values = np.log(column) if span.log else column
        columns.append((values - low) / (high - low))
    return np.stack(columns, axis=1) if columns else points


def from_unit(units: Array, span: Range) -> Array:
    """Bring values of one dimension back from [0, 1]."""
    if span.log:
        return np.asarray(span.low * (span.high / span.low) ** units)
    return np.asarray(span.low + (span.high - span.low) * units)
