"""A search: configurations suggested by Optuna, each run with every seed, and reported back.

Independent of Ray: the caller asks for the `next` trial and reports when one has `ended`. Reported
to the sampler, once all seeds of a configuration have ended:

    objective    the median over the seeds that were not pathological and gave a finite number
    constraint   the share of pathological seeds: above 0 the configuration is infeasible
    no number    where no seed gave one, the worst valid value so far, or the loss of the best
                 constant predictor, stands in; never NaN or a pathological value

Seeds added later, as by a confirmation, update their configuration. A loss with another floor than
the baseline's is converted to the baseline's unit. Trials of `warm_start` enter the study first.

The study's file holds the suggestions and the store the results; together they are the state of the
search, so a killed driver loses nothing.
"""

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, Trial, TrialState

from sickbay.trials.contract import Scalar, TrialConfig
from sickbay.trials.events import TrialEnded
from sickbay.trials.search.boundary_sampler import UNFINISHED
from sickbay.trials.search.outcomes import (
    Aggregate,
    TrialOutcome,
    aggregate,
    health_aggregate,
    read_outcome,
)
from sickbay.trials.search.samplers import StudyView
from sickbay.trials.search.study import (
    CONFIGURATION,
    KIND,
    WARM_START,
    SearchTask,
    is_configuration,
)
from sickbay.trials.search.warm_start import (
    EarlierConfiguration,
    frozen_trial,
    is_earlier,
    warm_start,
)
from sickbay.trials.spec.plan import baseline_choice


class Port(Protocol):
    """The way to an Optuna study."""

    study: optuna.Study

    def ask(self) -> Trial:
        """Suggest a configuration."""

    def adopt(self, trial: Trial) -> None:
        """Take over a suggestion made to an earlier driver."""

    def tell(self, trial: Trial, values: Sequence[float] | None, *, failed: bool) -> None:
        """Report how a suggestion ended: with values, pruned (None), or failed."""


class TrialSource(Protocol):
    """A source of trials that chooses the next ones by how the earlier ended."""

    @property
    def finished(self) -> bool:
        """Whether no further trial will begin."""

    @property
    def complete(self) -> bool:
        """Whether it is finished and every trial of it has ended."""

    def next(self, *, may_ask: bool = True) -> TrialConfig | None:
        """The next trial; None where there is none now. Without `may_ask` nothing new is begun."""

    def ended(self, event: TrialEnded) -> None:
        """Take in the end of a trial."""


@dataclass
class _Suggestion:
    trial: Trial
    trials: tuple[TrialConfig, ...]  # of the search, and of the confirmation that may follow
    ended: dict[str, TrialConfig]  # by id
    waiting: set[str]  # ids of the search's trials that have not ended
    reported: bool  # to the sampler


