import json
import math
import pickle

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_samples import (
    FACTS,
    START,
    config,
    ended,
    files_below,
    finding,
    label,
    picture,
    record_of,
    run_through,
)

from sickbay.trials.contract import TRIAL_COLUMNS, Health, Row, TrialConfig, TrialState
from sickbay.trials.history import History
from sickbay.trials.store import (
    EpochRecord,
    SweepRecord,
    open_store,
    read_checkpoint,
    request,
    requested,
    start_attempt,
    write_checkpoint,
    write_epochs,
    write_sweep,
    write_trial,
)
from sickbay.trials.store.merge import consolidate
from sickbay.trials.store.reader import (
    RunningTrial,
    iter_histories,
    list_sweeps,
    load_history,
    load_tables,
    read_epoch_records,
    read_sweep,
    running_trials,
    trial_states,
)
from sickbay.trials.store.schema import FIXED


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "store"))


def test_what_runs_is_reported_by_its_worker(store):
    trial = TrialConfig("t1", "toy", {"lr": 0.1}, 7, 20, ("lr",))
    start_attempt(store, "s1", "t1", device="cpu", started_at=START, trial=trial, arm="lr=0.1")
    start_attempt(store, "s1", "t2", device="cpu", started_at=START)
    start_attempt(store, "s1", "t3", device="cpu", started_at=START)
    write_trial(store, ended(trial=config("t3")))
    assert running_trials(store, "s1") == [
        RunningTrial("t1", "lr=0.1", 7, 20, {"lr": 0.1}, 1, START),
        RunningTrial("t2", "", None, None, {}, 1, START),
    ]


def test_a_trial_goes_through_its_states(store):
    assert trial_states(store, "s1") == {}
    assert start_attempt(store, "s1", "t1", device="cpu", started_at=START) == 1
    assert trial_states(store, "s1") == {"t1": "running"}
    write_epochs(store, "s1", "t1", [record_of(1)])
    assert trial_states(store, "s1") == {"t1": "running"}
    write_trial(store, ended(state=TrialState.FAILED))
    assert trial_states(store, "s1") == {"t1": "failed"}
    assert start_attempt(store, "s1", "t1", device="cpu", started_at=START) == 2
    assert trial_states(store, "s1") == {"t1": "running"}
    write_trial(store, ended(attempt=2))
    assert trial_states(store, "s1") == {"t1": "completed"}
    consolidate(store, "s1")
    assert trial_states(store, "s1") == {"t1": "completed"}


def test_the_trials_row_holds_everything(store):
    trial = TrialConfig("t1", "toy", {"lr": 0.1, "on": True, "seed_like": 3}, 7, 20, ("lr",))
    verdict = label(
        health=Health.PATHOLOGICAL,
        pathology="mixture_collapse",
        onset_epoch=3,
        remedy="raise the temperature",
        contributing=("no_skill", "überlauf"),
    )
    changes = {
        "label": verdict,
        "objective": math.nan,
        "best_objective": None,
        "wall_seconds": 1.5,
        "error": "Traceback …",
        "online_pathology": "mixture_collapse",
        "online_epoch": 4,
        "audited": True,
    }
    write_trial(store, ended("s1", trial, **changes))
    row = load_tables(store, ("trials",)).tables["trials"].to_pylist()[0]

    assert list(row) == [*TRIAL_COLUMNS, "lr", "on", "seed_like"]
    assert math.isnan(row.pop("objective"))
    assert row["started_at"].timestamp() == START
    assert row["started_at"].utcoffset().total_seconds() == 0
    expected = {
        "workload_version": "1.0",
        "seed": 7,
        "arm": "baseline",
        "changed": ["lr"],
        "state": "completed",
        "label": "pathological",
        "pathology": "mixture_collapse",
        "onset_epoch": 3,
        "remedy": "raise the temperature",
        "contributing": ["no_skill", "überlauf"],
        "coverage": 0.75,
        "best_objective": None,
        "epochs_planned": 20,
        "wall_seconds": 1.5,
        "error": "Traceback …",
        "online_epoch": 4,
        "audited": True,
        "labeller_version": "v1",
        "label_hash": "hash-v1",
        "lr": 0.1,
        "on": True,
        "seed_like": 3,
    }
    assert {name: row[name] for name in expected} == expected
    assert json.loads(row["config"]) == dict(trial.config)


