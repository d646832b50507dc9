"""A search: configurations suggested by Optuna, each run with every seed, and reported back.

Independent of Ray: the caller passes a `Port` to an Optuna study (`tune` one by way of Ray Tune's
OptunaSearch), asks for the `next` trial, and reports when one has `ended`. What is reported to the
sampler of a configuration, once the trials of all its seeds have ended:

    objective    the median over the seeds that were not pathological and gave a finite number
    constraint   the share of seeds that were pathological: above 0 the configuration is infeasible
    no number    where no seed gave one, the worst known stands in: a valid configuration's value,
                 or the loss of the best constant predictor; never NaN or a pathological value

All that was suggested is in the study's file, all that ran is in the store: together they are the
state of the search, and a driver that was killed loses nothing.
"""

import contextlib
import math
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Protocol

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, Trial, TrialState

from sickbay.trials.contract import Goal, Objective, Scalar, TrialConfig, Workload
from sickbay.trials.events import TrialEnded
from sickbay.trials.search.boundary_sampler import UNFINISHED
from sickbay.trials.search.outcomes import TrialOutcome, read_outcome
from sickbay.trials.search.study import (
    CONFIGURATION,
    KIND,
    goals_of,
    is_configuration,
    space_of,
    study_name,
)
from sickbay.trials.spec.arms import settled
from sickbay.trials.spec.model import ConfirmedSeeds, SweepSpec
from sickbay.trials.spec.plan import baseline_choice, expressions, trials_of
from sickbay.trials.store.files import Store

