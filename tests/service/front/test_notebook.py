"""`sickbay.sweep` from Python: tables, a report to look at, also inside a running event loop."""

import asyncio
import subprocess
import sys
from dataclasses import replace

import pandas as pd
import pytest
import toy_sweeps

import sickbay
from sickbay.service.query.lookup import SweepError
from sickbay.trials.errors import SpecError
from sickbay_demo.task import WORKLOAD


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A sweep of the toy, run inside an event loop as notebooks do."""
    store = str(tmp_path_factory.mktemp("store"))

    async def cell():
        return sickbay.sweep(toy_sweeps.spec(seeds=3), store=store, in_process=True)

    return asyncio.run(cell())


def test_its_trials_are_a_table(toy):
    assert toy.state == "finished"
    assert isinstance(toy.trials, pd.DataFrame)
    assert toy.trials.groupby("fault").label.first().to_dict() == {
        "none": "healthy",
        "nan": "pathological",
    }
    assert int(toy.query("SELECT count(*) AS n FROM epochs").n[0]) > 6


def test_its_effects_are_a_table(toy):
    [row] = toy.effects().to_dict("records")
    assert (row["factor"], row["level"], row["baseline"]) == ("fault", "nan", "none")
    assert (row["healthy"], row["trials"], row["baseline_healthy"]) == (0, 3, 3)


def test_notebooks_show_it_and_its_report(toy):
    shown = toy._repr_html_()
    assert shown.startswith(f"<p><b>{toy.id}</b>: finished, 6 trials</p>")
    assert shown.count("<tr") == 7
    report = toy.report()
    assert report.path.is_file()
    assert report._repr_html_().startswith('<iframe srcdoc="&lt;!doctype html')


def test_it_is_found_again_by_its_name_and_run_only_once(toy):
    again = sickbay.Sweep.open("toy", toy.store.uri)
    assert again == toy
    before = toy.trials
    rerun = sickbay.sweep(toy_sweeps.spec(seeds=3), store=toy.store.uri, in_process=True)
    pd.testing.assert_frame_equal(rerun.trials, before)


def test_a_workload_may_be_handed_in_itself(tmp_path):
    spec = {**toy_sweeps.spec(factors={}, seeds=1), "workload": WORKLOAD}
    sweep = sickbay.sweep(spec, store=str(tmp_path), in_process=True)
    assert sweep.trials.workload.tolist() == [toy_sweeps.TOY]


def test_a_workload_of_a_notebook_runs_in_process_and_never_on_ray(tmp_path):
    code = f"""
from dataclasses import replace
import sickbay
from sickbay_demo.task import WORKLOAD as TOY
from sickbay.service.query.lookup import SweepError

def train(config, context):
    yield from TOY.train(config, context)

MINE = replace(TOY, name="mine", train=train)
SPEC = {{"name": "here", "workload": MINE, "seeds": 1}}
try:
    sickbay.sweep(SPEC, store={str(tmp_path / "store")!r}, in_process=False)
except SweepError as error:
    print(error)
print(sickbay.sweep(SPEC, store={str(tmp_path / "store")!r}).trials.label.tolist())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    refused, labels = done.stdout.splitlines()
    assert refused.startswith("__main__:MINE is defined in this notebook or script")
    assert labels == "['healthy']"


def test_what_is_wrong_is_said_before_anything_runs(tmp_path):
    with pytest.raises(SpecError, match="Did you mean 'fault'"):
        sickbay.sweep(toy_sweeps.spec(factors={"falt": ["none"]}), store=str(tmp_path / "s"))
    nowhere = replace(WORKLOAD, doc="in no variable")
    with pytest.raises(SweepError, match="stands in no variable"):
        sickbay.sweep({**toy_sweeps.spec(), "workload": nowhere})
    assert not (tmp_path / "s").exists()
