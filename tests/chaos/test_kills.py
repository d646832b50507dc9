"""Processes that really die in mid-sweep: nothing lost, nothing twice, and how to go on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import toy_sweeps
import yaml

from sickbay.service.sweeps.prepare import prepare
from sickbay.trials.execution.lease import driver
from sickbay.trials.store import open_store
from sickbay.trials.store.reader import trial_states

pytestmark = pytest.mark.chaos

SICKBAY = Path(sys.executable).parent / "sickbay"
TRIALS = 12
EPOCHS = 16


@pytest.fixture
def sweep(tmp_path):
    """A spec of twelve trials of about two seconds each, and the store that it goes to."""
    spec = tmp_path / "spec.yaml"
    raw = toy_sweeps.spec(factors={}, fixed={"sleep_ms": 100.0}, seeds=TRIALS)
    spec.write_text(yaml.safe_dump(raw))
    (tmp_path / "store").mkdir()
    return spec, tmp_path / "store"


def start(spec, store):
    return subprocess.Popen(
        [SICKBAY, "run", spec, "--store", store, "--cpus", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def states(spec, store):
    return trial_states(open_store(str(store)), prepare(spec, str(store)).sweep_id)


def wait_for(question, seconds=90.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = question()
        if answer:
            return answer
        time.sleep(0.1)
    pytest.fail("waited in vain")


def ended(spec, store, n):
    completed = [state for state in states(spec, store).values() if state == "completed"]
    return len(completed) >= n


def table(store, name):
    return pd.read_parquet(store / name)


def workers_alive(store):
    pids = {
        json.loads(marker.read_text())["pid"] for marker in store.glob("_parts/*/*/attempt-*.json")
    }
    return [pid for pid in pids if Path(f"/proc/{pid}/cmdline").exists() and command(pid)]


def command(pid):
    """The command of a process; empty for one that is dead and not yet reaped."""
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def check_whole(store):
    trials, epochs = table(store, "trials"), table(store, "epochs")
    assert len(trials) == TRIALS
    assert trials["trial_id"].is_unique
    assert set(trials["state"]) == {"completed"}
    assert set(trials["label"]) == {"healthy"}
    assert len(epochs) == TRIALS * EPOCHS
    assert not epochs.duplicated(["trial_id", "epoch"]).any()


def sickbay(*arguments):
    return subprocess.run([SICKBAY, *arguments], capture_output=True, text=True, check=False)


def test_a_killed_driver_s_sweep_is_interrupted_and_resumed_without_loss_or_repetition(sweep):
    spec, store = sweep
    running = start(spec, store)
    wait_for(lambda: ended(spec, store, 3))
    running.send_signal(signal.SIGKILL)
    running.communicate()
    wait_for(lambda: not workers_alive(store))  # Ray's processes follow their driver
    done = {trial for trial, state in states(spec, store).items() if state == "completed"}
    assert 3 <= len(done) < TRIALS
    listed = json.loads(sickbay("list", "--store", store, "--json").stdout)
    assert [entry["state"] for entry in listed] == ["interrupted"]
    before = prepare(spec, str(store))
    assert len(before.missing) == TRIALS - len(done)
    resumed = sickbay("resume", "toy", "--store", store, "--cpus", "2")
    assert resumed.returncode == 0, resumed.stderr
    assert f"{TRIALS - len(done)} of {TRIALS} trials to run" in resumed.stdout
    check_whole(store)
    trials = table(store, "trials").set_index("trial_id")
    assert set(trials.loc[sorted(done)]["attempt"]) == {1}


def test_a_killed_worker_s_trial_is_run_again(sweep):
    spec, store = sweep
    running = start(spec, store)
    sweep_id = prepare(spec, str(store)).sweep_id
    markers = wait_for(lambda: list((store / "_parts" / sweep_id).glob("*/attempt-1.json")))
    time.sleep(0.5)
    trial_id = markers[0].parent.name
    os.kill(json.loads(markers[0].read_text())["pid"], signal.SIGKILL)
    _, errors = running.communicate(timeout=120)
    assert running.returncode == 0, errors
    assert "1 retried" in errors or "2 retried" in errors
    check_whole(store)
    trials = table(store, "trials").set_index("trial_id")
    assert trials.loc[trial_id]["attempt"] == 2


def test_ctrl_c_ends_running_trials_cleanly_and_says_how_to_resume(sweep):
    spec, store = sweep
    running = start(spec, store)
    wait_for(lambda: ended(spec, store, 2))
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    sweep_id = prepare(spec, str(store)).sweep_id
    assert f"sickbay resume {sweep_id}" in errors
    assert driver(open_store(str(store)), sweep_id) is None
    outcomes = set(states(spec, store).values())
    assert outcomes == {"completed", "cancelled"}
    status = json.loads(sickbay("status", "toy", "--store", store, "--json").stdout)
    assert status["state"] == "cancelled"
    resumed = sickbay("resume", "toy", "--store", store, "--cpus", "2")
    assert resumed.returncode == 0, resumed.stderr
    check_whole(store)


def test_a_sweep_is_cancelled_from_another_process(sweep):
    spec, store = sweep
    running = start(spec, store)
    wait_for(lambda: ended(spec, store, 1))
    asked = sickbay("cancel", "toy", "--store", store, "-y")
    assert asked.returncode == 0, asked.stderr
    running.communicate(timeout=60)
    status = json.loads(sickbay("status", "toy", "--store", store, "--json").stdout)
    assert status["state"] == "cancelled"
    assert 1 <= status["ended"] < TRIALS
