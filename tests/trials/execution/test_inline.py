"""The runner without Ray: retries, storms, stopping."""

import pytest
import toy_sweeps

from sickbay.trials.events import ErrorStorm, Retried, Started, TrialEnded
from sickbay.trials.execution.inline import run_jobs


def run_all(jobs, retries=2, stopping=lambda: False):
    events = []
    run_jobs(jobs, events.append, retries=retries, stopping=stopping)
    return events


def jobs(tmp_path, n, **settings):
    return [toy_sweeps.job(tmp_path / "store", seed=seed, **settings) for seed in range(n)]


def test_each_trial_begins_and_ends_in_the_planned_order(tmp_path):
    planned = jobs(tmp_path, 2)
    events = run_all(planned)
    assert [type(event) for event in events] == [Started, TrialEnded, Started, TrialEnded]
    assert [e.trial_id for e in events[::2]] == [job.trial.trial_id for job in planned]


def test_out_of_memory_is_retried_and_then_a_failed_trial_that_ends_nothing_else(tmp_path):
    events = run_all(jobs(tmp_path, 1, fault="oom"))
    assert [type(event) for event in events] == [Started, Retried, TrialEnded]
    assert events[-1].state == "completed"
    events = run_all(jobs(tmp_path, 4, fault="oom", fault_times=9, note="always"), retries=1)
    ended = [event for event in events if isinstance(event, TrialEnded)]
    assert [(event.state, event.health) for event in ended] == [("failed", None)] * 4
    assert "in each of 2 attempts; the last: MemoryError('planted" in ended[0].error


def test_a_pathology_is_never_retried(tmp_path):
    events = run_all(jobs(tmp_path, 1, fault="nan"))
    assert [type(event) for event in events] == [Started, TrialEnded]


def test_the_same_exception_three_times_ends_the_sweep(tmp_path):
    with pytest.raises(ErrorStorm, match="planted: the toy raises"):
        run_all(jobs(tmp_path, 5, fault="raise"))


def test_nothing_begins_after_a_request_to_stop(tmp_path):
    answers = iter([False, True])
    events = run_all(jobs(tmp_path, 3), stopping=lambda: next(answers))
    assert [type(event) for event in events] == [Started, TrialEnded]