ASKS = 20  # suggestions in a row that may be known or forbidden before one is drawn at random
DRAWS = 2000  # draws after which a space counts as exhausted


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

    @property
    def space(self) -> dict[str, BaseDistribution]:
        """The distributions by factor."""
        return space_of(self.spec, self.workload)

    @property
    def goals(self) -> tuple[Objective, ...]:
        """The objectives that are reported to the sampler."""
        return goals_of(self.spec, self.workload)

    @property
    def study_name(self) -> str:
        """The name of the study in its file."""
        return study_name(self.sweep_id, self.spec, self.space, self.goals)

    def choice(self, params: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """Return what is run for these parameters: factors that do not matter at their baseline."""
        baseline = baseline_choice(self.spec, self.workload)
        return settled({**baseline, **params}, baseline, self.spec.conditions)

    def trials(
        self, params: Mapping[str, Scalar], seeds: Sequence[int] | None = None
    ) -> tuple[TrialConfig, ...]:
        """Return the trials of these parameters, one a seed."""
        return trials_of(self.spec, self.workload, self.choice(params), seeds)


@dataclass
class _Suggestion:
    trial: Trial
    trials: tuple[TrialConfig, ...]
    waiting: set[str]  # ids of the trials that have not ended
    reported: bool  # to the sampler


class Search:
    """Give out trials until the budget is used up; see the module's head."""

    def __init__(self, task: SearchTask, port: Port, done: Callable[[str], bool]) -> None:
        """Resume from the study and the store; `done(trial_id)` says what need not run."""
        self.task = task
        self._port = port
        self._done = done
        self._rules = expressions(task.spec)
        self._queue: deque[TrialConfig] = deque()
        self._suggestions: list[_Suggestion] = []
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

        Without `may_ask` only what has been suggested already is given out.
        """
        while not self._queue and may_ask and not self.finished:
            self._suggest()
        return self._queue.popleft() if self._queue else None

    def ended(self, event: TrialEnded) -> None:
        """Take in the end of a trial; with a suggestion's last seed, report to the sampler."""
        suggestion = self._of.get(event.trial_id)
        if suggestion is None or event.state == "cancelled":
            return  # one that was cancelled will go on: its suggestion stays open
        suggestion.waiting.discard(event.trial_id)
        if not suggestion.waiting and not suggestion.reported:
            self._tell(suggestion)

    def _resume(self) -> None:
        study, space = self._port.study, self.task.space
        known = study.get_trials(deepcopy=False)
        baseline = baseline_choice(self.task.spec, self.task.workload)
        if not known:
            study.enqueue_trial(baseline)
        for point in self.task.spec.enqueue:
            study.enqueue_trial({**baseline, **point}, skip_if_exists=True)
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

    def _suggest(self) -> None:
        for _ in range(ASKS):
            trial = self._port.ask()
            if self._judge(trial):
                self._take(trial, reported=False)
                return
        params = self._draw()
        if params is None:
            self.exhausted = True
        else:
            self._port.study.enqueue_trial(params)

    def _judge(self, trial: Trial) -> bool:
        """Accept a suggestion, or record why not: it is a duplicate, or breaks a constraint."""
        kind = self._kind(trial.params)
        trial.set_user_attr(KIND, kind)
        if kind == CONFIGURATION:
            return True
        self._port.tell(trial, None, failed=True)
        return False

    def _kind(self, params: Mapping[str, Scalar]) -> str:
        trials = self.task.trials(params)
        if trials[0].trial_id in self._of:
            return "known already"
        config = trials[0].config
        broken = next((rule.text for rule in self._rules if not rule.allows(config)), None)
        return CONFIGURATION if broken is None else f"breaks {broken}"

    def _draw(self) -> dict[str, Scalar] | None:
        """Draw a configuration that is new and allowed; None if there seems to be none left."""
        rng = random.Random(f"{self.task.study_name} {len(self._suggestions)}")  # noqa: S311
        space = self.task.space
        for _ in range(DRAWS):
            params = {name: _drawn(distribution, rng) for name, distribution in space.items()}
            if self._kind(params) == CONFIGURATION:
                return params
        return None

    def _take(self, trial: Trial, *, reported: bool) -> None:
        trials = self.task.trials(trial.params)
        missing = [planned for planned in trials if not self._done(planned.trial_id)]
        suggestion = _Suggestion(trial, trials, {planned.trial_id for planned in missing}, reported)
        self._suggestions.append(suggestion)
        self._of |= {planned.trial_id: suggestion for planned in trials}
        self._queue.extend(missing)
        if not missing and not reported:
            self._tell(suggestion)

    def _tell(self, suggestion: _Suggestion) -> None:
        suggestion.reported = True
        task, trial = self.task, suggestion.trial
        signals = [goal.signal for goal in task.goals]
        read = (
            read_outcome(task.store, task.sweep_id, planned.trial_id, signals)
            for planned in suggestion.trials
        )
        outcomes = [outcome for outcome in read if outcome is not None and outcome.judged]
        trial.set_user_attr("trials", [planned.trial_id for planned in suggestion.trials])
        if not outcomes:
            trial.set_user_attr("reason", "none of its trials finished: see the store")
            self._port.tell(trial, None, failed=True)
            return
        counts = {
            "healthy": sum(outcome.label == "healthy" for outcome in outcomes),
            "pathological": sum(outcome.unusable for outcome in outcomes),
            "inconclusive": sum(
                outcome.label == "inconclusive" and not outcome.unusable for outcome in outcomes
            ),
        }
        for word, count in counts.items():
            trial.set_user_attr(word, count)
        causes = sorted({outcome.pathology for outcome in outcomes if outcome.pathology})
        trial.set_user_attr("pathologies", causes)
        if task.spec.design == "boundary":
            self._tell_health(trial, counts)
        else:
            self._tell_values(trial, outcomes)

    def _tell_health(self, trial: Trial, counts: Mapping[str, int]) -> None:
        """Report to a boundary search: the share of pathological seeds, ½ if none was judged."""
        decided = counts["healthy"] + counts["pathological"]
        share = counts["pathological"] / decided if decided else 0.5
        self._port.tell(trial, [share], failed=False)

    def _tell_values(self, trial: Trial, outcomes: Sequence[TrialOutcome]) -> None:
        trial.set_constraint(
            "pathological", sum(outcome.unusable for outcome in outcomes) / len(outcomes)
        )
        usable = [outcome for outcome in outcomes if not outcome.unusable]
        stand_in = not usable
        trial.set_user_attr("stand_in", stand_in)
        goals = self.task.goals
        if stand_in:
            values = [self._worst(i, goal, outcomes) for i, goal in enumerate(goals)]
        else:
            values = [median(outcome.values[i] for outcome in usable) for i in range(len(goals))]
        pruned = any(outcome.state == "pruned" for outcome in usable)
        if pruned and len(goals) == 1 and self.task.spec.design in ("random", "tpe"):
            trial.report(values[0], min(outcome.epochs_run for outcome in usable))
            self._port.tell(trial, None, failed=False)
        else:
            self._port.tell(trial, values, failed=False)

    def _worst(self, index: int, goal: Objective, outcomes: Sequence[TrialOutcome]) -> float:
        """The worst value that is known to be sound, or of no skill at all; else its own worst."""
        worst = max if goal.goal is Goal.MINIMIZE else min
        known = [
            trial.values[index]
            for trial in self._port.study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
            if trial.user_attrs.get("stand_in") is False
        ]
        known += [
            outcome.floors[goal.signal] for outcome in outcomes if goal.signal in outcome.floors
        ]
        own = [
            outcome.values[index] for outcome in outcomes if math.isfinite(outcome.values[index])
        ]
        return float(worst(known or own, default=0.0))


def _drawn(distribution: BaseDistribution, rng: random.Random) -> Scalar:
    if isinstance(distribution, CategoricalDistribution):
        choice: Scalar = rng.choice(distribution.choices)
        return choice
    low, high, draw = float(distribution.low), float(distribution.high), rng.random()
    value = low * (high / low) ** draw if distribution.log else low + (high - low) * draw
    with contextlib.suppress(AttributeError):
        if isinstance(distribution.step, int):
            return round(value)
    return min(max(value, low), high)


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
