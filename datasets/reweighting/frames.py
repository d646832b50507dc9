"""From points, pictures and boxes to what a multi-modal detector sees: grids, views and targets.

S samples · N points · M boxes · V views · C channels · H, W grid, h, w pixels of a view

Coordinates are metres in the lidar's frame, x forward, y left, z up.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sickbay.datasets.shared.detection_sample import DetectionSample, Floats

PAST = 0.25  # seconds; what is older than that counts as the past sweep
BOX_SIZE = 9  # x, y, z of the centre, width, length, height, yaw, and the velocity in x and y


@dataclass(frozen=True)
class Frames:
    """Samples as tensors: grids (S, 8, H, W), views (S, V, 3, h, w), lidar2img (S, V, 4, 4).

    boxes (S, M, 9) are padded with zeros, classes (S, M) with -1.
    """

    bev: Tensor
    views: Tensor
    lidar2img: Tensor
    boxes: Tensor
    classes: Tensor

    def __len__(self) -> int:
        """Count the samples."""
        return len(self.bev)

    def pick(self, index: Tensor) -> "Frames":
        """Return some samples, in the order asked for."""
        return Frames(*(getattr(self, field.name)[index] for field in fields(self)))

    def to(self, device: str) -> "Frames":
        """Move to a device."""
        return Frames(*(getattr(self, field.name).to(device) for field in fields(self)))


def frames_of(
    samples: Sequence[DetectionSample], extent: float, grid: int, height: int, width: int
) -> Frames:
    """Turn samples into tensors: a grid of `grid`² cells over ±extent m, views of height x width.

    Pictures are averaged down, and `lidar2img` is scaled with them. Raises ValueError for no sample
    or for samples with different numbers of views.
    """
    if not samples:
        raise ValueError("no sample: a data set needs one at least")
    views = sorted({len(sample.images) for sample in samples})
    if len(views) > 1:
        raise ValueError(f"samples with {views[0]} and with {views[-1]} views in one data set")
    owner = np.repeat(np.arange(len(samples)), [len(sample.points) for sample in samples])
    points = np.concatenate([sample.points for sample in samples])
    most = max(1, *(len(sample.classes) for sample in samples))
    boxes = np.zeros((len(samples), most, BOX_SIZE), np.float32)
    classes = np.full((len(samples), most), -1)
    for index, sample in enumerate(samples):
        boxes[index, : len(sample.boxes)] = sample.boxes
        classes[index, : len(sample.classes)] = sample.classes
    shrunk = [_shrink(sample, height, width) for sample in samples]
    return Frames(
        torch.from_numpy(bev_grids(points, owner, len(samples), extent, grid)),
        torch.stack([images for images, _ in shrunk]),
        torch.stack([matrices for _, matrices in shrunk]),
        torch.from_numpy(boxes),
        torch.from_numpy(classes),
    )


def bev_grids(
    points: Floats, owner: NDArray[np.int64], samples: int, extent: float, grid: int
) -> Floats:
    """Count points (N, 5) of the samples `owner` (N,) into cells, (S, 8, H, W).

    Rows are y, columns x, from -extent to +extent. Present points give the logarithm of the count,
    the mean offset from the cell's centre in cells, mean height / 2 m and intensity; those of the
    past count and offset. Points outside are dropped; an empty cell is 0 in every channel.
    """
    cell = 2.0 * extent / grid
    column = np.floor((points[:, 0] + extent) / cell)
    row = np.floor((points[:, 1] + extent) / cell)
    inside = (column >= 0) & (column < grid) & (row >= 0) & (row < grid)
    points, owner, column, row = points[inside], owner[inside], column[inside], row[inside]
    offset_x = (points[:, 0] + extent) / cell - column - 0.5
    offset_y = (points[:, 1] + extent) / cell - row - 0.5
    place = (owner * grid + row.astype(np.int64)) * grid + column.astype(np.int64)
    past = points[:, 4] > PAST
    channels: list[NDArray[np.float64]] = []
    for when in (~past, past):
        values = [offset_x, offset_y]
        if not channels:
            values += [points[:, 2] / 2.0, points[:, 3]]
        total = samples * grid * grid
        count = np.bincount(place[when], minlength=total)
        channels.append(np.log1p(count))
        for value in values:
            sums = np.bincount(place[when], weights=value[when], minlength=total)
            channels.append(sums / np.maximum(count, 1))
    shaped = [channel.reshape(samples, grid, grid) for channel in channels]
    return np.stack(shaped, axis=1).astype(np.float32)


def _shrink(sample: DetectionSample, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Average pictures down to height x width; scale the projections alike."""
    images, matrices = torch.from_numpy(sample.images), torch.from_numpy(sample.lidar2img).clone()
    tall, wide = images.shape[-2:]
    if (tall, wide) == (height, width):
        return images, matrices
    matrices[:, 0] *= width / wide
    matrices[:, 1] *= height / tall
    return functional.interpolate(images, size=(height, width), mode="area"), matrices
