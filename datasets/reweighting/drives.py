"""Drives of nuScenes as the detector sees them: grids, views and boxes of its ten classes.

What `real_drives` returns is shared between the trials of a process: treat it as read-only.
"""

import functools
from dataclasses import replace

import numpy as np

from sickbay.datasets.formats.nuscenes import CLASSES, read_sample
from sickbay.datasets.formats.nuscenes_tables import CAMERAS, Tables, read_tables, split_scenes
from sickbay.datasets.reweighting.frames import Frames, frames_of
from sickbay.datasets.reweighting.synthetic import WorldSpec
from sickbay.datasets.shared.detection_sample import DetectionSample

KINDS = len(CLASSES)
# The benchmark's detection challenge: the range of each class, and which errors it does not have.
BOXES = 500  # of a sample
RANGES = {"barrier": 30.0, "traffic_cone": 30.0, "bicycle": 40.0, "motorcycle": 40.0}
RANGES |= {"pedestrian": 40.0}
FAR = 50.0  # metres, of all others
HALF_TURN = ("barrier",)
UNDEFINED = {
    "barrier": ("velocity", "attribute"),
    "traffic_cone": ("orientation", "velocity", "attribute"),
}


@functools.lru_cache(maxsize=2)
def real_drives(spec: WorldSpec) -> tuple[Frames, Frames]:
    """Read the training and the validation split of the root `spec.dataset`. Cached.

    They share no scene. At most `train_samples` and `val_samples` are drawn from them. Boxes whose
    centre is not within ±extent are left out, as are those without a point of the lidar. Raises
    ValueError for other than six views, for files that are missing or malformed, and for a split
    without a box.
    """
    tables, rng = read_tables(spec.dataset), np.random.default_rng(spec.seed)
    if spec.views != len(CAMERAS):
        cameras = f"nuScenes has {len(CAMERAS)} cameras; set views to {len(CAMERAS)}"
        raise ValueError(f"views: {spec.views} is not possible: {cameras}")
    train, val = split_scenes(tables, rng)
    chosen = (_draw(train, spec.train_samples, rng), _draw(val, spec.val_samples, rng))
    first, second = (_frames(tables, tokens, spec) for tokens in chosen)
    return first, second


def _draw(tokens: list[str], count: int, rng: np.random.Generator) -> list[str]:
    """Draw at most `count` samples, kept in order of time."""
    if len(tokens) <= count:
        return tokens
    return [tokens[index] for index in sorted(rng.choice(len(tokens), count, replace=False))]


def _frames(tables: Tables, tokens: list[str], spec: WorldSpec) -> Frames:
    picture = (spec.height, spec.width)
    samples = [read_sample(tables, token, picture, sweeps=spec.sweeps) for token in tokens]
    samples = [_within(sample, spec.extent) for sample in samples]
    if not any(len(sample.classes) for sample in samples):
        few = f"{len(samples)} samples have no box within {spec.extent:g} m"
        raise ValueError(f"dataset: {spec.dataset}: {few}; take more of them or a wider extent")
    return frames_of(samples, spec.extent, spec.grid, spec.height, spec.width)


def _within(sample: DetectionSample, extent: float) -> DetectionSample:
    inside = (np.abs(sample.boxes[:, :2]) < extent).all(axis=1)
    return replace(sample, boxes=sample.boxes[inside], classes=sample.classes[inside])
