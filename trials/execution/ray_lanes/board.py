"""The driver's side of the dispenser: which trials have not ended, and what a death costs.

If the dispenser is lost, a new one continues with what is known here and in the store.
"""

import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sickbay.trials.contract import TrialState
from sickbay.trials.events import ErrorStorm, Retried, Started, TrialEnded, Watch
from sickbay.trials.execution.ray_cluster import check_alive
from sickbay.trials.execution.ray_lanes.dispenser import Dispenser, News
from sickbay.trials.execution.trial import TrialJob, job_text, record_loss
from sickbay.trials.store import open_store
from sickbay.trials.store.reader import ended_row

NAME_SECONDS = 10.0  # in which Ray forgets the name of an actor that is dead


class Board:
    """All jobs of a run, and what has become of them. At first it lets one lane hold a job."""

    def __init__(
        self, jobs: Sequence[TrialJob], retries: int, watch: Watch, repacks: Callable[[str], bool]
    ) -> None:
        """Start the dispenser of these jobs; `repacks` is that of `RunOptions`."""
        self._jobs = {job.trial.trial_id: job for job in jobs}  # that have not ended, in order
        self._retries, self._watch, self._repacks = retries, watch, repacks
        self._deaths: Counter[str] = Counter()
        self._lanes: dict[str, Any] = {}  # that run, with their actors
        self._begun: dict[str, str] = {}  # the trial that a lane began last
        self._pardoned: set[str] = set()  # lanes that were killed with the dispenser they knew
        self._most, self._open = 1, True
        self._asked: Any = None  # an answer to come
        self.waiting, self.held = len(jobs), 0
        self.storm: ErrorStorm | None = None
        self.name = f"sickbay-dispenser-{uuid.uuid4().hex[:12]}"
        self._dispenser = self._start()

    @property
    def over(self) -> bool:
        """Whether no lane runs a job, and none can get one any more."""
        return self.held == 0 and (self.waiting == 0 or not self._open)

    def close(self) -> None:
        """Hand out nothing more: what runs comes to its end."""
        if self._open:
            self._open = False
            self.look(0)
            self.finish()

    def look(self, most: int) -> None:
        """Take in what is known by now; from now on at most so many lanes hold a job at once."""
        self._most = most if self._open else 0
        try:
            if self._asked is None:
                self._asked = self._dispenser.news.remote(self._most)
            if ray.wait([self._asked], timeout=0)[0]:
                self._take_in()
        except RayActorError:
            self._revive()

    def finish(self) -> None:
        """Take in everything that has happened."""
        try:
            if self._asked is not None:
                self._take_in()
            self._asked = self._dispenser.news.remote(self._most)
            self._take_in()
        except RayActorError:
            self._revive()

    def end(self) -> None:
        """End the dispenser, which would live for as long as this process is connected."""
        ray.kill(self._dispenser)

    def joined(self, lane: str, actor: Any) -> None:
        """Take in that a lane runs."""
        self._lanes[lane] = actor

    def left(self, lane: str) -> None:
        """Take in that a lane has ended."""
        self._lanes.pop(lane, None)
        self._begun.pop(lane, None)

    def job_of(self, lane: str) -> TrialJob | None:
        """The job that a lane runs, as far as it is known by now."""
        return self._jobs.get(self._begun.get(lane, ""))

    def lost(
        self, lane: str, why: Callable[[], str], late: Mapping[str, str], *, killed: bool
    ) -> None:
        """Handle the death of a lane's process: its trial runs again, unless it died too often.

        A trial whose end is stored has ended; one that was `late` has failed for that reason; one
        that was `killed`, or may not restart as the sweep ends, is cancelled. If the sweep
        `repacks` because of it, it is kept for later and nothing more is handed out. Raises
        StoreError if a trial that is lost for good cannot be recorded.
        """
        self.finish()
        self.left(lane)
        if lane in self._pardoned:
            self._pardoned.discard(lane)
            return
        try:
            trial_id = _answer(self._dispenser.lost.remote(lane))
        except RayActorError:
            self._revive()
            return
        if trial_id is None:
            return
        ended = self._fate(self._jobs[trial_id], why, late.get(trial_id), killed=killed)
        if ended is None:
            self._watch(Retried(trial_id, self._deaths[trial_id]))
            self._dispenser.put_back.remote(lane)
        else:
            self._dispenser.drop.remote(lane)
            self._end(ended)

    def _fate(
        self, job: TrialJob, why: Callable[[], str], late: str | None, *, killed: bool
    ) -> TrialEnded | None:
        """How a trial that lost its process has ended; None if it is to run again."""
        trial_id = job.trial.trial_id
        stored = stored_end(job)
        if stored is not None:
            return stored
        if late is None and not killed and self._repacks(why()):
            self.close()
            return None
        self._deaths[trial_id] += 1
        if late is not None:
            return replace(
                TrialEnded.of(record_loss(job, self._deaths[trial_id], late)), error_key=None
            )
        if killed or not self._open:
            return TrialEnded(trial_id, TrialState.CANCELLED)
        if self._deaths[trial_id] <= self._retries:
            return None
        return replace(TrialEnded.of(record_loss(job, self._retries + 1, why())), error_key=None)

    def _take_in(self) -> None:
        news: News = _answer(self._asked)
        self._asked = None
        self.waiting, self.held = news.waiting, news.held
        for event in news.events:
            if isinstance(event, tuple):
                lane, trial_id = event
                self._begun[lane] = trial_id
                self._watch(Started(trial_id))
            else:
                self._end(TrialEnded(**event))
        if news.storm is not None:
            self.storm, self._open = ErrorStorm(news.storm, ErrorStorm.TRIALS), False

    def _end(self, ended: TrialEnded) -> None:
        self._jobs.pop(ended.trial_id, None)
        self._watch(ended)

    def _start(self) -> Any:
        """Start a dispenser of the trials that have not ended, where the driver runs.

        There it ends with the driver: no lane that outlives the driver's machine gets a job.
        """
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        made = ray.remote(num_cpus=0)(Dispenser).options(name=self.name, scheduling_strategy=here)
        jobs = [(trial_id, job_text(job)) for trial_id, job in self._jobs.items()]
        ends = time.monotonic() + NAME_SECONDS
        while True:
            try:
                return made.remote(jobs, self._most)
            except ValueError:  # the name of the one that died is still taken
                if time.monotonic() >= ends:
                    raise
            time.sleep(0.1)

    def _revive(self) -> None:
        """Replace a dispenser that was lost: lanes that run jobs of the old one begin anew."""
        for lane, actor in self._lanes.items():
            self._pardoned.add(lane)
            ray.kill(actor)
        self._begun.clear()
        self._asked = None
        for job in list(self._jobs.values()):
            stored = stored_end(job)
            if stored is not None:
                self._end(stored)
        self.waiting, self.held = len(self._jobs), 0
        self._dispenser = self._start()


def _answer(asked: Any) -> Any:
    """What the dispenser answers; raises RayDiedError if the local Ray dies meanwhile."""
    while True:
        try:
            return ray.get(asked, timeout=1.0)
        except GetTimeoutError:
            check_alive()


def stored_end(job: TrialJob) -> TrialEnded | None:
    """How the store says that a trial of this run has ended; None if it does not.

    A failed or cancelled trial may have ended so in an earlier run: it is not counted.
    """
    row = ended_row(open_store(job.store), job.sweep_id, job.trial.trial_id)
    if row is None or row["state"] not in (TrialState.COMPLETED, TrialState.STOPPED):
        return None
    return TrialEnded(
        trial_id=job.trial.trial_id,
        state=row["state"],
        health=row["label"],
        pathology=row["pathology"],
        epochs_run=row["epochs_run"],
        wall_seconds=row["wall_seconds"],
    )
