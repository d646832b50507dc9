"""Noise that levels share: the worked example of docs/effects.md, and what must not happen."""

import math

import numpy as np
import pytest
from effect_samples import trial
from scipy import stats

from sickbay.service.analysis.effects import effect_table
from sickbay.service.analysis.statistics.estimates import NOTHING, paired_effect
from sickbay.service.analysis.statistics.moderated import Measured, moderated
from sickbay.trials.contract import Goal


def measured(values, group=0):
    seeds = list(range(len(values)))
    return Measured(
        paired_effect(values, seeds, [0] * len(seeds)), dict(zip(seeds, values, strict=True)), group
    )


A, B = [-0.10, -0.08, -0.09], [0.02, -0.02, 0.03]


def test_the_worked_example():
    """Variances 0.0001 and 0.0007, mean 0.0004; r² = 0.571, less its bias 0.143, so 0.25."""
    found, other = moderated([measured(A), measured(B)])
    variance = 0.25 * 0.0001 + 0.75 * 0.0004
    error = math.sqrt(variance / 3)
    spread = (
        0.625**2 * 0.0001**2 + 0.375**2 * 0.0007**2 + 2 * 0.625 * 0.375 * 0.25 * 0.0001 * 0.0007
    ) / 2
    degrees = variance**2 / spread
    assert found.estimate.error == pytest.approx(error) == pytest.approx(0.010408, abs=1e-6)
    assert found.estimate.degrees == pytest.approx(degrees) == pytest.approx(2.6075, abs=1e-4)
    half = stats.t.isf(0.025, degrees) * error
    assert (found.estimate.low, found.estimate.high) == pytest.approx((-0.09 - half, -0.09 + half))
    own = paired_effect(A, range(3), [0] * 3).error
    assert found.own * own**2 + found.borrowed == pytest.approx(error**2)
    assert other.estimate.mean == pytest.approx(0.01)


def test_nothing_is_borrowed_from_noise_that_a_levels_own_rules_out():
    """The upper bound of a variance s² of 4 degrees is 4 s² / chi²(0.03) = 7.47 s²."""
    quiet, noisy = [0.1, 0.3, 0.2, 0.2, 0.2], [1.0, 5.0, -3.0, 2.0, 0.0]
    found, other = moderated([measured(quiet), measured(noisy)])
    bound = 4 / stats.chi2.ppf(0.03, 4)
    variance = np.var(quiet, ddof=1) * (0.4 + 0.3 + 0.3 * bound)
    assert found.estimate.error == pytest.approx(math.sqrt(variance / 5))
    assert found.borrowed == pytest.approx(0.0, abs=1e-12)
    assert found.estimate.degrees == pytest.approx(4.0)
    assert other.own == pytest.approx(0.4 + 0.3)


def test_one_level_keeps_its_own_noise_and_nothing_is_borrowed_across_groups():
    alone = measured(A)
    for found in (moderated([alone])[0], moderated([alone, measured(B, group=1)])[0]):
        assert found.estimate == alone.estimate
        assert (found.own, found.borrowed) == (1.0, 0.0)
    same = moderated([alone, Measured(NOTHING, {}, 0), measured([0.1, 0.1, 0.1])])
    assert same[0].estimate == alone.estimate
    assert same[2].estimate.error == 0.0


def test_degrees_lie_between_a_level_s_own_and_those_of_all():
    rng = np.random.default_rng(0)
    levels = [measured(rng.normal(size=n).tolist()) for n in (3, 4, 10)]
    for one, made in zip(levels, moderated(levels), strict=True):
        assert one.estimate.degrees <= made.estimate.degrees <= 2 + 3 + 9


def test_the_familywise_error_holds_where_the_baseline_is_noisy_and_power_is_gained():
    """1,000 tables of three levels and five seeds; docs/effects.md has all conditions."""
    rng = np.random.default_rng(0)
    alarms = found = before = 0
    for _ in range(1000):
        noise = rng.normal(size=(4, 5))
        null = moderated([measured((one - 3.0 * noise[0]).tolist()) for one in noise[1:]])
        alarms += min(one.estimate.p_value for one in null) <= 0.05 / 3
        differences = [measured((one - noise[0]).tolist()) for one in noise[1:]]
        shifted = [measured((noise[1] - noise[0] + 2.0).tolist()), *differences[1:]]
        found += moderated(shifted)[0].estimate.p_value <= 0.05 / 3
        before += shifted[0].estimate.p_value <= 0.05 / 3
    assert alarms / 1000 <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 1000)
    assert found / 1000 > before / 1000 + 0.08


def test_the_table_shows_the_interval_that_decides():
    rng = np.random.default_rng(1)
    rows = [
        trial(seed, float(rng.normal(2.0 * (level == "x"), 1.0)), a=level)
        for level in ("off", "x", "y", "z")
        for seed in range(5)
    ]
    for one in effect_table(rows, {"a": ("off", "x", "y", "z")}, Goal.MINIMIZE).effects:
        excluded = one.difference.low > 0.0 or one.difference.high < 0.0
        assert excluded == (one.difference.p_value < 0.05)
        assert one.own == pytest.approx(0.4 + 0.6 / 3)
