"""Run trials on Ray Tune, a Tune trial each: what a search suggests, and what a scheduler compares.

Only names and plain data cross to the workers, which store their own trials and send back a line
for the progress display. A trial is a class trainable that runs for a while each `step`, without
the thread and duplicate last result of a function. Planned trials without a scheduler take the
quicker `ray_lanes`, which shares `fit` and `Overseer`.
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
from sickbay.trials.events import ErrorStorm, Retried, Started, StormWatch, TrialEnded, Watch
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
from sickbay.trials.search.loop import Search, TrialSource
from sickbay.trials.search.study import SearchTask
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
NO_LIMIT = 10_000  # where `RunOptions.most` is the limit


@dataclass(frozen=True)
class RunOptions:
    """How all trials are run: the resources of each, the observers, when to end.

    The scheduler of `stop` compares trials of at most `epochs` epochs. `most()` limits the trials
    on the cluster; by default every core is kept busy. Once `overdue` returns true, running trials
    are killed, and run again on resume. `repacks(why)` is called for each lost trial: if true, it
    is left for a run with more room.
    """

    share: TrialShare
    watch: Watch
    retries: int
    stopping: Callable[[], bool]
    stop: EarlyStopSpec = field(default_factory=EarlyStopSpec)
    goal: Goal = Goal.MINIMIZE
    epochs: int = 1
    most: Callable[[], int] | None = None
    overdue: Callable[[], bool] = lambda: False
    repacks: Callable[[str], bool] = lambda why: False  # noqa: ARG005 - a default that says no


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


def run_scheduled(jobs: Sequence[TrialJob], options: RunOptions) -> None:
    """Run planned jobs that a scheduler compares; otherwise as `ray_lanes.run.run_jobs`."""
    if jobs:
        _fit_trials(_Feed(jobs, options), options)


def open_search(task: SearchTask, done: Callable[[str], bool]) -> Search:
    """Open the study of a search through Ray Tune's OptunaSearch, or make it.

    `done(trial_id)` says which trials of it need not be run. Raises StoreError for a store that no
    study can lie beside.
    """
    return Search(task, OptunaPort(task), done)


def run_source(
    source: TrialSource, make_job: Callable[[TrialConfig], TrialJob], options: RunOptions
) -> None:
    """Run what a search or a sequential sweep gives out, as `ray_lanes.run.run_jobs` runs jobs."""
    _fit_trials(_SourceFeed(source, make_job, options), options)


def _fit_trials(feed: "_Feed | _SourceFeed", options: RunOptions) -> None:
    scheduler = scheduler_of(options.stop, options.goal, options.epochs)
    fit(
        TrialActor,
        feed,
        _Follower(feed, options),
        options,
        TuneConfig(scheduler=scheduler, reuse_actors=True),
    )


def fit(
    trainable: type[Trainable],
    feed: Searcher,
    overseer: "Overseer",
    options: RunOptions,
    tune: TuneConfig,
    run: RunConfig | None = None,
) -> None:
    """Run trainables on the connected Ray until all have ended; raises what the overseer saw.

    `tune` and `run` hold what differs between the ways to run.
    """
    share = options.share
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a lost worker is an event of ours
    run = run or RunConfig(failure_config=FailureConfig(max_failures=options.retries))
    with tempfile.TemporaryDirectory(prefix="sickbay-ray-") as folder, _tune_settings(options):
        tuner = Tuner(
            with_resources(trainable, {"cpu": share.cpu, "gpu": share.gpu}),
            tune_config=replace(
                tune,
                search_alg=feed,
                num_samples=-1,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=replace(
                run,
                name="sweep",
                storage_path=folder,
                verbose=0,
                callbacks=[overseer],
                checkpoint_config=CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            ),
        )
        try:
            tuner.fit()
        except Exception:
            if overseer.trouble is None:
                check_alive()  # where Ray is dead, that is the reason of any error
                raise
    if overseer.trouble is not None:
        raise overseer.trouble
    if overseer.storm is not None:
        raise overseer.storm


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
        most = self._options.most
        return most is not None and len(self._running) >= most()

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
        trial = self._source.next(may_ask=len(self._running) < slots(self._options.share))
        if trial is None:
            return FINISHED if self._source.finished else None
        self.jobs[trial.trial_id] = self._make_job(trial)
        return self._hand_out(self.jobs[trial.trial_id])

    def ended(self, event: TrialEnded) -> None:
        super().ended(event)
        self._source.ended(event)


class Overseer(NotPickled, Callback):  # type: ignore[misc]
    """Looks around once a second: is Ray alive, and does anything run that should not."""

    def __init__(self, options: RunOptions) -> None:
        self._stopping, self._overdue = options.stopping, options.overdue
        self._looked = 0.0
        self._killed: set[str] = set()
        self._heard: dict[str, tuple[float, float]] = {}  # began, last heard of
        self._late: dict[str, str] = {}  # why a trial was killed that hung over its time
        self.storm: ErrorStorm | None = None
        self.trouble: OSError | None = None  # the store, or the local Ray, failed under the driver

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Look around; raises RayDiedError, which is this one's trouble then."""
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

    def job_of(self, trial: Any) -> TrialJob | None:
        """The job that a Tune trial runs at this moment; None if it runs none."""
        raise NotImplementedError

    def _hear(self, trial_id: str) -> None:
        """Take in a sign of life of a trial of ours."""
        now = time.monotonic()
        self._heard[trial_id] = self._heard.get(trial_id, (now, now))[0], now

    def _end_if_hanging(self, trial: Any) -> None:
        """Kill a worker that is over its trial's time and could not end it: it hangs in C."""
        job = self.job_of(trial)
        if job is None:
            return
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
            self._killed.add(trial.trial_id)
            trial.max_failures = 0  # it is not begun again by Tune
            ray.kill(actor)

    def was_killed(self, trial: Any) -> bool:
        """Whether a trial was, or is to be, killed for running too long."""
        return trial.trial_id in self._killed or self._overdue()


