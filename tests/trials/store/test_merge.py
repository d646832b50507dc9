"""Merging and relabelling, and both of them killed at every single step."""

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_crashes import end_a_trial, fill, relabel, relabelled
from store_samples import (
    START,
    config,
    ended,
    files_below,
    finding,
    picture,
    record_of,
    run_through,
)

from sickbay.trials.contract import TrialState
from sickbay.trials.store import files as store_files
from sickbay.trials.store import (
    open_store,
    read_checkpoint,
    start_attempt,
    write_epochs,
    write_trial,
)
from sickbay.trials.store.merge import consolidate, write_labels
from sickbay.trials.store.reader import load_history, load_tables, trial_states

FINDINGS = [finding("no_skill"), finding("divergence")]


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "store"))


def test_merging_changes_nothing_that_is_read(store, tmp_path):
    fill(store)
    before, states = picture(store), trial_states(store, "s1")
    assert consolidate(store, "s1") == ()
    assert picture(store) == before
    assert trial_states(store, "s1") == states
    assert states == {
        "t1": "completed",
        "t2": "completed",
        "t3": "completed",
        "t4": "cancelled",
        "t5": "running",
    }
    assert files_below(tmp_path / "store/_parts") == [
        "s1/t4/attempt-1.json",
        "s1/t4/checkpoint",
        "s1/t5/attempt-1.json",
        "s1/t5/epochs.parquet",
    ]
    written = {file: file.stat().st_mtime_ns for file in (tmp_path / "store").rglob("*.parquet")}
    assert consolidate(store, "s1") == ()
    assert picture(store) == before
    assert {
        file: file.stat().st_mtime_ns for file in (tmp_path / "store").rglob("*.parquet")
    } == written


def test_no_row_is_there_twice_and_none_is_lost(store):
    fill(store)
    consolidate(store, "s1")
    tables = load_tables(store).tables
    rows = list(
        zip(
            *(tables["epochs"][name].to_pylist() for name in ("trial_id", "epoch", "attempt")),
            strict=True,
        )
    )
    expected = [
        (name, epoch, attempt)
        for name, epochs, attempt in (
            ("t1", 3, 1),
            ("t2", 4, 2),
            ("t3", 3, 1),
            ("t4", 3, 1),
            ("t5", 2, 1),
        )
        for epoch in range(1, epochs + 1)
    ]
    assert sorted(rows) == expected
    assert tables["trials"]["trial_id"].to_pylist() == ["t1", "t2", "t3", "t4"]
    assert tables["findings"].num_rows == 2 * 4


def test_a_trial_goes_on_from_its_checkpoint_after_a_merge(store):
    fill(store)
    consolidate(store, "s1")
    assert read_checkpoint(store, "s1", "t4").epoch == 2
    assert start_attempt(store, "s1", "t4", device="cpu", started_at=START) == 2
    assert trial_states(store, "s1")["t4"] == "running"
    consolidate(store, "s1")  # a running trial is left alone
    assert trial_states(store, "s1")["t4"] == "running"


def test_a_finished_sweep_leaves_only_the_tables(store, tmp_path):
    for name in ("t1", "t2"):
        run_through(store, trial_id=name)
    consolidate(store, "s1")
    assert files_below(tmp_path / "store") == [
        "epochs/+schema.parquet",
        "epochs/s1/data.parquet",
        "findings/s1/data.parquet",
        "labels/s1/data.parquet",
        "trials/+schema.parquet",
        "trials/s1/data.parquet",
    ]
    assert not (tmp_path / "store/_parts/s1").exists()


def test_a_new_label_keeps_the_old_one(store):
    fill(store)
    write_labels(store, "s1", [relabelled("t1", "v2"), relabelled("t2", "v2")])
    tables = load_tables(store).tables
    rows = (
        tables["trials"].select(["trial_id", "label", "pathology", "labeller_version"]).to_pylist()
    )
    assert [tuple(row.values()) for row in rows] == [
        ("t1", "pathological", "late_collapse", "v2"),
        ("t2", "pathological", "late_collapse", "v2"),
        ("t3", "healthy", None, "v1"),
        ("t4", None, None, None),
    ]
    history = tables["labels"].select(["trial_id", "labeller_version", "label"]).to_pylist()
    assert [tuple(row.values()) for row in history] == [
        ("t1", "v1", "healthy"),
        ("t1", "v2", "pathological"),
        ("t2", "v1", "healthy"),
        ("t2", "v2", "pathological"),
        ("t3", "v1", "healthy"),
    ]
    of_t1 = [row for row in tables["findings"].to_pylist() if row["trial_id"] == "t1"]
    assert [(row["labeller_version"], row["detector"]) for row in of_t1] == [
        ("v1", "divergence"),
        ("v1", "no_skill"),
        ("v2", "late_collapse"),
    ]


