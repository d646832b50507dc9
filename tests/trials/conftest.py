"""The built-in detectors, without those of plugins that happen to be installed."""

import importlib
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def built_in():
    folder = Path(__file__).parents[2] / "trials" / "detectors"
    names = sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")
    return [importlib.import_module(f"sickbay.trials.detectors.{name}").detect for name in names]
