"""The images that system 5 sees: long-tailed to train on, balanced to test on, seeded."""

import dataclasses
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sickbay.datasets.longtail.images import design, draw
from sickbay.datasets.longtail.synthetic import (
    Images,
    LongtailSpec,
    augmented,
    batches,
    data_identity,
    longtail_data,
)

DATA = os.environ.get("SICKBAY_DATA")
SPEC = LongtailSpec(
    val_imbalance=1.0,
    dataset="synthetic",
    classes=4,
    largest=20,
    imbalance=10.0,
    width=16,
    val_images=5,
    pretrain_split="balanced",
    pretrain_images=8,
    seed=0,
)


def variant(**changes):
    return longtail_data(dataclasses.replace(SPEC, **changes))


def test_classes_have_exactly_the_counts_of_the_protocol():
    whole = variant(classes=10, largest=400, imbalance=100.0, val_images=3)
    assert whole.counts() == (400, 239, 143, 86, 51, 30, 18, 11, 6, 4)
    assert len(whole.train) == 988
    data = variant()
    assert data.counts() == (20, 9, 4, 2)
    assert torch.bincount(data.val.labels).tolist() == [5] * 4
    assert torch.bincount(data.pretrain.labels).tolist() == [8] * 4
    assert torch.bincount(data.support.labels).tolist() == [30] * 4
    assert torch.bincount(data.means.labels).tolist() == [20, 9, 4, 2]


def test_pretraining_on_the_long_tail_is_on_the_training_images():
    data = variant(pretrain_split="lt")
    assert data.pretrain is data.train
    with pytest.raises(ValueError, match=r"pretrain_split: 'all' is not known.*balanced, lt"):
        variant(pretrain_split="all")


def test_data_follow_from_the_seed_alone():
    first = variant()
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002 - the global generators must not matter
    again = variant()
    assert torch.equal(first.train.pixels, again.train.pixels)
    assert not torch.equal(first.train.pixels, variant(seed=1).train.pixels)


def test_no_image_is_in_two_splits():
    data = variant()
    every = torch.cat([data.train.pixels, data.val.pixels, data.pretrain.pixels]).flatten(1)
    assert len(every.unique(dim=0)) == len(every)


