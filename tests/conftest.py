"""What every test shares: the toy plugin on the path, one thread, fixed seeds."""

import importlib
import os
import random
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

PLUGIN_DEMO = Path(__file__).parent / "plugin_demo"

# Before any test imports numpy's or torch's thread pools, and in every process that a test starts.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ["PYTHONPATH"] = os.pathsep.join(
    part for part in (str(PLUGIN_DEMO), os.environ.get("PYTHONPATH", "")) if part
)
sys.path.insert(0, str(PLUGIN_DEMO))


# The same examples in every run, and no time limit on one: the machine may be busy.
settings.register_profile("sickbay", deadline=None, derandomize=True, database=None)
settings.load_profile("sickbay")


# The longest files, which begin first: else one process of two runs them alone at the end.
LONGEST = (
    "test_ray_lanes",
    "test_loop",
    "test_systems",
    "test_first_hour",
    "test_unbreakable",
    "test_tables",
    "test_app",
    "test_ray_search",
    "test_guides",
)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.stem not in LONGEST)


@pytest.fixture(autouse=True)
def fixed_seeds():
    """The same global seeds before each test; torch is touched only where it is already loaded."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - the legacy state is what careless code under test would read
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def plugin_demo() -> Path:
    """The folder of the demo plugin, an installable distribution."""
    return PLUGIN_DEMO


@pytest.fixture
def toy():
    """The workload that trains in milliseconds and fails on demand."""
    from sickbay_demo.task import WORKLOAD

    return WORKLOAD


@pytest.fixture(scope="session")
def swept_once(tmp_path_factory):
    """The folder of a store with one finished sweep of the toy: two trials healthy, two not."""
    import toy_sweeps

    from sickbay.service.sweeps.runner import Options, run

    folder = tmp_path_factory.mktemp("swept") / "store"
    run(toy_sweeps.spec(), str(folder), Options(in_process=True))
    return folder


@pytest.fixture(scope="module")
def swept_copy(swept_once, tmp_path_factory):
    """The same store, for one file of tests, which may change it."""
    return Path(shutil.copytree(swept_once, tmp_path_factory.mktemp("copy") / "store"))


@pytest.fixture(scope="session")
def built_in():
    """The built-in detectors, without those of plugins that happen to be installed."""
    folder = Path(__file__).parents[1] / "trials" / "detectors"
    names = sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")
    return [importlib.import_module(f"sickbay.trials.detectors.{name}").detect for name in names]


# helpers that several folders of tests share, and the tools of the documentation
sys.path[:0] = [str(Path(__file__).parent / "support"), str(Path(__file__).parent.parent)]
