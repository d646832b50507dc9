"""Images of classes whose sizes fall exponentially, and images to test on, as a rule balanced.

N images · H = W pixels · B images of a batch

Generated images are drawn from the given seed; global generators are never read. Real ones come
from the files of CIFAR-10 and CIFAR-100 or from folders of PNG images: balanced files are cut to
the long-tailed protocol, long-tailed ones are used as they are. What `longtail_data` returns is
shared between the trials of a process: treat it as read-only.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sickbay.datasets.formats.cifar import Labels, Split, class_counts, find_cifar, long_tail
from sickbay.datasets.formats.file_trees import tree_identity
from sickbay.datasets.formats.image_folders import find_folders
from sickbay.datasets.longtail.images import draw

SYNTHETIC = "synthetic"
PRETRAIN_SPLITS = ("balanced", "lt")
SUPPORT = 30  # images a class of the reference task
MEANS = 50  # training images a class whose mean stands for it
EVEN = 1.5  # classes whose sizes differ by less are balanced
# Of CIFAR-10, by channel.
MEAN, SPREAD = (125.3, 123.0, 113.9), (63.0, 62.1, 66.7)
LAYOUTS = """expected one of
  CIFAR-10, binary version:   ROOT/data_batch_*.bin, ROOT/test_batch.bin
  CIFAR-10, python version:   ROOT/data_batch_*, ROOT/test_batch
  CIFAR-100, binary version:  ROOT/train.bin, ROOT/test.bin
  CIFAR-100, python version:  ROOT/train, ROOT/test
  PNG images:                 ROOT/train/<class>/*.png, ROOT/test/<class>/*.png"""


@dataclass(frozen=True)
class LongtailSpec:
    """What data to make or read.

    `dataset` is "synthetic" or a root. The largest class has `largest` images (of real data at most
    what there is), the smallest `imbalance` times fewer; so it is with the `val_images` and
    `val_imbalance` of the images to test on, balanced at 1. `classes`, `width` and `val_images`
    describe generated images. `pretrain_split` is "balanced", with `pretrain_images` a
    class, or "lt", the training images themselves.
    """

    dataset: str
    classes: int
    largest: int
    imbalance: float
    width: int
    val_images: int
    val_imbalance: float
    pretrain_split: str
    pretrain_images: int
    seed: int


@dataclass(frozen=True)
class Images:
    """Pixels (N, 3, H, W), bytes or floats, and labels (N,)."""

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        """Count the images."""
        return len(self.labels)

    def to(self, device: str) -> "Images":
        """Move to a device."""
        return Images(self.pixels.to(device), self.labels.to(device))

    def chunks(self, size: int) -> Iterator[Tensor]:
        """Yield all images in their order, `size` at once."""
        for index_B in torch.split(torch.arange(len(self), device=self.labels.device), size):
            yield self.at(index_B)

    def at(self, index_B: Tensor) -> Tensor:
        """Return images by their index, (B, 3, H, W); bytes are normalised by CIFAR-10's."""
        pixels = self.pixels[index_B]
        if pixels.dtype != torch.uint8:
            return pixels
        mean, spread = _normalisation(pixels.device)
        return (pixels.float() - mean) / spread


@dataclass(frozen=True)
class LongtailData:
    """The long-tailed training images, balanced ones to test on, and those to pretrain on.

    `support` holds 30 images of each class (fewer where there are not so many), whose means are the
    reference task; `means` at most 50 training images of each class.
    """

    train: Images
    val: Images
    pretrain: Images
    support: Images
    means: Images
    classes: int

    def to(self, device: str) -> "LongtailData":
        """Move to a device."""
        return LongtailData(
            self.train.to(device),
            self.val.to(device),
            self.pretrain.to(device),
            self.support.to(device),
            self.means.to(device),
            self.classes,
        )

    def counts(self) -> tuple[int, ...]:
        """Count the training images by class."""
        counted = torch.bincount(self.train.labels, minlength=self.classes)
        return tuple(int(count) for count in counted)


@functools.lru_cache(maxsize=8)
def _normalisation(device: torch.device) -> tuple[Tensor, Tensor]:
    """Return mean and spread of the channels, (3, 1, 1), made once on each device."""
    mean, spread = (torch.tensor(values, device=device)[:, None, None] for values in (MEAN, SPREAD))
    return mean, spread


def longtail_data(spec: LongtailSpec) -> LongtailData:
    """Return the data of a specification.

    Raises ValueError for a root that cannot be read, an unknown pretraining split, and an imbalance
    that is not that of files which are long-tailed already.
    """
    if spec.pretrain_split not in PRETRAIN_SPLITS:
        allowed = ", ".join(PRETRAIN_SPLITS)
        known = f"{spec.pretrain_split!r} is not known; choose one of {allowed}"
        raise ValueError(f"pretrain_split: {known}")
    return _generated(spec) if spec.dataset == SYNTHETIC else _read(spec)


def data_identity(dataset: str) -> str:
    """Hash the names and sizes of the files below a real root; generated data need no identity."""
    return tree_identity(dataset, SYNTHETIC)


def batches(
    images: Images, size: int, generator: torch.Generator, *, augment: bool = False
) -> Iterator[tuple[Tensor, Tensor]]:
    """Go once through the images in random order, in batches of at most `size`: pixels, labels.

    A last batch of a single image is left out: batch normalisation cannot use it. `augment` shifts
    each image by up to an eighth of its shorter side, zeros moving in, and mirrors one in two.
    """
    order = torch.randperm(len(images), generator=generator)
    for start in range(0, len(order), size):
        index_B = order[start : start + size]
        if len(index_B) == 1 and len(order) > 1:
            continue
        index_B = index_B.to(images.labels.device)
        pixels = images.at(index_B)
        yield augmented(pixels, generator) if augment else pixels, images.labels[index_B]


def augmented(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Shift and mirror a batch (B, 3, H, W), each image by its own draw."""
    count, (height, width) = len(pixels), pixels.shape[-2:]
    reach = min(height, width) // 8
    shift_B2 = torch.randint(2 * reach + 1, (count, 2), generator=generator)
    mirror_B = torch.rand(count, generator=generator) < 0.5
    rows = shift_B2[:, :1] + torch.arange(height)
    columns = shift_B2[:, 1:] + torch.arange(width)
    columns = torch.where(mirror_B[:, None], columns.flip(1), columns)
    padded = torch.nn.functional.pad(pixels, (reach, reach, reach, reach))
    device = pixels.device
    index_B = torch.arange(count, device=device)[:, None, None]
    cut = padded[index_B, :, rows.to(device)[:, :, None], columns.to(device)[:, None, :]]
    return cut.permute(0, 3, 1, 2)


def _generated(spec: LongtailSpec) -> LongtailData:
    counts = class_counts(spec.classes, spec.largest, spec.imbalance)
    train = _draw(spec, counts, 0)
    val = _draw(spec, class_counts(spec.classes, spec.val_images, spec.val_imbalance), 1)
    balanced = _draw(spec, [max(spec.pretrain_images, SUPPORT)] * spec.classes, 2)
    support = _first(balanced, SUPPORT, spec.classes)
    pretrain = train
    if spec.pretrain_split == "balanced":
        pretrain = _first(balanced, spec.pretrain_images, spec.classes)
    means = _first(train, MEANS, spec.classes, even=False)
    return LongtailData(train, val, pretrain, support, means, spec.classes)


def _draw(spec: LongtailSpec, counts: list[int], stream: int) -> Images:
    rng = np.random.default_rng([spec.seed, stream])
    parts = [draw(category, n, spec.width, rng) for category, n in enumerate(counts)]
    labels = np.repeat(np.arange(len(counts)), counts)
    return Images(torch.from_numpy(np.concatenate(parts)), torch.from_numpy(labels))


def _read(spec: LongtailSpec) -> LongtailData:
    root = Path(spec.dataset)
    if not root.is_dir():
        raise ValueError(
            f"dataset: {root} is not a folder. Use 'synthetic' for generated images, or download "
            f"CIFAR-10 or CIFAR-100 (or make folders of PNG images) and give its root; {LAYOUTS}"
        )
    splits = find_cifar(root) or find_folders(root)
    if splits is None:
        raise ValueError(f"dataset: {root} holds no images that are known here; {LAYOUTS}")
    (pixels, labels), test, classes = splits
    kept = _kept(spec, labels, classes)
    train = _images((pixels[kept], labels[kept]))
    even = _first(_images((pixels, labels)), spec.pretrain_images, classes)
    pretrain = even if spec.pretrain_split == "balanced" else train
    support = _first(even, SUPPORT, classes)
    means = _first(train, MEANS, classes, even=False)
    return LongtailData(train, _tested(spec, test, classes), pretrain, support, means, classes)


def _kept(spec: LongtailSpec, labels: Labels, classes: int) -> Labels:
    """Choose the training images: the protocol's, or all where the files are long-tailed."""
    sizes = np.bincount(labels, minlength=classes)
    if sizes.min() == 0:
        missing = int(sizes.argmin())
        raise ValueError(f"dataset: {spec.dataset} has no training image of class {missing}")
    imbalance = sizes.max() / sizes.min()
    if imbalance < EVEN:
        largest = min(spec.largest, len(labels) // classes)
        counts = class_counts(classes, largest, spec.imbalance)
        if min(counts) == 0:
            few = f"of {largest} images in the largest class the smallest would keep none"
            raise ValueError(f"imbalance: {spec.imbalance:g} is too much: {few}")
        return long_tail(labels, counts)
    if abs(imbalance / spec.imbalance - 1.0) > 0.1:
        raise ValueError(
            f"imbalance: {spec.imbalance:g} is not possible: {spec.dataset} is long-tailed "
            f"already, {sizes.max()} to {sizes.min()} images a class, and is used as it is; "
            f"set imbalance to {imbalance:.4g}, or give the balanced files"
        )
    return np.arange(len(labels))


def _tested(spec: LongtailSpec, test: Split, classes: int) -> Images:
    """Return the images to test on: all that there are, or as many fewer as was asked for."""
    pixels, labels = test
    if spec.val_imbalance == 1.0:
        return _images(test)
    counts = class_counts(classes, int(np.bincount(labels).min()), spec.val_imbalance)
    kept = long_tail(labels, counts)
    return _images((pixels[kept], labels[kept]))


def _images(split: Split) -> Images:
    return Images(torch.from_numpy(np.ascontiguousarray(split[0])), torch.from_numpy(split[1]))


def _first(images: Images, count: int, classes: int, *, even: bool = True) -> Images:
    """Keep the first `count` images of each class; if even, no more than the smallest class has."""
    sizes = torch.bincount(images.labels, minlength=classes)
    each = min(count, int(sizes.min())) if even else count
    index = torch.cat([torch.nonzero(images.labels == c).flatten()[:each] for c in range(classes)])
    return Images(images.pixels[index], images.labels[index])
