"""Leases: who was taken for dead writes nothing more, and no two machines' clocks are compared."""

import json
import threading
import time
from dataclasses import replace

import pytest
import toy_sweeps

from sickbay.trials.execution import lease
from sickbay.trials.execution.lease import (
    AlreadyDrivenError,
    LeaseKeeper,
    LeaseLostError,
    driver,
    driving,
)
from sickbay.trials.execution.trial import RunPolicy, run_trial
from sickbay.trials.store import open_store, request, requested
from sickbay.trials.store.files import remove_file, sweep_parts, write_file
from sickbay.trials.store.reader import trial_states


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "store"))


def beat_elsewhere(store, *, at, lease="theirs"):
    text = json.dumps({"host": "elsewhere", "pid": 1, "at": at, "lease": lease})
    write_file(store, f"{sweep_parts(store, 's')}/driver.json", text.encode())


def test_a_driver_that_was_taken_for_dead_notices_and_leaves_the_other_alone(store):
    with driving(store, "s") as mine:
        mine.check()
        LeaseKeeper(store, "s", "another").begin()
        with pytest.raises(LeaseLostError, match="was taken over by process"):
            mine.beat()
        assert mine.lost
    assert driver(store, "s").lease == "another"


@pytest.mark.parametrize("noticed", [True, False])
def test_a_driver_that_was_followed_writes_nothing_when_the_other_has_ended(store, noticed):
    with driving(store, "s") as mine:
        LeaseKeeper(store, "s", "another").begin()
        if noticed:
            with pytest.raises(LeaseLostError, match="was taken over by process"):
                mine.beat()
        remove_file(store, f"{sweep_parts(store, 's')}/driver.json")
        with pytest.raises(LeaseLostError, match="taken"):
            mine.beat()
    assert driver(store, "s") is None


def test_its_workers_begin_nothing(store, tmp_path):
    beat_elsewhere(store, at=time.time())
    job = replace(toy_sweeps.job(tmp_path / "store"), lease="mine")
    with pytest.raises(LeaseLostError):
        next(run_trial(job))
    assert trial_states(store, "s") == {}


def test_its_workers_end_nothing(store, tmp_path):
    policy = RunPolicy(control_seconds=0.0)
    job = replace(toy_sweeps.job(tmp_path / "store", policy=policy), lease="mine")
    LeaseKeeper(store, "s", "mine").begin()
    run = run_trial(job)
    next(run)
    beat_elsewhere(store, at=time.time())
    with pytest.raises(LeaseLostError):
        list(run)
    assert trial_states(store, "s") == {job.trial.trial_id: "running"}


@pytest.mark.parametrize("clock", [-7200.0, 7200.0])
def test_a_living_driver_elsewhere_is_known_whatever_its_clock(store, clock):
    over = threading.Event()

    def live():
        while not over.wait(0.05):
            beat_elsewhere(store, at=time.time() + clock)

    beat_elsewhere(store, at=time.time() + clock)
    alive = threading.Thread(target=live)
    alive.start()
    try:
        with pytest.raises(AlreadyDrivenError, match="elsewhere"), driving(store, "s"):
            pass
    finally:
        over.set()
        alive.join()


@pytest.mark.parametrize("clock", [-7200.0, 7200.0])
def test_a_dead_driver_elsewhere_is_followed_whatever_its_clock(store, clock, monkeypatch):
    monkeypatch.setattr(lease, "WATCH_SECONDS", 0.5)
    beat_elsewhere(store, at=time.time() + clock)
    with driving(store, "s") as mine:
        assert driver(store, "s").lease == mine.lease


def test_a_heartbeat_of_an_older_version_has_no_lease_and_is_understood(store):
    beat = {"host": "elsewhere", "pid": 1, "at": time.time(), "claim": None}
    write_file(store, f"{sweep_parts(store, 's')}/driver.json", json.dumps(beat).encode())
    assert driver(store, "s").alive
    lease.check_lease(store, "s", "mine")


def test_a_request_ends_with_the_driver_that_it_was_for(store):
    with driving(store, "a"):
        request(store, "a", "stop")
        assert requested(store, "a") == "stop"
    assert requested(store, "a") is None
