"""Sinks are filled when a run is over; one that fails costs a sentence."""

import pytest
import toy_sweeps

from sickbay.service.formats import Tracker
from sickbay.service.sweeps.runner import Options, run
from sickbay.service.sweeps.sinks import fill_sinks, target_of
from sickbay.trials.errors import SpecError
from sickbay.trials.store import open_store

SPEC = toy_sweeps.spec(factors={"fault": ["none", "nan"]}, seeds=1)


def test_a_run_fills_its_sinks(tmp_path):
    result = run(
        {**SPEC, "sinks": ["tensorboard", "wandb"]}, str(tmp_path), Options(in_process=True)
    )
    assert result.error == ""
    folder = tmp_path / "exports" / result.sweep_id
    assert list((folder / "tensorboard").rglob("*tfevents*"))
    assert len(list((folder / "wandb").rglob("wandb-summary.json"))) == 2


def test_a_sink_that_fails_costs_a_sentence(tmp_path):
    result = run(SPEC, str(tmp_path), Options(in_process=True))
    store = open_store(str(tmp_path))
    blocked = tmp_path / "exports"
    blocked.write_text("a file where a folder should be")
    messages = fill_sinks(store, result.sweep_id, ("tensorboard",))
    assert len(messages) == 1
    assert messages[0].startswith("cannot export to the sink tensorboard: ")


def test_mlflows_own_variable_wins(tmp_path, monkeypatch):
    store = open_store(str(tmp_path))
    assert target_of(store, "s-1", Tracker.MLFLOW) == str(tmp_path / "exports" / "s-1" / "mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    assert target_of(store, "s-1", Tracker.MLFLOW) == "http://tracking:5000"


def test_an_unknown_sink_is_reported_with_what_is_allowed(tmp_path):
    with pytest.raises(SpecError, match="mlflow, wandb, tensorboard"):
        run({**SPEC, "sinks": ["comet"]}, str(tmp_path), Options(in_process=True))
