"""Point clouds that may face K ways, and the mixture of von Mises that says which.

S shapes · N points · K peaks · B samples of a batch

A split is shapes × rotations: sample i is shape i // R turned about +Y by (i % R)·360°/R. A turn
by α moves a peak at θ to θ − α. Everything is drawn from generators made of the given seed; torch's
and numpy's global ones are never read. What `orientation_data` returns is shared between the trials
of a process: treat it as read-only.
"""

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sickbay.datasets.formats.meshes import rotate_yaw, sample_surface, to_unit_sphere
from sickbay.datasets.formats.pointclouds import Peak
from sickbay.datasets.orientation.files import OrientedCloud, read_clouds
from sickbay.datasets.orientation.yaw_shapes import CLASSES, peak_angles, shape

SYNTHETIC = "synthetic"
JITTER_STD = 0.01
JITTER_CLIP = 0.05


@dataclass(frozen=True)
class OrientationSpec:
    """What data to make or read.

    `dataset` is "synthetic" or the root of a real data set; `components` is how many peaks a target
    has; `classes` names the classes to read or to generate in equal parts, separated by commas;
    empty for all with `kfold` peaks.
    """

    dataset: str
    kfold: int
    kappa: float
    components: int
    points: int
    train_shapes: int
    val_shapes: int
    classes: str
    seed: int


@dataclass(frozen=True)
class Clouds:
    """One split before rotation: clouds (S, N, 3), then angles, concentrations, weights, (S, K)."""

    points: Tensor
    mu: Tensor
    kappa: Tensor
    weight: Tensor

    def __len__(self) -> int:
        """Count the shapes."""
        return len(self.points)

    def to(self, device: str) -> "Clouds":
        """Move to a device."""
        fields = (self.points, self.mu, self.kappa, self.weight)
        return Clouds(*(field.to(device) for field in fields))


@dataclass(frozen=True)
class Batch:
    """Turned clouds (B, N, 3) and their targets, each (B, K)."""

    points: Tensor
    mu: Tensor
    kappa: Tensor
    weight: Tensor


def orientation_data(spec: OrientationSpec) -> tuple[Clouds, Clouds]:
    """Return the training and the validation split; they share no shape.

    Raises ValueError for a root that cannot be read, and for more peaks than components.
    """
    if spec.dataset == SYNTHETIC:
        train = _generate(spec, spec.train_shapes, np.random.default_rng([spec.seed, 0]))
        val = _generate(spec, spec.val_shapes, np.random.default_rng([spec.seed, 1]))
    else:
        rng = np.random.default_rng([spec.seed, 2])
        train, val = read_clouds(spec.dataset, _names(spec), spec.kfold, spec.points, rng)
    return _stack(train, spec), _stack(val, spec)


@functools.lru_cache(maxsize=4)
def held_out_clouds(spec: OrientationSpec, count: int) -> Clouds | None:
    """Return a third split of so many generated shapes, for the test. Cached: never mutate it.

    None for no shapes, and for real data, whose test split serves for validation.
    """
    if spec.dataset != SYNTHETIC or count < 1:
        return None
    return _stack(_generate(spec, count, np.random.default_rng([spec.seed, 3])), spec)


def batches(
    clouds: Clouds, rotations: int, size: int, generator: torch.Generator | None = None
) -> Iterator[Batch]:
    """Go once through shapes × rotations in batches of at most `size`.

    With a (CPU) generator, for training: in random order, each coordinate jittered by a normal of
    σ 0.01 cut at ±0.05. Without one, for evaluation: in order, untouched.
    """
    count = len(clouds) * rotations
    order = torch.arange(count) if generator is None else torch.randperm(count, generator=generator)
    device = clouds.points.device
    for start in range(0, count, size):
        index_B = order[start : start + size]
        batch = turned(clouds, index_B.to(device), rotations)
        if generator is None:
            yield batch
            continue
        noise_BN3 = torch.randn(batch.points.shape, generator=generator) * JITTER_STD
        noise_BN3 = noise_BN3.clamp_(-JITTER_CLIP, JITTER_CLIP).to(device)
        yield Batch(batch.points + noise_BN3, batch.mu, batch.kappa, batch.weight)


