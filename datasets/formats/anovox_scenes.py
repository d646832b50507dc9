"""Frames of AnoVox as the workloads need them: a picture, points with semantic ids, voxels.

A frame shows an anomaly where a semantic id says so, never where the simulator says that one
exists: it may be hidden, or behind the vehicle.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch.nn import functional

from sickbay.datasets.formats.anovox import (
    LIDAR,
    RGB,
    SEMANTIC,
    VOXELS,
    Floats,
    Ints,
    Scenario,
    find_scenarios,
    read_points,
    read_semantic_points,
    read_voxels,
)
from sickbay.datasets.formats.anovox_voxels import ANOMALY_IDS, TRANSFORMS, indices
from sickbay.datasets.formats.image_folders import read_png

ASIDE = 5  # every fifth scenario of a town validates
NEAR = 0.5  # metres between a lidar's point and the semantic point whose id it takes
UNKNOWN = 0  # semantic id of a point without a semantic point nearby


@dataclass(frozen=True)
class Frame:
    """A picture (3, H, W) in uint8, points (N, 4), voxels (M, 4), and points with an id beside.

    `named` (P, 3) and `named_ids` (P,) are those of the semantic lidar; none where there is none.
    """

    image: NDArray[np.uint8]
    points: Floats
    grid: Ints
    named: Floats
    named_ids: Ints

    def ids(self, kept_K: NDArray[np.int64]) -> Ints:
        """Return the semantic ids (K,) of some points: of the nearest named one, or the voxel's."""
        points_K3 = self.points[kept_K, :3]
        if len(self.named):
            return name_points(points_K3, self.named, self.named_ids)
        return voxel_ids(points_K3, self.grid)

    @property
    def anomalous_voxel(self) -> bool:
        """Whether a voxel shows an anomaly."""
        return bool(np.isin(self.grid[:, 3], ANOMALY_IDS).any())

    @property
    def anomalous(self) -> bool:
        """Whether any sensor shows an anomaly."""
        return self.anomalous_voxel or bool(np.isin(self.named_ids, ANOMALY_IDS).any())


def read_frames(
    root: str, counts: tuple[int, int], picture: tuple[int, int], rng: np.random.Generator
) -> tuple[Iterator[Frame], Iterator[Frame]]:
    """Read at most `counts` frames to train and to validate with; they share no scenario.

    Every fifth scenario of each kind and town, at least one of two, is put aside to validate.
    Frames are drawn from all of a split's, and come in the order of the recordings. Pictures are
    averaged down to `picture`, (H, W). Raises ValueError for what cannot be read.
    """
    train, val = split(find_scenarios(root), rng)
    if not val:
        raise ValueError(
            f"dataset: {root}: no kind and town has two scenarios, one to train on and one to "
            "validate on"
        )
    chosen = [_choose(part, count, rng) for part, count in zip((train, val), counts, strict=True)]
    first, second = ((_read(*frame, picture) for frame in part) for part in chosen)
    return first, second


def split(
    scenarios: tuple[Scenario, ...], rng: np.random.Generator
) -> tuple[list[Scenario], list[Scenario]]:
    """Put scenarios of each kind and town aside, drawn by `rng`."""
    train, val = [], []
    for group in sorted({(scenario.kind, scenario.town) for scenario in scenarios}):
        members = [scenario for scenario in scenarios if (scenario.kind, scenario.town) == group]
        aside = max(1, round(len(members) / ASIDE)) if len(members) > 1 else 0
        order = rng.permutation(len(members)).tolist()
        val += [members[index] for index in sorted(order[:aside])]
        train += [members[index] for index in sorted(order[aside:])]
    return train, val


def name_points(points_N3: Floats, named_M3: Floats, ids_M: Ints) -> Ints:
    """Return the id of each point's nearest named one, (N,), or 0 where none is within 0.5 m."""
    distance_N, index_N = cKDTree(named_M3).query(points_N3, distance_upper_bound=NEAR)
    found_N = np.isfinite(distance_N)
    return np.where(found_N, ids_M[np.where(found_N, index_N, 0)], UNKNOWN)


def voxel_ids(points_N3: Floats, grid_M4: Ints) -> Ints:
    """Return the id of each point's voxel, (N,), by AnoVox's own transform, or 0 without one."""
    index_N3, inside_N = indices(points_N3, TRANSFORMS["anovox"])
    by_voxel = {tuple(row[:3]): row[3] for row in grid_M4.tolist()}
    ids = [by_voxel.get(tuple(row), UNKNOWN) for row in index_N3.tolist()]
    return np.where(inside_N, np.array(ids, dtype=np.int64), UNKNOWN)


def _choose(
    scenarios: list[Scenario], count: int, rng: np.random.Generator
) -> list[tuple[Scenario, int]]:
    frames = [(scenario, frame) for scenario in scenarios for frame in scenario.frames]
    if len(frames) <= count:
        return frames
    return [frames[index] for index in sorted(rng.choice(len(frames), count, replace=False))]


def _read(scenario: Scenario, frame: int, picture: tuple[int, int]) -> Frame:
    files = scenario.files
    grid = read_voxels(files[VOXELS][frame])
    semantic = files[SEMANTIC].get(frame)
    plain = files[LIDAR].get(frame)
    named, named_ids = np.empty((0, 3), np.float32), np.empty(0, np.int64)
    if semantic is not None:
        named, named_ids = read_semantic_points(semantic)
    # Without a plain lidar there are points, and no intensity.
    points = np.pad(named, ((0, 0), (0, 1))) if plain is None else read_points(plain)
    if not len(points):
        raise ValueError(f"{plain or semantic}: the lidar has no point")
    image = torch.from_numpy(read_png(files[RGB][frame])).float()
    small = functional.adaptive_avg_pool2d(image, picture).round().to(torch.uint8)
    return Frame(small.numpy(), points, grid, named, named_ids)
