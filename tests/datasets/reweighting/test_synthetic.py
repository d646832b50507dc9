"""The small drives: what the sensors show of the boxes, and what a loader of files hands in."""

import math

import numpy as np
import pytest
import torch

from sickbay.datasets.reweighting.frames import bev_grids, frames_of
from sickbay.datasets.reweighting.synthetic import (
    APART,
    COLORS,
    NEAREST,
    SIZES,
    WorldSpec,
    cameras,
    detection_data,
)
from sickbay.datasets.shared.detection_sample import DetectionSample

SPEC = WorldSpec("synthetic", 40, 20, 16.0, 32, 4, 6, 12, 0)


def spec(**changes):
    return WorldSpec(**{**SPEC.__dict__, **changes})


def test_shapes_and_padding():
    train, val = detection_data(SPEC)
    assert (len(train), len(val)) == (40, 20)
    assert train.bev.shape == (40, 8, 32, 32)
    assert train.views.shape == (40, 4, 3, 6, 12)
    assert train.lidar2img.shape == (40, 4, 4, 4)
    assert train.boxes.shape == (40, 4, 9)
    real = train.classes >= 0
    count = real.sum(dim=1)
    assert int(count.min()) >= 2
    assert int(count.max()) <= 4
    assert len(set(count.tolist())) > 1
    assert not train.boxes[~real].any()
    assert set(train.classes[real].tolist()) == {0, 1, 2}


def test_the_seed_decides_and_splits_differ():
    other, _ = detection_data(spec(seed=1))
    train, val = detection_data(SPEC)
    assert not torch.equal(other.bev, train.bev)
    assert not torch.equal(train.boxes[:20], val.boxes)
    again, _ = detection_data(SPEC)
    assert torch.equal(again.bev, train.bev)
    assert torch.equal(again.views, train.views)


def test_boxes_lie_apart_inside_the_world_and_keep_their_class_sizes():
    train, _ = detection_data(SPEC)
    for boxes, classes in zip(train.boxes.numpy(), train.classes.numpy(), strict=True):
        real = boxes[classes >= 0]
        assert np.abs(real[:, :2]).max() < 16.0
        assert np.linalg.norm(real[:, :2], axis=1).min() > NEAREST - 1e-3
        apart = np.linalg.norm(real[:, None, :2] - real[None, :, :2], axis=-1)
        assert apart[~np.eye(len(real), dtype=bool)].min() > APART - 1e-3
        assert np.allclose(real[:, 2], real[:, 5] / 2)
        usual = np.array(SIZES)[classes[classes >= 0]]
        assert (np.abs(real[:, 3:6] / usual - 1.0) < 0.16).all()
        speed = np.linalg.norm(real[:, 7:], axis=1)
        heading = np.arctan2(real[:, 8], real[:, 7])
        moving = speed > 0
        assert np.allclose(np.cos(heading - real[:, 6])[moving], 1.0, atol=1e-4)