def test_images_are_of_ordinary_size_and_not_classified_by_their_mean_colour():
    parts = [draw(c, 200, 16, np.random.default_rng(c)) for c in range(10)]
    every = np.concatenate(parts)
    assert abs(every.mean()) < 0.1
    assert 0.3 < every.std() < 0.8
    mean = every.mean(axis=(2, 3))
    label = np.repeat(np.arange(10), 200)
    centres = np.stack([mean[label == c].mean(axis=0) for c in range(10)])
    called = ((mean[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    assert (called == label).mean() < 0.5


def test_a_class_looks_the_same_in_every_trial():
    first, other = design(3), design(3)
    assert np.array_equal(first.colours, other.colours)
    assert not np.array_equal(first.frequencies, design(4).frequencies)


def test_batches_go_once_through_all_images():
    data = variant(classes=3, largest=7, imbalance=1.0)
    images = Images(torch.arange(21.0)[:, None, None, None].expand(21, 3, 2, 2), data.train.labels)
    seen = list(batches(images, 8, torch.Generator().manual_seed(1)))
    assert [len(labels) for _, labels in seen] == [8, 8, 5]
    order = torch.cat([pixels[:, 0, 0, 0] for pixels, _ in seen])
    assert sorted(order.tolist()) == list(range(21))
    assert order.tolist() != sorted(order.tolist())
    labels = torch.cat([labels for _, labels in seen])
    assert torch.equal(labels, data.train.labels[order.long()])
    lonely = batches(images, 4, torch.Generator().manual_seed(1))
    assert [len(labels) for _, labels in lonely] == [4] * 5  # the last one alone is left out


def test_images_that_are_not_square_are_augmented_too():
    pixels = torch.rand(32, 3, 8, 24) + 1.0
    moved = augmented(pixels, torch.Generator().manual_seed(0))
    assert moved.shape == pixels.shape
    padded = torch.nn.functional.pad(pixels, (1, 1, 1, 1))
    for image, source in zip(moved, padded, strict=True):
        places = [(dy, dx) for dy in range(3) for dx in range(3)]
        cuts = [source[:, dy : dy + 8, dx : dx + 24] for dy, dx in places]
        assert any(torch.equal(image, cut) or torch.equal(image.flip(-1), cut) for cut in cuts)


def test_augmenting_shifts_and_mirrors_and_nothing_else():
    pixels = torch.rand(64, 3, 16, 16) + 1.0
    moved = augmented(pixels, torch.Generator().manual_seed(0))
    assert moved.shape == pixels.shape
    padded = torch.nn.functional.pad(pixels, (2, 2, 2, 2))
    kinds = set()
    for image, source in zip(moved, padded, strict=True):
        fits = [
            (dy, dx, mirrored)
            for mirrored in (False, True)
            for dy in range(5)
            for dx in range(5)
            if torch.equal(
                image.flip(-1) if mirrored else image, source[:, dy : dy + 16, dx : dx + 16]
            )
        ]
        assert len(fits) == 1
        kinds.add(fits[0])
    assert {mirrored for *_, mirrored in kinds} == {False, True}
    assert {dx for _, dx, _ in kinds} == {dy for dy, *_ in kinds} == set(range(5))


def test_bytes_are_normalised_as_cifar_is():
    pixels = torch.tensor([125, 123, 114], dtype=torch.uint8)[None, :, None, None].expand(
        2, 3, 4, 4
    )
    images = Images(pixels, torch.zeros(2, dtype=torch.long))
    assert images.at(torch.tensor([1])).abs().max() < 0.01
    white = Images(torch.full((1, 3, 2, 2), 255, dtype=torch.uint8), torch.zeros(1))
    assert white.at(torch.tensor([0]))[0, :, 0, 0].tolist() == pytest.approx(
        [(255 - 125.3) / 63.0, (255 - 123.0) / 62.1, (255 - 113.9) / 66.7]
    )


def cifar(root: Path, train=(30, 30), kind="bin", test=4) -> None:
    """A tiny CIFAR-10 whose other classes are there too, three images each."""
    labels = [c for c, n in enumerate([*train, *[3] * (10 - len(train))]) for _ in range(n)]
    rng = np.random.default_rng(0)
    for name, rows in (("data_batch_1", labels), ("test_batch", list(range(10)) * test)):
        pixels = rng.integers(0, 256, (len(rows), 3072), dtype=np.uint8)
        if kind == "bin":
            data = b"".join(bytes([c]) + p.tobytes() for c, p in zip(rows, pixels, strict=True))
            (root / f"{name}.bin").write_bytes(data)
        else:
            (root / name).write_bytes(pickle.dumps({b"data": pixels, b"labels": rows}, protocol=2))


@pytest.mark.parametrize("kind", ["bin", "py"])
def test_balanced_files_are_cut_to_the_protocol(tmp_path, kind):
    cifar(tmp_path, train=[30] * 10, kind=kind)
    data = variant(dataset=str(tmp_path), largest=5000)
    assert data.counts() == (30, 23, 17, 13, 10, 8, 6, 5, 3, 3)  # int(30 · 0.1^(c / 9)), 3.87 to 3
    assert data.classes == 10
    assert len(data.val) == 40
    assert torch.bincount(data.pretrain.labels).tolist() == [8] * 10
    fewer = variant(dataset=str(tmp_path), largest=20)
    assert max(fewer.counts()) == 20


def test_a_tail_that_would_be_empty_is_refused(tmp_path):
    cifar(tmp_path, train=[30] * 10)
    with pytest.raises(ValueError, match=r"imbalance: 100 is too much: of 20 images"):
        variant(dataset=str(tmp_path), imbalance=100.0)


def test_long_tailed_files_are_used_as_they_are(tmp_path):
    cifar(tmp_path, train=(30, 12))
    data = variant(dataset=str(tmp_path))
    assert data.counts() == (30, 12, *[3] * 8)
    assert torch.bincount(data.pretrain.labels).tolist() == [3] * 10
    with pytest.raises(ValueError, match=r"long-tailed already, 30 to 3 .*set imbalance to 10,"):
        variant(dataset=str(tmp_path), imbalance=100.0)


def test_a_class_without_images_is_reported(tmp_path):
    cifar(tmp_path, train=(30, 0))
    with pytest.raises(ValueError, match=r"has no training image of class 1"):
        variant(dataset=str(tmp_path))


def test_folders_of_images_are_cut_alike(tmp_path):
    for split, count in (("train", 10), ("test", 2)):
        for name in ("cat", "dog", "emu"):
            for index in range(count):
                path = tmp_path / split / name / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.full((8, 8, 3), index, dtype=np.uint8)).save(path)
    data = variant(dataset=str(tmp_path))
    assert data.counts() == (10, 3, 1)
    assert data.val.pixels.shape == (6, 3, 8, 8)


def test_a_missing_root_says_what_to_download_and_how_it_must_look(tmp_path):
    gone = tmp_path / "gone"
    with pytest.raises(ValueError, match=r"(?s)gone is not a folder.*CIFAR-10.*ROOT/train\.bin"):
        variant(dataset=str(gone))
    with pytest.raises(ValueError, match=r"(?s)holds no images that are known.*ROOT/train/<class>"):
        variant(dataset=str(tmp_path))


def test_other_files_are_other_data(tmp_path):
    assert data_identity("synthetic") == data_identity(str(tmp_path / "gone")) == ""
    cifar(tmp_path)
    before = data_identity(str(tmp_path))
    cifar(tmp_path, test=5)
    assert data_identity(str(tmp_path)) != before


@pytest.mark.data
@pytest.mark.skipif(DATA is None, reason="set SICKBAY_DATA to the folder with the small real data")
def test_the_real_long_tailed_files():
    data = variant(dataset=str(Path(DATA) / "cifar10-lt-100"), imbalance=100.0)
    assert data.counts() == (5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50)
    assert len(data.val) == 2000
    assert torch.bincount(data.support.labels).tolist() == [8] * 10
    pixels = data.train.at(torch.arange(500))
    assert abs(float(pixels.mean())) < 0.6
    assert 0.6 < float(pixels.std()) < 1.4
