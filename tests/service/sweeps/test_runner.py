"""Sweeps from a spec to stored, labelled trials, in this process."""

import hashlib
import json
import os
import tempfile
import time

import pandas as pd
import pytest
import toy_sweeps

from sickbay.service.query.lookup import SweepError, find_sweep, state_of, stored_spec
from sickbay.service.sweeps.runner import Options, Stopper, ask, prepare, run
from sickbay.trials.errors import SpecError
from sickbay.trials.events import TrialEnded
from sickbay.trials.execution.lease import AlreadyDrivenError, driven, driving
from sickbay.trials.execution.relabel import relabel
from sickbay.trials.execution.trial import detectors
from sickbay.trials.store import open_store, request, write_sweep
from sickbay.trials.store.reader import read_sweep, trial_states

HERE = Options(in_process=True)


def run_here(tmp_path, watch=None, stopper=None, **changes):
    return run(toy_sweeps.spec(**changes), str(tmp_path / "store"), HERE, watch, stopper)


def trials(tmp_path):
    return pd.read_parquet(tmp_path / "store" / "trials")


def test_a_sweep_is_right_for_pandas_without_our_code(tmp_path):
    result = run_here(tmp_path)
    assert (result.state, result.ran, result.planned) == ("finished", 4, 4)
    table = trials(tmp_path)
    assert sorted(zip(table["fault"], table["seed"], table["label"], strict=True)) == [
        ("nan", 0, "pathological"),
        ("nan", 1, "pathological"),
        ("none", 0, "healthy"),
        ("none", 1, "healthy"),
    ]
    assert set(table["sweep_id"]) == {result.sweep_id}
    epochs = pd.read_parquet(tmp_path / "store" / "epochs")
    assert len(epochs) == 2 * 16 + 2 * 3
    assert epochs.query("epoch == 3")["val_loss"].isna().sum() == 2
    assert not (tmp_path / "store" / "_parts" / result.sweep_id).exists()


