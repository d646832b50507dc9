"""Run a list of trials one after another in this process, without Ray.

The twin of `tune.run_jobs`, for machines without Ray, for debuggers and for tests: the same
trials, the same rows, the same store.
"""

from collections.abc import Callable, Sequence

from sickbay.trials.events import Ended, Retried, Started, StormWatch, Watch
from sickbay.trials.run import TrialJob, out_of_memory, run_trial
from sickbay.trials.store import TrialRecord


def run_jobs(
    jobs: Sequence[TrialJob],
    watch: Watch,
    *,
    retries: int,
    stopping: Callable[[], bool],
) -> None:
    """Run jobs in their order until all have ended or `stopping` answers true.

    A trial that runs out of memory begins again, at most `retries` times, and then raises. Raises
    ErrorStorm when the same exception of the user's code ended three trials in a row.
    """
    storms = StormWatch()
    for job in jobs:
        if stopping():
            return
        watch(Started(job.trial.trial_id))
        ended = Ended.of(_run_with_retries(job, watch, retries))
        watch(ended)
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


def _run_with_retries(job: TrialJob, watch: Watch, retries: int) -> TrialRecord:
    for deaths in range(1, retries + 1):
        try:
            return run_to_end(job)
        except Exception as error:
            if not out_of_memory(error):
                raise
            watch(Retried(job.trial.trial_id, deaths))
    return run_to_end(job)
