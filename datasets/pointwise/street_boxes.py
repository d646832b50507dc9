"""Street scenes of boxes on a plane, seen by a lidar and a camera in one place.

C scenes · K boxes · R rays

x forward, y left, z up, the sensors at the origin, the ground at z = -1.8 m. Both sensors send rays
of one ray-caster (`scene_rays`), so that they see the same occlusions. Among the boxes are up to
three blocks of equal size law: a road-works block (yellow and reflective), a parcel (magenta and
dull), both normal, and an anomaly (magenta and reflective).
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from sickbay.datasets.shared.rays import SKY, Boxes, Floats, Hits, Ints, cast

SENSORS = np.zeros(3, dtype=np.float32)
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
class Street:
    """C scenes: their boxes, and for each its id and intensity (C, K) and its colour (C, K, 3)."""

    boxes: Boxes
    ids: Ints
    intensity: Floats
    colour: Floats


@dataclass(frozen=True)
class _Thing:
    place: tuple[float, float]  # distance, azimuth
    size: tuple[float, float, float]
    ids: int
    intensity: float
    colour: tuple[float, float, float]


def draw_street(count: int, rng: np.random.Generator) -> Street:
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
    return Street(Boxes(centre, half, yaw), ids, intensity, colour)


def lidar_rays(rows: int, columns: int) -> Floats:
    """Return unit directions (R, 3) of a forward-looking lidar, top row first."""
    wide, low, high = LIDAR_FOV
    elevation = np.linspace(high, low, rows)[:, None]
    azimuth = np.linspace(wide / 2, -wide / 2, columns)[None, :]
    flat = np.cos(elevation)
    rays = np.stack(
        [flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation) + 0.0 * azimuth], -1
    )
    return rays.reshape(-1, 3).astype(np.float32)


def camera_rays(rows: int, columns: int) -> Floats:
    """Return unit directions (R, 3) of a pinhole camera, 90° wide, row by row from the top."""
    across = 1.0 - 2.0 * (np.arange(columns) + 0.5) / columns
    down = (1.0 - 2.0 * (np.arange(rows) + 0.5) / rows) * rows / columns
    rays = np.stack(
        [np.ones((rows, columns)), np.tile(across, (rows, 1)), np.tile(down[:, None], columns)], -1
    )
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    return rays.reshape(-1, 3).astype(np.float32)


def look(street: Street, rays_R3: Floats) -> Hits:
    """Cast the rays in every scene; hits beyond 60 m count as sky."""
    hits = cast(SENSORS, rays_R3, street.boxes, GROUND_Z)
    beyond = hits.distance > RANGE
    distance = np.where(beyond, np.float32(np.inf), hits.distance)
    return replace(hits, distance=distance, owner=np.where(beyond, SKY, hits.owner))


def of_hit(values_CK: Ints | Floats, hits: Hits, ground: float) -> Floats:
    """Look up a value of the box that each ray meets, (C, R), or that of the ground."""
    value_CR = np.take_along_axis(values_CK, np.maximum(hits.owner, 0), axis=1)
    return np.where(hits.owner < 0, ground, value_CR).astype(np.float32)


def picture(street: Street, rows: int, columns: int, rng: np.random.Generator) -> Floats:
    """Render the camera's view, (C, 3, rows, columns) in [0, 1], with noise of σ 0.02."""
    hits = look(street, camera_rays(rows, columns))
    shade = np.array([1.0, 0.8, 0.9], np.float32)[hits.axis]
    shade = np.where(hits.owner < 0, np.float32(1.0), shade)
    channels = []
    for channel in range(3):
        seen = of_hit(street.colour[..., channel], hits, GROUND_COLOUR[channel]) * shade
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
