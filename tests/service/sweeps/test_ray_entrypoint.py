"""The command line of a driver that is a Ray job, run by a real shell: whose Python it takes."""

import os
import subprocess
from pathlib import Path

import pytest

from sickbay.service.sweeps.launcher import MAIN
from sickbay.service.sweeps.ray_jobs import entrypoint
from sickbay.trials.store import open_store

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("python", "said"),
    [
        (None, "sickbay: resume toy-1 --trust-code --store {store} --address auto"),
        (
            "exit 1",
            "sickbay: resume toy-1 --trust-code --store {store} --address auto",
        ),  # it lacks Sickbay
        (
            'test "$2" = "import sickbay.service" || echo "own: $*"',
            f"own: -c {MAIN} resume toy-1 --trust-code --store {{store}} --address auto",
        ),
    ],
)
def test_a_driver_takes_the_python_that_ray_made_for_its_packages(tmp_path, python, said):
    """`pip` in a runtime_env makes an environment without a `sickbay` of its own."""
    store = open_store(str(tmp_path / "a store"))
    program(tmp_path / "bin" / "sickbay", 'echo "sickbay: $*"')
    env = {"PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    if python is not None:
        program(tmp_path / "made" / "bin" / "python", python)
        env["VIRTUAL_ENV"] = str(tmp_path / "made")
    done = subprocess.run(
        ["/bin/sh", "-c", entrypoint(store, "toy-1")],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == said.format(store=store.absolute)
