"""Exports, read back by the programs that they are for."""

import json
import logging
import math

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from latex_reader import check_latex
from report_samples import small, uneven, write_compared, write_sample
from typer.testing import CliRunner

from sickbay.service.cli.app import app
from sickbay.service.export.tables import export_tables
from sickbay.service.export.trackers import export_to, runs
from sickbay.service.formats import ExportFormat, Tracker
from sickbay.service.query.engine import query
from sickbay.service.query.lookup import SweepError
from sickbay.service.reports.file import write_latex_tables
from sickbay.trials.store import StoreError

SWEEP = "sample-abc123"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_sample(tmp_path_factory.mktemp("store"), small())


@pytest.fixture(autouse=True)
def _quiet():
    """Trackers set loggers up as they like: leave them as they were."""
    names = ("tensorboardX.x2num", "mlflow.store.db.utils")
    before = [logging.getLogger(name).level for name in names]
    yield
    for name, level in zip(names, before, strict=True):
        logging.getLogger(name).setLevel(level)


def values(store, name):
    order = {"trials": "trial_id", "epochs": "trial_id, epoch", "findings": "trial_id, detector"}
    result = query(store, f"SELECT * FROM {name} ORDER BY {order[name]}")
    return [dict(zip(result.columns, row, strict=True)) for row in result.rows]


def same(value, other):
    if isinstance(value, float) and isinstance(other, float):
        return value == other or (math.isnan(value) and math.isnan(other))
    return value == other


def test_parquet_has_every_row_and_value_of_the_store(store, tmp_path):
    paths = export_tables(store, SWEEP, tmp_path, ExportFormat.PARQUET)
    assert [path.name for path in paths] == [
        f"{name}.parquet" for name in ("trials", "epochs", "findings", "effects")
    ]
    for name in ("trials", "epochs", "findings"):
        table = pq.read_table(tmp_path / f"{name}.parquet")
        expected = values(store, name)
        assert table.num_rows == len(expected)
        for column in table.column_names:
            if table.schema.field(column).type != "timestamp[us, tz=UTC]":
                got = table[column].to_pylist()
                wanted = [row[column] for row in expected]
                assert len(got) == len(wanted)
                assert all(_alike(a, b) for a, b in zip(got, wanted, strict=True)), column


def _alike(value, other):
    if isinstance(value, list) and isinstance(other, list):
        return len(value) == len(other) and all(map(same, value, other))
    return same(value, other)


def test_csv_is_read_by_pandas_with_nan_infinity_and_vectors(store, tmp_path):
    export_tables(store, SWEEP, tmp_path, ExportFormat.CSV)
    epochs = pd.read_csv(tmp_path / "epochs.csv", dtype={"trial_id": str})
    expected = values(store, "epochs")
    assert len(epochs) == len(expected)
    text = (tmp_path / "epochs.csv").read_text()
    assert "nan" in text
    assert "inf" in text
    for got, row in zip(epochs.to_dict("records"), expected, strict=True):
        assert got["trial_id"] == row["trial_id"]
        assert same(float(got["val_loss"]), float(row["val_loss"]))
        if row["group_grad_max"] is not None:
            assert json.loads(got["group_grad_max"]) == row["group_grad_max"]
    trials = pd.read_csv(tmp_path / "trials.csv", dtype={"trial_id": str})
    assert trials["trial_id"].tolist() == [row["trial_id"] for row in values(store, "trials")]
    assert json.loads(trials["config"][0]) == {"lr": 0.1}
    assert "<b>planted</b>" in trials["error"].dropna().iloc[0]


def test_effects_are_exported_as_one_row_a_level(tmp_path):
    folder = tmp_path / "out"
    export_tables(write_compared(tmp_path / "store", uneven()), SWEEP, folder, ExportFormat.CSV)
    effects = pd.read_csv(folder / "effects.csv")
    assert list(effects["factor"]) == ["lr", "lr", "init"]
    assert (effects["healthy"] <= effects["trials"]).all()
    assert json.loads(effects["causes"].iloc[0]) == {"no_skill": 2}


def test_latex_tables_are_sound(store, tmp_path):
    paths = write_latex_tables(store, SWEEP, tmp_path)
    assert [path.name for path in paths] == ["trials.tex", "findings.tex", "effects.tex"]
    assert paths[-1].read_text().startswith("% No effects: ")  # there is no objective
    paths = paths[:-1]
    for path in paths:
        check_latex(path.read_text())
    text = (tmp_path / "trials.tex").read_text()
    assert text.count("NaN") == 2
    assert text.count(" \\\\\n0000") == 10 - 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of MLflow, about its own libraries