def test_findings_keep_nan_infinity_and_evidence(store):
    write_trial(store, ended(), [finding()])
    (row,) = load_tables(store, ("findings",)).tables["findings"].to_pylist()
    assert math.isnan(row["statistic"])
    assert row["threshold"] == math.inf
    assert row["confidence"] is None
    assert row["labeller_version"] == "v1"
    assert json.loads(row["evidence"])["n"] == 3.0


def test_writing_twice_is_writing_once(store):
    run_through(store)
    first = picture(store)
    write_epochs(store, "s1", "t1", [record_of(epoch) for epoch in (1, 2, 3)])
    write_trial(store, ended(trial=config()), [finding("no_skill"), finding("divergence")])
    assert picture(store) == first


def test_a_fresh_attempt_replaces_the_rows_of_the_last_one(store):
    run_through(store, state=TrialState.FAILED)
    consolidate(store, "s1")
    attempt = start_attempt(store, "s1", "t1", device="cpu", started_at=START)
    assert attempt == 2
    write_epochs(store, "s1", "t1", [record_of(1, attempt)])
    assert [
        (record.attempt, record.row.epoch) for record in read_epoch_records(store, "s1", "t1")
    ] == [(2, 1)]
    assert load_tables(store, ("epochs",)).tables["epochs"].num_rows == 1


def test_going_on_from_a_checkpoint_keeps_the_rows_before_it(store):
    start_attempt(store, "s1", "t1", device="cpu", started_at=START)
    write_epochs(store, "s1", "t1", [record_of(epoch, 1) for epoch in (1, 2, 3)])
    write_checkpoint(store, "s1", "t1", epoch=2, payload=b"\x00weights")
    # … the worker is killed, and another takes over:
    attempt = start_attempt(store, "s1", "t1", device="cpu", started_at=START)
    checkpoint = read_checkpoint(store, "s1", "t1")
    assert (checkpoint.epoch, checkpoint.payload) == (2, b"\x00weights")
    kept = [record for record in read_epoch_records(store, "s1", "t1") if record.row.epoch <= 2]
    write_epochs(store, "s1", "t1", [*kept, record_of(3, attempt), record_of(4, attempt)])
    table = load_tables(store, ("epochs",)).tables["epochs"]
    assert table["epoch"].to_pylist() == [1, 2, 3, 4]
    assert table["attempt"].to_pylist() == [1, 1, 2, 2]


def test_attempts_are_counted_on_after_a_merge(store):
    run_through(store)
    consolidate(store, "s1")
    assert start_attempt(store, "s1", "t1", device="cpu", started_at=START) == 2
    assert start_attempt(store, "s1", "t1", device="cpu", started_at=START) == 3


@pytest.mark.parametrize("damage", [b"", b"SICKBAY1", b"x" * 100, None])
def test_a_damaged_checkpoint_is_none(store, damage, tmp_path):
    write_checkpoint(store, "s1", "t1", epoch=2, payload=b"weights")
    file = tmp_path / "store/_parts/s1/t1/checkpoint"
    file.write_bytes(file.read_bytes()[:-1] if damage is None else damage)
    assert read_checkpoint(store, "s1", "t1") is None


def test_requests_to_the_workers(store):
    assert requested(store, "s1") is None
    request(store, "s1", "stop")
    assert requested(store, "s1") == "stop"
    request(store, "s1", "cancel")
    assert requested(store, "s1") == "cancel"
    request(store, "s1", None)
    request(store, "s1", None)
    assert requested(store, "s1") is None
    assert trial_states(store, "s1") == {}


