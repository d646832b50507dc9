"""Warm start: a search that knows the trials of earlier sweeps from its first suggestion on.

    warm_start: mvm-first

An earlier trial counts if this search would give its configuration and seed the same id, which
covers workload, version, code, settings, epochs and data; the earlier design plays no part. What is
left out is counted by reason.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import NSGAIISampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from sickbay.trials.contract import Scalar
from sickbay.trials.search.domain import known_keys
from sickbay.trials.search.outcomes import (
    Aggregate,
    TrialOutcome,
    ended_rows,
    outcome_of,
    with_signals,
)
from sickbay.trials.search.study import KIND, WARM_START, SearchTask
from sickbay.trials.spec.plan import settings_of
from sickbay.trials.store.reader import read_sweep

NO_RESULT = "ended without a result"
CONFIRMATION = "with a seed that is kept for the confirmation"
OTHER_CODE = "of another version of the workload, its code or its data"


@dataclass(frozen=True)
class EarlierConfiguration:
    """A configuration that was run before, with the outcome of each of its seeds."""

    params: Mapping[str, Scalar]
    outcomes: Mapping[int, TrialOutcome]

    @property
    def usable(self) -> bool:
        """Whether any seed gave a value that can be trusted."""
        return any(not outcome.unusable for outcome in self.outcomes.values())


@dataclass(frozen=True)
class WarmStart:
    """What a search takes over from earlier sweeps, and how many of their trials it does not."""

    sweeps: Sequence[str]
    configurations: Sequence[EarlierConfiguration]
    left_out: Mapping[str, int]  # trials by reason

    @property
    def trials(self) -> int:
        """The number of trials that are used."""
        return sum(len(earlier.outcomes) for earlier in self.configurations)

    @property
    def line(self) -> str:
        """What is used and what is not, in one line."""
        used = (
            f"{self.trials} trials ({len(self.configurations)} configurations) of "
            f"{', '.join(self.sweeps)} are used"
        )
        reasons = ", ".join(f"{n} {reason}" for reason, n in self.left_out.items())
        return f"{used}; {sum(self.left_out.values())} are not: {reasons}" if reasons else used

    def as_data(self) -> dict[str, Any]:
        """The counts as plain data."""
        return {
            "sweeps": list(self.sweeps),
            "trials": self.trials,
            "configurations": len(self.configurations),
            "left_out": dict(self.left_out),
            "line": self.line,
        }


def warm_start(task: SearchTask, known: Sequence[FrozenTrial]) -> WarmStart:
    """Read the ended earlier trials that a search begins with, by first trial, each once.

    The spec's `warm_start` names sweeps of the same workload in this store. It may name the sweep
    itself, whose ranges were others before: what the search suggested itself (the `known` trials of
    its study) is not earlier.
    """
    own = _suggested(task, known)
    params_of: dict[Hashable, dict[str, Scalar]] = {}
    outcomes: defaultdict[Hashable, dict[int, TrialOutcome]] = defaultdict(dict)
    left_out: Counter[str] = Counter()
    for sweep_id in task.spec.warm_start:
        read = _outcome_reader(task, sweep_id)
        for config, rows in _by_config(task, sweep_id).items():
            params, outside = _params(task, json.loads(config))
            key = task.domain.key(params)
            if key in own and not outside:
                continue
            ids = {trial.trial_id for trial in task.trials(params, [row["seed"] for row in rows])}
            for row in rows:
                reason = outside or _reason(task, row, params, same=row["trial_id"] in ids)
                if reason:
                    left_out[reason] += 1
                else:
                    params_of.setdefault(key, params)
                    outcomes[key].setdefault(row["seed"], read(row))
    return WarmStart(
        task.spec.warm_start,
        [EarlierConfiguration(params, outcomes[key]) for key, params in params_of.items()],
        dict(left_out.most_common()),
    )


def frozen_trial(task: SearchTask, params: Mapping[str, Scalar], value: Aggregate) -> FrozenTrial:
    """Make the trial of a study that stands for an earlier configuration."""
    pruned = value.pruned_at is not None
    return create_trial(
        state=TrialState.PRUNED if pruned else TrialState.COMPLETE,
        values=None if pruned else list(value.values),
        params=dict(params),
        distributions=dict(task.space),
        user_attrs={KIND: WARM_START, **value.attributes},
        system_attrs={NSGAIISampler._get_generation_key(): 0},  # noqa: SLF001 - parents of the first
        intermediate_values={value.pruned_at: value.values[0]} if pruned else None,
        constraints=None if value.constraint is None else {"pathological": value.constraint},
    )


def is_earlier(trial: FrozenTrial) -> bool:
    """Whether a study's trial stands for a configuration of an earlier sweep."""
    return bool(trial.user_attrs.get(KIND) == WARM_START)


def stored_warm_start(file: Path) -> dict[str, Any] | None:
    """Read from a study's file what its latest search took over; None if nothing."""
    if not file.exists():
        return None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = JournalStorage(JournalFileBackend(str(file)))
    latest = max(storage.get_all_studies(), key=lambda study: study._study_id, default=None)  # noqa: SLF001
    return None if latest is None else latest.user_attrs.get(WARM_START)


def _suggested(task: SearchTask, known: Sequence[FrozenTrial]) -> set[Hashable]:
    """The configurations that a search has suggested by itself, unless they were earlier, too."""
    ours = known_keys(task.domain, [trial.params for trial in known if not is_earlier(trial)])
    return ours - known_keys(task.domain, [trial.params for trial in known if is_earlier(trial)])


def _by_config(task: SearchTask, sweep_id: str) -> dict[str, list[Mapping[str, Any]]]:
    """The ended trials of a sweep by their settings, as text."""
    rows: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in ended_rows(task.store, sweep_id):
        rows[str(row["config"])].append(row)
    return rows


def _params(task: SearchTask, config: Mapping[str, Scalar]) -> tuple[dict[str, Scalar], str]:
    """The parameters of earlier settings, and why they are outside of the search, if they are."""
    params = dict(task.domain.baseline)
    for name in task.space:
        value = task.domain.fitted(name, config[name]) if name in config else None
        if value is None:
            return params, f"with {name} outside the search space"
        params[name] = value
    broken = task.domain.broken(params)
    return params, f"against the constraint {broken}" if broken else ""


def _reason(
    task: SearchTask, row: Mapping[str, Any], params: Mapping[str, Scalar], *, same: bool
) -> str:
    """Why a trial inside the search space is not used; empty if it is."""
    if not same:
        mine = settings_of(task.spec, task.workload, task.choice(params))
        config = json.loads(row["config"])
        other = [name for name in {**mine, **config} if mine.get(name) != config.get(name)]
        return f"with other settings ({', '.join(other)})" if other else OTHER_CODE
    if not outcome_of(row).judged:
        return NO_RESULT
    return CONFIRMATION if row["seed"] in task.later_seeds else ""


def _outcome_reader(task: SearchTask, sweep_id: str) -> Callable[[Mapping[str, Any]], TrialOutcome]:
    """What reads the outcome of a trial of a sweep by the objectives of this search."""
    signals = [goal.signal for goal in task.goals]
    record = read_sweep(task.store, sweep_id)
    objective = json.loads(record.spec).get("objective") if record else None
    if objective and signals == [objective["signal"]]:
        return outcome_of
    return lambda row: with_signals(
        outcome_of(row), task.store, sweep_id, str(row["trial_id"]), signals
    )
