import math

import numpy as np
import pytest
from scipy.spatial import cKDTree

from sickbay.datasets.formats.meshes import rotate_yaw, sample_surface
from sickbay.datasets.orientation.yaw_shapes import SHAPES, peak_angles, shape


def surface(kfold, seed, count=6000):
    mesh = shape(kfold, np.random.default_rng(seed))
    return sample_surface(mesh, count, np.random.default_rng(seed + 100))


def mismatch(kfold, angle, seed):
    """Mean distance of the turned surface to itself, over the size of the shape."""
    points = surface(kfold, seed)
    turned = rotate_yaw(points, angle)
    distance = cKDTree(points).query(turned)[0]
    return distance.mean() / np.ptp(points, axis=0).max()


@pytest.mark.parametrize("kfold", sorted(SHAPES))
def test_shapes_follow_the_generator_and_differ(kfold):
    assert np.array_equal(surface(kfold, 1), surface(kfold, 1))
    assert not np.array_equal(surface(kfold, 1), surface(kfold, 2))


@pytest.mark.parametrize(
    ("kfold", "turn"), [(2, 180), (3, 120), (5, 72), (6, 60), (0, 17), (0, 90)]
)
def test_a_turn_from_peak_to_peak_leaves_the_shape_as_it_is(kfold, turn):
    assert mismatch(kfold, math.radians(turn), 3) < 0.012


@pytest.mark.parametrize(
    ("kfold", "turn"), [(1, 180), (1, 90), (2, 90), (3, 60), (5, 36), (6, 30), (4, 45)]
)
def test_a_turn_to_between_the_peaks_changes_the_shape(kfold, turn):
    same, other = mismatch(kfold, 0.0, 3), mismatch(kfold, math.radians(turn), 3)
    assert other > same + 0.01


def test_the_tank_is_open_at_the_top_and_has_a_rim():
    points = surface(4, 5)
    top = points[:, 1].max()
    rim = points[points[:, 1] == top]
    assert len(rim) > 0.03 * len(points)
    inside = (abs(rim[:, 0]) < 0.2 * np.ptp(points[:, 0])) & (
        abs(rim[:, 2]) < 0.2 * np.ptp(points[:, 2])
    )
    assert not inside.any()
    assert (points[:, 1] == points[:, 1].min()).sum() > 0.03 * len(points)


def test_tanks_have_the_declared_proportions():
    for seed in range(40):
        width, height, depth = np.ptp(shape(4, np.random.default_rng(seed)).vertices, axis=0)
        assert 0.5 <= width <= 0.9
        assert 1.0 <= depth / width <= 1.9
        assert 0.3 <= height <= 0.9


def test_the_chair_has_its_back_behind_it():
    points = surface(1, 2)
    high = points[points[:, 1] > 0.4]
    assert high[:, 2].min() > 0.0


def test_peak_angles():
    assert peak_angles(4) == (0.0, math.pi, math.pi / 2, -math.pi / 2)
    assert peak_angles(2) == (0.0, math.pi)
    assert peak_angles(0) == (0.0,)
    assert len(peak_angles(6)) == 6


def test_an_unknown_symmetry_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"kfold: 7 has no generated shape.*0, 1, 2, 3, 4, 5, 6"):
        shape(7, np.random.default_rng(0))
