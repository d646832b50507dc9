"""Signals, hung trials, crashed workers and a Ray that dies: the command ends, and says why."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from sickbay.trials.store import open_store, request
from sickbay.trials.store.reader import list_sweeps, trial_states

pytestmark = pytest.mark.chaos

SICKBAY = Path(sys.executable).parent / "sickbay"
SUPPORT = Path(__file__).parent.parent / "support"
IMPATIENT = (sys.executable, SUPPORT / "impatient.py")


def wait_for(question, seconds=120.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = question()
        if answer:
            return answer
        time.sleep(0.1)
    pytest.fail("waited in vain")


class Sweep:
    """A sweep of `ending_badly` that a process of its own runs on a local Ray."""

    def __init__(self, folder, endings, *, seeds=1, program=(SICKBAY,), **more):
        self.program = program
        self.store = folder / "store"
        self.spec = folder / "spec.yaml"
        raw = {
            "name": "endings",
            "workload": "ending_badly:WORKLOAD",
            "design": "grid",
            "factors": {"ending": endings},
            "seeds": seeds,
            **more,
        }
        self.spec.write_text(yaml.safe_dump(raw))
        self.child = None

    def start(self, *arguments):
        env = {**os.environ, "PYTHONPATH": str(SUPPORT)}
        command = [
            *self.program,
            "run",
            self.spec,
            "--store",
            self.store,
            *(arguments or ("--cpus", "2")),
        ]
        self.child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
        )
        return self

    def end(self, seconds=120.0):
        """Wait for its end; gives exit code and everything it said."""
        out, err = self.child.communicate(timeout=seconds)
        assert "Traceback" not in err, err[-3000:]
        assert "*** SIG" not in err, err  # the crash report of Ray's C++ side
        return self.child.returncode, out + err

    @property
    def states(self):
        store = open_store(str(self.store))
        sweeps = list_sweeps(store)
        return trial_states(store, sweeps[0].sweep_id) if sweeps else {}

    def wait_until_running(self, count=1):
        wait_for(lambda: list(self.states.values()).count("running") >= count)


@pytest.fixture
def sweep(tmp_path):
    made = []

    def make(*arguments, **more):
        made.append(Sweep(tmp_path, *arguments, **more))
        return made[-1]

    yield make
    for driver in made:
        if driver.child is not None and driver.child.poll() is None:
            driver.child.kill()
            driver.child.wait()


def test_sigterm_ends_as_ctrl_c_does(sweep):
    driver = sweep(["none"], seeds=12, fixed={"seconds": 0.5}).start()
    driver.wait_until_running()
    driver.child.send_signal(signal.SIGTERM)
    code, said = driver.end()
    assert code == 130
    assert "sickbay resume endings-" in said
    driver.start()
    assert driver.end()[0] == 0
    rows = pd.read_parquet(driver.store / "epochs")
    assert rows.groupby("trial_id")["epoch"].apply(list).tolist() == [[1, 2, 3, 4, 5]] * 12


def test_a_driver_that_slept_too_long_ends_and_the_second_loses_nothing(sweep):
    first = sweep(["none"], seeds=12, fixed={"seconds": 0.5}).start()
    first.wait_until_running()
    first.child.send_signal(signal.SIGSTOP)
    [heartbeat] = first.store.glob("_parts/*/driver.json")
    said = json.loads(heartbeat.read_text())
    heartbeat.write_text(json.dumps({**said, "at": said["at"] - 100.0}))  # as after a longer sleep
    second = sweep(["none"], seeds=12, fixed={"seconds": 0.5}).start()
    wait_for(lambda: json.loads(heartbeat.read_text())["lease"] != said["lease"])
    first.child.send_signal(signal.SIGCONT)
    code, words = first.end(240.0)
    assert code == 1
    assert re.search("was taken over by process|another driver has taken it over", words)
    assert second.end(240.0)[0] == 0
    rows = pd.read_parquet(first.store / "epochs")
    assert rows.groupby("trial_id")["epoch"].apply(list).tolist() == [[1, 2, 3, 4, 5]] * 12
    trials = pd.read_parquet(first.store / "trials")
    assert trials["trial_id"].is_unique
    assert set(trials["state"]) == {"completed"}


def test_a_second_ctrl_c_ends_at_once(sweep):
    driver = sweep(["hang"]).start()
    driver.wait_until_running()
    driver.child.send_signal(signal.SIGINT)
    wait_for(lambda: list(driver.store.glob("_parts/*/control.json")))
    assert driver.child.poll() is None
    driver.child.send_signal(signal.SIGINT)
    code, said = driver.end(20.0)
    assert code == 130
    assert "sickbay resume endings-" in said


def test_cancel_ends_a_hung_trial(sweep):
    driver = sweep(["hang", "none"], program=IMPATIENT).start()
    wait_for(lambda: sorted(driver.states.values()) == ["completed", "running"])
    (sweep_id,) = (folder.name for folder in (driver.store / "sweeps").iterdir() if folder.is_dir())
    request(open_store(str(driver.store)), sweep_id, "cancel")
    code, said = driver.end()
    assert code == 0
    assert "cancelled" in said
    assert "completed" in driver.states.values()


def test_hours_end_a_hung_trial(sweep):
    driver = sweep(["hang"], program=IMPATIENT, budget={"hours": 0.005}).start()  # 18 s
    driver.wait_until_running()
    code, said = driver.end(240.0)
    assert code == 0
    assert "cancelled" in said
    assert set(driver.states.values()) == {"running"}  # begun, and ended by nothing but the kill


def test_crashed_workers_say_why(sweep):
    driver = sweep(["segfault", "exit", "kill", "raise", "none"], retries=0).start()
    assert driver.end()[0] == 1
    trials = pd.read_parquet(driver.store / "trials").set_index("ending")
    assert trials.loc["none", "state"] == "completed"
    failures = trials.drop("none")["failure"].to_dict()
    assert failures["raise"] == "user_error"
    assert failures["kill"] == "killed"
    for how in ("segfault", "exit", "kill"):
        assert "no message" not in trials.loc[how, "error"]
        assert "Worker exit" in trials.loc[how, "error"]


@pytest.mark.parametrize("moment", ["it starts", "the driver is connected"])
def test_a_local_ray_that_dies_before_the_first_trial_is_said_in_one_sentence(sweep, moment):
    found = sweep(["none"], seeds=4, fixed={"seconds": 0.5}).start()
    raylet = wait_for(lambda: raylet_of(found.child.pid))
    if moment == "the driver is connected":
        wait_for(lambda: list(found.store.glob("sweeps/*/data.parquet")))
    os.kill(raylet, signal.SIGKILL)
    began = time.monotonic()
    code, said = found.end(60.0)
    assert code == 1
    assert re.search(r"sickbay: (the local Ray has ended|cannot connect to a Ray on this)", said)
    assert time.monotonic() - began < 30.0
    assert found.states == {}


def raylet_of(pid):
    """The raylet that a process started."""
    done = subprocess.run(
        ["ps", "--ppid", str(pid), "-o", "pid=,comm="], capture_output=True, text=True, check=False
    )
    pids = [int(line.split()[0]) for line in done.stdout.splitlines() if "raylet" in line]
    return pids[0] if pids else None


def test_an_address_without_a_ray_is_said_within_seconds_and_leaves_nothing(sweep):
    driver = sweep(["none"]).start("--address", "127.0.0.1:1")
    code, said = driver.end(60.0)
    assert code == 1
    assert "no Ray answers at '127.0.0.1:1'" in said
    assert not list(driver.store.glob("sweeps/*"))
    assert driver.states == {}
