import math

import numpy as np
import pytest

from sickbay.datasets.formats.meshes import (
    Mesh,
    fan,
    polygons_to_mesh,
    rotate_yaw,
    sample_surface,
    to_unit_sphere,
)


def test_a_fan_covers_a_polygon():
    assert fan([7, 8, 9]) == [(7, 8, 9)]
    assert fan([0, 1, 2, 3, 4]) == [(0, 1, 2), (0, 2, 3), (0, 3, 4)]


def test_points_fall_on_triangles_in_proportion_to_their_area():
    """A square of area 4 at height 0 and one of area 1 at height 1."""
    big = [(-1, 0, -1), (1, 0, -1), (1, 0, 1), (-1, 0, 1)]
    small = [(0, 1, 0), (1, 1, 0), (1, 1, 1), (0, 1, 1)]
    points = sample_surface(polygons_to_mesh([big, small]), 20_000, np.random.default_rng(0))
    on_small = points[:, 1] == 1.0
    assert on_small.mean() == pytest.approx(0.2, abs=0.01)
    # Uniform inside, too: each quadrant of the big square holds a quarter of its points.
    quadrant = (points[~on_small][:, 0] > 0) & (points[~on_small][:, 2] > 0)
    assert quadrant.mean() == pytest.approx(0.25, abs=0.015)
    assert points[~on_small].mean(axis=0) == pytest.approx([0, 0, 0], abs=0.02)


def test_sampling_follows_the_generator():
    mesh = polygons_to_mesh([[(0, 0, 0), (1, 0, 0), (0, 1, 0)]])
    first, second, third = (sample_surface(mesh, 9, np.random.default_rng(s)) for s in (1, 1, 2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, third)


def test_a_mesh_without_a_surface_is_refused():
    flat = Mesh(np.zeros((3, 3)), np.array([[0, 1, 2]]))
    with pytest.raises(ValueError, match=r"a surface of 0\.0"):
        sample_surface(flat, 4, np.random.default_rng(0))


def test_a_cloud_comes_to_the_unit_sphere():
    cloud = np.random.default_rng(0).normal(size=(50, 3)) * 7 + 3
    unit = to_unit_sphere(cloud)
    assert unit.mean(axis=0) == pytest.approx([0, 0, 0], abs=1e-12)
    assert np.linalg.norm(unit, axis=1).max() == pytest.approx(1.0)
    assert np.array_equal(to_unit_sphere(np.ones((4, 3))), np.zeros((4, 3)))


def test_turning_moves_a_front_at_theta_to_theta_minus_the_angle():
    theta, angle = 0.4, 1.1
    front = np.array([[math.sin(theta), 0.2, -math.cos(theta)]])
    x, y, z = rotate_yaw(front, angle)[0]
    assert math.atan2(x, -z) == pytest.approx(theta - angle)
    assert y == 0.2
