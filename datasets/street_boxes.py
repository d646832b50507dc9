"""Street scenes of boxes on a plane, seen by a lidar and a camera in one place.

C scenes · K boxes · R rays

x forward, y left, z up, the sensors at the origin, the ground at z = -1.8 m. A ray meets the
nearest box (slab test in the box's own frame) or the ground, so that both sensors see the same
occlusions. Among the things stand up to three blocks of equal size law: a road-works block (yellow
and reflective), a parcel (magenta and dull), both normal, and an anomaly (magenta and reflective).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]

GROUND_Z = -1.8
RANGE = 60.0
LIDAR_FOV = (math.radians(100.0), math.radians(-24.0), math.radians(8.0))
SLOTS = 13  # boxes a scene has room for
SECTORS = 9  # directions in which small things stand, one each
BLOCK_CHANCE = {"roadworks": 0.4, "parcel": 0.4, "anomaly": 0.45}

ROAD, BUILDING, PEDESTRIAN, CAR, OTHER = 1, 3, 12, 14, 20
SKY_COLOUR = (0.60, 0.75, 0.95)
GROUND_COLOUR = (0.35, 0.35, 0.37)
YELLOW, MAGENTA = (0.95, 0.80, 0.10), (0.85, 0.15, 0.75)
DULL, REFLECTIVE = 0.30, 0.85


@dataclass(frozen=True)
class Boxes:
    """Boxes of C scenes: centre and half size (C, K, 3), yaw, id, intensity (C, K), colour."""

    centre: FloatArray
    half: FloatArray
    yaw: FloatArray
    ids: IntArray
    intensity: FloatArray
    colour: FloatArray


@dataclass(frozen=True)
class Hits:
    """What each ray meets, (C, R): the distance (infinite for the sky), the box (-1: ground).

    `side` is the axis of the box's face, for shading.
    """

    distance: FloatArray
    box: IntArray
    side: IntArray


@dataclass(frozen=True)
class _Thing:
    place: tuple[float, float]  # distance, azimuth
    size: tuple[float, float, float]
    ids: int
    intensity: float
    colour: tuple[float, float, float]


def draw_boxes(count: int, rng: np.random.Generator) -> Boxes:
    """Draw the boxes of `count` scenes; unused slots hold a box too far away to be seen."""
    scenes = [_things(rng) for _ in range(count)]
    shape = (count, SLOTS)
    centre, half = np.full((*shape, 3), 1e4, np.float32), np.full((*shape, 3), 0.1, np.float32)
    ids, intensity = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
    colour = np.zeros((*shape, 3), np.float32)
    yaw = rng.uniform(-math.pi, math.pi, shape).astype(np.float32)
    for scene, things in enumerate(scenes):
        for slot, thing in enumerate(things):
            far, azimuth = thing.place
            flat = (far * math.cos(azimuth), far * math.sin(azimuth))
            centre[scene, slot] = (*flat, GROUND_Z + thing.size[2] / 2)
            half[scene, slot] = np.array(thing.size) / 2
            ids[scene, slot], intensity[scene, slot] = thing.ids, thing.intensity
            colour[scene, slot] = thing.colour
    return Boxes(centre, half, yaw, ids, intensity, colour)


def lidar_rays(rows: int, columns: int) -> FloatArray:
    """Return unit directions (R, 3) of a forward-looking lidar, top row first."""
    wide, low, high = LIDAR_FOV
    elevation = np.linspace(high, low, rows)[:, None]
    azimuth = np.linspace(wide / 2, -wide / 2, columns)[None, :]
    flat = np.cos(elevation)
    rays = np.stack(
        [flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation) + 0.0 * azimuth], -1
    )
    return rays.reshape(-1, 3).astype(np.float32)


def camera_rays(rows: int, columns: int) -> FloatArray:
    """Return unit directions (R, 3) of a pinhole camera, 90° wide, row by row from the top."""
    across = 1.0 - 2.0 * (np.arange(columns) + 0.5) / columns
    down = (1.0 - 2.0 * (np.arange(rows) + 0.5) / rows) * rows / columns
    rays = np.stack(
        [np.ones((rows, columns)), np.tile(across, (rows, 1)), np.tile(down[:, None], columns)], -1
    )
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    return rays.reshape(-1, 3).astype(np.float32)


def cast(boxes: Boxes, rays_R3: FloatArray) -> Hits:
    """Send the rays into every scene."""
    # The slab test: where a ray is inside all three pairs of faces at once, it is in the box.
    cosine, sine = np.cos(boxes.yaw)[..., None], np.sin(boxes.yaw)[..., None]
    ray_x, ray_y, ray_z = rays_R3.T
    way = (cosine * ray_x + sine * ray_y, cosine * ray_y - sine * ray_x, ray_z[None, None])
    c_x, c_y, c_z = np.moveaxis(boxes.centre[..., None], 2, 0)
    to_centre = (cosine * c_x + sine * c_y, cosine * c_y - sine * c_x, c_z)
    enter = np.zeros((*boxes.yaw.shape, len(rays_R3)), np.float32)
    leave = np.full_like(enter, np.inf)
    side = np.zeros(enter.shape, np.int8)
    for axis in range(3):
        half = boxes.half[..., axis, None]
        slope = np.where(np.abs(way[axis]) < 1e-9, np.float32(1e-9), way[axis])
        middle, reach = to_centre[axis] / slope, half / np.abs(slope)
        near = middle - reach
        side = np.where(near > enter, np.int8(axis), side)
        enter = np.maximum(enter, near)
        leave = np.minimum(leave, middle + reach)
    enter[(leave < enter) | (enter <= 0.0)] = np.inf
    box_CR = enter.argmin(axis=1)
    distance_CR = np.take_along_axis(enter, box_CR[:, None], axis=1)[:, 0]
    side_CR = np.take_along_axis(side, box_CR[:, None], axis=1)[:, 0].astype(np.int64)
    with np.errstate(divide="ignore"):
        ground_R = np.where(ray_z < 0.0, GROUND_Z / ray_z, np.inf).astype(np.float32)
    on_ground = ground_R[None] <= distance_CR
    box_CR = np.where(on_ground, -1, box_CR)
    distance_CR = np.minimum(distance_CR, ground_R[None])
    distance_CR[distance_CR > RANGE] = np.inf
    return Hits(distance_CR, box_CR, side_CR)


def of_hit(values_CK: IntArray | FloatArray, hits: Hits, ground: float) -> FloatArray:
    """Look up a value of the box that each ray meets, (C, R), or that of the ground."""
    found = np.take_along_axis(values_CK, np.maximum(hits.box, 0), axis=1)
    return np.where(hits.box < 0, ground, found).astype(np.float32)


def picture(boxes: Boxes, rows: int, columns: int, rng: np.random.Generator) -> FloatArray:
    """Render the camera's view, (C, 3, rows, columns) in [0, 1], with noise of σ 0.02."""
    hits = cast(boxes, camera_rays(rows, columns))
    shade = np.array([1.0, 0.8, 0.9], np.float32)[hits.side]
    shade = np.where(hits.box < 0, np.float32(1.0), shade)
    channels = []
    for channel in range(3):
        seen = of_hit(boxes.colour[..., channel], hits, GROUND_COLOUR[channel]) * shade
        channels.append(np.where(np.isinf(hits.distance), SKY_COLOUR[channel], seen))
    image = np.stack(channels, axis=1) + rng.normal(0.0, 0.02, (len(shade), 3, shade.shape[1]))
    return image.clip(0.0, 1.0).astype(np.float32).reshape(-1, 3, rows, columns)