def test_relabelling_twice_is_relabelling_once(store):
    fill(store)
    write_labels(store, "s1", [relabelled("t1", "v2")])
    once = picture(store)
    write_labels(store, "s1", [relabelled("t1", "v2")])
    assert picture(store) == once
    write_labels(store, "s1", [])
    assert picture(store) == once


def test_an_unknown_trial_cannot_be_labelled(store):
    fill(store)
    before = picture(store)
    with pytest.raises(ValueError, match="cannot label 't5': no such trial has ended in 's1'"):
        write_labels(store, "s1", [relabelled("t1", "v2"), relabelled("t5", "v2")])
    assert picture(store) == before


def test_sweeps_do_not_touch_each_other(store):
    fill(store)
    run_through(store, "s2", "t1", width=8)
    before = picture(store, "s1")
    consolidate(store, "s2")
    assert picture(store, "s1") == before
    assert load_history(store, "s2", "t1").finished


def test_reading_during_a_merge_sees_every_row_once(store):
    for number in range(12):
        run_through(store, trial_id=f"t{number:02}")
    before, seen, stop = picture(store), [], threading.Event()

    def keep_reading():
        while not stop.is_set():
            seen.append((picture(store), trial_states(store, "s1")))

    reader = threading.Thread(target=keep_reading)
    reader.start()
    try:
        for _ in range(3):
            consolidate(store, "s1")
            for number in range(0, 12, 2):  # the same again, in parts
                name = f"t{number:02}"
                rows = [record_of(epoch) for epoch in (1, 2, 3)]
                write_epochs(store, "s1", name, rows)
                write_trial(store, ended("s1", config(name)), FINDINGS)
    finally:
        stop.set()
        reader.join()
    assert seen
    assert all(snapshot == before for snapshot, _ in seen)
    assert all(set(states.values()) == {"completed"} for _, states in seen)


# The child kills itself, and nothing of it runs on, just before its n-th change of a file.
KILLER = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {folder!r})
import store_crashes as case
from sickbay.trials.store import open_store

def dying(step, counter=[0]):
    def wrapped(*args, **kwargs):
        counter[0] += 1
        if counter[0] == {n}:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(*args, **kwargs)
    return wrapped

