"""Each detector's test module gets the golden histories of its folder."""

from pathlib import Path

import pytest
from golden_histories import GOLDEN, load


def pytest_generate_tests(metafunc):
    folder = GOLDEN / Path(metafunc.module.__file__).stem.removeprefix("test_")
    if "golden" in metafunc.fixturenames:
        cases = [load(path) for path in sorted(folder.glob("*.json"))]
        metafunc.parametrize("golden", cases, ids=[case.name for case in cases])


@pytest.fixture
def golden_states(request):
    """The states that a detector's golden histories show."""
    folder = GOLDEN / Path(request.module.__file__).stem.removeprefix("test_")
    return {load(path).expect["state"] for path in folder.glob("*.json")}
