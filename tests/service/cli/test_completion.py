"""What the Tab key offers, asked as bash asks."""

import io
import sys
from contextlib import redirect_stdout
from importlib.metadata import version

import pytest

from sickbay.service.cli.app import main
from sickbay.trials import registry
from sickbay.trials.diagnosis.sweep_detectors import SWEEP_DETECTORS


def run(*arguments):
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out):
        patch.setattr(sys, "argv", ["sickbay", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
    assert end.value.code == 0
    return out.getvalue()


def offered(line, monkeypatch):
    """The answers to Tab at the end of `line`."""
    tokens = line.split(" ")
    monkeypatch.setenv("_SICKBAY_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(tokens) - 1))
    return run().split()


@pytest.fixture
def store(tmp_path, monkeypatch):
    for name in ("lr-0a1b2c", "lr-3d4e5f", "width-6a7b8c"):
        (tmp_path / "store" / "sweeps" / name).mkdir(parents=True)
    (tmp_path / "store" / "sweeps" / "+schema.parquet").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "store"


@pytest.mark.parametrize(
    "verb", ["results", "status", "effects", "report", "resume", "relabel", "compare lr-3d4e5f"]
)
def test_sweeps_of_the_chosen_store(verb, store, monkeypatch):
    assert offered(f"sickbay {verb} --store {store} lr", monkeypatch) == ["lr-0a1b2c", "lr-3d4e5f"]
    monkeypatch.setenv("SICKBAY_STORE", str(store))
    assert offered(f"sickbay {verb} w", monkeypatch) == ["width-6a7b8c"]


def test_no_store_offers_nothing_and_says_nothing(store, monkeypatch, capfd):
    for nowhere in (store / "missing", store / "sweeps" / "+schema.parquet", "s3://bucket/store"):
        assert offered(f"sickbay results --store {nowhere} ", monkeypatch) == []
    assert capfd.readouterr() == ("", "")


def test_workloads_and_detectors_that_are_installed(monkeypatch):
    workloads = [entry.name for entry in registry.workload_entries()]
    assert offered("sickbay workloads ", monkeypatch) == workloads
    names = {entry.name for entry in registry.detector_entries()}
    names |= {detector.name for detector in SWEEP_DETECTORS}
    assert offered("sickbay detectors ", monkeypatch) == sorted(names)
    assert offered("sickbay detectors no_s", monkeypatch) == ["no_skill"]


def test_the_version_is_the_installed_distribution_s():
    assert run("--version") == f"sickbay {version('sickbay')}\n"
