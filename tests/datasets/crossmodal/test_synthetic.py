"""The scenes: neither sensor is enough alone, both see the same things, draws follow the seed."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp

from sickbay.datasets.crossmodal.scenes import ANOMALIES, OTHER, P_CLUTTER, compose
from sickbay.datasets.crossmodal.sensors import (
    LIDAR_RANGE,
    SENSORS,
    camera_rays,
    lidar_rays,
    observe,
    voxel_grid,
)
from sickbay.datasets.crossmodal.synthetic import (
    LABEL_SOURCES,
    SceneSpec,
    batches,
    chosen,
    crossmodal_data,
    epoch_order,
    one_sensor_auroc,
    scene_labels,
    two_counts_auroc,
)
from sickbay.datasets.shared.rays import cast

SPEC = SceneSpec("synthetic", 120, 80, 32, 48, 0)


@pytest.fixture(scope="module")
def scenes():
    return crossmodal_data(SPEC)[0]


def auroc(scores, targets):
    above, below = scores[targets][:, None], scores[~targets][None, :]
    return ((above > below) + 0.5 * (above == below)).mean()


def ranking(signs, p):
    """AUROC of the likelihood ratio of `signs(road works, parcel, anomaly)`, by enumeration."""
    chance = {}
    for works, parcel in itertools.product((0, 1), repeat=2):
        prior = (p if works else 1 - p) * (p if parcel else 1 - p)
        for anomaly in (0, 1):
            cell = chance.setdefault(signs(works, parcel, anomaly), [0.0, 0.0])
            cell[anomaly] += prior
    ordered = sorted(chance.values(), key=lambda cell: cell[1] / (cell[0] + cell[1]))
    below, area = 0.0, 0.0
    for normal, anomalous in ordered:
        area += anomalous * (below + normal / 2)
        below += normal
    return area


@pytest.mark.parametrize("p", [0.1, 0.4, 0.7])
def test_the_reference_lines_are_those_of_perfect_counting(p):
    assert one_sensor_auroc(p) == pytest.approx(ranking(lambda w, c, a: c + a, p))
    assert one_sensor_auroc(p) == pytest.approx(ranking(lambda w, c, a: w + a, p))
    assert two_counts_auroc(p) == pytest.approx(ranking(lambda w, c, a: (c + a, w + a), p))


def test_their_values():
    assert one_sensor_auroc() == pytest.approx(0.88)
    assert two_counts_auroc() == pytest.approx(0.9712)


def test_colour_alone_and_intensity_alone_are_not_enough_and_together_they_are():
    drawn = compose(20_000, np.random.default_rng(0))
    present = drawn.boxes.half[..., 0] > 0
    magenta = present & (drawn.colour[..., 0] > 0.7) & (drawn.colour[..., 1] < 0.2)
    magenta &= drawn.colour[..., 2] > 0.6
    reflective = present & (drawn.reflectivity > 0.8)
    for sign in (magenta, reflective):
        assert auroc(sign.sum(axis=1)[:3000], drawn.anomalous[:3000]) == pytest.approx(
            one_sensor_auroc(), abs=0.02
        )
    assert ((magenta & reflective).any(axis=1) == drawn.anomalous).all()


def test_the_same_holds_of_what_the_sensors_report(scenes):
    pixels = scenes.images.float() / 255.0
    red, green, blue = pixels.unbind(dim=1)
    magenta = ((red - green > 0.2) & (blue - green > 0.2)).flatten(1).sum(dim=1).numpy()
    shiny = (scenes.points[..., 3] > 0.7).sum(dim=1).numpy()
    truth = scenes.truth.numpy()
    for sign in (magenta, shiny):
        assert 0.7 < auroc(sign, truth) < 0.92
        assert (sign[truth] > 0).all()  # every anomaly is seen, by both


def test_the_three_kinds_of_clutter_follow_one_law():
    drawn = compose(8000, np.random.default_rng(1))
    for values in (
        np.hypot(drawn.boxes.centre[..., 0], drawn.boxes.centre[..., 1]),
        drawn.boxes.centre[..., 1],
        drawn.boxes.yaw,
    ):
        for sample, other in itertools.combinations(values[:, :3].T, 2):
            assert ks_2samp(sample, other).pvalue > 1e-3
    present = drawn.boxes.half[..., 0] > 0
    assert present[:, :2].mean(axis=0) == pytest.approx(P_CLUTTER, abs=0.02)
    assert drawn.anomalous.mean() == pytest.approx(0.5, abs=0.02)
    assert set(drawn.semantic[:, 2]) == set(ANOMALIES)
    assert set(drawn.semantic[:, :2].ravel()) == {OTHER}


def test_both_sensors_see_the_same_box_where_their_rays_agree():
    drawn = compose(20, np.random.default_rng(2))
    lidar, camera = lidar_rays(), camera_rays(32, 48)
    felt = cast(SENSORS, lidar, drawn.boxes)
    stretched = cast(SENSORS, lidar / lidar[:, :1], drawn.boxes)  # as a pinhole measures
    assert (felt.owner == stretched.owner).all()
    assert np.allclose(np.linalg.norm(lidar, axis=1), 1.0, atol=1e-6)
    assert np.allclose(camera[:, 0], 1.0)
    assert camera[0, 1] > 0 > camera[47, 1]  # left of the image is left of the car
    assert camera[0, 2] > 0 > camera[-1, 2]
    assert np.abs(camera[:, 1]).max() == pytest.approx(1.0, abs=0.03)  # 90 degrees across


def test_points_lie_where_boxes_and_ground_are():
    drawn = compose(5, np.random.default_rng(3))
    views = observe(drawn, 16, 16, np.random.default_rng(4))
    for points, count in zip(views.points, views.returns, strict=True):
        real = points[:count]
        assert (real[:, 2] > -0.2).all()
        assert (np.linalg.norm(real[:, :3] - SENSORS, axis=1) < LIDAR_RANGE + 0.2).all()
        assert ((real[:, 3] >= 0) & (real[:, 3] <= 1)).all()


def test_voxels_keep_the_highest_id_and_every_point():
    rng = np.random.default_rng(5)
    points = rng.uniform(-3, 3, (500, 3)).astype(np.float32)
    ids = rng.integers(0, 33, 500)
    grid = voxel_grid(points, ids)
    slow = {}
    for point, semantic_id in zip(points, ids, strict=True):
        cell = tuple(int(part) for part in np.floor(point / 0.5))
        slow[cell] = max(slow.get(cell, 0), int(semantic_id))
    assert {tuple(row[:3]): row[3] for row in grid.tolist()} == slow
    assert len(grid) == len(slow)


def test_a_voxel_label_never_invents_an_anomaly(scenes):
    assert not (scenes.voxel & ~scenes.truth).any()
    assert (scenes.voxel == scenes.truth).float().mean() > 0.95


def test_splits_and_seeds_differ(scenes):
    train, val = crossmodal_data(SPEC)
    assert torch.equal(train.images, scenes.images)
    assert not torch.equal(train.images[:80], val.images)
    again = crossmodal_data(SPEC)[0]
    assert torch.equal(again.points, train.points)
    assert torch.equal(again.images, train.images)
    other = crossmodal_data(SceneSpec("synthetic", 4, 4, 32, 48, 1))[0]
    assert not torch.equal(other.images, train.images[:4])


def test_made_up_labels_are_a_tenth_and_know_nothing(scenes):
    first, again, other = (scene_labels(scenes, "random10", stream) for stream in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.sum() == other.sum() == 12
    assert scene_labels(scenes, "all_one", 0).mean() == 1.0
    assert torch.equal(scene_labels(scenes, "true", 3) > 0.5, scenes.truth)
    assert torch.equal(scene_labels(scenes, "voxel", 3) > 0.5, scenes.voxel)
    rate = torch.stack([scene_labels(scenes, "random10", 10 + stream) for stream in range(400)])
    assert (rate[:-1] != rate[1:]).float().mean() == pytest.approx(0.18, abs=0.01)
    assert rate[:, scenes.truth].mean() == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("apart", [0, 2**32, 2**61])
def test_made_up_positives_come_anywhere_in_an_epoch(scenes, apart):
    """Drawn by the stream that also orders the batches, they would all come first."""
    places = []
    for stream in range(30):
        labels = scene_labels(scenes, "random10", stream + apart)
        drawn = torch.Generator().manual_seed(stream)
        parts = [batch.labels for batch in batches(scenes, labels, 16, 1, "first", drawn)]
        places.append(torch.cat(parts).nonzero().double().mean())
    assert float(torch.stack(places).mean()) == pytest.approx(len(scenes) / 2, rel=0.15)


def test_an_epoch_sees_every_scene_once_and_evaluation_sees_them_in_order(scenes):
    index = torch.arange(len(scenes)).float()
    drawn = torch.Generator().manual_seed(3)
    seen = torch.cat([batch.labels for batch in batches(scenes, index, 16, 8, "random", drawn)])
    assert not torch.equal(seen, index)
    assert torch.equal(seen.sort().values, index)
    straight = list(batches(scenes, index, 16, 8, "random"))
    assert torch.equal(torch.cat([batch.labels for batch in straight]), index)
    again = list(batches(scenes, index, 16, 8, "random"))
    assert torch.equal(straight[0].points, again[0].points)
    assert straight[0].images.abs().max() == pytest.approx(2.0, abs=0.5)
    assert straight[0].points[..., :3].abs().max() < LIDAR_RANGE / 20.0 + 0.1


def test_points_are_chosen_among_the_real_ones():
    returns = torch.tensor([3, 100])
    drawing = torch.Generator().manual_seed(0)
    random = chosen(returns, 64, "random", drawing)
    assert random.shape == (2, 64)
    assert random[0].max() == 2
    assert 64 < random[1].max() < 100
    first = chosen(returns, 64, "first", drawing)
    assert first[1].tolist() == list(range(64))
    assert first[0, :7].tolist() == [0, 1, 2, 0, 1, 2, 0]


def test_the_first_points_see_no_clutter(scenes):
    """Why `first` blinds the lidar: the lowest rings meet nothing but the road."""
    index = chosen(scenes.returns, 256, "first", torch.Generator())
    heights = scenes.points[torch.arange(len(scenes))[:, None], index][..., 2]
    assert (heights < 0.3).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: scene_labels(s, "pseudo", 0), "label_source: 'pseudo' is not known"),
        (lambda s: list(batches(s, s.truth, 8, 4, "last")), "point_select: 'last' is not known"),
        (
            lambda s: crossmodal_data(SceneSpec("/anovox", 1, 1, 16, 16, 0)),
            "dataset: /anovox is not a folder. Use 'synthetic'",
        ),
    ],
)
def test_a_wrong_setting_is_refused(scenes, call, message):
    with pytest.raises(ValueError, match=message):
        call(scenes)


def test_every_source_is_a_level():
    assert LABEL_SOURCES == ("true", "random10", "random_fixed", "all_one", "voxel")


def test_balanced_sampling_draws_both_classes_alike_and_one_class_alone_evenly():
    labels = torch.zeros(2000)
    labels[:100] = 1.0
    drawn = epoch_order(labels, "balanced", torch.Generator().manual_seed(0))
    assert float(labels[drawn].mean()) == pytest.approx(0.5, abs=0.05)  # 4.5 standard errors
    alone = epoch_order(torch.ones(500), "balanced", torch.Generator().manual_seed(0))
    assert len(alone.unique()) == pytest.approx(500 * (1 - math.exp(-1)), abs=40)
