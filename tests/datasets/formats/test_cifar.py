"""CIFAR's files, as they are and damaged; the long-tailed protocol; nothing unpickled freely."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from sickbay.datasets.formats.cifar import (
    class_counts,
    find_cifar,
    long_tail,
    read_binary,
    read_pickled,
)

DATA = os.environ.get("SICKBAY_DATA")


def pixels(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)


def binary(path: Path, labels, before=0, seed=0) -> None:
    """Write records as the data set does: `before` coarse bytes, a label, the pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        bytes([9] * before + [label]) + row.tobytes()
        for label, row in zip(labels, pixels(len(labels), seed), strict=True)
    ]
    path.write_bytes(b"".join(rows))


def pickled(path: Path, labels, key=b"labels", **changes) -> None:
    """Write a batch as Python 2 did: byte keys, protocol 2."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {b"data": pixels(len(labels)), key: list(labels), b"batch_label": b"training"}
    path.write_bytes(pickle.dumps(content | changes.get("content", {}), protocol=2))


@pytest.mark.parametrize(
    ("classes", "largest", "imbalance", "expected"),
    [
        (10, 5000, 100, [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]),
        (10, 400, 100, [400, 239, 143, 86, 51, 30, 18, 11, 6, 4]),
        (10, 7, 1, [7] * 10),
        (1, 5, 100, [5]),
    ],
)
def test_the_protocol_keeps_these_images(classes, largest, imbalance, expected):
    assert class_counts(classes, largest, imbalance) == expected


@pytest.mark.parametrize(
    ("classes", "largest", "imbalance", "total", "smallest"),
    [
        (10, 5000, 100, 12_406, 50),
        (10, 5000, 10, 20_431, 500),
        (100, 500, 100, 10_847, 5),
        (100, 500, 10, 19_573, 50),
    ],
)
def test_the_protocol_keeps_so_many_in_all(classes, largest, imbalance, total, smallest):
    counts = class_counts(classes, largest, imbalance)
    assert (sum(counts), counts[-1]) == (total, smallest)


def test_the_images_kept_are_the_first_after_a_shuffle_within_the_class():
    labels = np.array([0, 1, 0, 1, 0, 1, 0, 2])
    kept = long_tail(labels, [3, 2, 1])
    assert labels[kept].tolist() == [0, 0, 0, 1, 1, 2]
    assert len(set(kept.tolist())) == 6
    state = np.random.RandomState(0)  # the published recipe, step by step
    zero, one = np.array([0, 2, 4, 6]), np.array([1, 3, 5])
    state.shuffle(zero)
    state.shuffle(one)
    assert kept.tolist() == [*zero[:3], *one[:2], 7]
    assert np.array_equal(kept, long_tail(labels, [3, 2, 1]))


def test_cifar10_binary(tmp_path):
    folder = tmp_path / "cifar-10-batches-bin"
    for number in range(1, 6):
        binary(folder / f"data_batch_{number}.bin", [number, 0], seed=number)
    binary(folder / "test_batch.bin", [3, 9, 1], seed=7)
    for root in (folder, tmp_path):
        (train, labels), (test, test_labels), classes = find_cifar(root)
        assert classes == 10
        assert labels.tolist() == [1, 0, 2, 0, 3, 0, 4, 0, 5, 0]
        assert train.shape == (10, 3, 32, 32)
        assert test_labels.tolist() == [3, 9, 1]
    # red, green, blue, each row by row
    first = pixels(3, 7)[0]
    assert test[0, 1, 0, 5] == first[1024 + 5]
    assert test[0, 2, 31, 31] == first[3071]


def test_one_batch_is_enough_for_files_that_are_long_tailed_already(tmp_path):
    binary(tmp_path / "data_batch_1.bin", [0] * 6 + [1])
    binary(tmp_path / "test_batch.bin", [0, 1])
    assert find_cifar(tmp_path)[0][1].tolist() == [0] * 6 + [1]


def test_cifar100_binary_takes_the_fine_label(tmp_path):
    binary(tmp_path / "train.bin", [99, 42], before=1)
    binary(tmp_path / "test.bin", [0], before=1)
    (train, labels), test, classes = find_cifar(tmp_path)
    assert (classes, labels.tolist(), len(test[1])) == (100, [99, 42], 1)
    assert train[1, 0, 0, 0] == pixels(2)[1, 0]


def test_cifar10_pickles(tmp_path):
    for number in (1, 2):
        pickled(tmp_path / f"cifar-10-batches-py/data_batch_{number}", [number, 7])
    pickled(tmp_path / "cifar-10-batches-py/test_batch", [4])
    (train, labels), _, classes = find_cifar(tmp_path)
    assert (classes, labels.tolist()) == (10, [1, 7, 2, 7])
    assert np.array_equal(train[0].ravel(), pixels(2)[0])


def test_cifar100_pickles(tmp_path):
    extra = {"content": {b"coarse_labels": [1, 2]}}
    pickled(tmp_path / "train", [60, 61], b"fine_labels", **extra)
    pickled(tmp_path / "test", [5, 99], b"fine_labels", **extra)
    assert find_cifar(tmp_path)[0][1].tolist() == [60, 61]
    assert find_cifar(tmp_path)[2] == 100


def test_nothing_known_is_nothing_found(tmp_path):
    (tmp_path / "readme.txt").write_text("no images")
    assert find_cifar(tmp_path) is None


class Evil:
    def __reduce__(self):
        return os.system, ("echo executed > executed.txt",)


class Sly:
    """Asks for a function of a module that is allowed otherwise."""

    def __reduce__(self):
        return np.load, ("executed.npy",)


@pytest.mark.parametrize("evil", [Evil(), Sly(), np.array([Evil()], dtype=object)])
def test_a_pickle_cannot_execute_anything(tmp_path, monkeypatch, evil):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "data_batch_1"
    path.write_bytes(pickle.dumps({b"data": evil, b"labels": [0]}, protocol=2))
    with pytest.raises(ValueError, match=r"data_batch_1: this is no pickled batch.*it asks for"):
        read_pickled(path, "cifar10")
    assert not (tmp_path / "executed.txt").exists()


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_pickles_of_any_protocol_are_read(tmp_path, protocol):
    path = tmp_path / "data_batch_1"
    path.write_bytes(pickle.dumps({b"data": pixels(2), b"labels": [3, 4]}, protocol=protocol))
    assert read_pickled(path, "cifar10")[1].tolist() == [3, 4]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "expected a dictionary with `data` and `labels`"),
        ({b"data": 3, b"labels": [1]}, "expected a dictionary with `data` and `labels`"),
        ({b"data": pixels(2), b"labels": [1]}, r"`data`: expected 1 rows of 3072 bytes"),
        (
            {b"data": pixels(1).astype("int32"), b"labels": [1]},
            "`data`: expected 1 rows .* found int32 of shape",
        ),
        ({b"data": pixels(1), b"labels": [1.5]}, "`labels`: a label is not a whole number"),
        ({b"data": pixels(1), b"labels": [10]}, "a label is 10, outside the 10 of CIFAR-10"),
        ({b"data": pixels(1), b"labels": [-1]}, "a label is -1, outside the 10"),
    ],
)
def test_a_pickle_with_other_content_is_refused(tmp_path, content, message):
    path = tmp_path / "test_batch"
    path.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(ValueError, match=rf"test_batch: {message}"):
        read_pickled(path, "cifar10")


def test_a_broken_pickle_is_refused(tmp_path):
    path = tmp_path / "test_batch"
    for data in (b"", b"nonsense", pickle.dumps({b"data": pixels(4)}, protocol=2)[:2000]):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"test_batch: this is no pickled batch of CIFAR-10"):
            read_pickled(path, "cifar10")


def test_a_damaged_binary_file_is_refused(tmp_path):
    path = tmp_path / "data_batch_1.bin"
    binary(path, [1, 2])
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match=r"6141 bytes are no whole number of 3073-byte records"):
        read_binary(path, "cifar10")
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"0 bytes are no whole number"):
        read_binary(path, "cifar10")
    binary(path, [200])
    with pytest.raises(ValueError, match=r"a label is 200, outside the 10 of CIFAR-10"):
        read_binary(path, "cifar10")
    with pytest.raises(ValueError, match=r"gone\.bin: cannot be read: No such file"):
        read_binary(tmp_path / "gone.bin", "cifar10")


def test_one_split_without_the_other_is_reported(tmp_path):
    binary(tmp_path / "data_batch_1.bin", [1])
    with pytest.raises(ValueError, match=r"test_batch\.bin: it is missing beside data_batch_1"):
        find_cifar(tmp_path)


@pytest.mark.data
@pytest.mark.skipif(DATA is None, reason="set SICKBAY_DATA to the folder with the small real data")
def test_the_real_long_tailed_files():
    (train, labels), (test, test_labels), classes = find_cifar(Path(DATA) / "cifar10-lt-100")
    counts = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    assert np.bincount(labels).tolist() == counts == class_counts(10, 5000, 100)
    assert np.bincount(test_labels).tolist() == [200] * 10
    assert (train.shape, test.shape, classes) == ((12_406, 3, 32, 32), (2000, 3, 32, 32), 10)
    # read in another layout, neighbours would have nothing to do with each other
    some = train[::50].astype(float)
    for axis in (2, 3):
        step = np.abs(np.diff(some, axis=axis)).mean()
        assert step < 0.25 * some.std()
