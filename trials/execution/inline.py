"""Run a list of trials one after another in this process: `ray_lanes.run.run_jobs` without Ray."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import optuna

from sickbay.trials.contract import TrialConfig
from sickbay.trials.events import Retried, Started, StormWatch, TrialEnded, Watch
from sickbay.trials.execution.trial import TrialJob, out_of_memory, record_loss, run_trial
from sickbay.trials.search.loop import Search, StudyPort, TrialSource
from sickbay.trials.search.samplers import sampler
from sickbay.trials.search.study import SearchTask, open_storage, study_file
from sickbay.trials.store import TrialRecord


def run_jobs(
    jobs: Sequence[TrialJob], watch: Watch, *, retries: int, stopping: Callable[[], bool]
) -> None:
    """Run jobs in their order until all have ended or `stopping` returns true.

    A trial that runs out of memory is retried at most `retries` times. Raises ErrorStorm when the
    same exception of the user's code ended three trials in a row, StoreError when the store cannot
    be written.
    """
    storms = StormWatch()
    for job in jobs:
        if stopping():
            return
        watch(Started(job.trial.trial_id))
        ended = _run_with_retries(job, watch, retries)
        watch(ended)
        storm = storms.see(ended)
        if storm is not None:
            raise storm


def open_search(task: SearchTask, done: Callable[[str], bool]) -> Search:
    """Open the study of a search, or make it; `done(trial_id)` says what need not be run."""
    study = optuna.create_study(
        study_name=task.study_name,
        storage=open_storage(study_file(task.store, task.sweep_id)),
        sampler=sampler(task.spec.design, task.configurations, task.study_name, task.domain),
        directions=[goal.goal.value for goal in task.goals],
        load_if_exists=True,
    )
    return Search(task, StudyPort(study, task.space), done)


def run_source(
    source: TrialSource,
    make_job: Callable[[TrialConfig], TrialJob],
    watch: Watch,
    *,
    retries: int,
    stopping: Callable[[], bool],
) -> None:
    """Run what a search or a sequential sweep gives out, one by one, as `run_jobs` does."""
    storms = StormWatch()
    while not stopping():
        trial = source.next()
        if trial is None:
            return
        watch(Started(trial.trial_id))
        ended = _run_with_retries(make_job(trial), watch, retries)
        watch(ended)
        source.ended(ended)
        storm = storms.see(ended)
        if storm is not None:
            raise storm


def run_to_end(job: TrialJob) -> TrialRecord:
    """Run one trial to its end, without looking around in between."""
    run = run_trial(job)
    while True:
        try:
            next(run)
        except StopIteration as end:
            record: TrialRecord = end.value
            return record


def _run_with_retries(job: TrialJob, watch: Watch, retries: int) -> TrialEnded:
    deaths = 0
    while True:
        try:
            return TrialEnded.of(run_to_end(job))
        except Exception as error:
            if not out_of_memory(error):
                raise
            deaths += 1
            if deaths > retries:
                return replace(TrialEnded.of(record_loss(job, deaths, repr(error))), error_key=None)
        watch(Retried(job.trial.trial_id, deaths))
