"""A search and its Optuna study: what is searched, its space, its file beside the store.

The file is Optuna's journal, one line a step, so a killed driver loses half a line at most:

    <store>/_studies/<sweep>.journal      optuna-dashboard <store>/_studies/<sweep>.journal
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial

from sickbay.trials.contract import Objective, Scalar, TrialConfig, Workload
from sickbay.trials.search.domain import Domain
from sickbay.trials.spec.model import ConfirmedSeeds, RangeSpec, SweepSpec
from sickbay.trials.spec.plan import level_table, objectives_of, trials_of
from sickbay.trials.store.files import Store, StoreError

KIND = "sickbay"  # the attribute of a study's trial that says what became of the suggestion
CONFIGURATION = "configuration"
WARM_START = "warm start"  # a configuration of an earlier sweep; and the study's attribute of them

Space = Mapping[str, BaseDistribution]


@dataclass(frozen=True)
class SearchTask:
    """What is searched, where: a valid spec of a search, its workload, its sweep and store."""

    spec: SweepSpec
    workload: Workload
    sweep_id: str
    store: Store

    @property
    def configurations(self) -> int:
        """How many configurations the budget holds."""
        trials = self.spec.budget.trials
        assert trials is not None
        if isinstance(self.spec.seeds, ConfirmedSeeds):
            trials -= self.spec.seeds.most_trials
        return trials // len(self.spec.seed_list)

    @cached_property
    def domain(self) -> Domain:
        """The distributions by factor, and what the constraints allow."""
        return Domain(self.spec, self.workload, space_of(self.spec, self.workload))

    @property
    def space(self) -> Space:
        """The distributions by factor."""
        return self.domain.space

    @property
    def goals(self) -> tuple[Objective, ...]:
        """The objectives that are reported to the sampler."""
        return goals_of(self.spec, self.workload)

    @property
    def study_name(self) -> str:
        """The name of the study in its file."""
        return study_name(self.sweep_id, self.spec, self.space, self.goals)

    @property
    def later_seeds(self) -> tuple[int, ...]:
        """The seeds that a configuration may get after it was reported to the sampler."""
        return self.spec.seeds.fresh if isinstance(self.spec.seeds, ConfirmedSeeds) else ()

    def choice(self, params: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """Give what is run for these parameters: factors that do not matter at their baseline."""
        return self.domain.choice(params)

    def trials(
        self, params: Mapping[str, Scalar], seeds: Sequence[int] | None = None
    ) -> tuple[TrialConfig, ...]:
        """Give the trials of these parameters, one a seed."""
        return trials_of(self.spec, self.workload, self.choice(params), seeds)


def study_file(store: Store, sweep_id: str) -> Path:
    """The path of a sweep's study; raises StoreError for a store that is not a local folder."""
    if not store.is_local:
        raise StoreError(
            f"a search needs a local store for its Optuna study, but {store.uri} is not "
            "a local folder: use a local --store, or another design"
        )
    return Path(store.root) / "_studies" / f"{sweep_id}.journal"


def open_storage(path: Path) -> JournalStorage:
    """Open or make a study file for writing, as the sweep's only driver.

    Half a line and a lock that a killed driver may have left are removed.
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


def stored_trials(path: Path, name: str) -> list[FrozenTrial]:
    """Return every trial of a study so far; none without the study."""
    if not path.exists():
        return []
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = JournalStorage(JournalFileBackend(str(path)))
    try:
        study = optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        return []
    trials: list[FrozenTrial] = study.get_trials(deepcopy=False)
    return trials


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