def test_sweeps_are_replaced_and_listed_latest_first(store):
    old = SweepRecord("old", "a", "toy", "grid", '{"x": 1}', "completed", START)
    new = SweepRecord("new", "b", "toy", "grid", "{}", "running", START + 1, None, 12, "abc", "0.1")
    write_sweep(store, old)
    write_sweep(store, new)
    write_sweep(store, old)
    assert list_sweeps(store) == (new, old)
    assert read_sweep(store, "new") == new
    assert read_sweep(store, "other") is None


def test_an_empty_store_has_the_fixed_columns(store):
    tables = load_tables(store).tables
    assert {name: table.schema for name, table in tables.items()} == dict(FIXED)
    assert all(table.num_rows == 0 for table in tables.values())


@pytest.mark.parametrize(
    "bad", ["", "..", ".hidden", "_parts", "a/b", "a\0b", "x" * 129, "+schema"]
)
def test_an_id_cannot_leave_the_store(store, bad, tmp_path):
    with pytest.raises(ValueError, match="is not a valid trial id"):
        start_attempt(store, "s1", bad, device="cpu", started_at=START)
    with pytest.raises(ValueError, match="is not a valid sweep id"):
        trial_states(store, bad)
    with pytest.raises(ValueError, match="is not a valid sweep id"):
        load_tables(store, ("sweeps",), [bad])
    assert files_below(tmp_path / "store") == []


def test_a_signal_with_the_name_of_a_column_is_refused(store):
    with pytest.raises(ValueError, match=r"'step'.*Taken are sweep_id, trial_id"):
        write_epochs(store, "s1", "t1", [record_of(1, step=3.0)])


@pytest.mark.parametrize("bad", ["high", "12", [1.0, "2"], {"a": 1}, object()])
def test_a_signal_that_is_no_number_is_refused(store, bad):
    with pytest.raises(ValueError, match=r"the signal 'loss' is .* a number or a sequence"):
        write_epochs(store, "s1", "t1", [record_of(1, loss=bad)])


def test_numbers_of_numpy_are_numbers(store):
    row = Row(1, 1, {"a": np.float32(0.5), "b": np.int64(3), "c": np.array([1.0, 2.0]), "d": True})
    write_epochs(store, "s1", "t1", [EpochRecord(1, 0.0, row)])
    (record,) = read_epoch_records(store, "s1", "t1")
    assert record.row.signals == {"a": 0.5, "b": 3.0, "c": [1.0, 2.0], "d": 1.0}
    write_trial(store, ended(objective=np.float64(0.5), epochs_run=np.int64(4)))
    row = load_tables(store, ("trials",)).tables["trials"].to_pylist()[0]
    assert (row["objective"], row["epochs_run"]) == (0.5, 4)


def test_a_signal_that_is_sometimes_a_vector_is_a_vector(store):
    write_epochs(store, "s1", "t1", [record_of(1, w=0.5), record_of(2, w=[1.0, 2.0]), record_of(3)])
    table = load_tables(store, ("epochs",)).tables["epochs"]
    assert table["w"].to_pylist() == [[0.5], [1.0, 2.0], None]
    run_through(store, trial_id="t2")
    write_epochs(store, "s1", "t2", [record_of(1, w=7.0)])
    consolidate(store, "s1")
    assert load_tables(store, ("epochs",)).tables["epochs"].column("w").type == pa.list_(
        pa.float64()
    )


def test_a_store_crosses_processes_as_plain_data(store):
    assert pickle.loads(pickle.dumps(store)) == store
    assert open_store(store.uri) == store


NUMBERS = st.floats() | st.integers(-(2**53), 2**53).map(float)
NAMES = st.text(min_size=1, max_size=8).filter(lambda name: name not in FIXED["epochs"].names)


