"""A store that is full, damaged or in the way: a clear error, and the rest stays readable."""

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import toy_sweeps
import yaml

from sickbay.service.sweeps.runner import Options, run

SICKBAY = Path(sys.executable).parent / "sickbay"


def sickbay(*arguments, **options):
    return subprocess.run(
        [SICKBAY, *map(str, arguments)], capture_output=True, text=True, check=False, **options
    )


def run_here(folder, **changes):
    """Run a sweep of the toy into the folder's store, in this process."""
    run(toy_sweeps.spec(**changes), str(folder / "store"), Options(in_process=True))


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """A spec, and the store of its sweep: run once, and copied for every test."""
    folder = tmp_path_factory.mktemp("faults")
    (folder / "spec.yaml").write_text(yaml.safe_dump(toy_sweeps.spec()))
    run_here(folder)
    return folder


@pytest.fixture
def swept(once, tmp_path):
    shutil.copytree(once, tmp_path, dirs_exist_ok=True)
    return tmp_path / "spec.yaml", tmp_path / "store"


def test_a_full_disk_is_a_clear_error_and_harms_nothing_stored(swept):
    spec, store = swept
    before = pd.read_parquet(store / "trials")
    more = spec.with_name("more.yaml")
    more.write_text(yaml.safe_dump(toy_sweeps.spec(seeds=6)))
    full = sickbay(
        *("run", more, "--store", store, "--in-process"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)),
    )
    assert full.returncode == 1
    assert "Traceback" not in full.stderr
    assert str(store) in full.stderr
    assert "free some space" in full.stderr or "too large" in full.stderr.lower()
    pd.testing.assert_frame_equal(before, pd.read_parquet(store / "trials"))
    run_here(store.parent, seeds=6)
    after = pd.read_parquet(store / "trials")
    assert len(after) == 12
    assert after["trial_id"].is_unique


def test_a_file_in_the_store_s_place_is_named(swept, tmp_path):
    (tmp_path / "file").write_text("mine")
    done = sickbay("run", swept[0], "--store", tmp_path / "file", "--in-process")
    assert done.returncode == 1
    assert str(tmp_path / "file") in done.stderr
    assert (tmp_path / "file").read_text() == "mine"


def test_damaged_sweeps_are_named_and_the_others_stay_readable(swept, tmp_path):
    _, store = swept
    victims = []
    for damage in ("foreign", "cut", "empty"):
        run_here(tmp_path, name=damage)
        [victim] = store.glob(f"trials/{damage}-*/data.parquet")
        victims.append(victim)
    foreign, cut, empty = victims
    pd.DataFrame({"x": [1]}).to_parquet(foreign)
    cut.write_bytes(cut.read_bytes()[:-100])
    empty.write_bytes(b"")
    done = sickbay("query", "SELECT count(*) AS n FROM trials", "--store", store, "--json")
    assert json.loads(done.stdout) == [{"n": 4}]
    assert all(str(victim) in done.stderr for victim in victims)
    listed = sickbay("list", "--store", store)
    assert listed.returncode == 0
    assert "toy-" in listed.stdout


def test_losing_the_scratch_folder_loses_no_result(swept):
    _, store = swept
    shutil.rmtree(store / "_parts", ignore_errors=True)
    assert len(pd.read_parquet(store / "trials")) == 4
