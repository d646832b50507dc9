"""Trials on a real local Ray: what a worker's death, an exception and a reused process lead to."""

import json
import os
import signal
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import ray
import toy_sweeps

from sickbay.trials.events import ErrorStorm, ResourceError, Retried, Started, TrialEnded
from sickbay.trials.execution import ray_cluster, ray_tune
from sickbay.trials.execution.fair_share import TrialShare, gpu_fraction
from sickbay.trials.execution.inline import run_to_end
from sickbay.trials.execution.ray_lanes.run import run_jobs as run_planned
from sickbay.trials.execution.ray_tune import RunOptions
from sickbay.trials.execution.trial import RunPolicy, job_from_text, job_text
from sickbay.trials.store import open_store, request, requested
from sickbay.trials.store.reader import trial_states
from sickbay.trials.store.tables import load_tables

pytestmark = pytest.mark.filterwarnings(
    # Ray's own, on our Python and packages
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)


@pytest.fixture(scope="module", autouse=True)
def local_ray():
    with ray_cluster.connected(ray_cluster.Cluster(cpus=2)):
        yield


def jobs(tmp_path, n=1, first_seed=0, **settings):
    seeds = range(first_seed, first_seed + n)
    return [toy_sweeps.job(tmp_path / "store", seed=seed, **settings) for seed in seeds]


def run_jobs(planned, retries=2, stopping=lambda events: False, watch=None, cpu=1.0):
    """Run trials; gives the events, which `stopping` and `watch` see as they come."""
    events = []

    def record(event):
        events.append(event)
        if watch is not None:
            watch(event)

    options = RunOptions(TrialShare(cpu), record, retries, lambda: stopping(events))
    run_planned(planned, options)
    return events


def states(tmp_path):
    return trial_states(open_store(str(tmp_path / "store")), "s")


def test_a_job_survives_the_way_to_a_worker(tmp_path):
    job = toy_sweeps.job(tmp_path, lr=0.05)
    odd = replace(job, trial=replace(job.trial, changed=("lr",)), gpus=0.5)
    assert job_from_text(job_text(odd)) == odd


def test_trials_run_and_end_and_report_both(tmp_path):
    planned = jobs(tmp_path, 6)
    events = run_jobs(planned)
    ids = {job.trial.trial_id for job in planned}
    assert {e.trial_id for e in events if isinstance(e, Started)} == ids
    ended = [e for e in events if isinstance(e, TrialEnded)]
    assert {e.trial_id for e in ended} == ids
    assert {(e.state, e.health) for e in ended} == {("completed", "healthy")}
    assert states(tmp_path) == dict.fromkeys(ids, "completed")


@pytest.mark.slow
def test_a_reused_worker_gives_the_bits_of_a_process_of_one_s_own(tmp_path):
    """Six trials share two workers; each equals the same trial run here."""
    planned = jobs(tmp_path, 6)
    run_jobs(planned)
    for job in planned:
        run_to_end(replace(job, store=str(tmp_path / "here")))
        here, there = (
            toy_sweeps.comparable(toy_sweeps.stored_rows(tmp_path / name, job.trial.trial_id))
            for name in ("here", "store")
        )
        assert here == there


def test_a_killed_worker_s_trial_runs_again_and_no_row_is_doubled(tmp_path):
    planned = jobs(tmp_path, 1, fault="die")
    events = run_jobs(planned)
    assert [type(e) for e in events if not isinstance(e, Started)] == [Retried, TrialEnded]
    rows = toy_sweeps.stored_rows(tmp_path / "store", planned[0].trial.trial_id)
    assert [(attempt, row.epoch) for attempt, row in rows] == [(2, e) for e in range(1, 17)]


@pytest.mark.slow
def test_a_worker_that_dies_every_time_is_a_failed_trial_without_a_label(tmp_path):
    [job] = jobs(tmp_path, 1, fault="die", fault_times=99)
    events = run_jobs([job], retries=1)
    ended = events[-1]
    assert (ended.state, ended.health) == ("failed", None)
    assert "lost its worker, node or memory in each of 2 attempts" in ended.error
    assert states(tmp_path) == {job.trial.trial_id: "failed"}


