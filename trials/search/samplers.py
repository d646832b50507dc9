"""The samplers of a search, rebuilt for every suggestion with a seed of its own.

They depend on study and results alone, so a resumed search suggests what it would have suggested.
"""

import copy
import hashlib
import random
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from cmaes import CMA, get_warm_start_mgd
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from sickbay.trials.search.boundary_sampler import BoundarySampler, suggestion_number
from sickbay.trials.search.domain import Domain, known_keys, share_of, value_at
from sickbay.trials.search.outcomes import Aggregate
from sickbay.trials.search.study import KIND, WARM_START

TRIES = 20  # proposals of a sampler until one is allowed and new
FIRST_SIGMA = 0.3  # of CMA-ES, as a share of the ranges
WARM_SHARE = 0.1  # of the earlier configurations, the best, that say where CMA-ES begins
ONE_PROPOSAL = ("gp", "boundary")  # whose proposals are expensive, and much the same at every try
DRAWN_AT_RANDOM = 1000  # tries of a proposal that no model has made

Array = NDArray[np.float64]


class StudyView:
    """A study as the samplers see it, with what was learned after a configuration was reported."""

    def __init__(self, study: Any, updates: Mapping[int, Aggregate]) -> None:
        """`updates` by the number of the study's trial."""
        self._study, self._updates = study, updates

    def __getattr__(self, name: str) -> Any:
        """Everything else is as in the study."""
        return getattr(self._study, name)

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials."""
        return self.get_trials()

    def get_trials(
        self,
        deepcopy: bool = True,  # noqa: FBT001, FBT002 - Optuna's own signature
        states: Collection[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        """Give all trials, or those in some states."""
        return self._get_trials(deepcopy, states)

    def _get_trials(
        self,
        deepcopy: bool = True,  # noqa: FBT001, FBT002 - Optuna's own signature
        states: Collection[TrialState] | None = None,
        use_cache: bool = False,  # noqa: FBT001, FBT002
    ) -> list[FrozenTrial]:
        stored = self._study._get_trials(deepcopy, use_cache=use_cache)  # noqa: SLF001 - samplers call it
        trials = (updated(trial, self._updates.get(trial.number)) for trial in stored)
        return [trial for trial in trials if states is None or trial.state in states]


def updated(trial: FrozenTrial, aggregate: Aggregate | None) -> FrozenTrial:
    """Give a trial of the study with what its configuration has come to since."""
    if aggregate is None:
        return trial
    made = copy.copy(trial)
    made.state = TrialState.PRUNED if aggregate.pruned_at is not None else TrialState.COMPLETE
    made.values = list(aggregate.values)
    made.user_attrs = {**trial.user_attrs, **aggregate.attributes}
    if aggregate.constraint is not None:
        constraint = {"constraints:pathological": aggregate.constraint}
        made.system_attrs = {**trial.system_attrs, **constraint}
    return made


class CmaEsSampler(BaseSampler):  # type: ignore[misc]
    """CMA-ES (Hansen, The CMA Evolution Strategy: A Tutorial, 2016) over ranges scaled to [0, 1].

    Its distribution is rebuilt from the study at every suggestion, so that a resumed search
    continues alike (Optuna's sampler stores a step a suggestion). Infeasible configurations rank
    last in their generation, by their pathological seeds. It starts in the middle, or from earlier
    sweeps (Nomura et al., Warm Starting CMA-ES, 2021); configurations it did not draw do not move
    it.
    """

    def __init__(self, seed: int, space: Mapping[str, BaseDistribution]) -> None:
        """All of `space` are ranges; the same seed and study give the same suggestion."""
        self._seed, self._space = seed, space

    def infer_relative_search_space(
        self, study: Any, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Give the whole space."""
        del study, trial
        return dict(self._space)

    def sample_relative(self, study: Any, trial: FrozenTrial, search_space: Any) -> dict[str, Any]:
        """Draw a point."""
        del trial
        ended = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
        sign = 1.0 if study.direction == StudyDirection.MINIMIZE else -1.0
        unit = self.distribution(ended, sign).ask()
        return {
            name: value_at(span, float(share))
            for (name, span), share in zip(search_space.items(), unit, strict=True)
        }

    def distribution(self, ended: Sequence[FrozenTrial], sign: float) -> CMA:
        """Give the distribution after the whole generations among the ended trials of a study."""
        earlier = [trial for trial in ended if trial.user_attrs.get(KIND) == WARM_START]
        drawn = [
            trial
            for trial in ended
            if trial.user_attrs.get(KIND) != WARM_START and "fixed_params" not in trial.system_attrs
        ]
        drawn.sort(key=lambda trial: (trial.datetime_complete, trial.number))
        cma = self._start(earlier, sign)
        size = cma.population_size
        for start in range(0, len(drawn) // size * size, size):
            cma.tell(self._ranked(drawn[start : start + size], sign))
        return cma

    def _start(self, earlier: Sequence[FrozenTrial], sign: float) -> CMA:
        mean, sigma, cov = np.full(len(self._space), 0.5), FIRST_SIGMA, None
        feasible = [trial for trial in earlier if not _pathological_share(trial)]
        if feasible:
            share = min(1.0, max(WARM_SHARE, 1.5 / len(feasible)))  # one of them at least
            mean, sigma, cov = get_warm_start_mgd(self._ranked(feasible, sign), gamma=share)
        bounds = np.tile([0.0, 1.0], (len(self._space), 1))
        return CMA(np.clip(mean, 0.0, 1.0), sigma, bounds=bounds, cov=cov, seed=self._seed)

    def _ranked(self, trials: Sequence[FrozenTrial], sign: float) -> list[tuple[Array, float]]:
        """Give the points of trials (d,) with their ranks, the best first."""

        def order(trial: FrozenTrial) -> tuple[float, float]:
            return _pathological_share(trial), sign * trial.value

        points = [
            np.array([share_of(span, trial.params[name]) for name, span in self._space.items()])
            for trial in sorted(trials, key=order)
        ]
        return [(point, float(rank)) for rank, point in enumerate(points)]

    def sample_independent(
        self, study: Any, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw at random: of a parameter that an enqueued configuration does not give."""
        random_sampler = RandomSampler(seed=self._seed)
        return random_sampler.sample_independent(study, trial, param_name, param_distribution)


def _pathological_share(trial: FrozenTrial) -> float:
    share: float = trial.constraints.get("pathological", 0.0)
    return share


class Reseeded(BaseSampler):  # type: ignore[misc]
    """Asks a sampler that is made for one suggestion, and keeps to what the domain allows."""

    def __init__(
        self, make: Callable[[int], BaseSampler], seed: str, domain: Domain, tries: int = TRIES
    ) -> None:
        """`make` gets a seed in 0 … 2^32 - 1."""
        self._make, self._seed, self._domain, self._tries = make, seed, domain, tries
        self._number = -1
        self._inner = make(0)
        self.updates: dict[int, Aggregate] = {}  # what was learned after the report, by number

    def _of(self, study: Any, trial: FrozenTrial) -> BaseSampler:
        if trial.number != self._number:
            place = suggestion_number(study.get_trials(deepcopy=False), trial)
            self._number, self._inner = trial.number, self._make(self._seed_of(f"{place}"))
        return self._inner

    def _seed_of(self, place: str) -> int:
        return int.from_bytes(hashlib.sha256(f"{self._seed} {place}".encode()).digest()[:4], "big")

    def infer_relative_search_space(self, study: Any, trial: FrozenTrial) -> Any:
        """The whole space: a constraint is judged with all parameters at once."""
        del study, trial
        return dict(self._domain.space)

    def sample_relative(self, study: Any, trial: FrozenTrial, search_space: Any) -> Any:
        """Give what the sampler proposes, or what the domain has in its place."""
        del search_space
        view = StudyView(study, self.updates)
        inner = self._of(view, trial)
        tried = view.get_trials(deepcopy=False)
        place = suggestion_number(tried, trial)
        others = [other for other in tried if other.number != trial.number and _stands(other)]
        known = known_keys(self._domain, [other.params for other in others])
        first, modelled = self._proposal(inner, view, trial)
        params, tries = first, self._tries if modelled else DRAWN_AT_RANDOM
        for attempt in range(1, tries + 1):
            if self._domain.broken(params) is None and self._domain.key(params) not in known:
                return params
            if attempt < tries:
                again = self._make(self._seed_of(f"{place} again {attempt}"))
                params, _ = self._proposal(again, view, trial)
        rng = random.Random(f"{self._seed} {place}")  # noqa: S311 - no secret
        return self._domain.nearest(first, known, rng, pull=modelled) or first

    def _proposal(
        self, inner: BaseSampler, view: StudyView, trial: FrozenTrial
    ) -> tuple[dict[str, Any], bool]:
        """Give a value of every parameter, and whether a model had a part in it."""
        space = self._domain.space
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of optimisers that stop at their last iteration
            joint = inner.infer_relative_search_space(view, trial)
            proposed = inner.sample_relative(view, trial, joint)
            params = {
                name: proposed[name]
                if name in proposed
                else inner.sample_independent(view, trial, name, span)
                for name, span in space.items()
            }
        return params, bool(proposed)

    def sample_independent(
        self, study: Any, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """As the inner sampler: of a parameter that an enqueued configuration does not give."""
        view = StudyView(study, self.updates)
        return self._of(view, trial).sample_independent(view, trial, param_name, param_distribution)

    def before_trial(self, study: Any, trial: FrozenTrial) -> None:
        """As the inner sampler."""
        view = StudyView(study, self.updates)
        self._of(view, trial).before_trial(view, trial)

    def after_trial(
        self, study: Any, trial: FrozenTrial, state: Any, values: Sequence[float] | None
    ) -> None:
        """As the inner sampler."""
        view = StudyView(study, self.updates)
        self._of(view, trial).after_trial(view, trial, state, values)


def _stands(trial: FrozenTrial) -> bool:
    """Whether a trial of the study is a configuration that ran, runs or is enqueued."""
    return bool(trial.state != TrialState.FAIL or trial.user_attrs.get("trials"))


def sampler(design: str, configurations: int, seed: str, domain: Domain) -> Reseeded:
    """Make the sampler of a search."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    population = max(8, min(50, configurations // 5))
    makers: Mapping[str, Callable[[int], BaseSampler]] = {
        "random": lambda n: RandomSampler(seed=n),
        "tpe": lambda n: TPESampler(seed=n, multivariate=True, constant_liar=True),
        "gp": lambda n: GPSampler(seed=n, deterministic_objective=False),
        "cmaes": lambda n: CmaEsSampler(n, domain.space),
        "nsga2": lambda n: NSGAIISampler(seed=n, population_size=population),
        "boundary": lambda n: BoundarySampler(seed=n),
    }

    def quiet(n: int) -> BaseSampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return makers[design](n)

    return Reseeded(quiet, seed, domain, 1 if design in ONE_PROPOSAL else TRIES)
