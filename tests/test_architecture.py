"""The architecture: which folder may import which, how large folders and files may be, what an
import must not do. The table below is the architecture; house rules that it does not hold are none.
"""

import ast
import re
import subprocess
import sys
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("models", "datasets", "trials", "service")
FRONT = "service/front"  # the package `sickbay` itself
LONGEST_FILE = 600
MOST_FILES = 12  # in a folder, beside its __init__; detectors are one file each

# A folder (or a single file of a room) and the folders that it may import, beside itself.
DOMAIN = "contract history errors seeding"
SERVICE = "service/settings service/formats"
ARROWS = {
    "models/shared": "",
    "models/*": "models/shared",
    "datasets/shared": "",
    "datasets/formats": "datasets/shared",
    "datasets/*": "datasets/shared datasets/formats",
    "trials/contract": "",
    "trials/errors": "",
    "trials/seeding": "",
    "trials/history": "contract",
    "trials/events": "contract store",
    "trials/detector": "contract history",
    "trials/source": "errors",
    "trials/registry": "contract errors detector source",
    "trials/evidence": DOMAIN,
    "trials/spec": DOMAIN + " source",
    "trials/store": DOMAIN,
    "trials/logs": DOMAIN,
    "trials/log_files": DOMAIN + " logs",
    "trials/probes": "contract trials/execution/machine",
    "trials/detectors": "contract history detector evidence",
    "trials/workloads": "models/* datasets/* contract probes store seeding trials/workloads/shared",
    "trials/workloads/shared": "models/shared datasets/* contract store",
    "trials/workloads/declarations": "datasets/formats contract workloads",
    "trials/diagnosis": "contract history detector evidence",
    "trials/search": "contract errors events evidence spec store",
    "trials/execution/machine": "",
    "trials/execution": DOMAIN
    + " evidence detector log_files diagnosis events logs registry search spec store"
    + " trials/execution/machine",
    "trials/execution/ray_lanes": DOMAIN + " events execution store trials/execution/machine",
    "trials/conformance": DOMAIN + " spec detector diagnosis registry",
    "trials/adapters": DOMAIN + " diagnosis probes registry",
    "service/settings": "",
    "service/console": "",
    "service/formats": "",
    "service/client": "service/settings",
    "service/doctor": "service/settings trials/*",
    "service/query": SERVICE + " service/client trials/*",
    "service/analysis/statistics": "trials/evidence",
    "service/analysis/rows": "service/query trials/*",
    "service/analysis": SERVICE + " service/analysis/* service/query trials/*",
    "service/summary": SERVICE + " service/query service/analysis* trials/*",
    "service/sweeps": SERVICE
    + " service/client service/query service/analysis* service/summary service/export trials/*",
    "service/charts": SERVICE + " service/query service/analysis* service/summary trials/*",
    "service/reports": SERVICE
    + " service/query service/analysis* service/summary service/charts trials/*",
    "service/export": SERVICE + " service/query service/analysis* service/summary trials/*",
    "service/external_logs": "service/summary service/reports trials/*",
    "service/server": "service/query trials/*",
    "service/front": SERVICE
    + " service/client service/query service/analysis* service/reports service/sweeps trials/*",
    "service/api": "service/* trials/*",
    "service/cli": "service/* trials/*",
}
DECLARATIONS = "trials/workloads/declarations"
NOBODY_IMPORTS = ("trials/workloads", DECLARATIONS, "trials/detectors", "service/cli")
ONLY_THE_VERB_SERVE = "service/api"

# Where a foreign package may be imported, and nowhere else.
FOREIGN = {
    "torch": [
        "models/*",
        "datasets/*",
        "trials/workloads/*",
        "trials/probes/*",
        "trials/seeding.py",
        "trials/store/checkpoints.py",
        "trials/store/pretrained.py",
    ],
    "ray": ["trials/execution/ray_*.py", "service/sweeps/ray_jobs.py"],
    "optuna": ["trials/search/*", "trials/execution/inline.py", "service/analysis/importance.py"],
    "cmaes": ["trials/search/samplers.py"],
    "statsmodels": ["service/analysis/*"],
    "pydoe": ["trials/spec/fractional.py"],
    "pyarrow": ["trials/store/*", "service/query/*", "service/cli/options.py", "service/export/*"],
    "duckdb": ["service/query/duck.py"],
    "typer": ["service/cli/*"],
    "rich": ["service/*"],
    "fastapi": ["service/api/*", "service/server/*"],
    "starlette": ["service/api/*", "service/server/*"],
    "uvicorn": ["service/api/serving.py", "service/server/connections.py"],
    "httpx2": ["service/client.py", "service/sweeps/webhooks.py"],
    "prometheus_client": ["service/api/routes_metrics.py"],
    "matplotlib": ["service/charts/*"],
    "mlflow": ["service/export/mlflow.py"],
    "tensorboardX": ["service/export/tensorboard.py"],
    "pydantic": ["trials/spec/*", "service/*"],
}

# Besides the settings, two files write variables that a library reads and that have no other
# switch, a script inherits those of its trial, one puts back what a trial changed, one asks which
# GPU is the trial's.
ENVIRONMENT = [
    "service/settings.py",
    "trials/execution/command.py",
    "trials/execution/machine/gpu.py",
    "trials/execution/process_state.py",
    "trials/execution/ray_cluster.py",
    "trials/execution/ray_tune.py",
    "trials/seeding.py",
]

