"""The studentised bootstrap: counted exactly, near Student's, and what it does at the edges."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from sickbay.service.analysis.statistics.estimates import NO_INTERVAL, bootstrap_effect

VALUES = [0.3, 0.9, 0.4, 1.9, 0.7]


def plain(values):
    interval = bootstrap_effect(values, range(len(values)), [0] * len(values))
    return interval.low, interval.high


def test_it_counts_every_resample_of_few_seeds():
    values = np.array(VALUES)
    drawn = values[np.array(list(itertools.product(range(5), repeat=5)))]  # all 3,125
    off, error = drawn.mean(axis=1) - values.mean(), drawn.std(axis=1, ddof=1) / math.sqrt(5)
    with np.errstate(divide="ignore", invalid="ignore"):
        pivots = np.sort(np.where(error < 1e-15, np.sign(off) * np.inf, off / error))
    spread = values.std(ddof=1) / math.sqrt(5)
    low = values.mean() - pivots[math.ceil(0.975 * 3125) - 1] * spread
    high = values.mean() - pivots[math.ceil(0.025 * 3125) - 1] * spread
    assert plain(VALUES) == pytest.approx((low, high))


def test_it_is_near_student_s_for_many_normal_seeds():
    values = np.random.default_rng(1).normal(size=60)
    interval = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert plain(values.tolist()) == pytest.approx(tuple(interval), abs=0.05)


def test_it_leans_where_the_seeds_lean():
    low, high = plain([0.1, 0.2, 0.15, 0.12, 2.0, 0.3])
    mean = np.mean([0.1, 0.2, 0.15, 0.12, 2.0, 0.3])
    assert high - mean > 2 * (mean - low)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0, 3.0], [1.0] * 6])
def test_too_few_seeds_or_no_noise_have_none(values):
    assert bootstrap_effect(values, range(len(values)), [0] * len(values)) == NO_INTERVAL


@pytest.mark.parametrize("n", [5, 12])
def test_the_same_seeds_give_the_same_interval(n):
    values = np.random.default_rng(n).normal(size=n).tolist()
    assert plain(values) == plain(values)
    shifted = plain([value + 100.0 for value in values])
    assert shifted == pytest.approx([end + 100.0 for end in plain(values)])
    scaled = plain([-3.0 * value for value in values])
    assert scaled == pytest.approx([-3.0 * end for end in plain(values)][::-1], abs=0.3)
