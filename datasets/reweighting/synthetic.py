"""Small drives: objects of three classes, seen by a lidar and by cameras all around.

S samples · M objects · P points of an object · V views · h, w pixels of a view

Either sensor alone is not enough: the lidar sees ghosts that no camera sees, the cameras see
colours where nothing stands, and the colour says best of which class an object is. Everything is
drawn from a generator made of the given seed. What `detection_data` returns is shared between
the trials of a process: treat it as read-only.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sickbay.datasets.reweighting.frames import BOX_SIZE, Frames, bev_grids
from sickbay.datasets.shared.detection_sample import Floats

SYNTHETIC = "synthetic"
CLASSES = ("car", "cyclist", "van")
SIZES = ((1.3, 2.4, 1.5), (0.6, 1.4, 1.7), (1.6, 3.0, 2.4))  # width, length, height in metres
COLORS = ((0.9, 0.2, 0.2), (0.2, 0.9, 0.2), (0.25, 0.25, 0.95))
BACKGROUND = 0.45
FEWEST, MOST = 2, 4  # objects of a sample
APART, NEAREST = 4.0, 3.5  # metres between objects, and from the sensors
MARGIN = 1.5  # metres that a centre stays inside the world
POINTS = 48  # of an object right before the lidar
CLUTTER = 40  # points on the ground
LAG = 0.5  # seconds between the two sweeps
FASTEST = 3.0  # metres a second
CAMERA_HEIGHT = 1.8
FIELD_OF_VIEW = math.radians(80)  # of the four cameras of the small world: gaps of 10° between
FIRST_YAW = math.radians(30)


@dataclass(frozen=True)
class WorldSpec:
    """What data to make: samples, half the width of the world in metres, cells and pixels.

    `sweeps` are those of the lidar before a key frame that real drives take in; at 0 the folder
    `sweeps/` need not be there.
    """

    dataset: str
    train_samples: int
    val_samples: int
    extent: float
    grid: int
    views: int
    height: int
    width: int
    seed: int
    sweeps: int = 9  # half a second of a lidar that turns twenty times a second


def detection_data(spec: WorldSpec) -> tuple[Frames, Frames]:
    """Return the training and the validation split.

    Raises ValueError for a data set other than the synthetic one.
    """
    if spec.dataset != SYNTHETIC:
        raise ValueError(
            f"dataset: {spec.dataset!r} is not known; choose {SYNTHETIC!r}, the only one so far"
        )
    return draw_drives(spec, spec.train_samples, 0), draw_drives(spec, spec.val_samples, 1)


def draw_drives(spec: WorldSpec, samples: int, stream: int) -> Frames:
    """Draw samples of the world; another `stream` gives other samples."""
    rng = np.random.default_rng([spec.seed, stream])
    things, echoes, colours = _objects(spec, samples, rng)
    points, owner = _scan(things, echoes, spec.extent, rng)
    matrices = cameras(spec)
    return Frames(
        torch.from_numpy(bev_grids(points, owner, samples, spec.extent, spec.grid)),
        torch.from_numpy(_pictures(things, colours, matrices, spec, rng)),
        torch.from_numpy(matrices).expand(samples, -1, -1, -1),
        torch.from_numpy(things.boxes.astype(np.float32)),
        torch.from_numpy(things.classes),
    )


def cameras(spec: WorldSpec) -> Floats:
    """Return projections (V, 4, 4) of pinhole cameras that look around evenly.

    Four see 80° each, with gaps between; six see 70° and overlap, as on nuScenes' car.
    """
    view = FIELD_OF_VIEW if spec.views <= 4 else 1.17 * 2.0 * math.pi / spec.views
    focal = spec.width / 2.0 / math.tan(view / 2.0)
    intrinsic = np.array(
        [
            [focal, 0.0, spec.width / 2.0, 0.0],
            [0.0, focal, spec.height / 2.0, 0.0],
            [0.0, 0.0, 1.0, 0.0],
            [0.0, 0.0, 0.0, 1.0],
        ]
    )
    matrices = []
    for index in range(spec.views):
        yaw = FIRST_YAW + index * 2.0 * math.pi / spec.views
        forward = np.array([math.cos(yaw), math.sin(yaw), 0.0])
        right = np.array([math.sin(yaw), -math.cos(yaw), 0.0])
        rotation = np.stack([right, [0.0, 0.0, -1.0], forward])
        extrinsic = np.eye(4)
        extrinsic[:3, :3] = rotation
        extrinsic[:3, 3] = -rotation @ np.array([0.0, 0.0, CAMERA_HEIGHT])
        matrices.append(intrinsic @ extrinsic)
    return np.stack(matrices).astype(np.float32)


@dataclass(frozen=True)
class _Things:
    """Boxes (S, M, 9) and classes (S, M), -1 where there is none, and the two kinds of ghosts."""

    boxes: NDArray[np.float64]
    classes: NDArray[np.int64]


def _objects(
    spec: WorldSpec, samples: int, rng: np.random.Generator
) -> tuple[_Things, _Things, _Things]:
    """Draw objects, echoes that only the lidar sees, and colours that only the cameras see."""
    crowd = max(1, round((spec.extent / 16.0) ** 2 / 2.0))  # a wider world holds more
    most = MOST * crowd
    room = most + 2 * crowd
    centres = _apart(samples, room, spec.extent - MARGIN, rng)
    classes = rng.integers(len(CLASSES), size=(samples, room))
    size = np.array(SIZES)[classes] * rng.uniform(0.85, 1.15, (samples, room, 3))
    yaw = rng.uniform(-math.pi, math.pi, (samples, room))
    moving = rng.random((samples, room)) < 0.5
    speed = np.where(moving, rng.uniform(0.5, FASTEST, (samples, room)), 0.0)
    velocity = speed[..., None] * np.stack([np.cos(yaw), np.sin(yaw)], axis=-1)
    columns = [centres, size[..., 2:] / 2.0, size, yaw[..., None], velocity]
    boxes = np.concatenate(columns, axis=-1)
    assert boxes.shape[-1] == BOX_SIZE
    count = rng.integers(FEWEST * crowd, most + 1, size=samples)
    real = np.arange(room) < count[:, None]
    ghost = (rng.random((samples, room)) < 0.5) & (np.arange(room) >= most)
    echo = ghost & (np.arange(room) % 2 == 0)
    parts = [
        _Things(np.where(mask[..., None], boxes, 0.0), np.where(mask, classes, -1))
        for mask in (real, echo, ghost & ~echo)
    ]
    objects = _Things(parts[0].boxes[:, :most], parts[0].classes[:, :most])
    return objects, parts[1], parts[2]


def _apart(samples: int, room: int, extent: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw centres (S, K, 2) apart from each other and from the sensors: the best of 16 tries."""
    centres = np.zeros((samples, room, 2))
    for index in range(room):
        tries = rng.uniform(-extent, extent, (samples, 16, 2))
        gap = np.linalg.norm(tries, axis=-1) - NEAREST
        if index:
            apart = tries[:, :, None] - centres[:, None, :index]
            gap = np.minimum(gap, np.linalg.norm(apart, axis=-1).min(axis=-1) - APART)
        first = np.argmax(gap > 0.0, axis=1)
        chosen = np.where((gap > 0.0).any(axis=1), first, np.argmax(gap, axis=1))
        centres[:, index] = tries[np.arange(samples), chosen]
    return centres


