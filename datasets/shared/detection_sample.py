"""One moment of a drive, as plain arrays: what readers of real files make and system 4 takes.

N points · M boxes · V views · h, w pixels of a view
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class DetectionSample:
    """One moment of a drive.

    `points` (N, 5) are x, y, z, intensity in [0, 1] and age in seconds. `images` (V, 3, h, w) are
    in [0, 1]. `lidar2img` (V, 4, 4) takes (x, y, z, 1) to (u d, v d, d, 1), pixels u, v and depth
    d. `boxes` (M, 9) are x, y, z of the centre, width, length, height, yaw, vx, vy; `classes` (M,).
    """

    points: Floats
    images: Floats
    lidar2img: Floats
    boxes: Floats
    classes: NDArray[np.int64]
