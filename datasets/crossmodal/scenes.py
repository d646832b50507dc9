"""Street scenes for two sensors: what stands where, and what it looks like to each of them.

S scenes · K boxes of a scene

Three kinds of clutter follow one law of size and place. They differ only in what the sensors see:

    road works   yellow     reflective   normal
    parcel       magenta    dull         normal
    anomaly      magenta    reflective   the one to find

So the camera alone cannot tell an anomaly from a parcel, nor the lidar alone from road works.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sickbay.datasets.shared.rays import Boxes, Floats

# Semantic ids as in CARLA; the last three are AnoVox's anomalies.
ROAD, BUILDING, PEDESTRIAN, CAR, OTHER = 1, 3, 12, 14, 21
ANOMALIES = (29, 30, 32)

P_CLUTTER = 0.4  # of each of the two harmless kinds, independently
P_ANOMALY = 0.5
SECTORS = 6  # of the view; clutter, cars and a pedestrian each get their own
SECTOR_RAD = np.deg2rad(12.0)

YELLOW, MAGENTA = (0.90, 0.75, 0.10), (0.80, 0.10, 0.70)
REFLECTIVE, DULL = 0.90, 0.20
PAINTS = ((0.85, 0.85, 0.85), (0.15, 0.15, 0.18), (0.15, 0.25, 0.60), (0.60, 0.12, 0.12))


@dataclass(frozen=True)
class Scenes:
    """Boxes and, for each: colour (S, K, 3) and reflectivity (S, K) in [0, 1], semantic id (S, K).

    `anomalous` (S,) marks the scenes with an anomaly in them.
    """

    boxes: Boxes
    colour: Floats
    reflectivity: Floats
    semantic: NDArray[np.int64]
    anomalous: NDArray[np.bool_]

    def part(self, some: slice) -> "Scenes":
        """Return some of the scenes."""
        boxes = self.boxes
        return Scenes(
            Boxes(boxes.centre[some], boxes.half[some], boxes.yaw[some]),
            self.colour[some],
            self.reflectivity[some],
            self.semantic[some],
            self.anomalous[some],
        )


@dataclass(frozen=True)
class _Part:
    """One box of every scene."""

    present: NDArray[np.bool_]
    place: Floats  # (S, 2)
    half: Floats  # (S, 3)
    yaw: Floats
    colour: Floats  # (S, 3)
    reflectivity: Floats
    semantic: NDArray[np.int64]


def compose(count: int, rng: np.random.Generator) -> Scenes:
    """Draw scenes: three kinds of clutter, two cars, a pedestrian, four buildings, each or not."""
    bearing_SK = _bearings(count, rng)
    anomalous = rng.random(count) < P_ANOMALY
    strange = rng.choice(np.array(ANOMALIES), count)
    other = np.full(count, OTHER)
    parts = [
        _clutter(rng, bearing_SK[:, 0], rng.random(count) < P_CLUTTER, YELLOW, REFLECTIVE, other),
        _clutter(rng, bearing_SK[:, 1], rng.random(count) < P_CLUTTER, MAGENTA, DULL, other),
        _clutter(rng, bearing_SK[:, 2], anomalous, MAGENTA, REFLECTIVE, strange),
        _car(rng, bearing_SK[:, 3]),
        _car(rng, bearing_SK[:, 4]),
        _pedestrian(rng, bearing_SK[:, 5]),
        *(_building(rng, side, count) for side in (1.0, 1.0, -1.0, -1.0)),
    ]
    return _assembled(parts, anomalous)


def _bearings(count: int, rng: np.random.Generator) -> Floats:
    """Return a sector of its own for each of six things, and a direction in it, (S, 6)."""
    sector_SK = rng.permuted(np.tile(np.arange(SECTORS), (count, 1)), axis=1)
    inside_SK = rng.uniform(0.15, 0.85, sector_SK.shape)
    bearing_SK: Floats = ((sector_SK + inside_SK - SECTORS / 2) * SECTOR_RAD).astype(np.float32)
    return bearing_SK


def _clutter(
    rng: np.random.Generator,
    bearing_S: Floats,
    present_S: NDArray[np.bool_],
    colour: tuple[float, float, float],
    reflectivity: float,
    semantic_S: NDArray[np.int64],
) -> _Part:
    count = len(bearing_S)
    return _Part(
        present_S,
        _polar(rng.uniform(6.0, 16.0, count), bearing_S),
        _uniform(rng, (0.5, 0.5, 0.5), (0.8, 0.8, 0.8), count),
        rng.uniform(0.0, np.pi, count).astype(np.float32),
        np.tile(np.array(colour, dtype=np.float32), (count, 1)),
        np.full(count, reflectivity, dtype=np.float32),
        semantic_S,
    )


def _car(rng: np.random.Generator, bearing_S: Floats) -> _Part:
    count = len(bearing_S)
    return _Part(
        rng.random(count) < 0.6,
        _polar(rng.uniform(12.0, 30.0, count), bearing_S),
        _uniform(rng, (1.9, 0.8, 0.7), (2.4, 1.0, 0.9), count),
        rng.uniform(0.0, np.pi, count).astype(np.float32),
        np.array(PAINTS, dtype=np.float32)[rng.integers(len(PAINTS), size=count)],
        rng.uniform(0.25, 0.50, count).astype(np.float32),
        np.full(count, CAR),
    )


def _pedestrian(rng: np.random.Generator, bearing_S: Floats) -> _Part:
    count = len(bearing_S)
    return _Part(
        rng.random(count) < 0.5,
        _polar(rng.uniform(8.0, 25.0, count), bearing_S),
        _uniform(rng, (0.2, 0.2, 0.8), (0.3, 0.3, 0.95), count),
        rng.uniform(0.0, np.pi, count).astype(np.float32),
        _uniform(rng, (0.1, 0.2, 0.2), (0.4, 0.5, 0.6), count),
        rng.uniform(0.25, 0.40, count).astype(np.float32),
        np.full(count, PEDESTRIAN),
    )


def _building(rng: np.random.Generator, side: float, count: int) -> _Part:
    place_S2 = _uniform(rng, (8.0, 14.0), (50.0, 20.0), count)
    grey_S1 = rng.uniform(0.35, 0.65, (count, 1)).astype(np.float32)
    return _Part(
        rng.random(count) < 0.8,
        place_S2 * np.array([1.0, side], dtype=np.float32),
        _uniform(rng, (3.0, 2.0, 2.0), (6.0, 4.0, 6.0), count),
        np.zeros(count, dtype=np.float32),
        grey_S1 * np.array([1.0, 0.92, 0.85], dtype=np.float32),
        rng.uniform(0.25, 0.45, count).astype(np.float32),
        np.full(count, BUILDING),
    )


def _assembled(parts: list[_Part], anomalous: NDArray[np.bool_]) -> Scenes:
    half_SK3 = np.stack([part.half for part in parts], axis=1)
    place_SK2 = np.stack([part.place for part in parts], axis=1)
    centre_SK3 = np.concatenate([place_SK2, half_SK3[..., 2:]], axis=-1)
    present_SK = np.stack([part.present for part in parts], axis=1)
    half_SK3 = np.where(present_SK[..., None], half_SK3, np.float32(-1.0))
    yaw_SK = np.stack([part.yaw for part in parts], axis=1)
    return Scenes(
        Boxes(centre_SK3, half_SK3, yaw_SK),
        np.stack([part.colour for part in parts], axis=1),
        np.stack([part.reflectivity for part in parts], axis=1),
        np.stack([part.semantic for part in parts], axis=1),
        anomalous,
    )


def _polar(distance_S: NDArray[np.float64], bearing_S: Floats) -> Floats:
    place_S2 = np.stack([np.cos(bearing_S), np.sin(bearing_S)], axis=-1) * distance_S[:, None]
    return place_S2.astype(np.float32)


def _uniform(
    rng: np.random.Generator, low: tuple[float, ...], high: tuple[float, ...], count: int
) -> Floats:
    return rng.uniform(low, high, (count, len(low))).astype(np.float32)
