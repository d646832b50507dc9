"""CIFAR-10 and CIFAR-100 from their files, binary or pickled, and the long-tailed protocol.

    cifar-10-batches-bin/    data_batch_*.bin, test_batch.bin     1 label byte + 3·1024 a record
    cifar-100-binary/        train.bin, test.bin                  coarse + fine label byte + 3·1024
    cifar-10-batches-py/     data_batch_*, test_batch             pickled dictionaries
    cifar-100-python/        train, test                          the same, with fine labels

Pixels are channel first, red, green, blue. A pickle is read by an unpickler that allows numpy
arrays and plain containers and refuses everything else, so that no file can execute anything.

Protocol (Cao et al. 2019): class c of C keeps int(n_max · (1 / imbalance)^(c / (C − 1))) images,
the first ones after a shuffle within the class by numpy's legacy generator, seeded with 0.
"""

import io
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Labels = NDArray[np.int64]
Split = tuple[Bytes, Labels]

WIDTH = 32
PIXELS = 3 * WIDTH * WIDTH
RECORDS = {"cifar10": 1, "cifar100": 2}  # label bytes before the pixels; the last one is used
CLASSES = {"cifar10": 10, "cifar100": 100}
LABEL_KEYS = (b"fine_labels", b"labels")

# How an array is rebuilt: its function, its class, its type; and bytes, as Python 3 wrote them.
_REBUILD, _FROM_BUFFER = np.empty(0).__reduce__()[0], np.empty(0).__reduce_ex__(5)[0]
_ALLOWED: dict[tuple[str, str], object] = {
    ("numpy.core.multiarray", "_reconstruct"): _REBUILD,
    ("numpy._core.multiarray", "_reconstruct"): _REBUILD,
    ("numpy.core.numeric", "_frombuffer"): _FROM_BUFFER,
    ("numpy._core.numeric", "_frombuffer"): _FROM_BUFFER,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): lambda text, encoding: text.encode(encoding),
}


def class_counts(classes: int, largest: int, imbalance: float) -> list[int]:
    """Return how many images each class keeps, from the largest to the smallest class."""
    share = 1.0 / imbalance
    if classes < 2:
        return [largest] * classes
    return [int(largest * share ** (index / (classes - 1.0))) for index in range(classes)]


def long_tail(labels: Labels, counts: Sequence[int]) -> Labels:
    """Return the indices of the images that the protocol keeps, class by class."""
    rng = np.random.RandomState(0)  # the protocol's own draws
    kept = []
    for category, count in enumerate(counts):
        members = np.flatnonzero(labels == category)
        rng.shuffle(members)
        kept.append(members[:count])
    return np.concatenate(kept)


def find_cifar(root: Path) -> tuple[Split, Split, int] | None:
    """Read the training and the test split below a root, and count the classes; None if not there.

    `root` may be the folder of the files or the one around it. Pixels are (N, 3, 32, 32). Raises
    ValueError for a damaged file and for one split without the other.
    """
    around = sorted(path for path in root.iterdir() if path.is_dir() and "cifar" in path.name)
    for folder in (root, *around):
        for read in (_binary10, _binary100, _pickled10, _pickled100):
            splits = read(folder)
            if splits is not None:
                return splits
    return None


def read_binary(path: Path, kind: str) -> Split:
    """Read a binary file of "cifar10" or "cifar100". Raises ValueError for any other content."""
    before = RECORDS[kind]
    raw = _content(path)
    size = before + PIXELS
    if not raw or len(raw) % size:
        raise ValueError(
            f"{path}: {len(raw)} bytes are no whole number of {size}-byte records "
            f"({before} of label, {PIXELS} of pixels); download {_NAMES[kind]} again"
        )
    records = np.frombuffer(raw, dtype=np.uint8).reshape(-1, size)
    return _checked(path, records[:, before:], records[:, before - 1].astype(np.int64), kind)


def read_pickled(path: Path, kind: str) -> Split:
    """Read a pickled batch without executing anything. Raises ValueError for any other content."""
    try:
        content = _Plain(io.BytesIO(_content(path)), encoding="bytes").load()
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to ask for
        raise ValueError(f"{path}: this is no pickled batch of {_NAMES[kind]}: {error}") from error
    names = content if isinstance(content, dict) else {}
    labels = next((names[key] for key in LABEL_KEYS if key in names), None)
    pixels = names.get(b"data")
    if not isinstance(pixels, np.ndarray) or not isinstance(labels, list):
        raise ValueError(f"{path}: expected a dictionary with `data` and `labels`")  # noqa: TRY004 - bad data
    if pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape != (len(labels), PIXELS):
        raise ValueError(
            f"{path}: `data`: expected {len(labels)} rows of {PIXELS} bytes, one a label, found "
            f"{pixels.dtype} of shape {pixels.shape}"
        )
    if not all(type(label) is int for label in labels):
        raise ValueError(f"{path}: `labels`: a label is not a whole number")
    return _checked(path, pixels, np.array(labels, dtype=np.int64), kind)


_NAMES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}


class _Plain(pickle.Unpickler):
    """Allows arrays and plain containers; a name outside the table is refused, not looked up."""

    def find_class(self, module_name: str, global_name: str) -> object:
        if (module_name, global_name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module_name}.{global_name}")
        return _ALLOWED[module_name, global_name]


def _binary10(folder: Path) -> tuple[Split, Split, int] | None:
    return _both(folder, "data_batch_*.bin", "test_batch.bin", "cifar10", pickled=False)


def _binary100(folder: Path) -> tuple[Split, Split, int] | None:
    return _both(folder, "train.bin", "test.bin", "cifar100", pickled=False)


def _pickled10(folder: Path) -> tuple[Split, Split, int] | None:
    return _both(folder, "data_batch_[0-9]", "test_batch", "cifar10", pickled=True)


def _pickled100(folder: Path) -> tuple[Split, Split, int] | None:
    return _both(folder, "train", "test", "cifar100", pickled=True)


def _both(
    folder: Path, train: str, test: str, kind: str, *, pickled: bool
) -> tuple[Split, Split, int] | None:
    parts = sorted(path for path in folder.glob(train) if path.is_file())
    if not parts:
        return None
    if not (folder / test).is_file():
        raise ValueError(f"{folder / test}: it is missing beside {parts[0].name}; {_NAMES[kind]}")
    read = read_pickled if pickled else read_binary
    splits = [read(path, kind) for path in parts]
    whole = (
        np.concatenate([split[0] for split in splits]),
        np.concatenate([split[1] for split in splits]),
    )
    return whole, read(folder / test, kind), CLASSES[kind]


def _checked(path: Path, pixels: Bytes, labels: Labels, kind: str) -> Split:
    classes = CLASSES[kind]
    if labels.min() < 0 or labels.max() >= classes:
        wrong = int(labels[(labels < 0) | (labels >= classes)][0])
        raise ValueError(f"{path}: a label is {wrong}, outside the {classes} of {_NAMES[kind]}")
    return pixels.reshape(-1, 3, WIDTH, WIDTH), labels


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
