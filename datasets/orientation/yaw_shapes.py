"""Parametric shapes with a known rotational symmetry about +Y, seen as meshes, front along −Z.

`kfold` is the number of directions in which a shape may be said to face: 1 a chair, 2 a slab door,
3, 5 and 6 prisms, 4 an open-top tank, 0 a bottle (any direction, so none).
"""

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

from sickbay.datasets.formats.meshes import Mesh, polygons_to_mesh

Point = tuple[float, float, float]
Polygon = Sequence[Point]


def shape(kfold: int, rng: np.random.Generator) -> Mesh:
    """Draw a shape with `kfold` facing directions. Raises ValueError for another kfold."""
    if kfold not in SHAPES:
        allowed = ", ".join(map(str, sorted(SHAPES)))
        raise ValueError(f"kfold: {kfold!r} has no generated shape; choose one of {allowed}")
    return polygons_to_mesh(SHAPES[kfold](rng))


def peak_angles(kfold: int) -> tuple[float, ...]:
    """Return where the peaks of an unturned shape stand, radians.

    For kfold 0 there is one, without meaning. Four come in the order front, back, side, other side;
    any other number goes around the circle.
    """
    if kfold == 4:
        return (0.0, math.pi, math.pi / 2.0, -math.pi / 2.0)
    peaks = max(kfold, 1)
    return tuple(2.0 * math.pi * k / peaks for k in range(peaks))


def _tank(rng: np.random.Generator) -> list[Polygon]:
    """Build four walls and a bottom, open at the top, with a thick flat rim."""
    width = rng.uniform(0.5, 0.9)
    depth = width * rng.uniform(1.0, 1.9)
    height = rng.uniform(0.3, 0.9)
    rim = rng.uniform(0.12, 0.2) * width
    outer = _rectangle(width, depth, height)
    inner = _rectangle(width - 2 * rim, depth - 2 * rim, height)
    floor = _rectangle(width, depth, 0.0)
    sides = [(k, (k + 1) % 4) for k in range(4)]
    walls = [(floor[a], floor[b], outer[b], outer[a]) for a, b in sides]
    return [*walls, floor, *((outer[a], outer[b], inner[b], inner[a]) for a, b in sides)]


def _door(rng: np.random.Generator) -> list[Polygon]:
    """Build a slab, broad in X, thin in Z: front and back look alike, the sides do not."""
    size = (rng.uniform(0.6, 1.0), rng.uniform(1.2, 1.8), rng.uniform(0.1, 0.3))
    return _box((0.0, 0.0, 0.0), size)


def _chair(rng: np.random.Generator) -> list[Polygon]:
    """Build a seat, a back at +Z and four legs: it faces −Z."""
    width, depth = rng.uniform(0.7, 1.0), rng.uniform(0.7, 1.0)
    seat, back, leg = rng.uniform(0.08, 0.16), rng.uniform(0.7, 1.1), rng.uniform(0.5, 0.8)
    polygons = _box((0.0, 0.0, 0.0), (width, seat, depth))
    polygons += _box((0.0, back / 2, depth / 2 - 0.05), (width, back, 0.1))
    for x in (-1.0, 1.0):
        for z in (-1.0, 1.0):
            foot = (x * (width / 2 - 0.05), -leg / 2, z * (depth / 2 - 0.05))
            polygons += _box(foot, (0.1, leg, 0.1))
    return polygons


def _prism(corners: int) -> Callable[[np.random.Generator], list[Polygon]]:
    def build(rng: np.random.Generator) -> list[Polygon]:
        return _column([rng.uniform(0.5, 0.9)] * 2, [0.0, rng.uniform(0.3, 0.9)], corners)

    return build


def _bottle(rng: np.random.Generator) -> list[Polygon]:
    """Build a body, a shoulder and a neck of 24 sides."""
    body, neck = rng.uniform(0.25, 0.45), rng.uniform(0.08, 0.15)
    height = rng.uniform(0.7, 1.2)
    radii = [body, body, neck, neck]
    return _column(radii, [0.0, 0.6 * height, 0.75 * height, height], 24)


def _column(radii: Sequence[float], heights: Sequence[float], corners: int) -> list[Polygon]:
    """Stack rings of regular polygons; a flat side, not an edge, faces −Z."""
    rings = [_ring(r, y, corners) for r, y in zip(radii, heights, strict=True)]
    polygons: list[Polygon] = [rings[0], rings[-1]]
    for low, high in itertools.pairwise(rings):
        for a in range(corners):
            b = (a + 1) % corners
            polygons.append((low[a], low[b], high[b], high[a]))
    return polygons


def _ring(radius: float, height: float, corners: int) -> list[Point]:
    turns = [2.0 * math.pi * (k + 0.5) / corners for k in range(corners)]
    return [(radius * math.sin(t), height, -radius * math.cos(t)) for t in turns]


def _rectangle(width: float, depth: float, height: float) -> list[Point]:
    x, z = width / 2, depth / 2
    return [(-x, height, -z), (x, height, -z), (x, height, z), (-x, height, z)]


def _box(centre: Point, size: Point) -> list[Polygon]:
    signs = [(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]
    half = np.array(size) / 2
    corner = [tuple(np.array(centre) + half * np.array(sign)) for sign in signs]
    sides = ((0, 1, 3, 2), (4, 5, 7, 6), (0, 1, 5, 4), (2, 3, 7, 6), (0, 2, 6, 4), (1, 3, 7, 5))
    return [[corner[index] for index in side] for side in sides]


SHAPES: dict[int, Callable[[np.random.Generator], list[Polygon]]] = {
    0: _bottle,
    1: _chair,
    2: _door,
    3: _prism(3),
    4: _tank,
    5: _prism(5),
    6: _prism(6),
}
CLASSES = {"bottle": 0, "chair": 1, "door": 2, "tank": 4}  # how many ways each one faces
