"""Power and seeds of a design: against scipy's noncentral t, and by the table that comes of it."""

import math

import pytest
from effect_samples import sample
from report_samples import SampleTrial
from scipy import stats

from sickbay.service.analysis.plan_power import planned_power, power_line, stored_noise
from sickbay.service.analysis.statistics.power import (
    power,
    seeds_needed,
    shared_degrees,
    smallest_detectable,
)
from sickbay.service.query.engine import query


@pytest.mark.parametrize(("seeds", "levels"), [(3, 1), (5, 1), (5, 3), (10, 6), (24, 2)])
def test_power_is_that_of_the_noncentral_t(seeds, levels):
    degrees = shared_degrees(seeds, levels)
    limit = stats.t.isf(0.025 / levels, degrees)
    for difference in (0.0, 0.5, 2.0):
        shift = difference * math.sqrt(seeds)
        expected = stats.nct.sf(limit, degrees, shift) + stats.nct.cdf(-limit, degrees, shift)
        assert power(difference, seeds, levels) == pytest.approx(expected, abs=2e-3)


def test_one_level_alone_has_the_degrees_of_its_seeds():
    assert shared_degrees(5, 1) == 4.0
    assert 4.0 < shared_degrees(5, 3) < 12.0


def test_the_smallest_difference_and_the_seeds_have_the_power_that_was_wanted():
    assert power(smallest_detectable(5, 3), 5, 3) == pytest.approx(0.8, abs=1e-3)
    found = seeds_needed(1.0, 3)
    assert power(1.0, found, 3) >= 0.8 > power(1.0, found - 1, 3)
    assert power(9.0, 2, 1) == 0.0
    assert math.isinf(smallest_detectable(2, 1))
    assert seeds_needed(0.01, 3) is None


def test_stored_pairs_of_the_workload_give_the_unit(tmp_path):
    trials = [
        SampleTrial({"a": a}, seed, (10.0 * seed + a * (1.0 + 0.1 * (-1) ** seed),))
        for a in (0, 1)
        for seed in range(4)
    ]
    store = sample(tmp_path, trials, factors={"a": [0, 1]})
    workload = query(store, "SELECT any_value(workload) FROM trials").rows[0][0]
    noise, pairs = stored_noise(store, workload, "val_loss")
    assert (noise, pairs) == (pytest.approx(0.1 * math.sqrt(4 / 3)), 4)
    found = planned_power(store, workload, "val_loss", (5, 1), 0.3)
    assert found.power == pytest.approx(power(0.3 / noise, 5, 1))
    assert "from 4 stored pairs" in power_line(found)
    line = power_line(planned_power(store, "other", "val_loss", (2, 1), None))
    assert line.startswith("seeds: 2 seeds give no verdict")
