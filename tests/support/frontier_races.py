"""Frontiers whose truth is known, and four ways of spending trials on finding them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna

from sickbay.trials.search.boundary_model import fit
from sickbay.trials.search.boundary_sampler import BoundarySampler

DATA = Path(__file__).parents[1] / "benchmarks" / "data" / "toy_frontier.npz"
TEST_POINTS = 4000
GRID_SIDE = {1: 50, 2: 15, 3: 7}  # trials: 50, 225, 343
TRIALS = {1: 10, 2: 45, 3: 68}  # at most a fifth of those


@dataclass(frozen=True)
class Truth:
    """Which points (n, d) of the unit cube are pathological."""

    dimensions: int
    sick: Callable[[np.ndarray], np.ndarray]


def toy_truth() -> Truth:
    """The stored labels of a dense grid of real trials of the toy, read by the nearest cell."""
    with np.load(DATA) as stored:
        cells = stored["sick"].astype(bool)
    side = np.array(cells.shape)

    def sick(points):
        index = np.clip((points * side).astype(int), 0, side - 1)
        return cells[tuple(index.T)]

    return Truth(cells.ndim, sick)


TRUTHS: Mapping[str, Callable[[], Truth]] = {
    "line": lambda: Truth(1, lambda x: x[:, 0] > 0.371),
    "circle": lambda: Truth(2, lambda x: ((x - 0.5) ** 2).sum(axis=1) < 0.09),
    "diagonal, log-log": lambda: Truth(2, lambda x: log_log(x) > 0.0),
    "band": lambda: Truth(2, lambda x: np.abs(x[:, 1] - 0.3 - 0.4 * x[:, 0]) < 0.12),
    "annulus": lambda: Truth(
        2, lambda x: np.abs(np.hypot(x[:, 0] - 0.5, x[:, 1] - 0.5) - 0.29) < 0.09
    ),
    "sphere": lambda: Truth(3, lambda x: ((x - 0.45) ** 2).sum(axis=1) < 0.12),
    "plane": lambda: Truth(3, lambda x: x @ np.array([1.0, 0.6, 0.3]) > 0.9),
    "toy, stored trials": toy_truth,
}


def log_log(unit):
    """Lr from 1e-5 to 1 and warm-up from 1 to 1000: pathological where lr > 4e-4 warmup^0.6."""
    lr, warmup = 10.0 ** (5 * unit[:, 0] - 5), 10.0 ** (3 * unit[:, 1])
    return np.log(lr / (4e-4 * warmup**0.6))


def error(points, truth: Truth, nearest: bool = False) -> float:
    """The share of the cube on the wrong side, by the classifier or by the nearest trial."""
    unit = np.random.default_rng(12345).random((TEST_POINTS, truth.dimensions))
    labels = truth.sick(points)
    model = None if nearest else fit(points, labels)
    if model is not None:
        guess = model.latent(unit)[0] > 0
    else:
        distance = ((unit[:, None] - points[None]) ** 2).sum(axis=2)
        guess = labels[distance.argmin(axis=1)]
    return float((guess != truth.sick(unit)).mean())


def grid(truth: Truth):
    """The centres of the cells of a regular grid: better than one that reaches the edges."""
    side = (np.arange(GRID_SIDE[truth.dimensions]) + 0.5) / GRID_SIDE[truth.dimensions]
    mesh = np.meshgrid(*[side] * truth.dimensions, indexing="ij")
    return np.stack(mesh, axis=-1).reshape(-1, truth.dimensions)


def sampled(truth: Truth, sampler: optuna.samplers.BaseSampler, trials: int, batch: int = 1):
    """The points that an Optuna sampler asks for, `batch` at a time."""
    study = optuna.create_study(sampler=sampler)
    space = {f"x{i}": optuna.distributions.FloatDistribution(0, 1) for i in range(truth.dimensions)}
    study.enqueue_trial(dict.fromkeys(space, 0.5))
    points = []
    while len(points) < trials:
        asked = [
            study.ask(fixed_distributions=space) for _ in range(min(batch, trials - len(points)))
        ]
        for trial in asked:
            point = np.array([[trial.params[name] for name in space]])
            study.tell(trial, float(truth.sick(point)[0]))
            points.append(point[0])
    return np.array(points)


class Straddle(BoundarySampler):
    """Bryan et al. (2005): the latent function's uncertainty, less how far it is from zero.

    With three standard deviations in place of 1.96 it is the ambiguity that LSE samples by
    (Gotovos et al. 2013).
    """

    def __init__(self, seed: int, width: float) -> None:
        """`width` standard deviations."""
        super().__init__(seed)
        self._width = width

    def score(self, model, units, data):
        """How ambiguous each point is."""
        del data
        mean, sd = model.latent(units)
        return self._width * sd - np.abs(mean)


def race(truth: Truth, seed: int) -> dict[str, float]:
    """The error of each way of spending the trials; the grid has five times as many."""
    n = TRIALS[truth.dimensions]
    ways = {
        "boundary": BoundarySampler(seed=seed),
        "straddle": Straddle(seed, 1.96),
        "LSE": Straddle(seed, 3.0),
        "random": optuna.samplers.RandomSampler(seed=seed),
        "tpe": optuna.samplers.TPESampler(seed=seed),
    }
    return {name: error(sampled(truth, sampler, n), truth) for name, sampler in ways.items()}
