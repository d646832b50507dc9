"""Triangle meshes as values: building them, sampling their surface, turning and scaling clouds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Mesh:
    """Vertices (V, 3) and triangles (T, 3) of vertex indices."""

    vertices: FloatArray
    triangles: IntArray


def fan(polygon: Sequence[int]) -> list[tuple[int, int, int]]:
    """Cut a polygon with n ≥ 3 corners into the n − 2 triangles around its first corner."""
    return [(polygon[0], polygon[i], polygon[i + 1]) for i in range(1, len(polygon) - 1)]


def polygons_to_mesh(polygons: Sequence[Sequence[Sequence[float]]]) -> Mesh:
    """Build a mesh from polygons given by their corners; corners are not shared."""
    vertices: list[Sequence[float]] = []
    triangles: list[tuple[int, int, int]] = []
    for polygon in polygons:
        first = len(vertices)
        vertices.extend(polygon)
        triangles.extend(fan(range(first, len(vertices))))
    return Mesh(np.array(vertices, dtype=np.float64), np.array(triangles, dtype=np.int64))


def sample_surface(mesh: Mesh, count: int, rng: np.random.Generator) -> FloatArray:
    """Draw `count` points uniformly over the surface, shape (count, 3).

    Raises ValueError if the mesh has no triangle of a positive, finite area.
    """
    corners = mesh.vertices[mesh.triangles]
    edge_a, edge_b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = np.linalg.norm(np.cross(edge_a, edge_b), axis=1) / 2.0
    total = float(area.sum())
    if not (np.isfinite(total) and total > 0.0):
        raise ValueError(
            f"the mesh has a surface of {total}: there is nothing to sample points from"
        )
    chosen = rng.choice(len(area), size=count, p=area / total)
    # Folding the unit square along its diagonal keeps the density uniform over the triangle.
    u, v = rng.random(count), rng.random(count)
    outside = u + v > 1.0
    u, v = np.where(outside, 1.0 - u, u), np.where(outside, 1.0 - v, v)
    return np.asarray(
        corners[chosen, 0] + u[:, None] * edge_a[chosen] + v[:, None] * edge_b[chosen]
    )


def to_unit_sphere(points: FloatArray) -> FloatArray:
    """Centre a cloud (N, 3) on its mean and scale its farthest point to distance 1."""
    centred = points - points.mean(axis=0)
    radius = float(np.linalg.norm(centred, axis=1).max())
    return np.asarray(centred / radius if radius > 0.0 else centred)


def rotate_yaw(points: FloatArray, angle: float) -> FloatArray:
    """Turn a cloud about +Y by `angle` radians; a front at θ then stands at θ − angle."""
    cosine, sine = np.cos(angle), np.sin(angle)
    matrix = np.array([[cosine, 0.0, sine], [0.0, 1.0, 0.0], [-sine, 0.0, cosine]])
    return np.asarray(points @ matrix.T)
