"""Code of the user's own, in the folder where `sickbay` is typed, on real Ray workers."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import toy_sweeps
import yaml

pytestmark = pytest.mark.slow

SICKBAY = Path(sys.executable).parent / "sickbay"


def test_a_workload_in_the_present_folder_runs_on_the_workers_with_its_relative_files(
    tmp_path, plugin_demo
):
    shutil.copytree(plugin_demo / "sickbay_demo", tmp_path / "sickbay_demo")
    (tmp_path / "data.txt").write_text("here")
    (tmp_path / "mine.py").write_text(
        """
from dataclasses import replace
from pathlib import Path
from sickbay_demo.task import WORKLOAD as TOY

def train(config, context):
    assert Path("data.txt").read_text() == "here"
    yield from TOY.train(config, context)

WORKLOAD = replace(TOY, name="mine", train=train)
"""
    )
    spec = toy_sweeps.spec(workload="mine:WORKLOAD", factors={}, seeds=3)
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec))
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [SICKBAY, "run", "spec.yaml", "--store", "results", "--cpus", "2"],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    listed = subprocess.run(
        [SICKBAY, "results", "toy", "--store", "results", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert [row["label"] for row in json.loads(listed.stdout)] == ["healthy"] * 3