class Search:
    """Give out trials until the budget is used up; see the module's head."""

    def __init__(self, task: SearchTask, port: Port, done: Callable[[str], bool]) -> None:
        """Resume from the study and the store; `done(trial_id)` says what need not run."""
        self.task = task
        self._port = port
        self._done = done
        self._updates: dict[int, Aggregate] = port.study.sampler.updates
        self._baseline: dict[int, TrialOutcome] = {}  # what became of it, by seed
        self._queue: deque[TrialConfig] = deque()
        self._suggestions: list[_Suggestion] = []
        self._earlier: dict[int, EarlierConfiguration] = {}  # by the number of the study's trial
        self._of: dict[str, _Suggestion] = {}  # by trial id
        self.exhausted = False
        self._resume()

    @property
    def known(self) -> list[FrozenTrial]:
        """All trials of the study."""
        trials: list[FrozenTrial] = self._port.study.get_trials(deepcopy=False)
        return trials

    @property
    def finished(self) -> bool:
        """Whether no further trial will begin."""
        full = len(self._suggestions) >= self.task.configurations
        return not self._queue and (full or self.exhausted)

    @property
    def complete(self) -> bool:
        """Whether it is finished and every trial of it has ended."""
        return self.finished and not any(suggestion.waiting for suggestion in self._suggestions)

    def next(self, *, may_ask: bool = True) -> TrialConfig | None:
        """The next trial to run; None where there is none now (see `finished`).

        Without `may_ask` only existing suggestions are used.
        """
        while not self._queue and may_ask and not self.finished:
            self._suggest()
        return self._queue.popleft() if self._queue else None

    def ended(self, event: TrialEnded) -> None:
        """Record the end of a trial; with a suggestion's last seed, report to the sampler."""
        suggestion = self._of.get(event.trial_id)
        if suggestion is None or event.state == "cancelled":
            return  # one that was cancelled will go on: its suggestion stays open
        suggestion.waiting.discard(event.trial_id)
        suggestion.ended |= {
            trial.trial_id: trial for trial in suggestion.trials if trial.trial_id == event.trial_id
        }
        if suggestion.waiting:
            return
        if suggestion.reported:
            self._update(suggestion)
        else:
            self._tell(suggestion)

    def _resume(self) -> None:
        study, space = self._port.study, self.task.space
        known = [trial for trial in self.known if not is_earlier(trial)]
        if self.task.spec.warm_start:
            self._take_over()
        self._enqueue(known)
        for frozen in known:
            is_open = frozen.state == TrialState.RUNNING
            whole = set(frozen.params) == set(space)
            if not is_open and not is_configuration(frozen):
                continue
            trial = Trial(study, frozen._trial_id)  # noqa: SLF001 - Optuna has no other way back
            if is_open:
                self._port.adopt(trial)
            if not whole:  # a driver was killed in the middle of a suggestion: it is made anew
                trial.set_user_attr(UNFINISHED, True)  # noqa: FBT003 - Optuna's own signature
                self._port.tell(trial, None, failed=True)
            elif is_configuration(frozen) or self._judge(trial):
                self._take(trial, reported=not is_open)
        self._update_earlier()

    def _take_over(self) -> None:
        """Add the configurations of earlier sweeps to the study, and seeds that ended since."""
        task, key = self.task, self.task.domain.key
        added = {key(trial.params): trial.number for trial in self.known if is_earlier(trial)}
        start = warm_start(task, self.known)
        self._port.study.set_user_attr(WARM_START, start.as_data())
        for earlier in start.configurations:
            if key(earlier.params) == key(task.domain.baseline):
                self._baseline = dict(earlier.outcomes)
        values = self._earlier_values(start.configurations)
        for earlier, value in zip(start.configurations, values, strict=True):
            name = key(earlier.params)
            if name not in added:
                added[name] = len(self.known)
                self._port.study.add_trial(frozen_trial(task, earlier.params, value))
            self._earlier[added[name]] = earlier

    def _earlier_values(self, earlier: Collection[EarlierConfiguration]) -> list[Aggregate]:
        """What earlier configurations have come to, in the unit of the baseline."""
        outcomes = [configuration.outcomes for configuration in earlier]
        usable = [configuration.outcomes for configuration in earlier if configuration.usable]
        sound = [self._summary(seeds, ()).values for seeds in usable]
        return [self._summary(seeds, sound) for seeds in outcomes]

    def _update_earlier(self) -> None:
        """Bring earlier configurations to the unit of this sweep's baseline, with all seeds."""
        values = self._earlier_values(self._earlier.values())
        self._updates.update(zip(self._earlier, values, strict=True))

    def _enqueue(self, known: Sequence[FrozenTrial]) -> None:
        """Ask for the baseline first, then for the spec's own points, each once."""
        baseline = baseline_choice(self.task.spec, self.task.workload)
        given = [trial.system_attrs.get("fixed_params", trial.params) for trial in known]
        start = [] if known else [baseline]
        for point in (*start, *({**baseline, **point} for point in self.task.spec.enqueue)):
            if point not in given:
                self._port.study.enqueue_trial(point)
                given.append(point)

    def _suggest(self) -> None:
        trial = self._port.ask()
        if self._judge(trial):
            self._take(trial, reported=False)
        elif "fixed_params" not in self.known[trial.number].system_attrs:  # nothing new was found
            self.exhausted = True

    def _judge(self, trial: Trial) -> bool:
        """Accept a suggestion, or record why not: it is a duplicate, or breaks a constraint."""
        kind = self._kind(trial.params)
        trial.set_user_attr(KIND, kind)
        if kind == CONFIGURATION:
            return True
        self._port.tell(trial, None, failed=True)
        return False

    def _kind(self, params: Mapping[str, Scalar]) -> str:
        if self.task.trials(params)[0].trial_id in self._of:
            return "known already"
        broken = self.task.domain.broken(params)
        return CONFIGURATION if broken is None else f"breaks {broken}"

    def _take(self, trial: Trial, *, reported: bool) -> None:
        task = self.task
        trials = task.trials(trial.params)
        every = (*trials, *task.trials(trial.params, task.later_seeds))
        missing = [planned for planned in trials if not self._done(planned.trial_id)]
        ended = {planned.trial_id: planned for planned in every if self._done(planned.trial_id)}
        waiting = {planned.trial_id for planned in missing}
        suggestion = _Suggestion(trial, every, ended, waiting, reported)
        self._suggestions.append(suggestion)
        self._of |= {planned.trial_id: suggestion for planned in every}
        self._queue.extend(missing)
        if reported and self._is_baseline(suggestion):
            self._baseline = self._read(suggestion)
        if missing:
            return
        if not reported:
            self._tell(suggestion)
        elif ended.keys() - set(trial.user_attrs.get("trials", ())) or self._was_alone(suggestion):
            self._update(suggestion)

    def _is_baseline(self, suggestion: _Suggestion) -> bool:
        return not suggestion.trials[0].changed

    def _was_alone(self, suggestion: _Suggestion) -> bool:
        """Whether it was reported in its own unit, as the baseline had not ended."""
        return bool(suggestion.trial.user_attrs.get("unit") == "own")

    def _tell(self, suggestion: _Suggestion) -> None:
        suggestion.reported = True
        trial, outcomes = suggestion.trial, self._read(suggestion)
        trial.set_user_attr("trials", sorted(suggestion.ended))
        if not outcomes:
            trial.set_user_attr("reason", "none of its trials finished: see the store")
            self._port.tell(trial, None, failed=True)
            return
        alone = not self._baseline and not self._is_baseline(suggestion)
        trial.set_user_attr("unit", "own" if alone else "baseline")
        value = self._aggregate(suggestion, outcomes)
        for name, attribute in value.attributes.items():
            trial.set_user_attr(name, attribute)
        if value.constraint is not None:
            trial.set_constraint("pathological", value.constraint)
        if value.pruned_at is not None:
            trial.report(value.values[0], value.pruned_at)
        self._port.tell(trial, value.values if value.pruned_at is None else None, failed=False)
        if self._is_baseline(suggestion):
            self._update_earlier()
            for other in self._suggestions:
                if other.reported and self._was_alone(other):
                    self._update(other)

    def _update(self, suggestion: _Suggestion) -> None:
        """Give the sampler the result over later seeds, too: it cannot be written to the study."""
        outcomes = self._read(suggestion)
        if outcomes:
            self._updates[suggestion.trial.number] = self._aggregate(suggestion, outcomes)

    def _read(self, suggestion: _Suggestion) -> dict[int, TrialOutcome]:
        """Read the seeds of a configuration that have ended with something to say, by seed."""
        signals = [goal.signal for goal in self.task.goals]
        store, sweep_id = self.task.store, self.task.sweep_id
        outcomes = {
            planned.seed: read_outcome(store, sweep_id, planned.trial_id, signals)
            for planned in suggestion.trials
            if planned.trial_id in suggestion.ended
        }
        return {seed: outcome for seed, outcome in outcomes.items() if outcome and outcome.judged}

    def _aggregate(
        self, suggestion: _Suggestion, outcomes: Mapping[int, TrialOutcome]
    ) -> Aggregate:
        if self._is_baseline(suggestion):
            self._baseline = dict(outcomes)
        view = StudyView(self._port.study, self._updates)
        known = [
            trial.values
            for trial in view.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
            if trial.user_attrs.get("stand_in") is False
        ]
        return self._summary(outcomes, known)

    def _summary(
        self, outcomes: Mapping[int, TrialOutcome], known: Sequence[Sequence[float]]
    ) -> Aggregate:
        """What a configuration has come to; `known` are the values of sound configurations."""
        task = self.task
        if task.spec.design == "boundary":
            return health_aggregate(outcomes)
        value = aggregate(outcomes, self._baseline, task.goals, known)
        takes_pruned = len(task.goals) == 1 and task.spec.design in ("random", "tpe")
        return value if takes_pruned else replace(value, pruned_at=None)


class StudyPort:
    """The plain way to a study, without Ray."""

    def __init__(self, study: optuna.Study, space: Mapping[str, BaseDistribution]) -> None:
        """Suggest within `space`."""
        self.study = study
        self._space: dict[str, Any] = dict(space)

    def ask(self) -> Trial:
        """Suggest a configuration."""
        return self.study.ask(fixed_distributions=self._space)

    def adopt(self, trial: Trial) -> None:
        """Nothing to do: the study knows it."""

    def tell(self, trial: Trial, values: Sequence[float] | None, *, failed: bool) -> None:
        """Say how a suggestion ended."""
        state = TrialState.COMPLETE if values else TrialState.PRUNED
        self.study.tell(trial, values, state=TrialState.FAIL if failed else state)
