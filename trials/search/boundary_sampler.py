"""A sampler for Optuna that looks for the frontier between healthy and pathological training.

The next trial is where a Gaussian-process classifier is most likely wrong: where its latent mean is
smallest relative to its standard deviation (learning function U of Echard, Gayton & Lemaire,
AK-MCS, Structural Safety 33, 2011). At first, and at every sixth suggestion, it is the middle of
the largest gap, so that a second frontier is not missed. Running suggestions count as their
expected outcome; points near inconclusive trials come last. Suggestions are a pure function of
study and seed.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState
from scipy.special import ndtr

from sickbay.trials.search.boundary_model import (
    Array,
    Model,
    fit,
    from_unit,
    inconclusive_near,
    to_unit,
)

CANDIDATES = 1024
UNFINISHED = "unfinished"  # the attribute of a suggestion in whose middle a driver was killed
EXPLORE_EVERY = 6
NEAREST = 1e-3  # that a suggestion may come to an earlier one, as a share of the ranges
DOUBT = 0.5  # a place full of inconclusive trials counts less than one that is decided


class BoundarySampler(BaseSampler):  # type: ignore[misc]
    """Suggests points near the frontier; all parameters must be numbers with a range.

    It reads the counts `healthy`, `pathological` and `inconclusive` from the study trials'
    attributes, else their value, the share of pathological seeds.
    """

    def __init__(self, seed: int) -> None:
        """The same seed and the same study give the same suggestion."""
        self._seed = seed
        self._random = RandomSampler(seed=seed)

    def infer_relative_search_space(
        self, study: Any, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """All parameters of earlier trials: the first, the baseline, is given."""
        del trial
        known = study.get_trials(deepcopy=False)
        return dict(known[0].distributions) if known else {}

    def sample_relative(
        self, study: Any, trial: FrozenTrial, search_space: Mapping[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Suggest a point of the space."""
        names = sorted(search_space)
        if not names:
            return {}
        ranges: list[Any] = [search_space[name] for name in names]
        known = study.get_trials(deepcopy=False)
        place = suggestion_number(known, trial)
        rng = np.random.default_rng([self._seed, place])
        data = observed([other for other in known if other.number != trial.number], names, ranges)
        explore = place % EXPLORE_EVERY == 0
        unit = next_point(data, len(names), rng, explore=explore, score=self.score)
        return {name: _value(unit[i], ranges[i]) for i, name in enumerate(names)}

    def score(self, model: Model, units: Array, data: "Observed") -> Array:
        """Score of each point (n, d); the best is suggested."""
        return wrong_side(model, units, data)

    def sample_independent(
        self, study: Any, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw at random: only before the space is known."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)


def suggestion_number(known: Sequence[FrozenTrial], trial: FrozenTrial) -> int:
    """Number a suggestion, not counting those that a killed driver left unfinished."""
    earlier = (other for other in known if other.number < trial.number)
    unfinished = sum(UNFINISHED in other.user_attrs for other in earlier)
    return int(trial.number) - unfinished


class Observed:
    """Known points in the unit cube: healthy, pathological, inconclusive and running ones."""

    def __init__(
        self, decided: Array, pathological: NDArray[np.bool_], unsure: Array, running: Array
    ) -> None:
        """Each (n, d); `pathological` says which of `decided` are pathological."""
        self.decided, self.pathological = decided, pathological
        self.unsure, self.running = unsure, running

    @property
    def all(self) -> Array:
        """Every point."""
        return np.concatenate([self.decided, self.unsure, self.running])


def observed(
    trials: Sequence[FrozenTrial], names: Sequence[str], ranges: Sequence[Any]
) -> Observed:
    """Read the trials of a study; where seeds disagree, a point stands once for each of them."""
    labels = ("pathological", "healthy", "unsure", "running")
    kinds: dict[str, list[list[float]]] = {kind: [] for kind in labels}
    for trial in trials:
        if any(name not in trial.params for name in names) or trial.state == TrialState.FAIL:
            continue
        point = [float(trial.params[name]) for name in names]
        if trial.state != TrialState.COMPLETE:
            kinds["running"].append(point)
            continue
        pathological, healthy = _counts(trial)
        unanimous = not (pathological and healthy)
        kinds["pathological"] += [point] * (min(pathological, 1) if unanimous else pathological)
        kinds["healthy"] += [point] * (min(healthy, 1) if unanimous else healthy)
        kinds["unsure"] += [point] * (not pathological and not healthy)
    units = {
        kind: to_unit(np.array(points, dtype=float).reshape(-1, len(names)), ranges)
        for kind, points in kinds.items()
    }
    decided = np.concatenate([units["pathological"], units["healthy"]])
    is_pathological = np.arange(len(decided)) < len(units["pathological"])
    return Observed(decided, is_pathological, units["unsure"], units["running"])


Score = Callable[[Model, Array, Observed], Array]


def next_point(
    data: Observed, d: int, rng: np.random.Generator, *, explore: bool, score: Score
) -> Array:
    """Choose where to look next, a point of the unit cube (d,): where `score` is highest."""
    candidates = rng.random((CANDIDATES, d))
    model = None if explore else fit(data.decided, data.pathological)
    if model is None or len(data.all) < d + 3:
        corners = np.array(np.meshgrid(*[[0.0, 1.0]] * d)).reshape(d, -1).T
        return _widest_gap(np.concatenate([candidates, corners]), data)
    if len(data.running):
        expected = model.latent(data.running)[0] > 0
        points = np.concatenate([data.decided, data.running])
        believed = fit(points, np.concatenate([data.pathological, expected]), model.kernel)
        model = believed or model
    pool = candidates
    for width in (0.0, 0.05, 0.01):
        if width:  # once more around the best
            near = pool[np.argsort(-score(model, pool, data))[:8]]
            steps = rng.normal(scale=width, size=(32, *near.shape))
            pool = np.concatenate([near, np.clip(near + steps, 0, 1).reshape(-1, d)])
    distance = np.linalg.norm(pool[:, None] - data.all[None], axis=2).min(axis=1)
    pool = pool[distance >= NEAREST] if (distance >= NEAREST).any() else pool
    best: Array = pool[int(np.argmax(score(model, pool, data)))]
    return best


def wrong_side(model: Model, units: Array, data: Observed) -> Array:
    """P(wrong side) at each point (n, d), up to 1/2; less where trials decide nothing."""
    mean, sd = model.latent(units)
    doubt = inconclusive_near(units, data.unsure, data.decided)
    probability: Array = ndtr(-np.abs(mean) / sd) - DOUBT * doubt
    return probability


def _widest_gap(candidates: Array, data: Observed) -> Array:
    known = data.all
    if len(known) == 0:
        return np.full(candidates.shape[1], 0.5)
    distance = np.linalg.norm(candidates[:, None] - known[None], axis=2).min(axis=1)
    chosen: Array = candidates[int(np.argmax(distance))]
    return chosen


def _counts(trial: FrozenTrial) -> tuple[int, int]:
    attrs = trial.user_attrs
    if "healthy" in attrs:
        return int(attrs["pathological"]), int(attrs["healthy"])
    share = trial.value
    return (0, 0) if share is None or share == 0.5 else (int(share > 0.5), int(share < 0.5))


def _value(unit: float, span: Any) -> float:
    value = float(from_unit(np.array(unit), span))
    inside: float = min(max(value, span.low), span.high)
    return round(inside) if isinstance(span, IntDistribution) else inside
