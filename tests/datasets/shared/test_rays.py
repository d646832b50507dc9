"""The ray-caster against distances known by hand and against marching along each ray."""

import numpy as np
import pytest

from sickbay.datasets.shared.rays import GROUND, SKY, Boxes, cast

EYE = np.array([0.0, 0.0, 1.5], dtype=np.float32)


def boxes(*rows):
    """Boxes of one scene: x, y, z, half x, half y, half z, yaw."""
    table = np.array([rows], dtype=np.float32)
    return Boxes(table[..., :3], table[..., 3:6], table[..., 6])


def rays(*rows):
    return np.array(rows, dtype=np.float32)


def test_distances_known_by_hand():
    hits = cast(
        EYE,
        rays([1, 0, 0], [1, 0, -1], [0, 1, 0], [-1, 0, 0], [0, 0, 1]),
        boxes([10, 0, 1, 2, 2, 1, 0], [0, 5, 1, 1, 1, 1, 0]),
    )
    assert hits.owner[0].tolist() == [0, GROUND, 1, SKY, SKY]
    assert hits.distance[0] == pytest.approx([8.0, 1.5, 4.0, np.inf, np.inf])
    assert hits.normal[0, 0].tolist() == [-1, 0, 0]
    assert hits.normal[0, 2].tolist() == [0, -1, 0]
    assert hits.normal[0, 1].tolist() == [0, 0, 1]


def test_a_turned_box_is_met_at_its_corner():
    hits = cast(EYE, rays([1, 0, 0]), boxes([10, 0, 1, 1, 1, 1, np.pi / 4]))
    assert hits.distance[0, 0] == pytest.approx(10 - np.sqrt(2), abs=1e-5)


def test_the_nearer_box_hides_the_farther_whatever_their_order():
    near, far = [5, 0, 1, 1, 1, 1, 0.3], [20, 0, 1, 1, 1, 1, 0.0]
    for order in ((near, far), (far, near)):
        hits = cast(EYE, rays([1, 0, 0]), boxes(*order))
        assert order[hits.owner[0, 0]] is near


def test_nothing_is_met_behind_the_eye_or_where_no_box_is():
    assert cast(EYE, rays([1, 0, 0]), boxes([-9, 0, 1, 1, 1, 1, 0])).owner[0, 0] == SKY
    assert cast(EYE, rays([1, 0, 0]), boxes([9, 0, 1, -1, -1, -1, 0])).owner[0, 0] == SKY


def test_it_agrees_with_marching_along_the_rays():
    rng = np.random.default_rng(0)
    count = 6
    table = np.zeros((3, count, 7), dtype=np.float32)
    table[..., :2] = rng.uniform(-15, 15, (3, count, 2)) + np.sign(rng.normal(size=(3, count, 2)))
    table[..., 3:6] = rng.uniform(0.4, 1.5, (3, count, 3))
    table[..., 2] = table[..., 5]
    table[..., 6] = rng.uniform(0, np.pi, (3, count))
    near = np.hypot(table[..., 0], table[..., 1]) < 3.0
    table[near, 3:6] = -1.0  # the eye must not stand in a box
    scene = Boxes(table[..., :3], table[..., 3:6], table[..., 6])
    direction = rng.normal(size=(200, 3)).astype(np.float32)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    hits = cast(EYE, direction, scene)
    step = 0.01
    along = np.arange(step, 25.0, step)
    for s in range(3):
        place = EYE + along[:, None, None] * direction
        met = np.where(place[..., 2] < 0.0, GROUND, SKY)
        for k in range(count):
            met = np.where(inside(place, table[s, k]) & (met == SKY), k, met)
        first = (met != SKY).argmax(axis=0)
        hit = (met != SKY).any(axis=0)
        marched = np.where(hit, along[first], np.inf)
        close = hits.distance[s] < 24.9
        # a ray may graze an edge between two steps: hardly any does
        agree = np.abs(np.where(close, hits.distance[s], np.inf)[hit] - marched[hit]) < 2 * step
        assert agree.mean() > 0.98
        owner = met[first, np.arange(len(direction))]
        assert (hits.owner[s][hit & close] == owner[hit & close]).mean() > 0.98


def inside(place, box):
    offset = place - box[:3]
    cosine, sine = np.cos(box[6]), np.sin(box[6])
    x = cosine * offset[..., 0] + sine * offset[..., 1]
    y = cosine * offset[..., 1] - sine * offset[..., 0]
    return (np.abs(x) < box[3]) & (np.abs(y) < box[4]) & (np.abs(offset[..., 2]) < box[5])


def test_normals_are_unit_vectors_against_the_ray():
    rng = np.random.default_rng(1)
    direction = np.stack([np.ones(100), *rng.uniform(-0.3, 0.3, (2, 100))], -1).astype(np.float32)
    hits = cast(EYE, direction, boxes([8, 0, 1.5, 2, 3, 1.5, 0.5]))
    on_box = hits.owner[0] == 0
    assert on_box.sum() > 20
    assert np.allclose(np.linalg.norm(hits.normal[0], axis=-1), 1.0, atol=1e-6)
    assert ((hits.normal[0] * direction).sum(-1)[on_box] < 0.0).all()
