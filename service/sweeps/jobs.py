"""From a prepared sweep to running trials: its jobs, here or on Ray, planned or searched for.

What is heavy to import (Ray, Optuna) is imported when a sweep runs.
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sickbay.service.query.lookup import SweepError
from sickbay.service.query.status import gpu_sharing, gpu_use
from sickbay.service.sweeps.prepare import Prepared, code_version, search_task
from sickbay.trials.contract import TrialConfig, TrialState
from sickbay.trials.diagnosis.failures import Failure, classify
from sickbay.trials.events import ErrorStorm, Event, Retried, StormWatch, TrialEnded, Watch
from sickbay.trials.execution.fair_share import Claim, FairShare, TrialShare
from sickbay.trials.execution.lease import LeaseKeeper
from sickbay.trials.execution.machine.packing import gpu_share, trials_per_gpu
from sickbay.trials.execution.trial import RunPolicy, TrialJob
from sickbay.trials.spec import plan
from sickbay.trials.spec.command import command_of
from sickbay.trials.spec.model import ConfirmedSeeds, RangeSpec, SequentialSeeds
from sickbay.trials.store.reader import trial_states

if TYPE_CHECKING:
    from sickbay.trials.search.loop import Search, TrialSource


@dataclass(frozen=True)
class Running:
    """The observer of events, and the tests of whether a further trial may begin."""

    watch: Watch
    stopping: Callable[[], bool]
    heart: LeaseKeeper | None = None  # of a driver that shares its cluster
    overdue: Callable[[], bool] = lambda: False  # whether running trials are to be killed
    lease: str = ""  # under which workers write
    grant: Callable[[float], None] = lambda gpus: None  # noqa: ARG005 - hears each trial's GPUs


def check_scheduler(prepared: Prepared, *, in_process: bool) -> None:
    """Refuse a scheduler where trials run one by one; raises SweepError."""
    kind = prepared.spec.early_stop.scheduler
    if kind != "none" and in_process:
        raise SweepError(
            f"early_stop.scheduler: {kind} compares trials that run side by side, and in this "
            "process they run one by one: leave out --in-process, or set `scheduler: none`"
        )


def run_here(prepared: Prepared, running: Running) -> bool:
    """Run what is missing one by one; says whether a source of trials is complete."""
    from sickbay.trials.execution import inline  # noqa: PLC0415  Optuna is slow

    make_job = _job_maker(prepared, running.lease, cpu=cpu_of(prepared), gpu=0.0)
    retries, stopping = prepared.spec.retries, running.stopping
    source = _source(prepared, inline.open_search)
    if source is None:
        jobs = [make_job(trial) for trial in prepared.missing]
        inline.run_jobs(jobs, running.watch, retries=retries, stopping=stopping)
        return False
    inline.run_source(source, make_job, running.watch, retries=retries, stopping=stopping)
    return source.complete


@dataclass
class _Stretch:
    """A part of a run in which every trial gets the same share; most runs are a single one.

    A sweep that packs GPUs runs `together` trials on each; one that `measures` runs one trial.
    """

    share: TrialShare
    together: int = 1
    measures: bool = False
    overflowed: bool = False
    storm: ErrorStorm | None = None
    storms: StormWatch = field(default_factory=StormWatch)  # this and the next: of the whole run
    ended: dict[str, TrialEnded] = field(default_factory=dict)

    def see(self, event: Event) -> None:
        """Take in the end of a trial."""
        if isinstance(event, TrialEnded) and event.state != TrialState.CANCELLED:
            self.ended[event.trial_id] = event
            self.storm = self.storm or self.storms.see(event)

    def repeats(self, event: Event) -> bool:
        """Whether a trial failed for the same reason by its own account, as a script does."""
        if not isinstance(event, TrialEnded) or event.state != TrialState.FAILED:
            return False
        return self.repacks(event.error or "")

    def repacks(self, why: str) -> bool:
        """Whether a trial was lost because too many shared a GPU, which ends this stretch."""
        if self.together > 1 and classify(text=why) is Failure.GPU_OUT_OF_MEMORY:
            self.overflowed = True
            return True
        return False


def run_on_ray(prepared: Prepared, running: Running, share: TrialShare) -> bool:
    """Run what is missing on the connected Ray; says whether a source of trials is complete.

    With `resources.gpu: pack` one trial runs alone, then as many share a GPU as its use allows. If
    one of them runs out of the GPU's memory, those that run come to their end, and what is missing
    then runs half as many at a time.
    """
    stretch = _Stretch(share)
    try:
        while True:
            if prepared.spec.resources.gpu == "pack":
                stretch = _next_stretch(prepared, stretch)
            running.grant(stretch.share.gpu)
            complete = _run_stretch(prepared, running, stretch)
            if stretch.storm is not None:
                raise stretch.storm
            if running.stopping() or not (stretch.measures or stretch.overflowed):
                return complete
    finally:
        if running.heart:
            running.heart.release()  # the others need not wait until the results are merged


def _next_stretch(prepared: Prepared, before: _Stretch) -> _Stretch:
    """How many trials share a GPU next, by what was measured and how the stretch before ended."""
    use = gpu_use(prepared.store, prepared.sweep_id)
    together = 1 if use is None else trials_per_gpu(use)
    if before.overflowed:
        together = min(together, before.together // 2)
    elif shared := gpu_sharing(prepared.store, prepared.sweep_id):  # by an earlier run
        together = min(together, int(1.0 / shared))
    judged = any(event.health is not None for event in before.ended.values())
    return replace(
        before,
        share=TrialShare(before.share.cpu, gpu_share(together)),
        together=together,
        measures=use is None and not judged,
        overflowed=False,
    )


def _run_stretch(prepared: Prepared, running: Running, stretch: _Stretch) -> bool:
    from sickbay.trials.execution import ray_tune as tune  # noqa: PLC0415  Ray is slow
    from sickbay.trials.execution.ray_lanes.run import run_jobs  # noqa: PLC0415  as it is

    spec, share, ended = prepared.spec, stretch.share, frozenset(stretch.ended)
    make_job = _job_maker(prepared, running.lease, cpu=share.cpu, gpu=share.gpu)
    fair = _fair(prepared, running.heart, share) if running.heart else None
    watch = both(stretch.see, running.watch)
    most = fair.most if fair else None

    def see(event: Event) -> None:
        if stretch.repeats(event):
            running.watch(Retried(event.trial_id, 1))
        else:
            watch(event)

    def stopping() -> bool:
        measured = stretch.measures and len(stretch.ended) > len(ended)
        return running.stopping() or measured or stretch.overflowed

    options = tune.RunOptions(
        share=share,
        watch=both(fair.see, see) if fair else see,
        retries=spec.retries,
        stopping=stopping,
        stop=spec.early_stop,
        goal=plan.objective_of(spec, prepared.workload).goal,
        epochs=_longest(prepared),
        most=(lambda: 1) if stretch.measures else most,
        overdue=running.overdue,
        repacks=stretch.repacks,
    )
    source = _source(prepared, tune.open_search, ended)
    if source is None:
        trials = [trial for trial in prepared.missing if trial.trial_id not in ended]
        run_jobs([make_job(trial) for trial in trials[: 1 if stretch.measures else None]], options)
        return False
    tune.run_source(source, make_job, options)
    return source.complete


def _source(
    prepared: Prepared,
    open_search: "Callable[[Any, Callable[[str], bool]], Search]",
    ended: Collection[str] = (),
) -> "TrialSource | None":
    """What decides while it runs which trials come next; None where all are planned.

    Trials that have `ended` in this run are not run again, however they ended.
    """
    done = _done(prepared, ended)
    if prepared.searches:
        search = open_search(search_task(prepared), done)
        if not isinstance(prepared.spec.seeds, ConfirmedSeeds):
            return search
        from sickbay.trials.search.confirm import ConfirmedSearch  # noqa: PLC0415  Optuna is slow

        return ConfirmedSearch(search, done)
    rule = prepared.spec.seeds
    if not isinstance(rule, SequentialSeeds):
        return None
    from sickbay.trials.search import outcomes, sequential  # noqa: PLC0415  scipy is slow

    store = prepared.store
    objective = plan.objective_of(prepared.spec, prepared.workload)
    everything = plan.plan(prepared.spec, prepared.workload).trials
    return sequential.SequentialSweep(
        rule,
        sequential.by_arm_and_seed(everything),
        objective,
        lambda trial_id: outcomes.read_outcome(
            store, prepared.sweep_id, trial_id, [objective.signal]
        ),
        done,
    )


def _fair(prepared: Prepared, heart: LeaseKeeper, share: TrialShare) -> FairShare:
    """Claim a share of the connected cluster, and keep to it."""
    from sickbay.trials.execution import ray_cluster as ray  # noqa: PLC0415  Ray is slow

    claim = Claim(
        cluster=ray.cluster_address(),
        priority=prepared.spec.priority,
        cpu=share.cpu,
        gpu=share.gpu,
        wanted=prepared.left,
    )
    return FairShare(prepared.sweep_id, claim, heart.others, heart.claim, ray.cluster_resources)


def both(first: Watch, second: Watch) -> Watch:
    """Pass each event to two observers."""

    def see(event: Event) -> None:
        first(event)
        second(event)

    return see


def cpu_of(prepared: Prepared) -> float:
    """The number of cores of one trial."""
    asked = prepared.spec.resources.cpu
    return prepared.workload.resources.cpu if asked is None else asked


def _done(prepared: Prepared, ended: Collection[str]) -> Callable[[str], bool]:
    """A test whether a trial is stored: a search may suggest what another design has run."""
    states = trial_states(prepared.store, prepared.sweep_id)
    return lambda trial_id: trial_id in ended or prepared.done(states.get(trial_id))


def _longest(prepared: Prepared) -> int:
    """The most epochs that a trial may have, for a scheduler."""
    levels = prepared.spec.factors.get("epochs", ())
    swept = (levels.high,) if isinstance(levels, RangeSpec) else levels
    settings = {**prepared.workload.defaults, **prepared.spec.fixed}
    planned = [trial.epochs for trial in prepared.missing]
    return max(int(epochs) for epochs in (*swept, settings.get("epochs", 1), *planned))


def _job_maker(
    prepared: Prepared, lease: str, *, cpu: float, gpu: float
) -> Callable[[TrialConfig], TrialJob]:
    spec, workload = prepared.spec, prepared.workload
    stop = spec.early_stop
    resources = spec.resources
    policy = RunPolicy(
        stop_pathological=stop.pathology,
        audit=stop.audit,
        trial_seconds=resources.trial_hours and resources.trial_hours * 3600,
        silence_seconds=resources.silence_minutes and resources.silence_minutes * 60,
    )
    objective = plan.objective_of(spec, workload)
    command, commit = command_of(spec), code_version(Path.cwd())
    scratch = _scratch(prepared)

    def make(trial: TrialConfig) -> TrialJob:
        return TrialJob(
            store=prepared.store.absolute,
            sweep_id=prepared.sweep_id,
            trial=trial,
            arm=plan.arm_name(trial.config, trial.changed),
            objective=objective,
            workdir=f"{scratch}-{trial.trial_id}",
            threads=max(1, int(cpu)),
            gpus=gpu,
            policy=policy,
            lease=lease,
            command=command,
            git_commit=commit,
        )

    return make


def _scratch(prepared: Prepared) -> Path:
    """Prefix of the scratch folders of a sweep's trials; the caller creates the parent first.

    Ids are the same wherever a spec runs: the folders differ by user and by store.
    """
    store = hashlib.sha256(prepared.store.absolute.encode()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"sickbay-trials-{os.getuid()}"
    return folder / f"{store}-{prepared.sweep_id}"


def clear_scratch(prepared: Prepared) -> None:
    """Remove scratch files left by killed workers of this sweep; scripts continue from theirs."""
    scratch = _scratch(prepared)
    if prepared.spec.command is None:
        for folder in scratch.parent.glob(f"{scratch.name}-*"):
            shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):  # in use by other sweeps, or never made
        scratch.parent.rmdir()
