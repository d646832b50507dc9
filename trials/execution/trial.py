"""Run one trial in this process: pull rows, diagnose, stop, write. No Ray.

`run_trial` is a generator that yields the epoch after each row, so that its caller (a loop, a Ray
actor) can check for a stop, and returns the trial's record: the same rows wherever it runs.
"""

import functools
import hashlib
import itertools
import json
import math
import sys
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from shutil import rmtree
from time import monotonic  # by its name: training code may patch the module
from time import time as unix_time
from typing import Any
from uuid import uuid4

from sickbay.trials import registry
from sickbay.trials.contract import (
    Context,
    Finding,
    Goal,
    Label,
    Objective,
    Row,
    TaskFacts,
    TrialConfig,
    TrialState,
    Workload,
    label_stands,
)
from sickbay.trials.detector import Detector, signals_read
from sickbay.trials.diagnosis.diagnose import (
    diagnose,
    look,
    may_be_pathological,
    online_stop,
    under_suspicion,
)
from sickbay.trials.diagnosis.failures import Failure, classify
from sickbay.trials.errors import ends_worker
from sickbay.trials.execution.command import Output, Restart, ScriptError, printed, script_workload
from sickbay.trials.execution.lease import check_lease
from sickbay.trials.execution.machine.gpu import visible_gpu
from sickbay.trials.execution.machine.groups import note_groups, noted_groups
from sickbay.trials.execution.machine.watchdog import Limits, TrialTimeout, Watchdog
from sickbay.trials.execution.process_state import restored
from sickbay.trials.execution.recorder import TrialLog
from sickbay.trials.seeding import pick_device, seed_everything
from sickbay.trials.spec.command import DEFAULT_OBJECTIVE, Command
from sickbay.trials.store import (
    Store,
    StoreError,
    TrialRecord,
    latest_attempt,
    open_store,
    requested,
    start_attempt,
    write_trial,
)
from sickbay.trials.store.files import private_folder
from sickbay.trials.store.reader import read_epoch_records
from sickbay.trials.store.writer import write_output

# After this many evaluations only every second is looked at online, after twice as many every
# fourth, and so on: a deterministic schedule that keeps the cost of diagnosis a small share of any
# run.
DENSE_LOOKS = 64

_remover = ThreadPoolExecutor(1, "sickbay-remover")
_removals: list[Future[None]] = []  # that goes on, if one does

TrialRun = Generator[int, None, TrialRecord]


@dataclass(frozen=True)
class Evaluation:
    """What a running trial showed at its latest evaluation, numbered from 1.

    `objective` is None where not recorded, `floor` that of the best constant predictor if known.
    `suspect` says that the numbers are not to be believed for now.
    """

    number: int
    objective: float | None
    floor: float | None
    suspect: bool


OnEvaluation = Callable[[Evaluation], None]


class Pruned(Exception):  # noqa: N818 - not an error: thrown into a run to end it
    """Thrown into a run by a scheduler: the trial ends here and is stored as pruned."""


@dataclass(frozen=True)
class RunPolicy:
    """How a trial is run, whatever it trains. Durations in seconds."""

    stop_pathological: bool = True
    audit: float = 0.05  # share of would-be stops that run on, to measure false stops
    flush_seconds: float = 2.0  # how much work a crash may cost
    checkpoint_seconds: float = 30.0
    control_seconds: float = 1.0  # how often the store is asked whether the sweep was cancelled
    trial_seconds: float | None = None  # that a trial may run, and
    silence_seconds: float | None = None  # that it may say nothing, before it has failed


@dataclass(frozen=True)
class TrialJob:
    """One trial and where it belongs: everything a worker needs to know, as plain data."""

    store: str
    sweep_id: str
    trial: TrialConfig
    arm: str
    objective: Objective
    workdir: str
    threads: int = 1
    gpus: float = 0.0
    policy: RunPolicy = field(default_factory=RunPolicy)
    command: Command | None = None  # of a script; else the trial names its workload
    git_commit: str = ""
    lease: str = ""  # of the driver that handed it out; without one nothing is checked


@dataclass
class _Progress:
    """What has become of the trial so far; filled in while it runs."""

    workload_version: str = ""
    code: str = ""
    facts: TaskFacts = field(default_factory=TaskFacts)
    state: TrialState = TrialState.FAILED
    error: str | None = None
    failure: Failure | None = None
    online_pathology: str | None = None
    online_epoch: int | None = None
    audited: bool = False
    suspect: bool = False