# A value's own way to what makes it, opened when it is called: `TaskFacts.of` measures with torch.
DOORS = {"trials/contract.py": "sickbay.trials.probes.facts.facts_of"}

FILES = sorted(
    path.relative_to(ROOT).as_posix() for room in ROOMS for path in (ROOT / room).rglob("*.py")
)


@cache
def imports(file: str) -> frozenset[str]:
    """Every module that a file imports, also inside functions, `from a import b` as a.b."""
    names: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports hide the arrows"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(names - {DOORS.get(file)})


@cache
def folder_of(name: str) -> str:
    """The folder of one of our modules, or the file itself where it stands alone in its room."""
    parts = name.split(".")[1:]
    if not parts or parts[0] not in ROOMS:
        return FRONT
    while parts and not (
        (ROOT / Path(*parts)).is_dir() or (ROOT / Path(*parts)).with_suffix(".py").exists()
    ):
        parts.pop()
    place = Path(*parts)
    inside = (ROOT / place).is_dir() or place.parent.as_posix() in ROOMS
    return (place if inside else place.parent).as_posix()


def package_of(folder: str) -> str:
    return "sickbay" if folder == FRONT else f"sickbay.{folder.replace('/', '.')}"


def home_of(file: str) -> str:
    return folder_of("sickbay." + file.removesuffix(".py").replace("/", "."))


def allowed(home: str) -> list[str]:
    patterns = next((ARROWS[key] for key in ARROWS if fnmatch(home, key)), None)
    assert patterns is not None, f"{home} has no line in the table of arrows"
    room = home.split("/", maxsplit=1)[0]
    return [
        home,
        *(pattern if "/" in pattern else f"{room}/{pattern}" for pattern in patterns.split()),
    ]


def arrows() -> dict[str, set[str]]:
    """For every folder the folders that its files import."""
    by_folder: dict[str, set[str]] = {}
    for file in FILES:
        ours = {folder_of(name) for name in imports(file) if name.startswith("sickbay.")}
        by_folder.setdefault(home_of(file), set()).update(ours - {home_of(file)})
    return by_folder


def test_folders_import_along_the_arrows():
    wrong = {
        f"{home} -> {target}"
        for home, targets in arrows().items()
        if home not in ROOMS
        for target in targets
        if not any(fnmatch(target, pattern) for pattern in allowed(home))
    }
    assert wrong == set()


def test_no_folder_imports_itself_through_others():
    graph = arrows()

    def reach(start: str) -> set[str]:
        seen: set[str] = set()
        rest = list(graph.get(start, ()))
        while rest:
            folder = rest.pop()
            if folder not in seen:
                seen.add(folder)
                rest += graph.get(folder, ())
        return seen

    assert [home for home in graph if home not in ROOMS and home in reach(home)] == []


def test_plugins_and_the_command_line_are_never_imported():
    for home, targets in arrows().items():
        trains = "trials/workloads" if home == DECLARATIONS else ""  # inside a function, for torch
        assert set(NOBODY_IMPORTS) & targets <= {trains}, home
        assert ONLY_THE_VERB_SERVE not in targets or home == "service/cli", home


def test_foreign_packages_stay_where_they_belong():
    wrong = [
        f"{file} imports {package}"
        for file in FILES
        for package in {name.partition(".")[0] for name in imports(file)} & set(FOREIGN)
        if not any(fnmatch(file, place) for place in FOREIGN[package])
    ]
    assert wrong == []


def test_modules_are_imported_by_name_only_for_plugins():
    strings = [
        file
        for file in FILES
        if re.search(r'import_module\(\s*f?"sickbay', (ROOT / file).read_text())
    ]
    assert strings == []


def test_the_environment_is_read_in_one_place():
    users = [file for file in FILES if re.search(r"os\.environ|getenv", (ROOT / file).read_text())]
    assert [file for file in users if file not in ENVIRONMENT] == []


def test_a_detector_sees_no_configuration():
    for file in FILES:
        if fnmatch(file, "trials/detectors/*"):
            tree = ast.parse((ROOT / file).read_text())
            names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
            assert "config" not in names, file


def test_files_and_folders_are_small():
    long = [file for file in FILES if (ROOT / file).read_text().count("\n") > LONGEST_FILE]
    assert long == []
    folders = [str(Path(file).parent) for file in FILES if Path(file).name != "__init__.py"]
    full = {folder for folder in folders if folders.count(folder) > MOST_FILES} - {
        "trials/detectors"
    }
    assert full == set()


def test_every_folder_of_code_is_packaged_and_says_what_lives_in_it():
    text = (ROOT / "pyproject.toml").read_text()
    for folder in {str(Path(file).parent) for file in FILES}:
        assert f'"{package_of(folder)}" = "{folder}"' in text, folder
        assert (ROOT / folder / "__init__.py").read_text().startswith('"""'), folder


@pytest.mark.slow
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
    files = [file for file in FILES if Path(file).name != "__main__.py"]
    modules = [f"{package_of(str(Path(file).parent))}.{Path(file).stem}" for file in files]
    modules = [name.removesuffix(".__init__") for name in modules]
    done = subprocess.run(
        [sys.executable, "-c", code, *modules], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
