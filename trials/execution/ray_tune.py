"""Run trials on Ray Tune, planned or searched for. Only the files `tune*.py` import ray here.

Only names and plain data cross to the workers: a job is a dict, the workload is looked up there by
its name. A worker stores its own trial; what travels back is a line for the progress display. A
trial is a class trainable, one `step` of which runs it for a while: no thread and no duplicate
last result as with a function, so the driver is asked less often.
"""

import contextlib
import logging
import os
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, field, replace
from pathlib import Path
from typing import Any

import ray
from ray.tune import (
    Callback,
    CheckpointConfig,
    FailureConfig,
    RunConfig,
    Trainable,
    TuneConfig,
    Tuner,
    with_resources,
)
from ray.tune.search import Searcher

from sickbay.trials.contract import Goal, TrialConfig, TrialState
from sickbay.trials.events import (
    ErrorStorm,
    Retried,
    Started,
    StormWatch,
    TrialEnded,
    Watch,
)
from sickbay.trials.execution.fair_share import TrialShare
from sickbay.trials.execution.machine.watchdog import Limits
from sickbay.trials.execution.ray_cluster import RayDiedError, check_alive, last_words
from sickbay.trials.execution.ray_search import NotPickled, OptunaPort, scheduler_of
from sickbay.trials.execution.trial import (
    Evaluation,
    Pruned,
    TrialJob,
    TrialRun,
    job_from_text,
    job_text,
    record_loss,
    run_trial,
)
from sickbay.trials.search.loop import Search, SearchTask, TrialSource
from sickbay.trials.spec.model import EarlyStopSpec
from sickbay.trials.store import StoreError, open_store, pruning_noted, requested

REPORT_SECONDS = 1.0  # a running trial tells the driver its epoch this often
FINISHED = str(Searcher.FINISHED)  # what Tune takes for: nothing more will come
# How many trials may wait on the cluster: enough to keep every core busy while the driver is, few
# enough that a request to stop leaves little behind. Ray's own default for a searcher is 1.
PENDING_PER_CORE, LEAST_PENDING = 2, 4
RAYS_REASONS = (  # how the lines of Ray's messages begin that say why
    "The actor is dead because",
    "The actor died because",
    "Worker exit",
    "Owner's",
)
LOOK_SECONDS = 1.0
HANGING_SECONDS = 30.0  # that a worker has to end a trial over its time by itself
NO_LIMIT = 10_000  # where `RunOptions.may` is the limit


@dataclass(frozen=True)
class RunOptions:
    """How all trials are run: the resources of each, the observers, when to end.

    The scheduler of `stop` compares trials of at most `epochs` epochs.
    `may(out)` says whether another may be handed to the cluster while `out` are; without it, as
    many wait there as keep every core busy. Once `overdue` answers true, trials that still run are
    killed, and begin again when the sweep is resumed.
    """

    share: TrialShare
    watch: Watch
    retries: int
    stopping: Callable[[], bool]
    stop: EarlyStopSpec = field(default_factory=EarlyStopSpec)
    goal: Goal = Goal.MINIMIZE
    epochs: int = 1
    may: Callable[[int], bool] | None = None
    overdue: Callable[[], bool] = lambda: False


class TrialActor(Trainable):  # type: ignore[misc]
    """Runs trials one after another in one worker process."""

    def setup(self, config: dict[str, Any]) -> None:
        """Begin the first trial."""
        self._job = job_from_text(config["job"])
        self._scheduled = bool(config.get("scheduled"))
        self._seen: Evaluation | None = None
        self._begun = False
        self._epoch = 0
        self._run: TrialRun = run_trial(self._job, self._look)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin the next trial in the same process; `run_trial` sets everything anew."""
        self.cleanup()
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Run on until the trial ends or it is time to report: a scheduler sees every epoch."""
        deadline = time.monotonic() + (0 if self._scheduled else REPORT_SECONDS)
        trial_id = self._job.trial.trial_id
        if not self._begun and requested(open_store(self._job.store), self._job.sweep_id):
            # it waited on the cluster when the sweep was stopped: it leaves no trace
            return {"done": True, "ended": asdict(TrialEnded(trial_id, TrialState.CANCELLED))}
        self._begun = True
        try:
            if self._scheduled and pruning_noted(self._job.store, self._job.sweep_id, trial_id):
                self._run.throw(Pruned())
            while True:
                epoch = next(self._run)
                news = epoch > self._epoch or not self._scheduled
                if news and time.monotonic() >= deadline:
                    break
        except StopIteration as end:
            return {"done": True, "ended": asdict(TrialEnded.of(end.value))}
        seen, self._seen = self._seen, None
        self._epoch = epoch
        # a tuple, as Tune flattens mappings
        return {"done": False, "epoch": epoch, "evaluation": astuple(seen) if seen else None}

    def _look(self, evaluation: Evaluation) -> None:
        self._seen = evaluation

    def cleanup(self) -> None:
        """Let the workload's `finally` run if the trial was cut short."""
        self._run.close()