def run_trial(job: TrialJob, on_evaluation: OnEvaluation | None = None) -> TrialRun:
    """Run a trial to its end and store everything about it; yields epochs, returns the record.

    `on_evaluation` is called with every evaluation but the last. Throwing `Pruned` into the run
    ends it. An exception of the user's code ends in the state `failed`, with its traceback. Running
    out of memory, StoreError and signals are raised: the caller may try again. Raises
    LeaseLostError, and writes nothing more, when another driver has taken over.
    """
    store = open_store(job.store)
    started = unix_time()
    clock = monotonic()
    device = pick_device(job.gpus)
    trial_id = job.trial.trial_id
    check_lease(store, job.sweep_id, job.lease)
    attempt = start_attempt(
        store,
        job.sweep_id,
        trial_id,
        device=device,
        started_at=started,
        trial=job.trial,
        arm=job.arm,
    )
    policy = job.policy
    log = TrialLog(
        store, job.sweep_id, trial_id, attempt, policy.flush_seconds, policy.checkpoint_seconds
    )
    log.meter.gpu = visible_gpu() if device == "cuda" else None
    watchdog = Watchdog(Limits(policy.trial_seconds, policy.silence_seconds))
    progress = _Progress()
    try:
        log.begin()
        with restored(), watchdog:
            progress.state = yield from _train(job, device, log, watchdog, progress, on_evaluation)
        log.flush()
        label, findings = _judge(job, log, progress)
    # sys.exit() in training code ends one trial, too
    except (Exception, SystemExit, TrialTimeout) as error:
        if isinstance(error, StoreError) or ends_worker(error):
            raise  # nothing could be recorded where nothing can be written, or by whom must go
        log.flush()
        if out_of_memory(error):
            raise
        progress.state = TrialState.FAILED
        # of a script its own words say why, not the frames that started it
        by_script = isinstance(error, ScriptError)
        progress.error = f"ScriptError: {error}" if by_script else traceback.format_exc()
        late = isinstance(error, TrialTimeout)
        progress.failure = Failure.TIMEOUT if late else classify(error)
        label, findings = None, ()
    seconds = monotonic() - clock
    record = replace(
        _record(job, log, progress, attempt),
        label=label,
        device=device,
        started_at=started,
        finished_at=unix_time(),
        wall_seconds=seconds,
        gpu_seconds=seconds * job.gpus,
    )
    check_lease(store, job.sweep_id, job.lease)
    if job.command is not None:
        write_output(store, job.sweep_id, trial_id, printed(Path(job.workdir)))
    write_trial(store, record, findings)
    if job.command is None or progress.state is not TrialState.CANCELLED:
        _discard(Path(job.workdir))  # a script goes on from what it kept there
    return record


