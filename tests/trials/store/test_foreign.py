"""A finished sweep read without our code, and an old store read by today's."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest
from store_samples import ended, plain_rows, record_of, run_through

from sickbay.trials.contract import TRIAL_COLUMNS, TrialConfig
from sickbay.trials.store import SweepRecord, open_store, write_epochs, write_sweep, write_trial
from sickbay.trials.store.merge import consolidate
from sickbay.trials.store.reader import load_history, load_tables, trial_states

GOLDEN = Path(__file__).parents[2] / "golden" / "store-v1"


@pytest.fixture
def root(tmp_path):
    """Sweeps whose settings and signals differ, in name and in type; their ids sort oddly."""
    root = tmp_path / "store"
    store = open_store(str(root))
    settings = {
        "zz": {"lr": 1, "depth": 2, "mix": 1, "on": True},
        "00-first": {"lr": 0.5, "width": 8, "mix": "auto", "on": "maybe"},
        "aa": {"kernel": "rbf", "mix": 0.25},
    }
    for sweep_id, values in settings.items():
        for seed in (0, 1):
            trial = TrialConfig(f"{sweep_id}-{seed}", "toy", values, seed, 2)
            rows = [record_of(1, **{f"only_{sweep_id}": 1.0}), record_of(2, counts=[1.0])]
            write_epochs(store, sweep_id, trial.trial_id, rows)
            write_trial(store, ended(sweep_id, trial))
        consolidate(store, sweep_id)
        write_sweep(store, SweepRecord(sweep_id, "n", "toy", "grid", "{}", "completed", 1.0))
    return root


def test_pandas_reads_the_trials_of_all_sweeps(root):
    frame = pd.read_parquet(root / "trials").sort_values("trial_id")
    assert list(frame.trial_id) == ["00-first-0", "00-first-1", "aa-0", "aa-1", "zz-0", "zz-1"]
    assert set(frame.columns) == {*TRIAL_COLUMNS, "lr", "depth", "mix", "on", "width", "kernel"}
    by_sweep = frame.groupby("sweep_id").first()
    assert (by_sweep.lr["00-first"], by_sweep.lr["zz"]) == (0.5, 1.0)
    assert math.isnan(by_sweep.lr["aa"])
    assert by_sweep.mix.to_dict() == {"00-first": "auto", "aa": "0.25", "zz": "1"}
    assert by_sweep.on["zz"] == "true"
    assert by_sweep.label.to_dict() == dict.fromkeys(by_sweep.index, "healthy")
    assert str(frame.started_at.dtype).startswith("datetime64[")


def test_pandas_reads_one_sweep_and_its_epochs(root):
    frame = pd.read_parquet(root / "trials" / "zz")
    assert frame.depth.tolist() == [2, 2]
    assert frame.on.tolist() == [True, True]
    epochs = pd.read_parquet(root / "epochs").sort_values(["trial_id", "epoch"])
    assert len(epochs) == 12
    assert {"only_zz", "only_aa", "only_00-first", "counts"} <= set(epochs.columns)
    assert epochs.grad_norm[epochs.epoch == 2].tolist() == [math.inf] * 6
    vector = epochs.group_norm.iloc[0]
    assert (vector[0], vector[2]) == (1.0, -math.inf)
    assert math.isnan(vector[1])
    assert pd.read_parquet(root / "findings").empty
    assert len(pd.read_parquet(root / "labels")) == 6
    assert len(pd.read_parquet(root / "sweeps")) == 3


def test_duckdb_reads_all_sweeps(root):
    pattern = f"read_parquet('{root}/trials/**/*.parquet', union_by_name=true)"
    sql = f"SELECT mix, label, count(*), max(lr) FROM {pattern} GROUP BY ALL ORDER BY ALL"
    assert duckdb.sql(sql).fetchall() == [
        ("0.25", "healthy", 2, None),
        ("1", "healthy", 2, 1.0),
        ("auto", "healthy", 2, 0.5),
    ]
    pattern = f"read_parquet('{root}/epochs/**/*.parquet', union_by_name=true)"
    sql = f"SELECT count(*), count(only_zz), max(grad_norm), sum(group_norm[1]) FROM {pattern}"
    assert duckdb.sql(sql).fetchall()[0][:2] == (12, 2)


def test_the_files_say_their_version(root):
    for file in root.rglob("*.parquet"):
        metadata = pq.read_schema(file).metadata
        assert metadata[b"sickbay.schema"] == b"1"
        assert metadata[b"sickbay.table"] == file.relative_to(root).parts[0].encode()


def test_a_temporary_file_of_a_killed_writer_disturbs_no_reader(root):
    (root / "trials/zz/.data.parquet.1.ab.tmp").write_bytes(b"half")
    assert len(pd.read_parquet(root / "trials")) == 6
    assert load_tables(open_store(str(root))).problems == ()


def test_reading_imports_neither_pandas_nor_torch(root):
    code = f"""
import sys
from sickbay.trials.store import open_store
from sickbay.trials.store.reader import list_sweeps, load_history, load_tables, trial_states
store = open_store({str(root)!r})
assert load_tables(store).tables["epochs"].num_rows == 12
assert len(list_sweeps(store)) == 3
assert trial_states(store, "zz") and load_history(store, "zz", "zz-0")
bad = {{"pandas", "scipy", "torch", "ray", "duckdb", "pydantic"}} & set(sys.modules)
assert not bad, bad
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_store_of_version_1_reads_as_ever(tmp_path):
    """Made by `python tests/golden/make_store.py` when version 1 was new; never made again."""
    shutil.copytree(GOLDEN / "store", tmp_path / "store")
    store = open_store(str(tmp_path / "store"))
    expected = json.loads((GOLDEN / "expected.json").read_text(encoding="utf-8"))
    for _ in ("as it is", "merged by today's code"):
        assert trial_states(store, "golden") == expected["states"]
        for name, rows in plain_rows(store).items():
            # A later version may know more columns, never fewer or others.
            old = expected["tables"][name]
            known = [
                {key: row[key] for key in golden_row}
                for row, golden_row in zip(rows, old, strict=True)
            ]
            assert known == old
        assert consolidate(store, "golden") == ()
    history = load_history(store, "golden", "t2")
    assert (len(history), history.finished, history.facts.kind) == (3, True, "density")
    assert history.facts.floors == {"val_loss": 0.5}


def test_an_old_store_takes_new_trials(tmp_path):
    shutil.copytree(GOLDEN / "store", tmp_path / "store")
    store = open_store(str(tmp_path / "store"))
    run_through(store, "golden", "t9", brand_new=True)
    consolidate(store, "golden")
    assert len(pd.read_parquet(tmp_path / "store/trials")) == 4
