"""The built wheel in a fresh environment, beside packages called `datasets` and `models`."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
WORKLOADS = ROOT / "trials" / "workloads"
SYSTEMS = {  # the word of its folders and files, the name that it is registered by
    "crossmodal": "crossmodal_anomaly",
    "longtail": "longtail_diffusion",
    "orientation": "mvm_orientation",
    "pointwise": "pointwise_anomaly",
    "reweighting": "query_reweighting",
}


def run(*arguments, cwd=None):
    done = subprocess.run(
        [*map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(source, target):
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", target, source)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, so that a stale `build/` cannot slip in, and none is left behind."""
    folder = tmp_path_factory.mktemp("wheel")
    run("git", "clone", "--quiet", "--no-hardlinks", ROOT, folder / "source")
    for changed in run("git", "ls-files", "-mo", "--exclude-standard", cwd=ROOT).splitlines():
        target = folder / "source" / changed
        if (ROOT / changed).is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / changed).read_bytes())
    build(folder / "source", folder)
    [path] = folder.glob("*.whl")
    return path


def test_it_holds_one_top_level_package_and_all_that_is_needed(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"sickbay"}
    for name in (
        "sickbay/__init__.py",
        "sickbay/reporting.py",
        "sickbay/trials/contract.py",
        "sickbay/trials/detectors/no_skill.py",
        "sickbay/trials/workloads/orientation.py",
        "sickbay/trials/workloads/declarations/orientation.py",
        "sickbay/models/orientation/network.py",
        "sickbay/datasets/orientation/synthetic.py",
        "sickbay/service/reports/report.html",
        "sickbay/trials/py.typed",
    ):
        assert name in names
    assert not [name for name in names if "test" in name]


@pytest.mark.slow
def test_other_packages_of_the_rooms_names_live_beside_it(wheel, tmp_path):
    """A wheel with top-level `datasets` or `models` would overwrite these."""
    for name in ("datasets", "models"):
        source = tmp_path / name
        (source / name).mkdir(parents=True)
        (source / name / "__init__.py").write_text(f"WHOSE = 'the well-known {name}'\n")
        (source / "pyproject.toml").write_text(
            '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
            f'[project]\nname = "{name}"\nversion = "9"\n[tool.setuptools]\npackages = ["{name}"]\n'
        )
        build(source, tmp_path)
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "env")
    python = tmp_path / "env" / "bin" / "python"
    others = sorted(tmp_path.glob("*.whl"))
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--no-deps",
        "--no-index",
    ]
    run(*install, wheel, *others)
    code = """
import datasets, json, models
from importlib.metadata import entry_points
from importlib.util import find_spec
from sickbay.trials.contract import Factor
import sickbay, sickbay.datasets, sickbay.models
print(json.dumps({
    "whose": [datasets.WHOSE, models.WHOSE],
    "ours": [sickbay.datasets.__name__, sickbay.models.__name__, sickbay.TaskFacts.__name__],
    "factor": Factor("x", (1, 2), "").baseline,
    "found": find_spec("sickbay.trials.workloads.orientation") is not None,
    "entries": sorted(one.name for one in entry_points(group="sickbay.workloads")),
}))
"""
    answer = json.loads(run(python, "-c", code, cwd=tmp_path))
    assert answer == {
        "whose": ["the well-known datasets", "the well-known models"],
        "ours": ["sickbay.datasets", "sickbay.models", "TaskFacts"],
        "factor": 1,
        "found": True,
        "entries": sorted(SYSTEMS.values()),
    }


def test_detectors_and_files_agree():
    text = (ROOT / "pyproject.toml").read_text()
    for path in (ROOT / "trials" / "detectors").glob("[a-z]*.py"):
        assert f'{path.stem} = "sickbay.trials.detectors.{path.stem}:detect"' in text
    assert sorted(SYSTEMS) == sorted(path.stem for path in WORKLOADS.glob("[a-z]*.py"))
    for word, name in SYSTEMS.items():
        assert f'{name} = "sickbay.trials.workloads.declarations.{word}:WORKLOAD"' in text
        for room in ("models", "datasets"):
            assert (ROOT / room / word).is_dir(), "one system, one word in every place"
        assert (WORKLOADS / "declarations" / f"{word}.py").exists()
        assert (ROOT / "tests" / "trials" / "workloads" / f"test_{word}.py").exists()
