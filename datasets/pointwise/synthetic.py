"""Scenes of lidar points of which about one in ninety is anomalous, and four sources of labels.

S scenes · N points · B scenes of a batch

The truth is known for every point. What a trial learns from is another matter: labels drawn at
random (15 % of the points, anew in each epoch or once), labels looked up in the scene's voxel grid
by one of five transforms, or the truth itself. Everything is drawn from generators made of the
given seed. What `point_scenes` returns is shared between the trials of a process: treat it as
read-only.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sickbay.datasets.formats.anovox_scenes import Frame, read_frames
from sickbay.datasets.formats.anovox_voxels import (
    ANOMALY_IDS,
    ROAD_LINE,
    labels_from_grid,
    transform_named,
    voxel_grid,
)
from sickbay.datasets.pointwise.street_boxes import (
    ROAD,
    Street,
    draw_street,
    lidar_rays,
    look,
    of_hit,
    picture,
)

SYNTHETIC = "synthetic"
LABEL_SOURCES = ("random15", "random_fixed", "transform", "sem")
RANDOM_SHARE = 0.15
DISTANCE_STD = 0.02
INTENSITY_STD = 0.03
SENSORS = {  # rows and columns of the lidar's rays, and of the camera's
    "small": ((16, 96), (16, 24)),
    "full": ((64, 320), (56, 56)),
}
CHUNK = 32  # scenes that are rendered at once
# An anomaly takes every voxel it touches: with AnoVox's own rule alone a thirtieth of its points,
# those next to the ground, would go to the road, and "the right transform" would not be right.
WINNERS = (ROAD_LINE, *ANOMALY_IDS)


@dataclass(frozen=True)
class SceneSpec:
    """What scenes to make or read: `dataset` is "synthetic" or the root of AnoVox.

    `size` chooses the sensors' resolution. Of real scenes there may be fewer than asked for.
    """

    dataset: str
    points: int
    train_scenes: int
    val_scenes: int
    size: str
    seed: int


@dataclass(frozen=True)
class PointScenes:
    """One split: points (S, N, 4) as x, y, z, intensity; images (S, 3, H, W); truth (S, N).

    `grids` holds each scene's voxel grid, made of all its returns, not only of the N points.
    """

    points: Tensor
    images: Tensor
    truth: Tensor
    grids: tuple[NDArray[np.int64], ...]

    def __len__(self) -> int:
        """Count the scenes."""
        return len(self.points)

    def to(self, device: str) -> "PointScenes":
        """Move the tensors to a device."""
        tensors = (self.points, self.images, self.truth)
        points, images, truth = (tensor.to(device) for tensor in tensors)
        return PointScenes(points, images, truth, self.grids)


@dataclass(frozen=True)
class Labelling:
    """Where labels come from, and whether whole scenes are labelled instead of points.

    `split` keeps the draws of two splits apart.
    """

    source: str
    transform: str
    of_scenes: bool
    seed: int
    split: int


def point_scenes(spec: SceneSpec) -> tuple[PointScenes, PointScenes]:
    """Return the training and the validation split.

    Other data than the synthetic are read as AnoVox. Raises ValueError for a root that cannot be
    read, and for an unknown size.
    """
    if spec.size not in SENSORS:
        raise ValueError(f"size: {spec.size!r} is not known; choose one of {', '.join(SENSORS)}")
    if spec.dataset != SYNTHETIC:
        rng = np.random.default_rng([spec.seed, 2])
        sizes = (spec.train_scenes, spec.val_scenes)
        read = read_frames(spec.dataset, sizes, SENSORS[spec.size][1], rng)
        first, second = (_from_frames(frames, spec.points, rng) for frames in read)
        return first, second
    train = _render(spec, spec.train_scenes, np.random.default_rng([spec.seed, 0]))
    val = _render(spec, spec.val_scenes, np.random.default_rng([spec.seed, 1]))
    return train, val


def targets(
    scenes: PointScenes, labelling: Labelling, epoch: int, before: Tensor | None = None
) -> Tensor:
    """Return an epoch's targets: labels of points (S, N), or of scenes (S,), that of any point.

    Targets that stay are not looked up again where those of the epoch before are handed in.
    """
    if before is not None and labelling.source != "random15":
        return before
    labels_SN = point_labels(scenes, labelling, epoch).to(scenes.points.device)
    return labels_SN.amax(dim=1) if labelling.of_scenes else labels_SN


def true_targets(scenes: PointScenes, labelling: Labelling) -> Tensor:
    """Return what the targets should be."""
    return scenes.truth.any(dim=1) if labelling.of_scenes else scenes.truth


def point_labels(scenes: PointScenes, labelling: Labelling, epoch: int) -> Tensor:
    """Return the labels of an epoch, (S, N) of 0 and 1, on the CPU.

    A pure function of its arguments, so that a restored run sees the same labels. Random ones mark
    exactly 15 % of a split's points. Raises ValueError for an unknown source or transform.
    """
    source = labelling.source
    if source not in LABEL_SOURCES:
        raise ValueError(
            f"label_source: {source!r} is not known; choose one of {', '.join(LABEL_SOURCES)}"
        )
    transform = transform_named(labelling.transform)
    if source == "sem":
        return scenes.truth.cpu().float()
    if source == "transform":
        points = scenes.points.cpu().numpy()
        cloud_labels = [
            labels_from_grid(cloud[:, :3], grid, transform)
            for cloud, grid in zip(points, scenes.grids, strict=True)
        ]
        return torch.from_numpy(np.stack(cloud_labels)).float()
    drawn = 0 if source == "random_fixed" else epoch
    rng = np.random.default_rng([labelling.seed, labelling.split, drawn, 15])
    count = scenes.truth.numel()
    labels = np.zeros(count, np.float32)
    marked = round(RANDOM_SHARE * count)
    labels[rng.permutation(count)[:marked]] = 1.0
    return torch.from_numpy(labels).reshape(scenes.truth.shape)


def _render(spec: SceneSpec, count: int, rng: np.random.Generator) -> PointScenes:
    lidar, camera = SENSORS[spec.size]
    rays = lidar_rays(*lidar)
    clouds, images, truths, grids = [], [], [], []
    together = max(1, CHUNK * 1536 // len(rays))  # of as many rays as that many small scenes
    for start in range(0, count, together):
        street = draw_street(min(together, count - start), rng)
        images.append(picture(street, *camera, rng))
        for cloud_R4, ids_R in _returns(street, rays, rng):
            few = len(cloud_R4) < spec.points
            kept_N = rng.choice(len(cloud_R4), spec.points, replace=few)
            # The grid is made of all that the lidar saw, the net sees a part of it.
            grids.append(voxel_grid(cloud_R4[:, :3], ids_R, WINNERS))
            clouds.append(cloud_R4[kept_N])
            truths.append(np.isin(ids_R[kept_N], ANOMALY_IDS))
    return PointScenes(
        torch.from_numpy(np.stack(clouds)),
        torch.from_numpy(np.concatenate(images)),
        torch.from_numpy(np.stack(truths)),
        tuple(grids),
    )


def _from_frames(frames: Iterable[Frame], points: int, rng: np.random.Generator) -> PointScenes:
    """Draw points of each real cloud; its voxels are those of the data set."""
    clouds, images, truths, grids = [], [], [], []
    for frame in frames:  # one at a time: whole clouds of thousands of frames are gigabytes
        kept_N = rng.choice(len(frame.points), points, replace=len(frame.points) < points)
        clouds.append(frame.points[kept_N])
        images.append(frame.image)
        truths.append(np.isin(frame.ids(kept_N), ANOMALY_IDS))
        grids.append(frame.grid)
    return PointScenes(
        torch.from_numpy(np.stack(clouds)),
        torch.from_numpy(np.stack(images)).float() / 255.0,
        torch.from_numpy(np.stack(truths)),
        tuple(grids),
    )


def _returns(
    street: Street, rays_R3: NDArray[np.float32], rng: np.random.Generator
) -> list[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Return each scene's cloud (R, 4) and semantic ids (R,), without the rays into the sky."""
    hits = look(street, rays_R3)
    shape = hits.distance.shape
    distance_CR = hits.distance + rng.normal(0.0, DISTANCE_STD, shape)
    bright_CR = of_hit(street.intensity, hits, 0.15) + rng.normal(0.0, INTENSITY_STD, shape)
    ids_CR = of_hit(street.ids, hits, ROAD).astype(np.int64)
    clouds = []
    for scene in range(len(distance_CR)):
        seen_R = np.isfinite(distance_CR[scene])
        place_R3 = rays_R3[seen_R] * distance_CR[scene, seen_R, None]
        bright_R1 = bright_CR[scene, seen_R, None].clip(0.0, 1.0)
        cloud_R4 = np.concatenate([place_R3, bright_R1], axis=1).astype(np.float32)
        clouds.append((cloud_R4, ids_CR[scene, seen_R]))
    return clouds
