"""A search whose driver is killed with SIGKILL: nothing forgotten, nothing suggested twice."""

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import optuna
import pandas as pd
import pytest
import toy_sweeps
import yaml

from sickbay.service.sweeps.prepare import prepare
from sickbay.trials.search.study import is_configuration
from sickbay.trials.store import open_store
from sickbay.trials.store.reader import trial_states

pytestmark = pytest.mark.chaos

BIN = Path(sys.executable).parent
TRIALS, SEEDS = 24, 2


@pytest.fixture
def sweep(tmp_path):
    spec = tmp_path / "spec.yaml"
    raw = toy_sweeps.spec(
        design="tpe",
        factors={"lr": {"low": 1e-3, "high": 10.0, "log": True}},
        fixed={"sleep_ms": 40.0},
        seeds=SEEDS,
        budget={"trials": TRIALS},
    )
    spec.write_text(yaml.safe_dump(raw))
    return spec, tmp_path / "store"


def start(spec, store):
    return subprocess.Popen(
        [BIN / "sickbay", "run", spec, "--store", store, "--cpus", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ended(spec, store):
    if not store.exists():
        return set()
    states = trial_states(open_store(str(store)), prepare(spec, str(store)).sweep_id)
    return {trial for trial, state in states.items() if state in ("completed", "stopped")}


def wait_for(question, seconds=120.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = question()
        if answer:
            return answer
        time.sleep(0.2)
    pytest.fail("waited in vain")


def suggestions(store):
    [journal] = (store / "_studies").glob("*.journal")
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(journal))
    )
    [name] = optuna.get_all_study_names(storage)
    trials = optuna.load_study(study_name=name, storage=storage).get_trials()
    return [trial for trial in trials if is_configuration(trial)]


def test_a_killed_search_is_resumed_with_all_that_it_had_learnt(sweep):
    spec, store = sweep
    for wanted in (4, 10):  # killed twice
        running = start(spec, store)
        wait_for(lambda n=wanted: len(ended(spec, store)) >= n)
        running.send_signal(signal.SIGKILL)
        running.communicate()
        time.sleep(3)  # Ray's processes follow their driver
    before = suggestions(store)
    done = ended(spec, store)
    assert 10 <= len(done) < TRIALS
    completed = {
        suggestion.number: suggestion.value
        for suggestion in before
        if suggestion.state.name == "COMPLETE"
    }
    assert completed
    resumed = subprocess.run(
        [BIN / "sickbay", "resume", "toy", "--store", store, "--cpus", "2"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert resumed.returncode == 0, resumed.stderr
    after = suggestions(store)
    assert [suggestion.params for suggestion in after[: len(before)]] == [
        suggestion.params for suggestion in before
    ]
    assert {
        suggestion.number: suggestion.value
        for suggestion in after
        if suggestion.number in completed
    } == completed
    assert len(after) == TRIALS // SEEDS
    assert {suggestion.state.name for suggestion in after} == {"COMPLETE"}
    assert len({tuple(suggestion.params.items()) for suggestion in after}) == len(after)
    trials = pd.read_parquet(store / "trials")
    assert len(trials) == TRIALS
    assert trials["trial_id"].is_unique
    first_runs = trials.set_index("trial_id").loc[sorted(done)]
    assert set(first_runs["attempt"]) <= {1, 2}  # 2: begun, killed once, then ended before the next
    epochs = pd.read_parquet(store / "epochs")
    assert not epochs.duplicated(["trial_id", "epoch"]).any()


def test_the_dashboard_of_optuna_opens_the_study(sweep):
    spec, store = sweep
    raw = yaml.safe_load(spec.read_text())
    raw |= {"budget": {"trials": 4}, "fixed": {"epochs": 4}}
    spec.write_text(yaml.safe_dump(raw))
    subprocess.run(
        [BIN / "sickbay", "run", spec, "--store", store, "--in-process"],
        check=True,
        capture_output=True,
    )
    [journal] = (store / "_studies").glob("*.journal")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [BIN / "optuna-dashboard", journal, "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:

        def listed():
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/studies") as answer:
                    return json.load(answer)["study_summaries"]
            except OSError:
                return None

        [study] = wait_for(listed)
        assert study["study_name"].startswith("toy-")
    finally:
        server.terminate()
        server.wait()
