"""What a search needs of Ray Tune: its OptunaSearch as the way to a study, and its schedulers."""

from collections.abc import Sequence
from typing import Any

from ray.tune.schedulers import ASHAScheduler, MedianStoppingRule, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from sickbay.trials.contract import Goal
from sickbay.trials.execution.trial import job_from_text
from sickbay.trials.search.loop import SearchTask
from sickbay.trials.search.study import open_storage, sampler, study_file
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
            sampler=sampler(task.spec.design, task.configurations, task.study_name),
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


class _Advises:
    """Makes a scheduler leave a note for the worker, which then stores the trial as pruned.

    The baseline is never pruned: everything is compared with it.
    """

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Take the scheduler's advice, and go on until the worker has read the note."""
        if "objective" in result:
            advice = super().on_trial_result(tune_controller, trial, result)  # type: ignore[misc]
            job = job_from_text(trial.config["job"])
            if advice == TrialScheduler.STOP and job.trial.changed:
                note_pruning(job.store, job.sweep_id, job.trial.trial_id)
        return str(TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Nothing: every epoch has been seen."""


class _Asha(NotPickled, _Advises, ASHAScheduler):  # type: ignore[misc]
    """Successive halving, asynchronous: only the best third goes on after 1, 3, 9 … epochs."""


class _Median(NotPickled, _Advises, MedianStoppingRule):  # type: ignore[misc]
    """Ends what is worse at its best than the median of the others' means so far."""


def scheduler_of(kind: str, goal: Goal, epochs: int) -> TrialScheduler | None:
    """Make the scheduler `asha` or `median` for trials of at most `epochs` epochs; None for `none`.

    It sees the objective after every epoch.
    """
    common = {"time_attr": "epoch", "metric": "objective", "mode": _mode(goal)}
    if kind == "asha":
        return _Asha(
            max_t=max(2, epochs),
            grace_period=1,
            reduction_factor=3,
            stop_last_trials=False,
            **common,
        )
    if kind == "median":
        return _Median(grace_period=max(1, epochs // 4), **common)
    return None


def _mode(goal: Goal) -> str:
    return "min" if goal is Goal.MINIMIZE else "max"
