"""The architecture: who may import whom, how long a file may be, what must not happen on import."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("models", "datasets", "trials", "service")
LONGEST_FILE = 400

# Which of our modules a file may import; the first pattern that fits counts.
ARROWS = [
    ("models/*", ["models.*"]),
    ("datasets/*", ["datasets.*"]),
    ("trials/contract.py", []),
    ("trials/errors.py", []),
    ("trials/evidence/thresholds.py", []),
    ("trials/evidence/statistics.py", []),
    ("trials/probe*.py", ["trials.probe_*"]),
    ("trials/store/checkpoints.py", []),
    ("trials/store/pretrained.py", ["trials.contract", "trials.checkpoints"]),
    ("trials/seeding.py", []),
    ("trials/history.py", ["trials.contract"]),
    (
        "trials/detectors/*",
        [
            "trials.contract",
            "trials.history",
            "trials.detecting",
            "trials.evidence*",
            "trials.blowup",
            "trials.statistics",
            "trials.margins",
        ],
    ),
    (
        "trials/workloads/*",
        [
            "models.*",
            "datasets.*",
            "trials.contract",
            "trials.probes",
            "trials.checkpoints",
            "trials.pretraining",
            "trials.seeding",
        ],
    ),
    (
        "trials/adapters/*",
        [
            "trials.adapters.*",
            "trials.contract",
            "trials.diagnose",
            "trials.history",
            "trials.probes",
            "trials.registry",
        ],
    ),
    (
        "trials/diagnosis/diagnose.py",
        [
            "trials.contract",
            "trials.history",
            "trials.detecting",
            "trials.causes",
            "trials.evidence*",
            "trials.margins",
            "trials.statistics",
        ],
    ),
    ("trials/store*.py", ["trials.contract", "trials.history", "trials.store*"]),
    ("trials/spec/expression.py", ["trials.contract"]),
    ("trials/spec*.py", ["trials.contract", "trials.problems", "trials.design*", "trials.spec*"]),
    (
        "trials/design*.py",
        ["trials.contract", "trials.design*", "trials.spec_model", "trials.spec_expression"],
    ),
    ("trials/registry.py", ["trials.contract", "trials.detecting", "trials.problems"]),
    (
        "trials/execution/trial.py",
        [
            "trials.contract",
            "trials.detecting",
            "trials.diagnose",
            "trials.recording",
            "trials.registry",
            "trials.seeding",
            "trials.store",
            "trials.store_read",
        ],
    ),
    ("trials/*", ["trials.*"]),
    ("service/*", ["service.*", "trials.*"]),
]

# Where a foreign package may be imported, and nowhere else.
FOREIGN = {
    "torch": [
        "models/*",
        "datasets/*",
        "trials/workloads/*",
        "trials/probe*.py",
        "trials/seeding.py",
        "trials/store/checkpoints.py",
        "trials/store/pretrained.py",
    ],
    "ray": ["trials/tune*.py", "service/ray_jobs.py"],
    "optuna": [
        "trials/search*.py",
        "trials/search/boundary_sampler.py",
        "trials/execution/inline.py",
        "service/importance_optuna.py",
    ],
    "statsmodels": ["service/effect_models.py"],
    "pydoe": ["trials/spec/fractional.py"],
    "pyarrow": [
        "trials/store*.py",
        "service/query.py",
        "service/cli_options.py",
        "service/export*.py",
        "service/remote_store.py",
    ],
    "duckdb": ["service/query.py"],
    "typer": ["service/cli*.py"],
    "rich": ["service/*"],
    "fastapi": ["service/api*.py"],
    "starlette": ["service/api*.py"],
    "uvicorn": ["service/serving.py"],
    "httpx2": ["service/client.py", "service/notify.py"],
    "prometheus_client": ["service/api_metrics.py"],
    "matplotlib": ["service/figures*.py", "service/report_figures.py"],
    "mlflow": ["service/export_mlflow.py"],
    "tensorboardX": ["service/export_tensorboard.py"],
    "pydantic": ["trials/spec*.py", "service/*"],
}

# Besides the settings, two files write variables that a library reads and that have no other
# switch.
ENVIRONMENT = ["service/settings.py", "trials/execution/ray_tune.py", "trials/seeding.py"]

FILES = sorted(
    path.relative_to(ROOT).as_posix() for room in ROOMS for path in (ROOT / room).rglob("*.py")
)


def imports(file: str) -> Iterator[str]:
    """Every module that a file imports, also inside functions."""
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports hide the arrows"
            if node.module in ("sickbay.trials", "sickbay.service"):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            elif node.module:
                yield node.module


def fits(name: str, patterns: list[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


@pytest.mark.parametrize("file", FILES)
def test_our_modules_are_imported_along_the_arrows(file):
    allowed = next(modules for pattern, modules in ARROWS if fnmatch(file, pattern))
    ours = {name.removeprefix("sickbay.") for name in imports(file) if name.startswith("sickbay.")}
    assert {name for name in ours if not fits(name, allowed)} == set()


def test_nobody_imports_a_workload_or_a_detector_but_by_name():
    for file in FILES:
        for name in imports(file):
            assert not name.startswith(
                ("sickbay.trials.workloads.", "sickbay.trials.detectors.")
            ), file


@pytest.mark.parametrize("package", FOREIGN)
def test_foreign_packages_stay_where_they_belong(package):
    users = [file for file in FILES if any(n.split(".")[0] == package for n in imports(file))]
    assert [file for file in users if not fits(file, FOREIGN[package])] == []


def test_the_environment_is_read_in_one_place():
    users = [file for file in FILES if re.search(r"os\.environ|getenv", (ROOT / file).read_text())]
    assert [file for file in users if file not in ENVIRONMENT] == []


def test_a_detector_sees_no_configuration():
    for file in FILES:
        if fnmatch(file, "trials/detectors/*"):
            tree = ast.parse((ROOT / file).read_text())
            names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
            assert "config" not in names, file


@pytest.mark.parametrize("file", FILES)
def test_files_are_short(file):
    assert len((ROOT / file).read_text().splitlines()) <= LONGEST_FILE


def test_every_folder_of_code_is_packaged():
    text = (ROOT / "pyproject.toml").read_text()
    for folder in {str(Path(file).parent) for file in FILES}:
        assert f'"sickbay.{folder.replace("/", ".")}" = "{folder}"' in text, folder


def test_importing_everything_does_no_work():
    """No process, thread, file or random draw: only definitions. Run in a process of its own."""
    code = """
import random, socket, subprocess, threading, sys, importlib
def refuse(*a, **k): raise AssertionError("work at import time")
import numpy, torch, ray, ray.tune, matplotlib.figure, duckdb, pandas, pyarrow, rich.console, typer
import scipy.optimize, scipy.special, pydantic, jinja2, yaml
import mlflow.tracking, tensorboardX.summary, matplotlib.collections
before = random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
threads = threading.active_count()
subprocess.Popen = socket.socket.connect = refuse
ray.init = refuse
for name in sys.argv[1:]:
    importlib.import_module(name)
after = random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
assert before == after, "an import drew random numbers"
assert threads == threading.active_count(), "an import started a thread"
"""
    modules = ["sickbay." + file.removesuffix(".py").replace("/", ".") for file in FILES]
    modules = [name.removesuffix(".__init__") for name in modules]
    done = subprocess.run(
        [sys.executable, "-c", code, *modules], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