class _Follower(Overseer):
    """Turns callbacks into events, records trials whose worker is gone, sees error storms."""

    def __init__(self, feed: _Feed, options: RunOptions) -> None:
        super().__init__(options)
        self._watch = options.watch
        self._retries, self._repacks = options.retries, options.repacks
        self._feed = feed
        self._storms = StormWatch()
        self._deaths: Counter[str] = Counter()

    def job_of(self, trial: Any) -> TrialJob | None:
        return self._feed.jobs[_trial_id(trial)]

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        del iteration, trials, info
        self._heard.pop(_trial_id(trial), None)
        self._hear(_trial_id(trial))
        self._watch(Started(_trial_id(trial)))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        del iteration, trials, info
        trial_id = _trial_id(trial)
        self._hear(trial_id)
        if "ended" not in result:
            return
        ended = TrialEnded(**result["ended"])
        self._end(ended)
        self.storm = self.storm or self._storms.see(ended)
        self._feed.closed = self._feed.closed or self.storm is not None

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        del iteration, trials, info
        trial_id = _trial_id(trial)
        self._feed.closed = self._feed.closed or self._repacks(why(trial))
        self._deaths[trial_id] += 1
        self._watch(Retried(trial_id, self._deaths[trial_id]))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        del iteration, trials, info
        trial_id = _trial_id(trial)
        late = self._late.get(trial_id)
        if late is None and self.was_killed(trial):
            self._end(TrialEnded(trial_id, TrialState.CANCELLED))
            return
        if late is None and self._repacks(why(trial)):
            self._feed.closed = True
            return
        attempts = self._retries + 1 if late is None else self._deaths[trial_id] + 1
        try:
            record = record_loss(self._feed.jobs[trial_id], attempts, late or why(trial))
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
    wanted = PENDING_PER_CORE * slots(options.share)  # of now: a shared cluster may grow
    pending = max(LEAST_PENDING, wanted) if options.most is None else NO_LIMIT
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


def slots(share: TrialShare) -> int:
    """How many trials the connected cluster runs at once, by its cores and GPUs."""
    total = ray.cluster_resources()
    fits = int(total.get("CPU", 1.0) / max(share.cpu, 0.01))
    if share.gpu > 0:
        fits = min(fits, int(total.get("GPU", 0.0) / share.gpu))
    return max(1, fits)


def _trial_id(trial: Any) -> str:
    return job_from_text(trial.config["job"]).trial.trial_id


def why(trial: Any) -> str:
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