@pytest.mark.slow
def test_a_worker_that_is_asked_to_leave_fails_no_trial(tmp_path):
    """As on a node that is drained, or when a driver's cluster loses its head."""
    [job] = jobs(tmp_path, 1, sleep_ms=100.0)

    over = threading.Event()

    def terminate_its_worker():
        pattern = f"_parts/*/{job.trial.trial_id}/attempt-1.json"
        while not (markers := list((tmp_path / "store").glob(pattern))) and not over.wait(0.05):
            pass
        os.kill(json.loads(markers[0].read_text())["pid"], signal.SIGTERM)

    with ThreadPoolExecutor(1) as pool:
        terminated = pool.submit(terminate_its_worker)
        try:
            events = run_jobs([job])
        finally:
            over.set()
        terminated.result()
    assert [type(e) for e in events if not isinstance(e, Started)] == [Retried, TrialEnded]
    assert events[-1].state == "completed"
    rows = toy_sweeps.stored_rows(tmp_path / "store", job.trial.trial_id)
    assert [(attempt, row.epoch) for attempt, row in rows] == [(2, e) for e in range(1, 17)]


@pytest.mark.slow
def test_a_worker_that_no_signal_reaches_is_killed_when_its_time_is_up(tmp_path, monkeypatch):
    monkeypatch.setattr(ray_tune, "HANGING_SECONDS", 2.0)
    policy = RunPolicy(silence_seconds=3.0)  # a busy machine may take a second to the first row
    [job] = jobs(tmp_path, 1, policy=policy, fault="deaf", fault_epoch=1)
    ended = run_jobs([job])[-1]
    assert (ended.state, ended.error_key) == ("failed", None)
    assert "silent for 3 s" in ended.error
    assert "in each of 1 attempts" in ended.error  # what hangs would hang again
    table = load_tables(open_store(str(tmp_path / "store")), ("trials",), ["s"]).tables["trials"]
    assert table["failure"].to_pylist() == ["timeout"]


@pytest.mark.slow
def test_a_dispenser_that_is_killed_is_replaced_and_no_trial_runs_twice(tmp_path):
    planned = jobs(tmp_path, 8, sleep_ms=30.0)
    killed = []

    def watch(event):
        if isinstance(event, TrialEnded) and not killed:
            [name] = [one for one in ray.util.list_named_actors() if "dispenser" in one]
            ray.kill(ray.get_actor(name))
            killed.append(name)

    events = run_jobs(planned, watch=watch)
    ended = Counter(e.trial_id for e in events if isinstance(e, TrialEnded))
    assert ended == dict.fromkeys((job.trial.trial_id for job in planned), 1)
    assert set(states(tmp_path).values()) == {"completed"}
    table = load_tables(open_store(str(tmp_path / "store")), ["trials"]).tables["trials"]
    attempts = Counter(table["attempt"].to_pylist())
    assert attempts[1] >= len(planned) - 2  # but for those that ran on two lanes
    for job in planned:
        rows = toy_sweeps.stored_rows(tmp_path / "store", job.trial.trial_id)
        assert [row.epoch for _, row in rows] == list(range(1, 17))


@pytest.mark.slow
def test_a_lane_that_has_grown_goes_on_in_a_new_process(tmp_path):
    planned = jobs(tmp_path, 4, fault="leak")
    events = run_jobs(planned, cpu=2.0)  # one lane
    assert [type(e) for e in events] == [Started, TrialEnded] * 4
    markers = [
        json.loads(
            next(tmp_path.glob(f"store/_parts/s/{job.trial.trial_id}/attempt-*")).read_text()
        )
        for job in planned
    ]
    first, second, third, fourth = (one["pid"] for one in markers)
    assert first == second != third == fourth
    assert {one["attempt"] for one in markers} == {1}


@pytest.mark.slow
def test_out_of_memory_is_retried(tmp_path):
    [job] = jobs(tmp_path, 1, fault="oom")
    events = run_jobs([job])
    assert [type(e) for e in events if not isinstance(e, Started)] == [Retried, TrialEnded]
    assert events[-1].state == "completed"


def test_a_pathology_is_never_retried(tmp_path):
    events = run_jobs(jobs(tmp_path, 1, fault="nan"))
    assert [type(e) for e in events] == [Started, TrialEnded]
    assert (events[-1].state, events[-1].pathology) == ("stopped", "non_finite")


