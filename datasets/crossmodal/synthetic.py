"""Street scenes as a camera and a lidar see them, and whether there is an anomaly in them.

S scenes · K boxes · R rays · N points of a scene · H, W image size · B samples of a batch

Everything is drawn from generators made of the given seed; torch's and numpy's global ones are
never read. What `crossmodal_data` returns is shared between the trials of a process: treat it as
read-only.
"""

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sickbay.datasets.crossmodal.scenes import P_CLUTTER, compose
from sickbay.datasets.crossmodal.sensors import COLUMNS, RINGS, observe
from sickbay.datasets.formats.anovox_scenes import Frame, read_frames

SYNTHETIC = "synthetic"
LABEL_SOURCES = ("true", "random10", "random_fixed", "all_one", "voxel")
POINT_SELECT = ("random", "first")
SAMPLING = ("shuffled", "balanced")
P_RANDOM = 0.1  # share of positives in random labels

COORDINATE_SCALE = 20.0  # metres; networks see coordinates of about 1
IMAGE_MEAN, IMAGE_STD = 0.45, 0.225  # as is usual for photographs; colours are in [0, 1]
MOST_RETURNS = 8_192  # of a real lidar are kept
CHUNK_RAYS = 200_000  # cast at once: what fits into a cache


@dataclass(frozen=True)
class SceneSpec:
    """What data to make or read; sizes are scenes (at most, of real ones) and pixels.

    `dataset` is "synthetic" or the root of AnoVox.
    """

    dataset: str
    train_scenes: int
    val_scenes: int
    height: int
    width: int
    seed: int


@dataclass(frozen=True)
class SceneSet:
    """One split.

    Images (S, 3, H, W) in uint8; lidar returns (S, N, 4) of x, y, z in metres and intensity, in the
    order of the sensor, ring after ring, of which the first `returns` (S,) are real. `truth` (S,)
    marks the scenes with an anomaly, `voxel` (S,) those in which a voxel shows one.
    """

    images: Tensor
    points: Tensor
    returns: Tensor
    truth: Tensor
    voxel: Tensor

    def __len__(self) -> int:
        """Count the scenes."""
        return len(self.images)

    def to(self, device: str) -> "SceneSet":
        """Move to a device."""
        fields = (self.images, self.points, self.returns, self.truth, self.voxel)
        return SceneSet(*(field.to(device) for field in fields))


@dataclass(frozen=True)
class SceneBatch:
    """Standardised images (B, 3, H, W), points (B, N, 4) in units of 20 m, labels (B,), 0 or 1."""

    images: Tensor
    points: Tensor
    labels: Tensor


def crossmodal_data(spec: SceneSpec) -> tuple[SceneSet, SceneSet]:
    """Return the training and the validation split, scenes apart.

    Other data than the synthetic are read as AnoVox. Raises ValueError for a root that cannot be.
    """
    sizes = (spec.train_scenes, spec.val_scenes)
    if spec.dataset != SYNTHETIC:
        rng = np.random.default_rng([spec.seed, 2])
        read = read_frames(spec.dataset, sizes, (spec.height, spec.width), rng)
        first, second = (_from_frames(frames, rng) for frames in read)
        return first, second
    train, val = (
        _observe(count, spec.height, spec.width, np.random.default_rng([spec.seed, split]))
        for split, count in enumerate(sizes)
    )
    return train, val


def scene_labels(scenes: SceneSet, source: str, stream: int) -> Tensor:
    """Return the labels (S,) that are used for training, 0 or 1.

    `true` and `voxel` come from the scene; `all_one` calls everything an anomaly; `random10` and
    `random_fixed` call a tenth of the scenes one, drawn by `stream`, whatever is in them: the
    caller passes another stream each epoch, or the same. Exactly a tenth, so that the best constant
    is equally good at every draw. Raises ValueError for another source.
    """
    if source not in LABEL_SOURCES:
        allowed = ", ".join(LABEL_SOURCES)
        raise ValueError(f"label_source: {source!r} is not known; choose one of {allowed}")
    if source in ("true", "voxel"):
        return (scenes.truth if source == "true" else scenes.voxel).float()
    if source == "all_one":
        return torch.ones_like(scenes.truth, dtype=torch.float32)
    # By numpy: torch keeps 32 bits of a seed, and streams that differ above them would be one. The
    # positives would then come first in every epoch, in the order of the batches.
    order_S = torch.from_numpy(np.random.default_rng(stream).permutation(len(scenes)))
    positives = round(P_RANDOM * len(scenes))
    labels_S = torch.zeros(len(scenes))
    labels_S[order_S[:positives]] = 1.0
    return labels_S.to(scenes.images.device)


def epoch_order(labels_S: Tensor, sampling: str, generator: torch.Generator) -> Tensor:
    """Return which scenes an epoch trains on, (S,), drawn from a CPU generator.

    `shuffled` takes each scene once. `balanced` draws with replacement, each class as often as the
    other; with one class alone it is uniform. Raises ValueError for another name.
    """
    if sampling not in SAMPLING:
        allowed = ", ".join(SAMPLING)
        raise ValueError(f"sampling: {sampling!r} is not known; choose one of {allowed}")
    count = len(labels_S)
    if sampling == "shuffled":
        return torch.randperm(count, generator=generator)
    positive_S = labels_S.cpu() > 0.5
    ones = max(int(positive_S.sum()), 1)
    weight_S = torch.where(positive_S, 1.0 / ones, 1.0 / max(count - ones, 1))
    return torch.multinomial(weight_S, count, replacement=True, generator=generator)


