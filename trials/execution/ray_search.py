"""What a search needs of Ray Tune: its OptunaSearch as the way to a study, and its schedulers."""

from collections.abc import Sequence
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from sickbay.trials.contract import Goal
from sickbay.trials.execution.trial import Evaluation, job_from_text
from sickbay.trials.search.samplers import sampler
from sickbay.trials.search.schedulers import Report, Rule, rule_of, score_of
from sickbay.trials.search.study import SearchTask, open_storage, study_file
from sickbay.trials.spec.model import EarlyStopSpec
from sickbay.trials.store import note_pruning


class NotPickled:
    """For objects that Tune pickles into its snapshot: we resume from the store, not from there."""

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return (object, ())


class OptunaPort:
    """The way to a study through Ray Tune's OptunaSearch."""

    def __init__(self, task: SearchTask) -> None:
        """Open or make the study of a search."""
        goals = task.goals
        signals = [goal.signal for goal in goals]
        modes = [_mode(goal.goal) for goal in goals]
        self._search = OptunaSearch(
            space=dict(task.space),
            metric=signals if len(goals) > 1 else signals[0],
            mode=modes if len(goals) > 1 else modes[0],
            sampler=sampler(task.spec.design, task.configurations, task.study_name, task.domain),
            study_name=task.study_name,
            storage=open_storage(study_file(task.store, task.sweep_id)),
        )
        self._signals = signals
        self.study = self._search._ot_study  # noqa: SLF001 - to read earlier results

    def ask(self) -> Any:
        """Suggest a configuration."""
        key = f"suggestion {len(self._search._ot_trials)}"  # noqa: SLF001
        self._search.suggest(key)
        trial = self._search._ot_trials.pop(key)  # noqa: SLF001 - constraints are set on it
        self.adopt(trial)
        return trial

    def adopt(self, trial: Any) -> None:
        """Take over a suggestion that an earlier driver was given."""
        self._search._ot_trials[str(trial.number)] = trial  # noqa: SLF001

    def tell(self, trial: Any, values: Sequence[float] | None, *, failed: bool) -> None:
        """Say how a suggestion ended."""
        result = None if values is None else dict(zip(self._signals, values, strict=True))
        self._search.on_trial_complete(str(trial.number), result, error=failed)


class HealthScheduler(NotPickled, FIFOScheduler):  # type: ignore[misc]
    """Starts trials in order and marks in the store each that a rule prunes; its worker ends it.

    The baseline is never pruned, nor a trial at its last epoch.
    """

    def __init__(self, rule: Rule, goal: Goal) -> None:
        """Feed `rule` with the reports of all trials."""
        super().__init__()
        self._rule, self._goal = rule, goal

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Report to the rule; the trial goes on until its worker has read the note."""
        del tune_controller
        seen = Evaluation(*result["evaluation"]) if result.get("evaluation") else None
        if seen is not None and seen.objective is not None:
            job = job_from_text(trial.config["job"])
            score, over_floor = score_of(seen.objective, seen.floor, self._goal)
            report = Report(seen.number, score, over_floor, seen.suspect)
            prunes = self._rule.prunes(job.trial.trial_id, report)
            ends = result["epoch"] >= job.trial.epochs
            if prunes and job.trial.changed and not ends:
                note_pruning(job.store, job.sweep_id, job.trial.trial_id)
        return str(TrialScheduler.CONTINUE)


def scheduler_of(stop: EarlyStopSpec, goal: Goal, epochs: int) -> TrialScheduler | None:
    """Make the scheduler of a spec for trials of at most `epochs` epochs; None for `none`."""
    return None if stop.scheduler == "none" else HealthScheduler(rule_of(stop, epochs), goal)


def _mode(goal: Goal) -> str:
    return "min" if goal is Goal.MINIMIZE else "max"