@st.composite
def histories(draw):
    names = draw(st.lists(NAMES, max_size=4, unique=True))
    kinds = {
        name: draw(st.sampled_from([NUMBERS, st.lists(NUMBERS, max_size=3)])) for name in names
    }
    epochs = sorted(draw(st.sets(st.integers(0, 500), max_size=5)))
    rows = []
    for epoch in epochs:
        present = draw(st.sets(st.sampled_from(names))) if names else ()
        signals = {name: draw(kinds[name]) for name in sorted(present)}
        rows.append(Row(epoch, draw(st.integers(0, 2**60)), signals))
    return rows


@given(histories(), histories())
@settings(max_examples=40, deadline=None)
def test_any_history_survives(tmp_path_factory, first, second):
    store = open_store(str(tmp_path_factory.mktemp("store")))
    digests = {}
    for trial_id, rows in (("a", first), ("b", second)):
        write_epochs(store, "s", trial_id, [EpochRecord(1, 0.5, row) for row in rows])
        write_trial(store, ended("s", config(trial_id)))
        digests[trial_id] = History(rows, FACTS, 3, finished=True).digest()
        assert repr([record.row for record in read_epoch_records(store, "s", trial_id)]) == repr(
            rows
        )
    assert {
        stored_trial.trial_id: stored_trial.history.digest()
        for stored_trial in iter_histories(store, "s")
    } == digests
    consolidate(store, "s")
    assert {
        stored_trial.trial_id: stored_trial.history.digest()
        for stored_trial in iter_histories(store, "s")
    } == digests
    assert {name: load_history(store, "s", name).digest() for name in digests} == digests


SETTINGS = st.dictionaries(
    st.text(min_size=1, max_size=8),
    st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    max_size=4,
)


@given(st.lists(SETTINGS, min_size=1, max_size=3), st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_configuration_survives(tmp_path_factory, configs, merge):
    store = open_store(str(tmp_path_factory.mktemp("store")))
    for index, values in enumerate(configs):
        write_trial(store, ended("s", TrialConfig(f"t{index}", "toy", values, index, 3)))
    if merge:
        consolidate(store, "s")
    rows = load_tables(store, ("trials",)).tables["trials"].to_pylist()
    assert [row["seed"] for row in rows] == list(range(len(configs)))
    for row, values in zip(rows, configs, strict=True):
        assert repr(json.loads(row["config"])) == repr(dict(sorted(values.items())))
        for name in set(values) - set(TRIAL_COLUMNS):
            kinds = {type(levels[name]) for levels in configs if name in levels}
            fits = kinds != {int} or all(abs(levels.get(name, 0)) < 2**63 for levels in configs)
            if len(kinds) == 1 and fits:  # a column of one type holds the very levels
                assert repr(row[name]) == repr(values[name])


def test_mixed_levels_become_float_or_text(store):
    for index, values in enumerate(({"a": 1, "b": 1, "c": True}, {"a": 0.5, "b": "auto", "c": 0})):
        write_trial(store, ended("s", TrialConfig(f"t{index}", "toy", values, index, 3)))
    table = load_tables(store, ("trials",)).tables["trials"]
    assert table["a"].to_pylist() == [1.0, 0.5]
    assert table["b"].to_pylist() == ["1", "auto"]
    assert table["c"].to_pylist() == ["true", "0"]


def test_a_setting_never_hides_a_column(store):
    write_trial(store, ended("s", TrialConfig("t", "toy", {"state": "solid", "lr": 1}, 0, 3)))
    (row,) = load_tables(store, ("trials",)).tables["trials"].to_pylist()
    assert row["state"] == "completed"
    assert json.loads(row["config"])["state"] == "solid"


def test_reading_histories_of_an_unknown_trial(store):
    with pytest.raises(ValueError, match="no trial 'nope' has ended in the sweep 's1'"):
        load_history(store, "s1", "nope")
    assert read_epoch_records(store, "s1", "nope") == ()
    assert list(iter_histories(store, "s1")) == []