def batches(
    scenes: SceneSet,
    labels_S: Tensor,
    size: int,
    points: int,
    select: str,
    generator: torch.Generator | None = None,
    sampling: str = "shuffled",
) -> Iterator[SceneBatch]:
    """Go through the scenes in batches of at most `size`, with N = `points` of each.

    With a (CPU) generator, for training: in the order of `epoch_order`. Without one, for
    evaluation: each once, in order, and `random` points are the same ones each time. Raises
    ValueError for another selection.
    """
    count, device = len(scenes), scenes.images.device
    order_S = torch.arange(count)
    if generator is not None:
        order_S = epoch_order(labels_S, sampling, generator)
    drawing = generator or torch.Generator().manual_seed(0)
    for start in range(0, count, size):
        index_B = order_S[start : start + size].to(device)
        chosen_BN = chosen(scenes.returns[index_B], points, select, drawing)
        yield SceneBatch(
            (scenes.images[index_B].float() / 255.0 - IMAGE_MEAN) / IMAGE_STD,
            _scaled(scenes.points[index_B[:, None], chosen_BN]),
            labels_S[index_B],
        )


def chosen(returns_B: Tensor, points: int, select: str, generator: torch.Generator) -> Tensor:
    """Return which of a scene's points are seen, (B, N).

    `first` takes them in the sensor's order, which is no more than its lowest rings; `random` draws
    with replacement. A scene with fewer points repeats them.
    """
    if select not in POINT_SELECT:
        allowed = ", ".join(POINT_SELECT)
        raise ValueError(f"point_select: {select!r} is not known; choose one of {allowed}")
    available_B1 = returns_B.clamp(min=1)[:, None]
    if select == "first":
        return torch.arange(points, device=returns_B.device)[None, :] % available_B1
    share_BN = torch.rand(len(returns_B), points, generator=generator).to(returns_B.device)
    return torch.minimum((share_BN * available_B1).long(), available_B1 - 1)


def one_sensor_auroc(p: float = P_CLUTTER) -> float:
    """Return the AUROC of counting one sensor's signs: magenta boxes, or reflective ones.

    A normal scene has one with probability p, an anomalous one has one more: 1 - p(1 - p)/2.
    """
    return 1.0 - 0.5 * p * (1.0 - p)


def two_counts_auroc(p: float = P_CLUTTER) -> float:
    """Return the AUROC of both counts, without knowing which sign belongs to which box.

    Only (1 magenta, 1 reflective) leaves a doubt: road works beside a parcel, or an anomaly alone.
    """
    return 1.0 - 0.5 * (p * (1.0 - p)) ** 2


def counting_lines() -> tuple[tuple[str, float, str, str, str], ...]:
    """Return what counting reaches, as lines: signal, value, meaning, name, formula."""
    single = "counting what one sensor shows", "one_sensor", "1 − c/2, c = 0.4 × 0.6"
    both = "counting what each sensor shows", "two_counts", "1 − c²/2, c = 0.4 × 0.6"
    return (("val_auroc", one_sensor_auroc(), *single), ("val_auroc", two_counts_auroc(), *both))


def _scaled(points_BN4: Tensor) -> Tensor:
    return points_BN4 / _scale(points_BN4.device)


@functools.lru_cache(maxsize=8)
def _scale(device: torch.device) -> Tensor:
    """Return what the four columns of points are divided by, made once on each device."""
    return torch.tensor([COORDINATE_SCALE] * 3 + [1.0], device=device)


def _observe(count: int, height: int, width: int, rng: np.random.Generator) -> SceneSet:
    """Draw scenes and simulate both sensors, some scenes at a time."""
    scenes = compose(count, rng)
    step = max(1, CHUNK_RAYS // (height * width + RINGS * COLUMNS))
    views = [
        observe(scenes.part(slice(start, start + step)), height, width, rng)
        for start in range(0, count, step)
    ]
    images = np.concatenate([view.images for view in views])
    return SceneSet(
        torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))),
        torch.from_numpy(np.concatenate([view.points for view in views])),
        torch.from_numpy(np.concatenate([view.returns for view in views])),
        torch.from_numpy(scenes.anomalous),
        torch.from_numpy(np.concatenate([view.anomalous_voxel for view in views])),
    )


def _from_frames(frames: Iterable[Frame], rng: np.random.Generator) -> SceneSet:
    """Stack real frames; of a cloud with more than 8,192 points, that many are kept, in order."""
    images, clouds, truth, voxel = [], [], [], []
    for frame in frames:  # one at a time: whole clouds of thousands of frames are gigabytes
        few = min(len(frame.points), MOST_RETURNS)
        clouds.append(frame.points[np.sort(rng.choice(len(frame.points), few, replace=False))])
        images.append(frame.image)
        truth.append(frame.anomalous)
        voxel.append(frame.anomalous_voxel)
    returns = np.array([len(cloud) for cloud in clouds])
    rows = [np.pad(cloud, ((0, returns.max() - len(cloud)), (0, 0))) for cloud in clouds]
    return SceneSet(
        torch.from_numpy(np.stack(images)),
        torch.from_numpy(np.stack(rows)),
        torch.from_numpy(returns),
        torch.tensor(truth),
        torch.tensor(voxel),
    )
