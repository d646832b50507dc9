"""Voxel grids as AnoVox writes them, and five transforms from a lidar point to its voxel.

M occupied voxels · N points

A grid is (M, 4) integers `vx, vy, vz, label`. AnoVox (Bogdoll et al., 2024) divides a cube around
the vehicle into 1000 × 1000 × 64 voxels of 0.5 m, with the vehicle in the middle:

    index = floor((p - sensor + 0.5 * size / 2) / 0.5),   sensor = (0, 0, 1.8) m

That the sensor's location is subtracted, not added, is a quirk of its generator; a reader has to
share it. The other transforms are the ones that failed: MUVO's grid of 192 × 192 × 64 voxels of 0.2
m with two different origins, the right one without the sensor's height, and the right one at 0.2 m.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

ANOMALY_IDS = (29, 30, 31, 32, 33, 34, 100)  # home, animal, nature, special, airplane, falling
ROAD_LINE = 24
SENSOR_HEIGHT = 1.8


@dataclass(frozen=True)
class Transform:
    """From metres to indices: floor((p - origin) / resolution), valid inside [0, size)."""

    origin: tuple[float, float, float]
    resolution: float
    size: tuple[int, int, int]


ANOVOX_SIZE = (1000, 1000, 64)
MUVO_SIZE = (192, 192, 64)
TRANSFORMS = {
    "anovox": Transform((-250.0, -250.0, -16.0 + SENSOR_HEIGHT), 0.5, ANOVOX_SIZE),
    "muvo_v2": Transform((-6.4, -19.2, -2.0), 0.2, MUVO_SIZE),
    "muvo_v3": Transform((-6.4, -19.2, -2.4), 0.2, MUVO_SIZE),
    "no_shift": Transform((-250.0, -250.0, -16.0), 0.5, ANOVOX_SIZE),
    "wrong_res": Transform((-100.0, -100.0, -6.4 + SENSOR_HEIGHT), 0.2, ANOVOX_SIZE),
}


def transform_named(name: str) -> Transform:
    """Look up a transform. Raises ValueError for an unknown name."""
    if name not in TRANSFORMS:
        raise ValueError(f"transform: {name!r} is not known; choose one of {', '.join(TRANSFORMS)}")
    return TRANSFORMS[name]


def indices(points_N3: FloatArray, transform: Transform) -> tuple[IntArray, BoolArray]:
    """Return the voxel of each point, (N, 3), and whether it lies inside the grid, (N,)."""
    offset_N3 = points_N3.astype(np.float64) - np.array(transform.origin)
    index_N3 = np.floor(offset_N3 / transform.resolution).astype(np.int64)
    inside_N = ((index_N3 >= 0) & (index_N3 < np.array(transform.size))).all(axis=1)
    return index_N3, inside_N


def voxel_grid(
    points_N3: FloatArray, ids_N: IntArray, winners: tuple[int, ...] = (ROAD_LINE,)
) -> IntArray:
    """Build the grid (M, 4) of a labelled cloud with the AnoVox transform.

    A voxel bears the label of the point nearest to its lowest corner; an id among `winners` takes
    every voxel in which it occurs (in AnoVox that is the road line). Points outside are dropped.
    """
    transform = TRANSFORMS["anovox"]
    index_N3, inside_N = indices(points_N3, transform)
    index_N3, ids_N = index_N3[inside_N], ids_N[inside_N]
    corner_N3 = index_N3 * transform.resolution + np.array(transform.origin)
    distance_N = np.linalg.norm(points_N3[inside_N] - corner_N3, axis=1)
    distance_N[np.isin(ids_N, winners)] = -1.0
    key_N = _keys(index_N3)
    order_N = np.lexsort((distance_N, key_N))
    _, first_M = np.unique(key_N[order_N], return_index=True)
    chosen_M = order_N[first_M]
    return np.concatenate([index_N3[chosen_M], ids_N[chosen_M, None]], axis=1)


def labels_from_grid(points_N3: FloatArray, grid_M4: IntArray, transform: Transform) -> BoolArray:
    """Mark the points, (N,), that a transform puts into a voxel with an anomaly's label."""
    index_N3, inside_N = indices(points_N3, transform)
    anomalous = grid_M4[np.isin(grid_M4[:, 3], ANOMALY_IDS), :3]
    found_N: BoolArray = np.isin(_keys(index_N3), _keys(anomalous)) & inside_N
    return found_N


def _keys(index_N3: IntArray) -> IntArray:
    """One number per voxel; indices outside of the grid may collide, and are masked elsewhere."""
    return (index_N3[:, 0] * 4096 + index_N3[:, 1]) * 4096 + index_N3[:, 2]