def test_the_lidar_sees_each_box_where_it_stands():
    train, _ = detection_data(SPEC)
    hits = 0
    for grid, boxes, classes in zip(train.bev, train.boxes, train.classes, strict=True):
        for box in boxes[classes >= 0]:
            column, row = int(box[0] + 16), int(box[1] + 16)
            around = grid[0, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
            hits += bool(around.max() > math.log(2.5))
    assert hits == int((train.classes >= 0).sum())


def test_the_cameras_see_a_box_in_its_colour_at_its_pixel():
    """Of boxes that nothing hides or touches; averaged, because colours are noisy."""
    train, _ = detection_data(spec(train_samples=300))
    rig = cameras(SPEC)
    seen = {kind: [] for kind in range(3)}
    for images, boxes, classes in zip(train.views, train.boxes, train.classes, strict=True):
        real = boxes[classes >= 0]
        nearest = int(real[:, :2].norm(dim=1).argmin())
        box, kind = real[nearest], int(classes[classes >= 0][nearest])
        middle = np.array([*box[:3].tolist(), 1.0])
        for view in range(4):
            u, v, depth, _ = rig[view] @ middle
            column, row = u / depth, v / depth
            if depth > 1 and 1 <= column < 11 and 0 <= row < 6:
                seen[kind].append(images[view, :, int(row), int(column)].numpy())
    for kind, colours in seen.items():
        assert len(colours) > 20
        assert int(np.argmax(np.mean(colours, axis=0))) == int(np.argmax(COLORS[kind]))


def test_each_sensor_has_ghosts_that_the_other_lacks():
    """An echo fills the grid where no box is; more than the boxes and the clutter could."""
    train, _ = detection_data(spec(train_samples=200))
    echoes = 0
    for grid, boxes, classes in zip(train.bev, train.boxes, train.classes, strict=True):
        rows, columns = torch.nonzero(grid[0] > math.log(4.5), as_tuple=True)
        at = torch.stack([columns - 15.5, rows - 15.5], dim=-1)
        gaps = torch.cdist(at, boxes[classes >= 0][:, :2])
        echoes += bool(len(at)) and bool((gaps.min(dim=1).values > 3.0).any())
    assert 60 < echoes < 140


def test_points_become_cells():
    points = np.array(
        [
            [0.25, 0.75, 1.0, 0.5, 0.0],
            [0.75, 0.25, 3.0, 0.7, 0.0],
            [0.5, 0.5, 0.0, 0.0, 0.5],  # half a second old
            [9.0, 0.0, 0.0, 0.0, 0.0],  # outside
        ],
        np.float32,
    )
    grid = bev_grids(points, np.zeros(4, np.int64), 2, 2.0, 4)
    cell = grid[0, :, 2, 2]
    assert cell == pytest.approx([math.log(3), 0.0, 0.0, 1.0, 0.6, math.log(2), 0.0, 0.0], abs=1e-6)
    grid[0, :, 2, 2] = 0.0
    assert not grid.any()


def sample(boxes=2, size=(12, 24), views=3):
    rng = np.random.default_rng(boxes)
    return DetectionSample(
        points=np.array([[1.0, 2.0, 0.5, 0.5, 0.0]], np.float32),
        images=rng.random((views, 3, *size)).astype(np.float32),
        lidar2img=np.stack([np.eye(4)] * views).astype(np.float32),
        boxes=rng.random((boxes, 9)).astype(np.float32),
        classes=np.arange(boxes),
    )


def test_samples_of_any_loader_become_frames():
    first, other = sample(2), sample(3)
    frames = frames_of([first, other], 16.0, 32, 6, 8)
    assert frames.bev.shape == (2, 8, 32, 32)
    assert frames.bev[0, 0, 18, 17] > 0
    assert frames.classes.tolist() == [[0, 1, -1], [0, 1, 2]]
    assert torch.equal(frames.boxes[0, :2], torch.from_numpy(first.boxes))
    assert frames.views.shape == (2, 3, 3, 6, 8)
    assert float(frames.views[0, 0, 0, 0, 0]) == pytest.approx(first.images[0, 0, :2, :3].mean())
    # Pixels shrink by 3 across and by 2 down, and the projection with them.
    assert torch.diagonal(frames.lidar2img[0, 0]).tolist() == pytest.approx([1 / 3, 0.5, 1.0, 1.0])
    assert len(frames.pick(torch.tensor([1]))) == 1
    same = frames_of([first], 16.0, 32, 12, 24)
    assert torch.equal(same.views[0], torch.from_numpy(first.images))


def test_samples_that_cannot_be_joined_are_refused():
    with pytest.raises(ValueError, match="no sample"):
        frames_of([], 16.0, 32, 6, 8)
    with pytest.raises(ValueError, match="with 2 and with 3 views"):
        frames_of([sample(views=2), sample(views=3)], 16.0, 32, 6, 8)


def test_six_cameras_see_all_around_and_four_leave_gaps():
    angle = np.linspace(-np.pi, np.pi, 720, endpoint=False)
    points = np.stack([10 * np.cos(angle), 10 * np.sin(angle), np.full(720, 1.0), np.ones(720)])
    shares = {}
    for views, width in ((4, 12), (6, 100)):
        rig = cameras(spec(views=views, width=width, height=40))
        u, _, depth, _ = np.moveaxis(rig @ points, 1, 0)
        inside = (depth > 0) & (u / np.where(depth > 0, depth, 1) >= 0)
        inside &= u / np.where(depth > 0, depth, 1) < width
        shares[views] = inside.any(axis=0).mean()
    assert shares[6] == 1.0
    assert shares[4] == pytest.approx(320 / 360, abs=0.01)


def test_another_data_set_is_refused():
    with pytest.raises(ValueError, match="dataset: 'nuscenes' is not known; choose 'synthetic'"):
        detection_data(spec(dataset="nuscenes"))
