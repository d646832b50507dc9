"""Run planned jobs on the connected Ray, on as many lanes as fit."""

import time
from collections.abc import Sequence
from typing import Any

from ray.tune import FailureConfig, RunConfig, Stopper, TuneConfig
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from sickbay.trials.events import Event, Started, TrialEnded
from sickbay.trials.execution.ray_lanes.board import Board
from sickbay.trials.execution.ray_lanes.lane import Lane
from sickbay.trials.execution.ray_search import NotPickled
from sickbay.trials.execution.ray_tune import (
    FINISHED,
    LOOK_SECONDS,
    Overseer,
    RunOptions,
    fit,
    run_scheduled,
    slots,
    why,
)
from sickbay.trials.execution.trial import TrialJob
from sickbay.trials.store import StoreError

ASK_SECONDS = 0.05  # between two looks at the dispenser


def run_jobs(jobs: Sequence[TrialJob], options: RunOptions) -> None:
    """Run jobs of one sweep until all have ended or `options.stopping` returns true.

    After `stopping` no further trial begins. A trial whose worker or node is lost or that runs out
    of memory is retried at most `retries` times; exceptions of the user's code and pathologies
    never. Raises ErrorStorm when the same exception ended three trials in a row, StoreError when
    not even a lost trial could be recorded.
    """
    if not jobs:
        return
    if options.stop.scheduler != "none":
        run_scheduled(jobs, options)
        return
    lanes = _Lanes(jobs, options)
    run = RunConfig(failure_config=FailureConfig(max_failures=-1), stop=_AllEnded(lanes.board))
    tune = TuneConfig(scheduler=_LaneScheduler(lanes), reuse_actors=False)
    try:
        fit(Lane, _LaneFeed(lanes), lanes, options, tune, run)
    finally:
        lanes.board.end()


class _Lanes(Overseer):
    """Looks after the lanes: how many there may be, what they run, which of them died."""

    def __init__(self, jobs: Sequence[TrialJob], options: RunOptions) -> None:
        super().__init__(options)
        self._options = options
        self.board = Board(jobs, options.retries, self._see, options.repacks)
        self.config = {
            "dispenser": self.board.name,
            "store": jobs[0].store,
            "sweep_id": jobs[0].sweep_id,
        }
        self.alive: set[str] = set()  # lanes that run or wait for a place on the cluster
        self._asked = 0.0
        self._slots, self._counted = 1, -LOOK_SECONDS

    def wants_lane(self) -> bool | None:
        """Whether a further lane would get a job; None if none ever will."""
        self.look()
        if self.board.over:
            return None
        return len(self.alive) < min(self._most(), self.board.waiting + self.board.held)

    @property
    def surplus(self) -> int:
        """How many lanes there are beyond what the sweep may have at this moment."""
        return max(0, len(self.alive) - self._most())

    def job_of(self, trial: Any) -> TrialJob | None:
        return self.board.job_of(trial.trial_id)

    def _see(self, event: Event) -> None:
        if isinstance(event, Started):
            self._heard.pop(event.trial_id, None)
            self._hear(event.trial_id)
        elif isinstance(event, TrialEnded):
            self._heard.pop(event.trial_id, None)
        self._options.watch(event)

    def look(self) -> None:
        """Take in what happened since the last look."""
        now = time.monotonic()
        if now - self._asked < ASK_SECONDS:
            return
        self._asked = now
        self.board.look(self._most())
        if self.board.storm is not None:
            self.storm = self.board.storm
        elif self._stopping():
            self.board.close()

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        super().on_step_end(iteration, trials, **info)
        self.look()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        del iteration, trials, info
        self.board.joined(trial.trial_id, trial.temporary_state.ray_actor)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        del iteration, trials, result, info
        job = self.job_of(trial)
        if job is not None:
            self._hear(job.trial.trial_id)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        del iteration, trials, info
        self.board.left(trial.trial_id)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        del iteration, trials, info
        self._lost(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        del iteration, trials, info
        self._lost(trial)

    def _lost(self, trial: Any) -> None:
        try:
            killed = self.was_killed(trial)
            self.board.lost(trial.trial_id, lambda: why(trial), self._late, killed=killed)
        except StoreError as error:
            self.trouble = error
            self.board.close()

    def _most(self) -> int:
        if self._options.most is not None:
            return self._options.most()
        if time.monotonic() - self._counted >= LOOK_SECONDS:
            self._counted, self._slots = time.monotonic(), slots(self._options.share)
        return self._slots


class _LaneFeed(NotPickled, Searcher):  # type: ignore[misc]
    """Gives Tune a lane for each place that the sweep may have."""

    def __init__(self, lanes: _Lanes) -> None:
        super().__init__()
        self._lanes = lanes

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """A lane of this name; None: ask again later."""
        wants = self._lanes.wants_lane()
        if wants is None:
            return FINISHED
        if not wants:
            return None
        self._lanes.alive.add(trial_id)
        return dict(self._lanes.config)

    def on_trial_complete(
        self,
        trial_id: str,
        result: dict[str, Any] | None = None,
        error: bool = False,  # noqa: FBT001, FBT002 - as Ray calls it
    ) -> None:
        """Take in that a lane has ended."""
        del result, error
        self._lanes.alive.discard(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to keep: what is missing is read from the store."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""


class _LaneScheduler(NotPickled, FIFOScheduler):  # type: ignore[misc]
    """Takes back lanes that still wait for a place on the cluster once they are too many.

    Those that run are sent home by the dispenser, when their trial has ended.
    """

    def __init__(self, lanes: _Lanes) -> None:
        super().__init__()
        self._lanes = lanes

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        lanes = tune_controller.get_trials()
        waiting = [lane for lane in lanes if lane.status == lane.PENDING]
        for trial in waiting[: self._lanes.surplus]:
            tune_controller.stop_trial(trial)
        return super().choose_trial_to_run(tune_controller)


class _AllEnded(NotPickled, Stopper):  # type: ignore[misc]
    """Ends the lanes that wait for a place on the cluster when there is nothing left for them."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        del trial_id, result
        return False

    def stop_all(self) -> bool:
        return self._board.over
