"""What is damaged in a store is said, by every verb and route, and never looks like nothing."""

import shutil
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
import toy_sweeps
from serving_samples import served
from typer.testing import CliRunner

from sickbay.service.cli.app import app
from sickbay.service.sweeps.runner import Options, run
from sickbay.trials.store import open_store

MAIN = "from sickbay.service.cli.app import main; main()"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("damage") / "store"
    spec = toy_sweeps.spec(factors={"fault": ["none", "raise"]}, seeds=1)
    run(spec, str(folder), Options(in_process=True))
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    return Path(shutil.copytree(whole, tmp_path / "store"))


def damage(folder, table):
    (file,) = (folder / table).glob("*/data.parquet")
    file.write_bytes(file.read_bytes()[:-20])


def said(done):
    """Everything that a person would read; `main` prints the message of an exception."""
    return f"{done.output}\n{done.stderr}\n{done.exception}"


def invoke(folder, *arguments):
    return CliRunner().invoke(app, [*arguments, "--store", str(folder)])


def test_a_truncated_row_of_a_sweep_is_no_empty_store(folder):
    damage(folder, "sweeps")
    for arguments in (["list"], ["status", "toy"], ["results", "toy"]):
        done = invoke(folder, *arguments)
        assert done.exit_code != 0, arguments
        assert "sweeps/toy" in said(done), arguments
        assert "data.parquet" in said(done), arguments


@pytest.mark.parametrize("table", ["findings", "labels", "epochs", "trials"])
def test_status_names_the_damaged_file(folder, table):
    damage(folder, table)
    done = invoke(folder, "status", "toy")
    assert f"{table}/" in said(done)


@pytest.mark.parametrize("table", ["findings", "epochs", "trials"])
def test_a_report_names_the_damaged_file_in_the_page_and_on_stderr(folder, table):
    damage(folder, table)
    done = invoke(folder, "report", "toy")
    assert f"{table}/" in done.stderr
    assert f"{table}/" in Path(done.stdout.strip()).read_text()


def test_trials_that_a_damaged_file_hides_are_no_unknown_trials(folder):
    damage(folder, "trials")
    for arguments in (["explain", "0"], ["list"], ["results", "toy"], ["effects", "toy"]):
        assert "trials/" in said(invoke(folder, *arguments)), arguments


def test_a_page_over_damaged_findings_is_an_error_and_no_empty_table(folder):
    with served(open_store(str(folder))) as url:
        sweep = httpx2.get(f"{url}/api/sweeps").json()["sweeps"][0]["sweep_id"]
        below = f"{url}/api/sweeps/{sweep}/trials"
        trial = httpx2.get(below).json()["trials"][0]["trial_id"]
    damage(folder, "findings")
    with served(open_store(str(folder))) as url:
        below = f"{url}/api/sweeps/{sweep}/trials/{trial}"
        for path in (below, f"{below}/findings"):
            answer = httpx2.get(path, timeout=30)
            assert answer.status_code == 503
            assert "findings" in answer.json()["error"]["message"]


def test_foreign_folders_are_named_and_passed_over(folder):
    (folder / "_parts" / "no sweep!" / "x").mkdir(parents=True)
    done = invoke(folder, "query", "SELECT count(*) AS n FROM trials", "--json")
    assert done.exit_code == 0
    assert '"n": 2' in done.stdout
    assert "no sweep!" in done.stderr
    assert invoke(folder, "status", "toy").exit_code == 0


def test_a_class_of_failure_is_counted_with_its_remedy(folder):
    done = invoke(folder, "status", "toy")
    assert "1 user_error" in done.stdout
    assert "sickbay logs" in done.stdout
    rows = invoke(folder, "query", "SELECT failure FROM trials ORDER BY failure", "--json").stdout
    assert '"user_error"' in rows


def test_reading_verbs_in_a_deleted_folder(folder, tmp_path):
    gone = tmp_path / "gone"
    for arguments in (["list"], ["status", "toy"], ["query", "SELECT 1 AS one"]):
        gone.mkdir()
        code = f"import os; os.rmdir({str(gone)!r}); {MAIN}"
        command = [sys.executable, "-c", code, *arguments, "--store", str(folder)]
        done = subprocess.run(command, cwd=gone, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    gone.mkdir()
    command = [sys.executable, "-c", code, "list", "--store", "relative"]
    done = subprocess.run(command, cwd=gone, capture_output=True, text=True, check=False)
    assert done.returncode in {1, 2}
    assert "the current folder was deleted" in done.stderr
    assert "Traceback" not in done.stderr
