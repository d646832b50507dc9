"""One ray-caster for every sensor of a scene, so that what hides an object hides it from all.

S scenes · K boxes of a scene · R rays, the same in every scene

Boxes stand on a level ground and are turned about z; x is forward, y left, z up, in metres. All
rays leave from one point, which lies in no box. Everything is numpy float32.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
GROUND, SKY = -1, -2  # what a ray met, where it met no box
TINY = np.float32(1e-9)


@dataclass(frozen=True)
class Boxes:
    """Boxes: centres and half sizes (S, K, 3), yaw (S, K) in radians. Negative sizes: no box."""

    centre: Floats
    half: Floats
    yaw: Floats


@dataclass(frozen=True)
class Hits:
    """What each ray meets first: distance (infinite for the sky), owner, axis and normal of a face.

    `owner` is the index of the box, or GROUND, or SKY; `axis` (S, R) is the one, in the box's own
    frame, that the face looks along; `normal` (S, R, 3) points out of the face, and up for ground
    and sky. Distances are in units of the length of the ray's direction.
    """

    distance: Floats
    owner: Ints
    axis: NDArray[np.int8]
    normal: Floats

    def part(self, some: slice) -> "Hits":
        """Return what some of the rays meet."""
        return Hits(
            self.distance[:, some], self.owner[:, some], self.axis[:, some], self.normal[:, some]
        )


def cast(
    origin: Floats,
    direction_R3: Floats,
    boxes: Boxes,
    ground: float = 0.0,
    *,
    by_reciprocal: bool = False,
) -> Hits:
    """Return the first thing that each ray meets, by slab tests in every box's own frame.

    After Kay and Kajiya (1986): the ray is inside a box between the last of its entries into the
    three slabs and the first of its exits from them. `ground` is the height of the ground. Dividing
    and multiplying by the reciprocal differ in a distance's last bit: each caller keeps to one of
    them, so that the data of a seed stay the same.
    """
    scenes, count = boxes.yaw.shape
    best_SR = np.repeat(_ground(origin[2] - np.float32(ground), direction_R3)[None], scenes, axis=0)
    owner_SR = np.where(np.isinf(best_SR), SKY, GROUND)
    axis_SR = np.full(best_SR.shape, 2, dtype=np.int8)
    for k in range(count):
        enter_SR, leave_SR, face_SR = _slabs(
            origin, direction_R3, boxes, k, by_reciprocal=by_reciprocal
        )
        nearer_SR = (enter_SR < leave_SR) & (enter_SR > 0.0) & (enter_SR < best_SR)
        best_SR = np.where(nearer_SR, enter_SR, best_SR)
        owner_SR = np.where(nearer_SR, k, owner_SR)
        axis_SR = np.where(nearer_SR, face_SR, axis_SR)
    return Hits(best_SR, owner_SR, axis_SR, _normals(direction_R3, boxes, owner_SR, axis_SR))


def _ground(height: Floats | np.float32, direction_R3: Floats) -> Floats:
    """Return the distance to the ground along each ray, infinite for one that does not go down."""
    down_R = -direction_R3[:, 2]
    away = np.full(len(down_R), np.inf, dtype=np.float32)
    np.divide(height, down_R, out=away, where=down_R > TINY)
    return away


def _slabs(
    origin: Floats, direction_R3: Floats, boxes: Boxes, k: int, *, by_reciprocal: bool
) -> tuple[Floats, Floats, NDArray[np.int8]]:
    """Return entry into and exit from box k, each (S, R), and the axis of the face of entry."""
    from_S3 = origin - boxes.centre[:, k]
    cosine_S, sine_S = np.cos(boxes.yaw[:, k]), np.sin(boxes.yaw[:, k])
    x_R, y_R, z_R = direction_R3.T
    along = (
        cosine_S[:, None] * x_R + sine_S[:, None] * y_R,
        cosine_S[:, None] * y_R - sine_S[:, None] * x_R,
        z_R[None, :],
    )
    start = (
        cosine_S * from_S3[:, 0] + sine_S * from_S3[:, 1],
        cosine_S * from_S3[:, 1] - sine_S * from_S3[:, 0],
        from_S3[:, 2],
    )
    enter, leave = [], []
    for axis in range(3):
        slope: Floats = np.where(np.abs(along[axis]) < TINY, TINY, along[axis])
        to_middle, half = -start[axis][:, None], boxes.half[:, k, axis, None]
        if by_reciprocal:
            inverse = np.float32(1.0) / slope
            middle, reach = to_middle * inverse, half * np.abs(inverse)
        else:
            middle, reach = to_middle / slope, half / np.abs(slope)
        enter.append(middle - reach)
        leave.append(middle + reach)
    flat_SR = np.maximum(enter[0], enter[1])
    face_SR = np.where(enter[2] > flat_SR, 2, enter[1] > enter[0]).astype(np.int8)
    exit_SR = np.minimum(np.minimum(leave[0], leave[1]), leave[2])
    return np.maximum(flat_SR, enter[2]), exit_SR, face_SR


def _normals(
    direction_R3: Floats, boxes: Boxes, owner_SR: Ints, axis_SR: NDArray[np.int8]
) -> Floats:
    yaw_SR = np.take_along_axis(boxes.yaw, np.maximum(owner_SR, 0), axis=1)
    cosine_SR, sine_SR = np.cos(yaw_SR), np.sin(yaw_SR)
    upright = axis_SR == 2
    first = axis_SR == 0
    x_SR = np.where(upright, 0.0, np.where(first, cosine_SR, -sine_SR))
    y_SR = np.where(upright, 0.0, np.where(first, sine_SR, cosine_SR))
    z_SR = np.where(upright, np.float32(1.0), np.float32(0.0))
    normal_SR3 = np.stack([x_SR, y_SR, z_SR], axis=-1).astype(np.float32)
    towards_SR = np.einsum("src,rc->sr", normal_SR3, direction_R3) > 0.0
    # Faces are met from outside; up is up for the ground and, by agreement, for the sky.
    flip_SR = towards_SR & (owner_SR >= 0)
    return np.where(flip_SR[..., None], -normal_SR3, normal_SR3)