def turned(clouds: Clouds, index_B: Tensor, rotations: int) -> Batch:
    """Return samples by their index in shapes × rotations."""
    shape_B = index_B // rotations
    angle_B = (index_B % rotations) * (2.0 * math.pi / rotations)
    cosine_B1, sine_B1 = torch.cos(angle_B)[:, None], torch.sin(angle_B)[:, None]
    x_BN, y_BN, z_BN = clouds.points[shape_B].unbind(dim=-1)
    x_BN, z_BN = x_BN * cosine_B1 + z_BN * sine_B1, z_BN * cosine_B1 - x_BN * sine_B1
    return Batch(
        torch.stack([x_BN, y_BN, z_BN], dim=-1),
        clouds.mu[shape_B] - angle_B[:, None],
        clouds.kappa[shape_B],
        clouds.weight[shape_B],
    )


def _generate(spec: OrientationSpec, count: int, rng: np.random.Generator) -> list[OrientedCloud]:
    clouds, kinds = [], _generated(spec)
    for index in range(count):
        kfold = kinds[index % len(kinds)]
        mesh = shape(kfold, rng)
        yaw = rng.uniform(0.0, 2.0 * math.pi)
        points = rotate_yaw(to_unit_sphere(sample_surface(mesh, spec.points, rng)), yaw)
        angles = peak_angles(kfold)
        kappa = 0.0 if kfold == 0 else None
        peaks = tuple(Peak(theta - yaw, kappa, 1.0 / len(angles)) for theta in angles)
        clouds.append(OrientedCloud(SYNTHETIC, points, peaks))
    return clouds


def _names(spec: OrientationSpec) -> tuple[str, ...]:
    return tuple(name.strip() for name in spec.classes.split(",") if name.strip())


def _generated(spec: OrientationSpec) -> tuple[int, ...]:
    """Return in how many ways the shapes to generate face, one number a class."""
    unknown = [name for name in _names(spec) if name not in CLASSES]
    if unknown:
        allowed = ", ".join(CLASSES)
        raise ValueError(f"classes: {unknown[0]!r} is not generated; choose from {allowed}")
    return tuple(CLASSES[name] for name in _names(spec)) or (spec.kfold,)


def _stack(clouds: list[OrientedCloud], spec: OrientationSpec) -> Clouds:
    peaks = [_peaks(cloud, spec) for cloud in clouds]
    points_SN3 = torch.tensor(np.stack([cloud.points for cloud in clouds]), dtype=torch.float32)
    mu_SK, kappa_SK, weight_SK = torch.tensor(peaks, dtype=torch.float32).unbind(dim=1)
    return Clouds(points_SN3, mu_SK, kappa_SK, weight_SK)


def _peaks(cloud: OrientedCloud, spec: OrientationSpec) -> list[list[float]]:
    """Give each component a peak. With fewer peaks than components they repeat and share weight."""
    true, wanted = len(cloud.peaks), spec.components
    if true > wanted:
        raise ValueError(
            f"kfold: {cloud.name} has {true} peaks and the mixture only {wanted} components; "
            f"set kfold to at least {true}, or choose other classes"
        )
    owner = [k % true for k in range(wanted)]
    peaks = [cloud.peaks[k] for k in owner]
    mu = [math.remainder(peak.mu, 2.0 * math.pi) for peak in peaks]
    kappa = [spec.kappa if peak.kappa is None else peak.kappa for peak in peaks]
    weight = [peak.weight / owner.count(k) for k, peak in zip(owner, peaks, strict=True)]
    return [mu, kappa, weight]