def test_nothing_is_left_in_the_temporary_folder(tmp_path, monkeypatch):
    """Neither of trials nor of killed workers of this sweep; what is another sweep's remains."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    run_here(tmp_path)
    assert not list((tmp_path / "tmp").glob("sickbay-*"))
    prepared = prepare(toy_sweeps.spec(seeds=3), str(tmp_path / "store"))
    digest = hashlib.sha256(prepared.store.absolute.encode()).hexdigest()[:12]
    folder = tmp_path / "tmp" / f"sickbay-trials-{os.getuid()}"
    folder.mkdir()
    (folder / f"{digest}-{prepared.sweep_id}-killed").mkdir()
    (folder / "another").mkdir()
    run_here(tmp_path, seeds=3)
    assert [one.name for one in folder.iterdir()] == ["another"]


def test_the_same_spec_again_runs_nothing(tmp_path):
    run_here(tmp_path)
    before = trials(tmp_path)
    events = []
    again = run_here(tmp_path, watch=events.append)
    assert (again.state, again.ran, events) == ("finished", 0, [])
    pd.testing.assert_frame_equal(before, trials(tmp_path))


def test_more_seeds_run_the_new_ones_only(tmp_path):
    first = run_here(tmp_path)
    events = []
    more = run_here(tmp_path, watch=events.append, seeds=4)
    assert (more.sweep_id, more.ran, more.planned) == (first.sweep_id, 4, 8)
    ended = {event.trial_id for event in events if isinstance(event, TrialEnded)}
    table = trials(tmp_path)
    assert set(table[table["trial_id"].isin(ended)]["seed"]) == {2, 3}
    assert table["trial_id"].is_unique
    assert len(table) == 8


def test_the_same_sweep_twice_gives_the_same_bits(tmp_path):
    columns = ["trial_id", "epoch", "val_loss", "train_loss", "grad_norm_max"]
    tables = []
    for name in ("a", "b"):
        run(toy_sweeps.spec(), str(tmp_path / name), HERE)
        table = pd.read_parquet(tmp_path / name / "epochs")[columns]
        tables.append(table.sort_values(["trial_id", "epoch"]).reset_index(drop=True))
    pd.testing.assert_frame_equal(*tables, check_exact=True)


def test_a_failed_trial_is_run_again_and_a_pathological_one_is_not(tmp_path):
    run_here(tmp_path, factors={"fault": ["nan", "raise"]}, seeds=1)
    prepared = prepare(
        toy_sweeps.spec(factors={"fault": ["nan", "raise"]}, seeds=1), str(tmp_path / "store")
    )
    assert [trial.config["fault"] for trial in prepared.missing] == ["raise"]


def test_a_trial_lost_again_on_resuming_counts_on_from_its_earlier_attempts(tmp_path):
    lost = {"factors": {}, "seeds": 1, "retries": 1, "fixed": {"fault": "oom", "fault_times": 9}}
    assert run_here(tmp_path, **lost).failed == 1
    again = run_here(tmp_path, **lost)
    assert (again.state, again.failed) == ("finished", 1)
    [row] = trials(tmp_path).to_dict("records")
    assert (row["state"], row["attempt"], row["epochs_run"]) == ("failed", 4, 2)
    assert set(again.states.values()) == {"failed"}


def test_an_error_storm_is_a_failed_sweep_with_the_traceback(tmp_path):
    result = run_here(tmp_path, factors={"fault": ["raise"]}, seeds=8)
    assert (result.state, result.failed) == ("failed", 3)
    assert "RuntimeError: planted: the toy raises in epoch 3" in result.error


def test_stopping_leaves_the_rest_missing_and_resuming_runs_it(tmp_path):
    stopper = Stopper()

    def stop_after_one(event):
        if isinstance(event, TrialEnded):
            stopper.stop()

    first = run_here(tmp_path, watch=stop_after_one, stopper=stopper)
    assert (first.state, first.ran) == ("stopped", 1)
    second = run_here(tmp_path)
    assert (second.state, second.ran) == ("finished", 3)
    assert trials(tmp_path)["trial_id"].is_unique


def test_a_request_in_the_store_stops_a_sweep_from_outside(tmp_path):
    store = open_store(str(tmp_path / "store"))
    sweep_id = prepare(toy_sweeps.spec(), store.uri).sweep_id

    def ask_for_it(event):
        if isinstance(event, TrialEnded):
            request(store, sweep_id, "stop")
            time.sleep(1.1)  # longer than between two looks of the driver

    result = run_here(tmp_path, watch=ask_for_it)
    assert (result.state, result.ran) == ("stopped", 1)


def test_a_budget_of_hours_ends_a_sweep_between_trials(tmp_path):
    result = run_here(tmp_path, budget={"hours": 1e-9})
    assert (result.state, result.ran) == ("stopped", 0)


def test_only_one_process_drives_a_sweep(tmp_path):
    store = open_store(str(tmp_path / "store"))
    prepared = prepare(toy_sweeps.spec(), store.uri)
    (tmp_path / "store" / "_parts" / prepared.sweep_id).mkdir(parents=True)
    marker = tmp_path / "store" / "_parts" / prepared.sweep_id / "driver.json"
    marker.write_text(
        json.dumps({"host": os.uname().nodename, "pid": os.getppid(), "at": time.time()})
    )
    with pytest.raises(AlreadyDrivenError, match=f"by process {os.getppid()}"):
        run_here(tmp_path)
    marker.write_text(json.dumps({"host": "elsewhere", "pid": os.getpid(), "at": time.time()}))
    with pytest.raises(AlreadyDrivenError, match="on elsewhere"):
        run_here(tmp_path)
    for gone in (
        {"host": os.uname().nodename, "pid": 2**22 - 3, "at": time.time()},  # no such process
        {"host": os.uname().nodename, "pid": os.getppid(), "at": time.time() - 3600},  # reused
    ):
        marker.write_text(json.dumps(gone))
        assert not driven(store, prepared.sweep_id)
    assert run_here(tmp_path).state == "finished"  # that driver is dead


def test_a_sweep_whose_driver_is_gone_is_interrupted(tmp_path):
    result = run_here(tmp_path)
    store = open_store(result.store)
    record = read_sweep(store, result.sweep_id)
    assert state_of(store, record) == "finished"
    from dataclasses import replace

    lost = replace(record, state="running")
    write_sweep(store, lost)
    assert state_of(store, lost) == "interrupted"
    with driving(store, result.sweep_id):
        assert driven(store, result.sweep_id)
        assert state_of(store, lost) == "running"
    assert not driven(store, result.sweep_id)
    with pytest.raises(SweepError, match="is not running, so there is nothing to stop"):
        ask(store, result.sweep_id, "stop")


def test_sweeps_are_found_by_id_name_and_beginning(tmp_path):
    result = run_here(tmp_path)
    store = open_store(result.store)
    for word in (result.sweep_id, "toy", result.sweep_id[:-2]):
        assert find_sweep(store, word).sweep_id == result.sweep_id
    with pytest.raises(SweepError, match="Did you mean 'toy'"):
        find_sweep(store, "toi")
    assert stored_spec(store, result.sweep_id)["factors"] == {"fault": ["none", "nan"]}


def test_nothing_is_written_for_a_bad_spec(tmp_path):
    with pytest.raises(SpecError):
        run_here(tmp_path, factors={"fauld": ["none"]})
    assert not (tmp_path / "store").exists()


def test_preparing_writes_nothing(tmp_path):
    prepare(toy_sweeps.spec(), str(tmp_path / "store"))
    assert not (tmp_path / "store").exists()


def test_relabelling_gives_the_stored_labels_bit_for_bit(tmp_path):
    result = run_here(tmp_path, factors={"lr": [0.1, 10.0, 0.0], "fault": ["none", "nan"]})
    store = open_store(result.store)
    before = trials(tmp_path)
    report = relabel(store, result.sweep_id, detectors())
    assert (report.trials, report.same, report.changes, report.written) == (12, 12, (), 0)
    pd.testing.assert_frame_equal(before, trials(tmp_path))


def test_another_set_of_detectors_is_another_labeller_and_keeps_the_old_labels(tmp_path):
    result = run_here(tmp_path)
    store = open_store(result.store)
    fewer = tuple(detector for detector in detectors() if detector.name != "non_finite")
    report = relabel(store, result.sweep_id, fewer)
    assert report.written == 4
    labels = pd.read_parquet(tmp_path / "store" / "labels")
    assert len(labels) == 8
    assert labels["labeller_version"].nunique() == 2
    changed = [change for change in report.changes if change.old == "pathological (non_finite)"]
    assert len(changed) == 2
    relabel(store, result.sweep_id, detectors())
    assert set(trials(tmp_path)["pathology"].dropna()) == {"non_finite"}


def test_relabelling_waits_for_its_turn(tmp_path):
    result = run_here(tmp_path)
    marker = tmp_path / "store" / "_parts" / result.sweep_id / "driver.json"
    marker.parent.mkdir(parents=True)
    marker.write_text(json.dumps({"host": "elsewhere", "pid": 1, "at": time.time()}))
    fewer = tuple(detector for detector in detectors() if detector.name != "non_finite")
    with pytest.raises(AlreadyDrivenError):
        relabel(open_store(result.store), result.sweep_id, fewer)


def test_a_dry_run_of_relabelling_writes_nothing(tmp_path):
    result = run_here(tmp_path)
    before = trials(tmp_path)
    fewer = tuple(detector for detector in detectors() if detector.name != "non_finite")
    report = relabel(open_store(result.store), result.sweep_id, fewer, write=False)
    assert report.written == 0
    assert len(report.changes) == 2
    pd.testing.assert_frame_equal(before, trials(tmp_path))


def test_an_address_that_is_no_ray_to_connect_to_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(SweepError, match="through its Jobs API"):
        run(toy_sweeps.spec(), str(tmp_path / "store"), Options(address="http://head:8265"))
    assert not (tmp_path / "store").exists()


def test_every_stored_trial_ended(tmp_path):
    result = run_here(tmp_path)
    assert set(trial_states(open_store(result.store), result.sweep_id).values()) == {
        "completed",
        "stopped",
    }
