"""The voxel transform against what was seen in real frames, and the rules of a voxel's label."""

import numpy as np
import pytest

from sickbay.datasets.formats.anovox_voxels import (
    TRANSFORMS,
    indices,
    labels_from_grid,
    transform_named,
    voxel_grid,
)


def voxel(point, name="anovox"):
    index, inside = indices(np.array([point]), TRANSFORMS[name])
    return tuple(index[0]), bool(inside[0])


def test_the_right_transform_reproduces_the_extents_of_real_frames():
    """Lidar extents of a real frame, and the extents of its voxel file, within two voxels."""
    low, _ = voxel((-95.78, -95.48, -3.64))
    high, _ = voxel((98.88, 97.98, 25.68))
    assert np.abs(np.array(low) - (310, 308, 21)).max() <= 2
    assert np.abs(np.array(high)[:2] - (697, 696)).max() <= 2
    assert high[2] > 63  # beyond the grid's top, where the file ends at 63


def test_it_is_the_formula_of_the_generator():
    rng = np.random.default_rng(0)
    points = rng.uniform((-240, -240, -12), (240, 240, 16), (500, 3))
    index, inside = indices(points, TRANSFORMS["anovox"])
    moved = points - np.array([0.0, 0.0, 1.8])
    assert inside.all()
    assert (index == np.floor((moved + 0.5 * np.array([1000, 1000, 64]) / 2) / 0.5)).all()


def test_the_wrong_ones_are_wrong_each_in_its_way():
    point = (20.3, -4.1, -0.9)
    right, _ = voxel(point)
    raised, _ = voxel(point, "no_shift")
    assert raised[:2] == right[:2]
    assert raised[2] - right[2] in (3, 4)
    assert voxel(point, "muvo_v2") == ((133, 75, 5), True)
    assert voxel(point, "muvo_v3") == ((133, 75, 7), True)
    assert voxel(point, "wrong_res")[0][:2] == (601, 479)
    assert not voxel((40.0, 0.0, 0.0), "muvo_v2")[1]


def test_the_nearest_point_to_the_corner_names_the_voxel_unless_a_road_line_is_there():
    base = np.array([10.0, 10.0, 0.3])  # voxel corners lie at multiples of 0.5, in z from -14.2
    points = base + np.array([[0.1, 0.1, 0.05], [0.3, 0.3, 0.1], [0.6, 0.1, 0.05]])
    grid = voxel_grid(points, np.array([14, 29, 1]))
    assert sorted(grid[:, 3].tolist()) == [1, 14]
    with_line = voxel_grid(points, np.array([14, 24, 1]))
    assert sorted(with_line[:, 3].tolist()) == [1, 24]
    won = voxel_grid(points, np.array([14, 29, 1]), winners=(29,))
    assert sorted(won[:, 3].tolist()) == [1, 29]
    assert labels_from_grid(points, won, TRANSFORMS["anovox"]).tolist() == [True, True, False]
    assert not labels_from_grid(points, grid, TRANSFORMS["anovox"]).any()


def test_points_outside_the_grid_have_no_voxel_and_no_label():
    points = np.array([[300.0, 0.0, 0.0], [0.0, 0.0, 20.0], [5.0, 0.0, 0.0]])
    grid = voxel_grid(points, np.array([29, 29, 29]))
    assert len(grid) == 1
    labels = labels_from_grid(points, grid, TRANSFORMS["anovox"])
    assert labels.tolist() == [False, False, True]


def test_an_unknown_transform_is_refused():
    with pytest.raises(ValueError, match="transform: 'muvo' is not known; choose one of anovox"):
        transform_named("muvo")
