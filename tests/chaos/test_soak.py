"""A short soak of random kills; `make chaos` is the long one."""

import pytest
from soak import Soak

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]
KILLS = 4


def test_random_kills_lose_and_double_nothing(tmp_path):
    soak = Soak(tmp_path, seed=1)
    try:
        soak.run(KILLS)
    finally:
        soak.close()
    print(dict(soak.kills))
    assert soak.kills.total() == KILLS
    assert soak.faults == []
