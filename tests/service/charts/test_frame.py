"""The axes of curves: hand-worked ends, and one divergence among many that flattens nothing."""

import numpy as np
import pytest

from sickbay.service.charts.curves import Reference
from sickbay.service.charts.frame import frame_of


def curve(values, verdict="healthy"):
    return verdict, np.arange(1.0, len(values) + 1), np.array(values)


def test_ordinary_curves_are_whole_and_a_little_room_is_left():
    found = frame_of([curve([1.0, 0.5]), curve([0.9, 0.0])], [])
    assert (found.first, found.last, found.log) == (1, 2, False)
    assert (found.low, found.high) == pytest.approx((-0.06, 1.06))


@pytest.mark.parametrize("verdict", ["pathological", "running"])
def test_one_divergence_does_not_flatten_the_others(verdict):
    ordinary = [curve([1.0 + 0.001 * k, 0.5]) for k in range(119)]
    every = [*ordinary, curve([1.0, 1e12], verdict)]
    assert frame_of(every, [], log=False).high < 2.0
    found = frame_of(every, [])
    assert found.log  # twelve decades, of which one above the ordinary may be used
    assert found.high < 20.0


def test_where_everything_diverges_everything_is_shown():
    found = frame_of([curve([1.0, 1e9], "pathological")], [])
    assert found.log
    assert found.low < 1.0
    assert found.high > 1e9


def test_a_logarithmic_axis_has_a_place_for_zero_and_none_for_what_is_negative():
    found = frame_of([curve([100.0, 0.02, 0.0])], [])
    assert (found.log, found.zero, found.low) == (True, 0.001, 0.001)
    assert not frame_of([curve([100.0, 0.02, -1.0])], [], log=True).log
    assert not frame_of([curve([0.0, 0.0])], [], log=True).log


def test_references_in_reach_are_shown_and_those_far_away_are_not():
    curves = [curve([1.0, 0.5])]  # height 0.5: four of them reach to 3
    assert frame_of(curves, [Reference("near", 2.9, 2.9)]).high > 2.9
    assert frame_of(curves, [Reference("far", 3.1, 3.1)]).high < 1.1


def test_nothing_finite_and_nothing_at_all():
    found = frame_of([curve([np.nan, np.inf])], [])
    assert (found.low, found.high, found.log) == (0.0, 1.0, False)
    assert frame_of([], []) is None