def record_loss(job: TrialJob, attempts: int, why: str) -> TrialRecord:
    """Store a trial whose worker or memory was lost for good as failed, keeping its rows.

    Raises StoreError if that cannot be written.
    """
    store = open_store(job.store)
    check_lease(store, job.sweep_id, job.lease)
    rows = read_epoch_records(store, job.sweep_id, job.trial.trial_id)
    record = TrialRecord(
        sweep_id=job.sweep_id,
        trial=job.trial,
        workload_version="",
        arm=job.arm,
        state=TrialState.FAILED,
        # earlier runs of the sweep may have counted attempts before this one's
        attempt=max(attempts, latest_attempt(store, job.sweep_id, job.trial.trial_id)),
        epochs_run=rows[-1].row.epoch if rows else 0,
        error=f"lost its worker, node or memory in each of {attempts} attempts; the last: {why}",
        failure=classify(text=why),
        finished_at=unix_time(),
    )
    write_trial(store, record)
    return record


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that host or GPU memory ran out."""
    # torch's own class is recognised by name, as this package does not import torch
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def audited(trial_id: str, share: float) -> bool:
    """Whether a trial that would be stopped runs on, to count false stops: by a hash of its id.

    `share` is in [0, 1].
    """
    draw = int(hashlib.sha256(f"audit {trial_id}".encode()).hexdigest()[:8], 16)
    return draw < share * 16**8


def looks_online(n: int) -> bool:
    """Whether the diagnosis looks at a running trial after its n-th evaluation."""
    return n % (1 << max(0, (n - 1) // DENSE_LOOKS).bit_length()) == 0


def _train(
    job: TrialJob,
    device: str,
    log: TrialLog,
    watchdog: Watchdog,
    progress: _Progress,
    on_evaluation: OnEvaluation | None,
) -> Generator[int, None, TrialState]:
    workload = _workload(job)
    progress.workload_version = workload.version
    progress.code = workload.code or f"sickbay {version('sickbay')}"
    cancelled = _cancellation(log.store, job)
    if cancelled():
        return TrialState.CANCELLED
    make_workdir(Path(job.workdir))
    seed, epochs = job.trial.seed, job.trial.epochs
    context = Context(seed, epochs, device, job.workdir, log.restore, log.save, job.threads)
    with _closed_after(_seeded_rows(workload, job, context, log, progress)) as rows:
        for news in watchdog.watched(rows):
            waits = job.command is not None and news is None
            if _noted(news, log, progress):
                continue
            if not waits:
                taken = log.take(news)
                if _stops(job, log, progress, shown=on_evaluation is not None):
                    return TrialState.STOPPED
                if on_evaluation is not None:
                    on_evaluation(_evaluation(job, taken, len(log.records), progress))
            try:
                yield log.last_epoch or 0
            except Pruned:
                return TrialState.PRUNED
            if job.command is None and (log.last_epoch or 0) >= job.trial.epochs:
                break  # a script comes to its end by itself
            if cancelled():
                log.keep_checkpoint()  # whatever the clock says: the trial is to go on from here
                return TrialState.CANCELLED
    _check_ending(log, job)
    return TrialState.COMPLETED


def make_workdir(path: Path) -> None:
    """Make a trial's scratch folder below one that is this user's own; raises StoreError if not."""
    private_folder(path.parent)
    try:
        path.mkdir(exist_ok=True)
    except FileNotFoundError:  # another sweep that has just ended removed the empty parent
        private_folder(path.parent)
        path.mkdir(exist_ok=True)


def _discard(folder: Path) -> None:
    """Remove a folder: at once by its name, in the background from the disk.

    Some file systems take milliseconds even for an empty folder, and a large one takes longer. The
    removal before this one is waited for, so that no more than one folder takes up space.
    """
    with suppress(OSError):
        gone = folder.rename(folder.with_name(f"{folder.name}-{uuid4().hex[:8]}"))
        if _removals:
            _removals.pop().result()
        _removals.append(_remover.submit(rmtree, gone, ignore_errors=True))


def _workload(job: TrialJob) -> Workload:
    if job.command is None:
        return registry.workload(job.trial.workload)
    return script_workload(job.command, job.objective, job.threads, signals_read(detectors()))


def _noted(news: object, log: TrialLog, progress: _Progress) -> bool:
    """Take in what a script's reader says beside rows; false for rows."""
    if isinstance(news, Restart):
        log.forget(read_again=True)
    elif isinstance(news, TaskFacts):
        progress.facts = news
    else:
        return isinstance(news, Output)
    return True


def _planned(job: TrialJob, log: TrialLog) -> int:
    """The epochs planned; a script may have been written to train for more than was said."""
    said = job.trial.epochs
    return said if job.command is None else max(said, log.last_epoch or 0)


def _seeded_rows(
    workload: Workload, job: TrialJob, context: Context, log: TrialLog, progress: _Progress
) -> Iterator[Row]:
    """Yield the workload's rows, with every source of chance set just before it begins."""
    while True:
        seed_everything(job.trial.seed, job.threads)
        had_torch = "torch" in sys.modules
        progress.facts = workload.facts(job.trial.config, context)
        if not had_torch and "torch" in sys.modules:
            continue  # loaded by the facts, after the seeds were set: once more
        # Facts may have drawn random numbers; training must not depend on whether they did.
        seed_everything(job.trial.seed, job.threads)
        note_groups(())
        with _closed_after(workload.train(job.trial.config, context)) as rows:
            first = list(itertools.islice(rows, 1))
            if had_torch or "torch" not in sys.modules:
                if not progress.facts.groups:
                    progress.facts = replace(progress.facts, groups=noted_groups())
                yield from itertools.chain(first, rows)
                return
        # Torch was imported by the training code itself, after the seeds were set: once more, so
        # that the first trial of a process equals every later one.
        log.forget()


@contextmanager
def _closed_after(rows: Iterator[Row]) -> Iterator[Iterator[Row]]:
    """Let a generator's `finally` run at once; any other iterator has nothing to close."""
    try:
        yield rows
    finally:
        if isinstance(rows, Generator):
            rows.close()


def _stops(job: TrialJob, log: TrialLog, progress: _Progress, *, shown: bool) -> bool:
    """Look at the trial while it runs; say whether to stop it.

    Only where evaluations are `shown` does it matter whether the trial is suspect.
    """
    if progress.online_pathology is not None or not looks_online(len(log.records)):
        return False
    history = log.history(progress.facts, _planned(job, log), finished=False)
    judges = detectors()
    if not shown and not may_be_pathological(history, judges):
        return False
    diagnosis = look(history, judges)
    progress.suspect = under_suspicion(diagnosis)
    if not online_stop(diagnosis, judges):
        return False
    progress.online_pathology = diagnosis.label.pathology
    progress.online_epoch = int(history.epochs[-1])
    if not job.policy.stop_pathological or history.epochs[-1] >= job.trial.epochs:
        return False
    progress.audited = audited(job.trial.trial_id, job.policy.audit)
    return not progress.audited