def test_mlflow_reads_the_runs_and_a_second_export_adds_nothing(store, tmp_path):
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    assert export_to(store, SWEEP, Tracker.MLFLOW, str(tmp_path)) == 10
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(SWEEP).experiment_id
    mlflow_runs = client.search_runs([experiment])
    assert len(mlflow_runs) == 10
    assert export_to(store, SWEEP, Tracker.MLFLOW, uri) == 10
    assert len(client.search_runs([experiment])) == 10
    by_trial = {mlflow_run.data.tags["sickbay.trial_id"]: mlflow_run for mlflow_run in mlflow_runs}
    for run in runs(store, SWEEP):
        logged = by_trial[run.trial_id]
        assert logged.data.params["lr"] == str(run.settings["lr"])
        assert logged.data.tags.get("sickbay.label") == run.facts.get("label")
        history = client.get_metric_history(logged.info.run_id, "val_loss")
        expected = [point for point in run.points if point.name == "val_loss"]
        assert [metric.step for metric in history] == [point.step for point in expected]
        for metric, other in zip(history, expected, strict=True):
            clamped = other.value if abs(other.value) != math.inf else 1.7976931348623157e308
            assert same(metric.value, clamped)
        infinite = any(abs(point.value) == math.inf for point in expected)
        assert ("val_loss inf 1" in logged.data.tags["sickbay.not_finite"]) == infinite
    assert {mlflow_run.info.status for mlflow_run in mlflow_runs} == {"FINISHED", "FAILED"}
    sick = client.search_runs([experiment], "tags.`sickbay.pathology` = 'non_finite'")
    assert len(sick) == 2


def test_tensorboard_reads_the_event_files(store, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert export_to(store, SWEEP, Tracker.TENSORBOARD, str(tmp_path)) == 10
    assert export_to(store, SWEEP, Tracker.TENSORBOARD, str(tmp_path)) == 10
    for run in runs(store, SWEEP):
        [folder] = (tmp_path / SWEEP).glob(f"*-{run.trial_id}")
        assert len(list(folder.iterdir())) == 1
        events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
        events.Reload()
        names = {point.name for point in run.points}
        assert names <= set(events.Tags()["scalars"])
        for name in names:
            expected = [point for point in run.points if point.name == name]
            got = events.Scalars(name)
            assert [event.step for event in got] == [point.step for point in expected]
            for event, other in zip(got, expected, strict=True):
                assert same(event.value, float(np.float32(other.value)))
                assert event.wall_time == pytest.approx(other.time)
        assert events.PluginTagToContent("hparams")


def test_files_of_weights_and_biases_hold_config_history_and_summary(store, tmp_path):
    assert export_to(store, SWEEP, Tracker.WANDB, str(tmp_path)) == 10
    for run in runs(store, SWEEP):
        [files] = (tmp_path / "wandb").glob(f"run-*-{run.trial_id}/files")
        config = yaml.safe_load((files / "config.yaml").read_text())
        assert config["lr"]["value"] == run.settings["lr"]
        lines = [
            json.loads(line) for line in (files / "wandb-history.jsonl").read_text().splitlines()
        ]
        expected = [point.value for point in run.points if point.name == "val_loss"]
        assert all(map(same, (float(line["val_loss"]) for line in lines), expected))
        assert [line["_step"] for line in lines] == list(range(1, len(expected) + 1))
        summary = json.loads((files / "wandb-summary.json").read_text())
        assert summary.get("sickbay/label") == run.facts.get("label")


def test_a_damaged_sweep_is_not_exported_by_half(tmp_path):
    store = write_sample(tmp_path / "store", small()[:3])
    path = next((tmp_path / "store" / "epochs").rglob("data.parquet"))
    path.write_bytes(b"no parquet")
    with pytest.raises(StoreError, match="nothing was exported"):
        export_tables(store, SWEEP, tmp_path / "out", ExportFormat.CSV)
    with pytest.raises(StoreError, match="nothing was exported"):
        export_to(store, SWEEP, Tracker.WANDB, str(tmp_path / "out"))


def test_a_missing_library_is_named(store, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sickbay.service.export.mlflow", None)
    with pytest.raises(SweepError, match=r"pip install 'sickbay\[mlflow\]'"):
        export_to(store, SWEEP, Tracker.MLFLOW, str(tmp_path))


@pytest.mark.slow
def test_the_verbs(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call = CliRunner().invoke
    done = call(app, ["export", "sample", "--store", store.uri])
    assert done.exit_code == 0, done.output
    assert (tmp_path / f"{SWEEP}-export" / "trials.csv").exists()
    done = call(app, ["export", "sample", "--store", store.uri, "--to", "wandb", "--json"])
    assert json.loads(done.stdout)["trials"] == 10
    both = ["--to", "wandb", "--format", "csv"]
    assert call(app, ["export", "sample", "--store", store.uri, *both]).exit_code == 2
    page = ["report", "sample", "--store", store.uri]
    for style, name in (("md", "a.md"), ("latex", "a.tex"), ("html", "a.html")):
        assert call(app, [*page, "--format", style, "-o", name]).exit_code == 0
        assert (tmp_path / name).stat().st_size > 500
    done = call(app, [*page, "--json", "--figures", "pictures", "--figure-format", "svg"])
    data = json.loads(done.stdout)
    assert data["verdicts"]["healthy"] == 2
    assert {path.suffix for path in (tmp_path / "pictures").iterdir()} == {".svg"}
    assert len(data["written"]) == len(list((tmp_path / "pictures").iterdir()))