def test_an_exception_is_recorded_not_retried_and_three_in_a_row_end_the_sweep(tmp_path):
    with pytest.raises(ErrorStorm, match="planted: the toy raises in epoch 3"):
        run_jobs(jobs(tmp_path, 12, fault="raise"))
    trials = load_tables(open_store(str(tmp_path / "store")), ["trials"]).tables["trials"]
    assert set(trials["state"].to_pylist()) == {"failed"}
    assert set(trials["attempt"].to_pylist()) == {1}
    assert 3 <= trials.num_rows < 12
    assert all("RuntimeError: planted" in error for error in trials["error"].to_pylist())


@pytest.mark.slow
def test_a_workload_that_is_not_on_the_worker_is_an_error_of_the_user(tmp_path):
    planned = [
        replace(job, trial=replace(job.trial, workload="no_such_module:WORKLOAD"))
        for job in jobs(tmp_path, 3)
    ]
    with pytest.raises(ErrorStorm, match="there is no module"):
        run_jobs(planned)


@pytest.mark.slow
def test_what_waits_on_the_cluster_when_a_sweep_is_stopped_leaves_no_trace(tmp_path):
    store = open_store(str(tmp_path / "store"))

    def watch(event):
        if isinstance(event, TrialEnded):
            request(store, "s", "stop")

    events = run_jobs(
        jobs(tmp_path, 30, sleep_ms=50.0),
        retries=0,
        stopping=lambda events: requested(store, "s") is not None,
        watch=watch,
    )
    ended = Counter(event.state for event in events if isinstance(event, TrialEnded))
    assert (
        ended["completed"] <= 4
    )  # the first, what ran beside it, and one more on each of two lanes
    assert list(states(tmp_path).values()) == ["completed"] * ended["completed"]


@pytest.mark.slow
def test_nothing_begins_after_a_request_to_stop_and_what_runs_comes_to_its_end(tmp_path):
    events = run_jobs(
        jobs(tmp_path, 30, sleep_ms=20.0),
        retries=0,
        stopping=lambda events: any(isinstance(e, TrialEnded) for e in events),
    )
    ended = [e for e in events if isinstance(e, TrialEnded)]
    started = [e for e in events if isinstance(e, Started)]
    assert len(ended) == len(started) < 15
    assert {e.state for e in ended} == {"completed"}


def test_trials_begin_in_the_planned_order(tmp_path):
    planned = jobs(tmp_path, 8)
    # each takes the whole cluster: of two that run at once, the busier worker is heard of later
    started = [e.trial_id for e in run_jobs(planned, cpu=2.0) if isinstance(e, Started)]
    assert started == [job.trial.trial_id for job in planned]


def test_a_share_follows_the_cluster():
    assert ray_cluster.share_of(1.0, "auto", None, 0.0) == TrialShare(1.0, 0.0)
    assert ray_cluster.share_of(0.5, 0, None, 1.0) == TrialShare(0.5, 0.0)
    assert ray_cluster.share_of(2.0, 0.25, None, 0.0) == TrialShare(2.0, 0.25)


@pytest.mark.parametrize(
    ("total", "wanted", "share"), [(80.0, 80.0, 1.0), (80.0, 41.0, 1.0), (80.0, 20.0, 0.25)]
)
def test_as_many_trials_share_a_gpu_as_fit_into_its_memory(total, wanted, share):
    assert gpu_fraction(total, wanted) == share


def test_shares_never_add_up_to_more_than_one_gpu():
    for n in range(1, 40):
        assert n * gpu_fraction(float(n), 1.0) <= 1.0
    with pytest.raises(ValueError, match=r"a trial needs 90 GiB and the GPU has 80\.0 GiB"):
        gpu_fraction(80.0, 90.0)


def test_a_trial_that_can_never_run_is_refused():
    ray_cluster.check_fits(TrialShare(2.0, 0.0))
    with pytest.raises(ResourceError, match=r"resources\.cpu: a trial needs 64 and .* has 2"):
        ray_cluster.check_fits(TrialShare(64.0, 0.0))
    with pytest.raises(ResourceError, match=r"resources\.gpu: a trial needs 1"):
        ray_cluster.check_fits(TrialShare(1.0, 1.0))


@pytest.mark.slow
def test_tune_s_switches_are_set_back(tmp_path):
    before = dict(os.environ)
    run_jobs(jobs(tmp_path, 1))
    assert dict(os.environ) == before
