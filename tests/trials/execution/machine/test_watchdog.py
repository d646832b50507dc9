"""Trials that run or are silent for too long: interrupted in the middle of what they do."""

import signal
import subprocess
import sys
import threading
import time
from collections import deque

import pytest
import toy_sweeps

from sickbay.trials.contract import TrialState
from sickbay.trials.diagnosis.failures import Failure
from sickbay.trials.execution.machine import watchdog
from sickbay.trials.execution.machine.watchdog import Limits, TrialTimeout, Watchdog
from sickbay.trials.execution.trial import RunPolicy


def test_a_silent_trial_fails_as_a_timeout_and_keeps_its_rows(tmp_path):
    """It hangs in epoch 2, in a loop that catches every exception."""
    policy = RunPolicy(silence_seconds=1.0)
    before = signal.getsignal(watchdog.WAKE)
    record = toy_sweeps.run(tmp_path / "store", policy=policy, fault="hang", fault_epoch=2)
    assert (record.state, record.failure, record.label) == (
        TrialState.FAILED,
        Failure.TIMEOUT,
        None,
    )
    assert "silent for 1 s, all that resources.silence_minutes allows" in record.error
    rows = toy_sweeps.stored_rows(tmp_path / "store", record.trial.trial_id)
    assert [row.epoch for _, row in rows] == [1]
    assert signal.getsignal(watchdog.WAKE) is before


def test_a_trial_that_runs_too_long_ends_though_it_is_not_silent(tmp_path):
    policy = RunPolicy(trial_seconds=0.5, silence_seconds=60.0)
    record = toy_sweeps.run(tmp_path / "store", policy=policy, sleep_ms=100.0, epochs=1000)
    assert (record.state, record.failure) == (TrialState.FAILED, Failure.TIMEOUT)
    assert "ran for 0.5 s, all that resources.trial_hours allows" in record.error
    assert 0 < record.epochs_run < 1000


def test_a_trial_within_its_limits_is_left_alone(tmp_path):
    policy = RunPolicy(trial_seconds=600.0, silence_seconds=600.0)
    record = toy_sweeps.run(tmp_path / "store", policy=policy)
    assert record.state is TrialState.COMPLETED
    assert "sickbay-watchdog" not in [one.name for one in threading.enumerate() if one.is_alive()]


def test_only_training_is_interrupted_not_what_is_done_with_its_rows():
    def rows():
        while True:
            yield 1

    with Watchdog(Limits(trial=0.05)) as watched:
        training = watched.watched(rows())
        assert next(training) == 1
        time.sleep(0.5)  # the row is being stored
        with pytest.raises(TrialTimeout, match=r"ran for 0\.05 s"):
            deque(training, maxlen=0)


def test_in_a_thread_a_trial_is_interrupted_between_two_bytecodes():
    found = []

    def rows():
        while True:
            time.sleep(0.01)
        yield 1

    def run():
        with Watchdog(Limits(trial=0.1)) as watched:
            try:
                next(watched.watched(rows()))
            except TrialTimeout as error:
                found.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    assert found == ["the trial ran for 0.1 s, all that resources.trial_hours allows"]


@pytest.mark.parametrize(
    ("limits", "running", "silent", "words"),
    [
        (Limits(), 1e9, 1e9, None),
        (Limits(trial=7200.0), 7199.0, 7199.0, None),
        (Limits(trial=7200.0), 7200.0, 0.0, "ran for 2 h"),
        (Limits(silence=1800.0), 9e9, 1799.0, None),
        (Limits(silence=1800.0), 9e9, 1800.0, "silent for 30 min"),
    ],
)
def test_what_is_too_long(limits, running, silent, words):
    said = limits.broken(running, silent)
    assert said is None if words is None else words in said


TRACED = """
import sys
from sickbay.trials.execution.machine.watchdog import Limits, TrialTimeout, Watchdog

def trace(*_):
    return trace

def endless():
    while True:
        pass
    yield

sys.settrace(trace)
with Watchdog(Limits()) as watchdog:
    print(*watchdog.watched(iter("ab")))
try:
    with Watchdog(Limits(trial=0.05)) as watchdog:
        next(watchdog.watched(endless()))
except TrialTimeout as error:
    print(error)
"""


def test_a_traced_process_goes_on_after_an_interruption():
    """An interpreter whose request to raise stays pending hangs at the next traced call."""
    done = subprocess.run(
        [sys.executable, "-c", TRACED], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines() == [
        "a b",
        "the trial ran for 0.05 s, all that resources.trial_hours allows",
    ]