def run_jobs(jobs: Sequence[TrialJob], options: RunOptions) -> None:
    """Run jobs on the connected Ray until all have ended or `options.stopping` answers true.

    After `stopping` no further trial begins; those that run come to their end. A trial whose worker
    dies, whose node is lost or that runs out of memory begins again, at most `retries` times; an
    exception of the user's code and a pathology never. Raises ErrorStorm when the same exception
    ended three trials in a row, StoreError when not even a lost trial could be written down.
    """
    if jobs:
        _fit(_Feed(jobs, options), options)


def open_search(task: SearchTask, done: Callable[[str], bool]) -> Search:
    """Open the study of a search through Ray Tune's OptunaSearch, or make it.

    `done(trial_id)` says which trials of it need not be run. Raises StoreError for a store that no
    study can lie beside.
    """
    return Search(task, OptunaPort(task), done)


def run_source(
    source: TrialSource, make_job: Callable[[TrialConfig], TrialJob], options: RunOptions
) -> None:
    """Run what a search or a sequential sweep gives out, as `run_jobs` runs jobs."""
    _fit(_SourceFeed(source, make_job, options), options)


def _fit(feed: "_Feed | _SourceFeed", options: RunOptions) -> None:
    share = options.share
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a lost worker is an event of ours
    follower = _Follower(feed, options)
    with tempfile.TemporaryDirectory(prefix="sickbay-ray-") as folder, _tune_settings(options):
        tuner = Tuner(
            with_resources(TrialActor, {"cpu": share.cpu, "gpu": share.gpu}),
            tune_config=TuneConfig(
                search_alg=feed,
                scheduler=scheduler_of(options.stop, options.goal, options.epochs),
                num_samples=-1,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=RunConfig(
                name="sweep",
                storage_path=folder,
                verbose=0,
                callbacks=[follower],
                failure_config=FailureConfig(max_failures=options.retries),
                checkpoint_config=CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            ),
        )
        try:
            tuner.fit()
        except Exception:
            if follower.trouble is None:
                raise
    if follower.trouble is not None:
        raise follower.trouble
    if follower.storm is not None:
        raise follower.storm


class _Feed(NotPickled, Searcher):  # type: ignore[misc]
    """Hands Tune the planned jobs in their order."""

    def __init__(self, jobs: Sequence[TrialJob], options: RunOptions) -> None:
        super().__init__()
        self.jobs = {job.trial.trial_id: job for job in jobs}
        self._left = iter(jobs)
        self._options = options
        self.closed = False
        self._running: set[str] = set()

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        del trial_id  # ours are in the job
        if self.closed or self._options.stopping():
            return FINISHED
        if self._waits():
            return None  # later
        job = next(self._left, None)
        return FINISHED if job is None else self._hand_out(job)

    def _waits(self) -> bool:
        may = self._options.may
        return may is not None and not may(len(self._running))

    def _hand_out(self, job: TrialJob) -> dict[str, Any]:
        self._running.add(job.trial.trial_id)
        return {"job": job_text(job), "scheduled": self._options.stop.scheduler != "none"}

    def ended(self, event: TrialEnded) -> None:
        """Take in that a trial has ended."""
        self._running.discard(event.trial_id)

    def on_trial_complete(
        self,
        trial_id: str,
        result: dict[str, Any] | None = None,
        error: bool = False,  # noqa: FBT001, FBT002 - as Ray calls it
    ) -> None:
        """Nothing: the follower tells of every end, once it is stored."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to keep: what is missing is read from the store."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""


class _SourceFeed(_Feed):
    """Hands Tune what a source gives; a further suggestion waits until a slot is free."""

    def __init__(
        self, source: TrialSource, make_job: Callable[[TrialConfig], TrialJob], options: RunOptions
    ) -> None:
        super().__init__([], options)
        self._source = source
        self._make_job = make_job

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        del trial_id
        if self.closed or self._options.stopping():
            return FINISHED
        if self._waits():
            return None
        trial = self._source.next(may_ask=len(self._running) < _slots(self._options.share))
        if trial is None:
            return FINISHED if self._source.finished else None
        self.jobs[trial.trial_id] = self._make_job(trial)
        return self._hand_out(self.jobs[trial.trial_id])

    def ended(self, event: TrialEnded) -> None:
        super().ended(event)
        self._source.ended(event)


class _Follower(NotPickled, Callback):  # type: ignore[misc]
    """Turns callbacks into events, records trials whose worker is gone, sees error storms."""

    def __init__(self, feed: _Feed, options: RunOptions) -> None:
        self._watch = options.watch
        self._retries = options.retries
        self._feed = feed
        self._storms = StormWatch()
        self._deaths: Counter[str] = Counter()
        self._stopping, self._overdue = options.stopping, options.overdue
        self._looked = 0.0
        self._killed: set[str] = set()
        self._heard: dict[str, tuple[float, float]] = {}  # began, last heard of
        self._late: dict[str, str] = {}  # why a trial was killed that hung over its time
        self.storm: ErrorStorm | None = None
        self.trouble: OSError | None = None  # the store, or the local Ray, failed under the driver

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Look around once a second: is Ray alive, and does anything run that should not."""
        del iteration, info
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        try:
            check_alive()
        except RayDiedError as error:
            self.trouble = error
            raise
        self._stopping()  # which is asked of the feed only while there are trials to come
        overdue = self._overdue()
        for trial in trials:
            if overdue:
                self._kill(trial)
            elif trial.status == trial.RUNNING:
                self._end_if_hanging(trial)

    def _end_if_hanging(self, trial: Any) -> None:
        """Kill a worker that is over its trial's time and could not end it: it hangs in C."""
        job = self._feed.jobs[_trial_id(trial)]
        began, heard = self._heard[job.trial.trial_id]
        now = time.monotonic() - HANGING_SECONDS
        limits = Limits(job.policy.trial_seconds, job.policy.silence_seconds)
        reason = limits.broken(now - began, now - heard)
        if reason is not None:
            self._late[job.trial.trial_id] = f"TimeoutError: {reason}; its worker was killed"
            self._kill(trial)

    def _kill(self, trial: Any) -> None:
        actor = trial.temporary_state.ray_actor
        if trial.status in (trial.RUNNING, trial.PENDING) and actor is not None:
            self._killed.add(_trial_id(trial))
            trial.max_failures = 0  # it is not begun again by Tune
            ray.kill(actor)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        del iteration, trials, info
        now = time.monotonic()
        self._heard[_trial_id(trial)] = now, now
        self._watch(Started(_trial_id(trial)))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        del iteration, trials, info
        trial_id = _trial_id(trial)
        self._heard[trial_id] = self._heard[trial_id][0], time.monotonic()
        if "ended" not in result:
            return
        ended = TrialEnded(**result["ended"])
        self._end(ended)
        self.storm = self.storm or self._storms.see(ended)
        self._feed.closed = self._feed.closed or self.storm is not None

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        del iteration, trials, info
        trial_id = _trial_id(trial)
        self._deaths[trial_id] += 1
        self._watch(Retried(trial_id, self._deaths[trial_id]))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        del iteration, trials, info
        trial_id = _trial_id(trial)
        late = self._late.get(trial_id)
        if late is None and (trial_id in self._killed or self._overdue()):
            self._end(TrialEnded(trial_id, TrialState.CANCELLED))
            return
        attempts = self._retries + 1 if late is None else self._deaths[trial_id] + 1
        try:
            record = record_loss(self._feed.jobs[trial_id], attempts, late or _why(trial))
        except StoreError as error:
            self.trouble, self._feed.closed = error, True
            return
        self._end(replace(TrialEnded.of(record), error_key=None))

    def _end(self, ended: TrialEnded) -> None:
        self._watch(ended)
        try:
            self._feed.ended(ended)
        except StoreError as error:
            self.trouble, self._feed.closed = error, True


@contextlib.contextmanager
def _tune_settings(options: RunOptions) -> Iterator[None]:
    """Tune's switches that are environment variables only; set back afterwards."""
    slots = PENDING_PER_CORE * _slots(options.share)  # of now: a shared cluster may grow
    pending = max(LEAST_PENDING, slots) if options.may is None else NO_LIMIT
    settings = {
        "RAY_AIR_NEW_OUTPUT": "0",  # the progress display is ours
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # our store replaces Ray's files per trial
        "TUNE_DISABLE_SIGINT_HANDLER": "1",  # the caller decides what Ctrl-C means
        "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths in a spec mean the user's folder
        "TUNE_MAX_PENDING_TRIALS_PG": str(pending),
        "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # the last result is the end, without a number
        "TUNE_GLOBAL_CHECKPOINT_S": "86400",  # we resume from our store, not from Tune's snapshot
        "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _slots(share: TrialShare) -> int:
    """How many trials the cluster runs at once, by its cores."""
    return max(1, int(ray.cluster_resources().get("CPU", 1.0) / max(share.cpu, 0.01)))


def _trial_id(trial: Any) -> str:
    return job_from_text(trial.config["job"]).trial.trial_id


def _why(trial: Any) -> str:
    """What Ray says of a trial's last failure, and what its worker said at last.

    Tune writes it into the trial's local folder, and looks for it in the storage, to which it is
    copied later.
    """
    path = trial.error_file
    if path is None or not Path(path).is_file():
        return "Ray gave no reason"
    text = re.split(r"^Failure # \d+ .*$", Path(path).read_text(), flags=re.MULTILINE)[-1]
    # Advice for any death at all names every cause that there is.
    lines = [line.partition("Some common causes")[0].strip() for line in text.splitlines()]
    reasons = [line for line in lines if line.startswith(RAYS_REASONS) or "Error:" in line]
    said = " ".join(dict.fromkeys(reasons)) or next((line for line in lines[::-1] if line), "")
    pid = re.search(r"^\s*pid: (\d+)$", text, re.MULTILINE)
    tail = last_words(int(pid[1])) if pid else ""
    # What says most comes last, where an error is read first.
    return "\n".join(filter(None, (tail, said))) or "Ray gave no reason"
