"""The Optuna study of a search: its file beside the store, its space, its sampler.

The file is Optuna's journal, one line a step, so a killed driver loses half a line at most:

    <store>/_studies/<sweep>.journal      optuna-dashboard <store>/_studies/<sweep>.journal
"""

import hashlib
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial

from sickbay.trials.contract import Objective, Workload
from sickbay.trials.search.boundary_sampler import BoundarySampler, suggestion_number
from sickbay.trials.spec.model import RangeSpec, SweepSpec
from sickbay.trials.spec.plan import level_table, objectives_of
from sickbay.trials.store.files import Store, StoreError

KIND = "sickbay"  # the attribute of a study's trial that says what became of the suggestion
CONFIGURATION = "configuration"

Space = Mapping[str, BaseDistribution]


def study_file(store: Store, sweep_id: str) -> Path:
    """The path of a sweep's study; raises StoreError for a store that is not a local folder."""
    if not store.is_local:
        raise StoreError(
            f"a search needs a local store for its Optuna study, but {store.uri} is not "
            "a local folder: use a local --store, or another design"
        )
    return Path(store.root) / "_studies" / f"{sweep_id}.journal"


def open_storage(path: Path) -> JournalStorage:
    """Open or make a study file for writing; the caller must be the sweep's only driver.

    A killed driver may have left half a line and a lock: both are removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
    if path.exists():
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            with path.open("r+b") as file:
                file.truncate(whole)
    return JournalStorage(JournalFileBackend(str(path)))


def stored_configurations(path: Path, name: str) -> list[FrozenTrial]:
    """Return every configuration that a study has suggested so far."""
    if not path.exists():
        return []
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = JournalStorage(JournalFileBackend(str(path)))
    try:
        study = optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        return []
    return [trial for trial in study.get_trials(deepcopy=False) if is_configuration(trial)]


def is_configuration(trial: FrozenTrial) -> bool:
    """Whether a study's trial stands for a configuration that is run."""
    return bool(trial.user_attrs.get(KIND) == CONFIGURATION)


def space_of(spec: SweepSpec, workload: Workload) -> dict[str, BaseDistribution]:
    """Return every factor its distribution: a range, even in the logarithm or not, or a choice."""
    space: dict[str, BaseDistribution] = {}
    for name, levels in level_table(spec, workload).items():
        wanted = spec.factors[name]
        if not isinstance(wanted, RangeSpec):
            space[name] = CategoricalDistribution(levels)
        elif _whole(workload, name):
            space[name] = IntDistribution(round(wanted.low), round(wanted.high), log=wanted.log)
        else:
            space[name] = FloatDistribution(wanted.low, wanted.high, log=wanted.log)
    return space


def _whole(workload: Workload, name: str) -> bool:
    factor = workload.factor(name)
    levels = factor.levels if factor else (workload.defaults[name],)
    return all(isinstance(level, int) for level in levels)


def goals_of(spec: SweepSpec, workload: Workload) -> tuple[Objective, ...]:
    """The objectives that the sampler optimises; a boundary search has nothing to improve."""
    goals = objectives_of(spec, workload)
    return goals[:1] if spec.design == "boundary" else goals


def study_name(sweep_id: str, spec: SweepSpec, space: Space, goals: Sequence[Objective]) -> str:
    """Name the study: another space or objective is another study in the same file."""
    what = {
        "space": {name: repr(distribution) for name, distribution in sorted(space.items())},
        "goals": [(goal.signal, goal.goal.value) for goal in goals],
        "boundary": spec.design == "boundary",
    }
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:6]
    return f"{sweep_id}-{digest}"


class Reseeded(BaseSampler):  # type: ignore[misc]
    """A sampler made anew for every suggestion, from a seed of its own.

    All that Optuna's samplers know is in the study; so a search that was killed and resumed
    suggests what it would have suggested without, given the same results.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: str) -> None:
        """`make` gets a seed in 0 … 2^32 - 1."""
        self._make = make
        self._seed = seed
        self._number = -1
        self._inner = make(0)

    def _of(self, study: Any, trial: FrozenTrial) -> BaseSampler:
        if trial.number != self._number:
            place = suggestion_number(study.get_trials(deepcopy=False), trial)
            digest = hashlib.sha256(f"{self._seed} {place}".encode()).digest()
            self._number, self._inner = trial.number, self._make(int.from_bytes(digest[:4], "big"))
        return self._inner

    def infer_relative_search_space(self, study: Any, trial: FrozenTrial) -> Any:
        """As the inner sampler."""
        return self._of(study, trial).infer_relative_search_space(study, trial)

    def sample_relative(self, study: Any, trial: FrozenTrial, search_space: Any) -> Any:
        """As the inner sampler."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of optimisers that stop at their last iteration
            return self._of(study, trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Any, trial: FrozenTrial, param_name: str, param_distribution: Any
    ) -> Any:
        """As the inner sampler."""
        return self._of(study, trial).sample_independent(
            study, trial, param_name, param_distribution
        )

    def before_trial(self, study: Any, trial: FrozenTrial) -> None:
        """As the inner sampler."""
        self._of(study, trial).before_trial(study, trial)

    def after_trial(self, study: Any, trial: FrozenTrial, state: Any, values: Any) -> None:
        """As the inner sampler."""
        self._of(study, trial).after_trial(study, trial, state, values)


def sampler(design: str, configurations: int, seed: str) -> BaseSampler:
    """Make the sampler of a search."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    population = max(8, min(50, configurations // 5))
    makers: Mapping[str, Callable[[int], BaseSampler]] = {
        "random": lambda n: RandomSampler(seed=n),
        "tpe": lambda n: TPESampler(seed=n, multivariate=True, constant_liar=True),
        "gp": lambda n: GPSampler(seed=n, deterministic_objective=False),
        "nsga2": lambda n: NSGAIISampler(seed=n, population_size=population),
        "boundary": lambda n: BoundarySampler(seed=n),
    }

    def quiet(n: int) -> BaseSampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return makers[design](n)

    return Reseeded(quiet, seed)