def _evaluation(job: TrialJob, row: Row, number: int, progress: _Progress) -> Evaluation:
    signal = job.objective.signal
    value = row.signals.get(signal)
    return Evaluation(
        number=number,
        objective=float(value) if isinstance(value, int | float) else None,
        floor=progress.facts.floors.get(signal),
        suspect=progress.suspect,
    )


@functools.cache
def detectors() -> tuple[Detector, ...]:
    """Every detector that is installed here, loaded once a process."""
    return registry.all_detectors()


def _cancellation(store: Store, job: TrialJob) -> Callable[[], bool]:
    """Make a question that may be asked after every row, and asks the store once in a while."""
    asked_at, answer = -math.inf, False

    def cancelled() -> bool:
        nonlocal asked_at, answer
        now = monotonic()
        if now - asked_at >= job.policy.control_seconds:
            asked_at = now
            check_lease(store, job.sweep_id, job.lease)
            answer = requested(store, job.sweep_id) == "cancel"
        return answer

    return cancelled


def _check_ending(log: TrialLog, job: TrialJob) -> None:
    signal = job.objective.signal
    assumed = job.command is not None and job.objective == DEFAULT_OBJECTIVE
    if not log.records:
        raise ValueError(f"the workload {job.trial.workload!r} yielded no row")
    if not assumed and all(signal not in row.signals for row in log.rows):
        recorded = ", ".join(sorted(log.records[-1].row.signals))
        raise ValueError(
            f"the objective {signal!r} was never recorded by {job.trial.workload!r}; "
            f"its rows hold: {recorded}. Set `objective` in the spec, or yield that signal."
        )


def _judge(
    job: TrialJob, log: TrialLog, progress: _Progress
) -> tuple[Label | None, tuple[Finding, ...]]:
    """Judge what a trial left behind; the label only where it `stands`, the findings always."""
    finished = progress.state is TrialState.COMPLETED
    history = log.history(progress.facts, _planned(job, log), finished=finished)
    diagnosis = diagnose(history, detectors())
    stands = label_stands(progress.state, diagnosis.label.health)
    return (diagnosis.label if stands else None), diagnosis.findings


def _record(job: TrialJob, log: TrialLog, progress: _Progress, attempt: int) -> TrialRecord:
    last, best = objectives(log.rows, job.objective)
    return TrialRecord(
        sweep_id=job.sweep_id,
        trial=job.trial,
        workload_version=progress.workload_version,
        arm=job.arm,
        state=progress.state,
        attempt=attempt,
        facts=progress.facts,
        objective=last,
        best_objective=best,
        epochs_run=log.last_epoch or 0,
        error=progress.error,
        failure=progress.failure,
        online_pathology=progress.online_pathology,
        online_epoch=progress.online_epoch,
        audited=progress.audited,
        code=progress.code,
        git_commit=job.git_commit,
    )


def objectives(rows: Sequence[Row], objective: Objective) -> tuple[float | None, float | None]:
    """The objective's last value, NaN where that is what it was, and its best finite one."""
    values = [row.signals.get(objective.signal) for row in rows]
    numbers = [float(value) for value in values if isinstance(value, int | float)]
    finite = [value for value in numbers if math.isfinite(value)]
    best = (min if objective.goal is Goal.MINIMIZE else max)(finite, default=None)
    return (numbers[-1] if numbers else None), best


def job_text(job: TrialJob) -> str:
    """Write a job as JSON text, which is also one key in Tune's books."""
    return json.dumps(asdict(replace(job, trial=replace(job.trial, config=dict(job.trial.config)))))


def job_from_text(text: str) -> TrialJob:
    """Read what `job_text` wrote."""
    values = json.loads(text)
    values["trial"] |= {"changed": tuple(values["trial"]["changed"])}
    goal = Goal(values["objective"]["goal"])
    values |= {
        "trial": TrialConfig(**values["trial"]),
        "objective": Objective(values["objective"]["signal"], goal),
        "policy": RunPolicy(**values["policy"]),
        "command": _command(values["command"]),
    }
    return TrialJob(**values)


def _command(values: dict[str, Any] | None) -> Command | None:
    if values is None:
        return None
    tokens, metrics = tuple(values["words"]), tuple(values["metrics"])
    return Command(**{**values, "words": tokens, "metrics": metrics})