def _scan(
    things: _Things, echoes: _Things, extent: float, rng: np.random.Generator
) -> tuple[Floats, NDArray[np.int64]]:
    """Return the points (N, 5) of two sweeps and whose they are, (N,); fewer from far away."""
    boxes = np.concatenate([things.boxes, echoes.boxes], axis=1)
    there = np.concatenate([things.classes, echoes.classes], axis=1) >= 0
    distance = np.linalg.norm(boxes[..., :2], axis=-1)
    count = np.maximum(POINTS / (1.0 + (distance / 10.0) ** 2), 6.0)
    points, owners = [], []
    for age in (0.0, LAG):
        unit = rng.uniform(-0.5, 0.5, (*there.shape, POINTS, 3))
        seen = there[..., None] & (np.arange(POINTS) < count[..., None])
        along, across = unit[..., 0] * boxes[..., None, 4], unit[..., 1] * boxes[..., None, 3]
        cos, sin = np.cos(boxes[..., None, 6]), np.sin(boxes[..., None, 6])
        x = boxes[..., None, 0] + along * cos - across * sin - age * boxes[..., None, 7]
        y = boxes[..., None, 1] + along * sin + across * cos - age * boxes[..., None, 8]
        z = (unit[..., 2] + 0.5) * boxes[..., None, 5]
        bright = 0.5 + unit[..., 0]  # the front is brighter, so that a heading can be learnt
        columns = np.stack([x, y, z, bright, np.full_like(x, age)], axis=-1)
        points.append(columns[seen])
        owners.append(np.nonzero(seen)[0])
    ground = rng.uniform(-extent, extent, (len(there), CLUTTER, 2))
    flat = np.zeros((len(there), CLUTTER, 3))
    points.append(np.concatenate([ground, flat], axis=-1).reshape(-1, 5))
    owners.append(np.repeat(np.arange(len(there)), CLUTTER))
    return np.concatenate(points).astype(np.float32), np.concatenate(owners)


