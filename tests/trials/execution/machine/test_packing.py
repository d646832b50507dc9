"""How many trials share a GPU."""

import math

import pytest

from sickbay.trials.execution.machine.packing import GpuUse, gpu_share, trials_per_gpu


@pytest.mark.parametrize(
    ("peak", "busy", "trials"),
    [
        (10.0, 0.05, 7),  # 7 x 11 GiB
        (10.0, 0.3, 3),  # more would wait for each other
        (10.0, 0.6, 2),
        (10.0, 0.95, 1),
        (10.0, math.nan, 7),
        (1.0, 0.0, 72),
        (75.0, 0.1, 1),  # it ran, so one fits
    ],
)
def test_trials_share_what_memory_and_time_allow(peak, busy, trials):
    assert trials_per_gpu(GpuUse(peak, 80.0, busy)) == trials
    assert 0.99 < trials * gpu_share(trials) <= 1.0
