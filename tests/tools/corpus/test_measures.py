"""Intervals and scores against numbers worked out by hand or published."""

import math

import numpy as np
import pytest

from docs.tools.corpus.report import measures


def test_wilson_as_published():
    # Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662; 0 of 20 gives 0 to 0.1611
    share = measures.share(81, 263)
    assert (share.low, share.high) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert measures.share(0, 20).high == pytest.approx(0.1611, abs=5e-5)
    assert measures.share(0, 20).low == 0.0


def test_no_cases_give_no_figure():
    assert measures.share(0, 0).text() == "none"
    assert measures.resampled([], np.mean).text() == "none"


def test_a_figure_is_written_with_its_interval():
    assert measures.share(1, 2).text() == "50.0 % [9.5, 90.5], n = 2"


def test_the_bootstrap_covers_the_mean_and_is_the_same_twice():
    values = list(range(50))
    one, two = (measures.resampled(values, np.mean) for _ in range(2))
    assert one == two
    assert one.value == 24.5
    assert one.low == pytest.approx(24.5 - 1.96 * 2.04, abs=0.5)  # 14.43 / sqrt(50) = 2.04


def test_clusters_widen_an_interval():
    flags = [True] * 50 + [False] * 50
    alone = measures.clustered(flags, range(100))
    whole = measures.clustered(flags, [i // 10 for i in range(100)])
    assert alone.value == whole.value == 0.5
    assert whole.high - whole.low > 2 * (alone.high - alone.low)


def test_calibration_error_by_hand():
    # bin 0.9: two of four right, gap 0.45; bin 0.6: all right, gap 0.4; weights 4/5, 1/5
    error = measures.calibration_error([0.95] * 4 + [0.6], [True, True, False, False, True])
    assert error == pytest.approx(0.8 * 0.45 + 0.2 * 0.4)
    assert measures.calibration_error([1.0], [True]) == 0.0
    assert math.isnan(measures.calibration_error([], []))