def _pictures(
    things: _Things, colours: _Things, matrices: Floats, spec: WorldSpec, rng: np.random.Generator
) -> Floats:
    """Paint boxes as rectangles, far ones first: each covers a pixel by the share it overlaps."""
    boxes = np.concatenate([things.boxes, colours.boxes], axis=1)
    classes = np.concatenate([things.classes, colours.classes], axis=1)
    order = np.argsort(-np.linalg.norm(boxes[..., :2], axis=-1), axis=1)
    boxes = np.take_along_axis(boxes, order[..., None], axis=1)
    classes = np.take_along_axis(classes, order, axis=1)
    shape = (len(boxes), spec.views, 3, spec.height, spec.width)
    images = BACKGROUND + rng.normal(0.0, 0.03, shape)
    tint = np.array(COLORS)[classes] + rng.normal(0.0, 0.05, (*classes.shape, 3))
    for index in range(boxes.shape[1]):
        covered = _covered(boxes[:, index], matrices, spec)
        covered *= (classes[:, index] >= 0)[:, None, None, None]
        share = covered[:, :, None]
        images = images * (1.0 - share) + share * tint[:, index, None, :, None, None]
    return np.clip(images, 0.0, 1.0).astype(np.float32)


def _covered(boxes: NDArray[np.float64], matrices: Floats, spec: WorldSpec) -> NDArray[np.float64]:
    """Return the share of each pixel that a box of each sample covers, (S, V, h, w)."""
    centre = np.concatenate([boxes[:, :2], np.zeros((len(boxes), 1)), np.ones((len(boxes), 1))], 1)
    foot = np.einsum("vij,sj->svi", matrices, centre)
    depth = foot[..., 2]
    behind = depth < 0.5
    depth = np.where(behind, 1.0, depth)
    focal_x = matrices[0, :2, :3] @ matrices[0, 2, :3]  # the principal point, to read the focal off
    focal = float(np.linalg.norm(matrices[0, 0, :3] - focal_x[0] * matrices[0, 2, :3]))
    u, bottom = foot[..., 0] / depth, foot[..., 1] / depth
    half = focal * 0.5 * np.hypot(boxes[:, 3], boxes[:, 4])[:, None] / depth * 0.8
    top = bottom - focal * boxes[:, 5][:, None] / depth
    across = _overlap(u - half, u + half, spec.width)
    down = _overlap(top, bottom, spec.height)
    covered = down[..., :, None] * across[..., None, :]
    covered[behind] = 0.0
    return covered


def _overlap(
    low: NDArray[np.float64], high: NDArray[np.float64], pixels: int
) -> NDArray[np.float64]:
    """Return how much of each pixel [i, i + 1] an interval covers, (..., pixels)."""
    left = np.arange(pixels)
    width = np.minimum(high[..., None], left + 1) - np.maximum(low[..., None], left)
    covered: NDArray[np.float64] = np.clip(width, 0.0, 1.0)
    return covered
