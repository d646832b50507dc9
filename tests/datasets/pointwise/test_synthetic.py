"""Scenes of points: occlusion, the share of anomalies, and four sources of labels."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from sickbay.datasets.pointwise.street_boxes import Street, camera_rays, lidar_rays, look, of_hit
from sickbay.datasets.pointwise.synthetic import (
    SYNTHETIC,
    Labelling,
    SceneSpec,
    point_labels,
    point_scenes,
    targets,
    true_targets,
)
from sickbay.datasets.shared.rays import GROUND, SKY, Boxes

SPEC = SceneSpec(SYNTHETIC, 256, 160, 40, "small", 0)


def labelling(**changes):
    return replace(Labelling("random15", "anovox", False, 0, 0), **changes)


def quality(labels, scenes):
    met = float((labels.bool() & scenes.truth).sum())
    return met / float(scenes.truth.sum()), met / max(float(labels.sum()), 1.0)


def one_box(centre, half, yaw):
    def wrap(values, kind=np.float32):
        return np.array([[values]], kind)

    colour = wrap((1.0, 0.0, 0.0))
    boxes = Boxes(wrap(centre), wrap(half), wrap(yaw))
    return Street(boxes, wrap(7, np.int64), wrap(0.5), colour)


def test_a_ray_meets_the_near_face_of_a_turned_box():
    street = one_box((10.0, 0.0, 0.0), (1.0, 1.0, 1.0), math.pi / 4)
    rays = np.array([[1, 0, 0], [0, 1, 0], [-1, 0, 0], [0.6, 0, -0.8]], np.float32)
    hits = look(street, rays)
    assert hits.distance[0, 0] == pytest.approx(10.0 - math.sqrt(2.0), abs=1e-4)
    assert np.isinf(hits.distance[0, 1:3]).all()  # beside it and behind: the sky
    assert hits.distance[0, 3] == pytest.approx(1.8 / 0.8)
    assert hits.owner[0, :4].tolist() == [0, SKY, SKY, GROUND]
    assert of_hit(street.ids, hits, 1)[0, [0, 3]].tolist() == [7.0, 1.0]


def test_a_near_box_hides_a_far_one_from_both_sensors():
    near, far = one_box((5, 0, 0), (1, 1, 1), 0.0), one_box((15, 0, 0), (1, 1, 1), 0.0)
    parts = zip(vars(near.boxes).values(), vars(far.boxes).values(), strict=True)
    pairs = (np.concatenate(pair, axis=1) for pair in parts)
    both = replace(near, boxes=Boxes(*pairs))
    for rays in (lidar_rays(9, 31), camera_rays(8, 12)):
        hits = look(both, rays)
        assert np.abs(np.linalg.norm(rays, axis=1) - 1.0).max() < 1e-6
        assert (hits.owner == 0).any()
        assert not (hits.owner == 1).any()


def test_about_one_point_in_ninety_is_anomalous_and_two_scenes_in_five():
    train, val = point_scenes(replace(SPEC, train_scenes=400))
    assert float(train.truth.float().mean()) == pytest.approx(0.011, abs=0.003)
    assert float(train.truth.any(dim=1).float().mean()) == pytest.approx(0.45, abs=0.08)
    assert train.points.shape == (400, 256, 4)
    assert train.images.shape == (400, 3, 16, 24)
    assert not torch.equal(train.points[:40], val.points)


def test_neither_intensity_nor_colour_alone_reveals_an_anomaly():
    train, _ = point_scenes(SPEC)
    bright = train.points[..., 3] > 0.7
    share = float(train.truth[bright].float().mean())
    assert 0.3 < share < 0.8  # the rest is road works
    assert bool(bright[train.truth].all())


def test_scenes_follow_from_the_seed():
    again = point_scenes(SPEC)[0]
    assert torch.equal(again.points, point_scenes(SPEC)[0].points)
    assert torch.equal(again.images, point_scenes(SPEC)[0].images)
    other = point_scenes(replace(SPEC, seed=1))[0]
    assert not torch.equal(again.points, other.points)


@pytest.mark.parametrize("transform", ["muvo_v2", "muvo_v3", "wrong_res", "no_shift"])
def test_a_wrong_transform_finds_no_anomaly(transform):
    train, _ = point_scenes(SPEC)
    labels = point_labels(train, labelling(source="transform", transform=transform), 1)
    assert quality(labels, train)[0] < 0.01


def test_the_right_transform_finds_them_all_and_a_few_of_their_neighbours():
    train, _ = point_scenes(SPEC)
    recall, precision = quality(point_labels(train, labelling(source="transform"), 1), train)
    assert recall == 1.0
    assert 0.9 < precision < 1.0


def test_random_labels_mark_fifteen_percent_and_change_only_if_asked():
    train, val = point_scenes(SPEC)
    first, second = (point_labels(train, labelling(), epoch) for epoch in (1, 2))
    assert float(first.mean()) == pytest.approx(0.15, abs=1e-5)
    assert float((first != second).float().mean()) == pytest.approx(2 * 0.15 * 0.85, abs=0.01)
    assert torch.equal(first, point_labels(train, labelling(), 1))
    assert quality(first, train)[0] == pytest.approx(0.15, abs=0.05)
    fixed = [point_labels(train, labelling(source="random_fixed"), epoch) for epoch in (1, 2)]
    assert torch.equal(*fixed)
    of_val = point_labels(val, labelling(split=1), 1)
    assert not torch.equal(of_val, first[: len(val)])


def test_a_scene_bears_the_label_of_any_of_its_points():
    train, _ = point_scenes(SPEC)
    of_scenes = labelling(source="sem", of_scenes=True)
    labels = targets(train, of_scenes, 1)
    assert torch.equal(labels.bool(), true_targets(train, of_scenes))
    assert labels.shape == (160,)
    assert bool(targets(train, labelling(of_scenes=True), 1).all())  # fifteen percent: all alike
    assert torch.equal(targets(train, labelling(source="sem"), 1).bool(), train.truth)


def test_a_wrong_word_is_refused_with_what_is_allowed():
    train, _ = point_scenes(SPEC)
    with pytest.raises(ValueError, match="label_source: 'noise' is not known; choose one of rand"):
        point_labels(train, labelling(source="noise"), 1)
    with pytest.raises(ValueError, match=r"dataset: /anovox is not a folder. Use 'synthetic'"):
        point_scenes(replace(SPEC, dataset="/anovox"))
    with pytest.raises(ValueError, match="size: 'huge' is not known; choose one of small, full"):
        point_scenes(replace(SPEC, size="huge"))
