"""A camera and a lidar at one place, simulated with the same rays.

S scenes · K boxes · R rays · N points · H, W image size

One set of rays is cast for both, from one place, so that an object hidden from one is hidden from
the other wherever they look the same way.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sickbay.datasets.crossmodal.scenes import ANOMALIES, ROAD, Scenes
from sickbay.datasets.shared.rays import GROUND, SKY, Floats, Hits, cast

SENSORS = np.array([0.0, 0.0, 1.8], dtype=np.float32)  # where both stand, metres
RINGS, COLUMNS = 24, 160  # of the lidar
LIDAR_WIDTH, LIDAR_LOW, LIDAR_HIGH = np.deg2rad([100.0, -20.0, 4.0])
LIDAR_RANGE = 60.0  # metres
SENSOR_NOISE = 0.02  # of ranges in metres, of intensities and of colours in [0, 1]
VOXEL = 0.5  # metres
SUN = np.array([-0.5, 0.4, 0.77], dtype=np.float32)
GROUND_COLOUR, SKY_COLOUR = (0.32, 0.32, 0.33), (0.62, 0.75, 0.90)
GROUND_REFLECTIVITY = 0.15


@dataclass(frozen=True)
class Views:
    """What the sensors report of S scenes.

    Images (S, H, W, 3) in uint8; points (S, N, 4) of x, y, z and intensity, of which the first
    `returns` (S,) are real; `anomalous_voxel` (S,): whether a voxel of the lidar shows an anomaly.
    """

    images: NDArray[np.uint8]
    points: Floats
    returns: NDArray[np.int64]
    anomalous_voxel: NDArray[np.bool_]


def observe(scenes: Scenes, height: int, width: int, rng: np.random.Generator) -> Views:
    """Simulate both sensors on scenes, noise included."""
    camera_R3, lidar_R3 = camera_rays(height, width), lidar_rays()
    rays_R3 = np.concatenate([camera_R3, lidar_R3])
    hits = cast(SENSORS, rays_R3, scenes.boxes, by_reciprocal=True)
    at = len(camera_R3)
    images = _picture(scenes, hits.part(slice(0, at)), rng).reshape(-1, height, width, 3)
    return Views(images, *_scan(scenes, hits.part(slice(at, None)), lidar_R3, rng))


def camera_rays(height: int, width: int) -> Floats:
    """Return the rays of a pinhole camera of 90° across, row by row from the top left, (R, 3)."""
    across = (1.0 - (2.0 * np.arange(width) + 1.0) / width)[None, :]
    up = ((height - (2.0 * np.arange(height) + 1.0)) / width)[:, None]
    y_R, z_R = (part.ravel() for part in np.broadcast_arrays(across, up))
    return np.stack([np.ones_like(y_R), y_R, z_R], axis=-1).astype(np.float32)


def lidar_rays() -> Floats:
    """Return unit rays, ring after ring from the lowest, each from left to right, (R, 3)."""
    rise = np.linspace(LIDAR_LOW, LIDAR_HIGH, RINGS)[:, None]
    turn = np.linspace(LIDAR_WIDTH / 2, -LIDAR_WIDTH / 2, COLUMNS)[None, :]
    parts = (np.cos(rise) * np.cos(turn), np.cos(rise) * np.sin(turn), np.sin(rise) + 0.0 * turn)
    return np.stack([part.ravel() for part in parts], axis=-1).astype(np.float32)


def voxel_grid(points_N3: Floats, semantic_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the occupied voxels of half a metre, rows of x, y, z (indices) and semantic id.

    A voxel takes the highest id among its points: an anomaly is never outvoted.
    """
    cell_N3 = np.floor(points_N3 / VOXEL).astype(np.int64)
    # One number a voxel sorts several times faster than three; 20 bits an axis are 500 km.
    key_N = ((cell_N3 + (1 << 19)) << np.array([40, 20, 0])).sum(axis=1)
    _, first_V, group_N = np.unique(key_N, return_index=True, return_inverse=True)
    highest_V = np.zeros(len(first_V), dtype=np.int64)
    np.maximum.at(highest_V, group_N, semantic_N)
    return np.column_stack([cell_N3[first_V], highest_V])


def _picture(scenes: Scenes, hits: Hits, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return shaded and noisy colours (S, R, 3)."""
    light_SR = 0.55 + 0.45 * np.maximum(hits.normal @ SUN, 0.0)
    light_SR = np.where(hits.owner == SKY, np.float32(1.0), light_SR)
    colour_SR3 = _of_owner(scenes.colour, hits, GROUND_COLOUR, SKY_COLOUR)
    noise_SR3 = rng.standard_normal(colour_SR3.shape, dtype=np.float32) * SENSOR_NOISE
    shaded_SR3 = colour_SR3 * light_SR[..., None] + noise_SR3
    bytes_SR3: NDArray[np.uint8] = (np.clip(shaded_SR3, 0.0, 1.0) * 255.0).round().astype(np.uint8)
    return bytes_SR3


def _scan(
    scenes: Scenes, hits: Hits, rays_R3: Floats, rng: np.random.Generator
) -> tuple[Floats, NDArray[np.int64], NDArray[np.bool_]]:
    """Return points (S, R, 4) with the real ones first, their number (S,), the voxel labels."""
    shape = hits.owner.shape
    real_SR = hits.distance < LIDAR_RANGE
    distance_SR = np.where(real_SR, hits.distance, np.float32(0.0))
    distance_SR = distance_SR + rng.standard_normal(shape, dtype=np.float32) * SENSOR_NOISE
    strength_SR = _of_owner(scenes.reflectivity, hits, GROUND_REFLECTIVITY, 0.0)
    strength_SR = strength_SR + rng.standard_normal(shape, dtype=np.float32) * SENSOR_NOISE
    semantic_SR = _of_owner(scenes.semantic, hits, ROAD, 0)
    where_SR3 = SENSORS + distance_SR[..., None] * rays_R3
    points_SR4 = np.concatenate([where_SR3, np.clip(strength_SR, 0.0, 1.0)[..., None]], axis=-1)
    order_SR = np.argsort(~real_SR, axis=1, kind="stable")  # rays into the sky go to the end
    sorted_SR4 = np.take_along_axis(points_SR4, order_SR[..., None], axis=1)
    grids = (
        voxel_grid(where[real], ids[real])
        for where, ids, real in zip(where_SR3, semantic_SR, real_SR, strict=True)
    )
    voxel_S = np.array([bool(np.isin(grid[:, 3], ANOMALIES).any()) for grid in grids])
    return sorted_SR4.astype(np.float32), real_SR.sum(axis=1), voxel_S


def _of_owner(values: NDArray, hits: Hits, ground: object, sky: object) -> NDArray:  # type: ignore[type-arg]
    """Look up what each ray met in a table (S, K, …) of boxes, completed by ground and sky."""
    extra = np.empty((len(values), 2, *values.shape[2:]), dtype=values.dtype)
    extra[:, SKY], extra[:, GROUND] = sky, ground  # -2 and -1: the last two columns
    table = np.concatenate([values, extra], axis=1)
    return table[np.arange(len(values))[:, None], hits.owner]