store = open_store({uri!r})
case.die_at(dying)
case.{work}(store)
"""


def killed(store, work, n):
    """Whether the work, in a process of its own, died before its n-th change."""
    code = KILLER.format(
        folder=str(Path(__file__).parents[2] / "support"), uri=store.uri, work=work, n=n
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0


@pytest.mark.parametrize("n", [2, 3, 11, 19, 22, 24])
def test_a_merge_killed_at_any_step_loses_nothing(store, tmp_path, n):
    fill(store)
    before = picture(store)
    assert killed(store, "merge", n)
    assert picture(store) == before
    consolidate(store, "s1")
    assert picture(store) == before
    left = files_below(tmp_path / "store")
    assert [
        name
        for name in left
        if name.startswith("_parts/s1/t") and "/t4/" not in name and "/t5/" not in name
    ] == []
    assert [
        name
        for name in left
        if name.endswith(".tmp") and not name.startswith(("epochs/.", "trials/."))
    ] == []


@pytest.mark.parametrize("n", [2, 4])
def test_a_writer_killed_at_any_step_leaves_the_old_or_the_new(store, n):
    fill(store)
    before = picture(store)
    killed(store, "end_a_trial", n)
    after = picture(store)
    assert after["trials"] == before["trials"]
    assert len(after["epochs"]) - len(before["epochs"]) == (n > 2)
    assert trial_states(store, "s1")["t5"] == "running"
    end_a_trial(store)
    assert trial_states(store, "s1")["t5"] == "completed"


@pytest.mark.parametrize("n", [3, 11])
def test_a_relabelling_killed_at_any_step_can_be_done_again(store, tmp_path, n):
    fill(store)
    consolidate(store, "s1")
    before = picture(store)
    killed(store, "relabel", n)
    assert picture(store)["epochs"] == before["epochs"]
    assert set(picture(store)["labels"]) >= set(before["labels"])
    relabel(store)
    other = open_store(str(tmp_path / "other"))
    fill(other)
    relabel(other)
    assert picture(store) == picture(other)


@pytest.mark.slow
def test_a_merge_that_dies_before_any_change_loses_nothing(tmp_path):
    for n in range(1, 26):
        store = open_store(str(tmp_path / f"store-{n}"))
        fill(store)
        before = picture(store)
        assert with_a_kill(n, lambda store=store: consolidate(store, "s1")) == (n < 25)
        assert picture(store) == before
        consolidate(store, "s1")
        assert picture(store) == before


class Died(BaseException):
    """Stands for a kill: nothing catches it, so files stay as they were at that moment."""


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["begin", "epochs", "end", "fail", "merge", "relabel"]),
        st.sampled_from(["t1", "t2"]),
        st.none() | st.integers(1, 40),
    ),
    max_size=12,
)


@given(STEPS)
@settings(max_examples=60, deadline=None)
def test_any_run_of_steps_and_kills_reads_as_if_nothing_had_died(tmp_path_factory, steps):
    """A model of plain dictionaries says what must be read after every step."""
    store = open_store(str(tmp_path_factory.mktemp("store")))
    epochs, states, attempts = {}, {}, {}
    for kind, trial_id, kill in steps:
        if kind == "begin" and states.get(trial_id) != "completed":
            attempts[trial_id] = start_attempt(
                store, "s1", trial_id, device="cpu", started_at=START
            )
            states[trial_id] = "running"
        elif kind == "epochs" and states.get(trial_id) == "running":
            attempt = attempts[trial_id]
            count = 1 + len(epochs.get(trial_id, ()))
            write_epochs(
                store, "s1", trial_id, [record_of(e, attempt) for e in range(1, count + 1)]
            )
            epochs[trial_id] = [(e, attempt) for e in range(1, count + 1)]
        elif kind in ("end", "fail") and states.get(trial_id) == "running":
            state = TrialState.COMPLETED if kind == "end" else TrialState.FAILED
            write_trial(store, ended("s1", config(trial_id), state, attempts[trial_id]))
            states[trial_id] = str(state)
        elif kind == "merge":
            with_a_kill(kill, lambda: consolidate(store, "s1"))
        elif kind == "relabel" and states.get(trial_id) == "completed":
            new = relabelled(trial_id, "v2")
            with_a_kill(kill, lambda new=new: write_labels(store, "s1", [new]))
        assert trial_states(store, "s1") == states
        assert stored_epochs(store) == {name: rows for name, rows in epochs.items() if rows}
    assert list(attempts.values()) == [
        start_attempt(store, "s1", name, device="cpu", started_at=START) - 1 for name in attempts
    ]


def stored_epochs(store):
    table = load_tables(store, ("epochs",)).tables["epochs"]
    by_trial = {}
    for name, epoch, attempt in zip(
        *(table[key].to_pylist() for key in ("trial_id", "epoch", "attempt")), strict=True
    ):
        by_trial.setdefault(name, []).append((epoch, attempt))
    return {name: sorted(rows) for name, rows in by_trial.items()}


def with_a_kill(n, work):
    """Do the work, but die before its n-th change of a file, None: live. Gives whether it died."""
    if n is None:
        work()
        return False
    left = [n]

    def dying(step):
        def wrapped(*args, **kwargs):
            left[0] -= 1
            if left[0] == 0:
                raise Died
            return step(*args, **kwargs)

        return wrapped

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", dying(Path.replace))
        patch.setattr(store_files.os, "fsync", dying(store_files.os.fsync))
        for name in ("remove_file", "remove_folder", "write_file"):
            step = dying(getattr(store_files, name))
            for key, module in list(sys.modules.items()):
                if key.startswith("sickbay.trials.store") and hasattr(module, name):
                    patch.setattr(module, name, step)
        try:
            work()
        except Died:
            return True
    return False