def _things(rng: np.random.Generator) -> list[_Thing]:
    things = [_building(rng) for _ in range(rng.integers(2, 5))]
    sectors = iter(rng.permutation(SECTORS))
    for name, chance in BLOCK_CHANCE.items():
        if rng.random() < chance:
            things.append(_block(name, _azimuth(int(next(sectors)), rng), rng))
    for _ in range(rng.integers(1, 4)):
        place = (float(rng.uniform(10.0, 35.0)), _azimuth(int(next(sectors)), rng))
        paint = tuple(float(value) for value in rng.uniform(0.1, 0.9, 3))
        shine = float(rng.uniform(0.2, 0.5))
        things.append(_Thing(place, (4.4, 1.8, 1.5), CAR, shine, (paint[0], paint[1], paint[2])))
    for _ in range(rng.integers(1, 4)):
        place = (float(rng.uniform(8.0, 25.0)), _azimuth(int(next(sectors)), rng))
        things.append(_Thing(place, (0.6, 0.6, 1.75), PEDESTRIAN, 0.2, (0.25, 0.35, 0.3)))
    return things


def _azimuth(sector: int, rng: np.random.Generator) -> float:
    return float(math.radians(90.0) * ((sector + rng.uniform(0.2, 0.8)) / SECTORS - 0.5))


def _building(rng: np.random.Generator) -> _Thing:
    size = (rng.uniform(6.0, 14.0), rng.uniform(6.0, 14.0), rng.uniform(5.0, 12.0))
    place = (rng.uniform(38.0, 55.0), rng.uniform(-0.9, 0.9))
    return _Thing(place, size, BUILDING, float(rng.uniform(0.3, 0.5)), (0.6, 0.55, 0.5))


def _block(name: str, azimuth: float, rng: np.random.Generator) -> _Thing:
    size = (rng.uniform(0.9, 1.8), rng.uniform(0.9, 1.8), rng.uniform(0.9, 1.4))
    place = (float(rng.uniform(6.0, 18.0)), azimuth)
    if name == "anomaly":
        return _Thing(place, size, int(rng.choice([29, 30, 32])), REFLECTIVE, MAGENTA)
    if name == "parcel":
        return _Thing(place, size, OTHER, DULL, MAGENTA)
    return _Thing(place, size, OTHER, REFLECTIVE, YELLOW)
