"""Image folders: a class a folder, an image a PNG file, all of one size.

<root>/train/<class>/*.png
<root>/test/<class>/*.png        or `val`
"""

from pathlib import Path

import numpy as np

from sickbay.datasets.formats.cifar import Bytes, Labels, Split

TESTS = ("test", "val")


def find_folders(root: Path) -> tuple[Split, Split, int] | None:
    """Read the training and the test split below a root, and count the classes; None if not there.

    Pixels are (N, 3, H, W). Classes are numbered in the order of their names, by value where all
    are numbers. Raises ValueError for a class that one split lacks, an unreadable image, and
    images of several sizes.
    """
    tests = [root / name for name in TESTS if (root / name).is_dir()]
    if not tests or not any((root / "train").glob("*/*.png")):
        return None
    names = _classes(root / "train")
    other = _classes(tests[0])
    if names != other:
        odd = min(set(names) ^ set(other))
        raise ValueError(f"{root}: the class {odd!r} is in only one of train and {tests[0].name}")
    train, test = (_read(folder, names) for folder in (root / "train", tests[0]))
    if train[0].shape[1:] != test[0].shape[1:]:
        sizes = f"{train[0].shape[2:]} in train and {test[0].shape[2:]} in {tests[0].name}"
        raise ValueError(f"{root}: images must be of one size, and are {sizes}")
    return train, test, len(names)


def read_png(path: Path) -> Bytes:
    """Read a PNG as red, green, blue, (3, H, W). Raises ValueError for anything else."""
    from PIL import Image  # noqa: PLC0415 - for those who read folders only

    try:
        with Image.open(path, formats=["PNG"]) as image:
            pixels = np.asarray(image.convert("RGB"), dtype=np.uint8)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: this is no readable PNG image: {error}") from error
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _classes(folder: Path) -> list[str]:
    names = [path.name for path in folder.iterdir() if path.is_dir() and any(path.glob("*.png"))]
    numeric = all(name.isdecimal() for name in names)
    return sorted(names, key=lambda name: (int(name) if numeric else 0, name))


def _read(folder: Path, names: list[str]) -> Split:
    images: list[Bytes] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        for path in sorted((folder / name).glob("*.png")):
            images.append(read_png(path))
            labels.append(label)
            if images[-1].shape != images[0].shape:
                sizes = f"{images[-1].shape[1:]}, the first of {folder} {images[0].shape[1:]}"
                raise ValueError(f"{path}: images must be of one size: this one is {sizes}")
    label_N: Labels = np.array(labels, dtype=np.int64)
    return np.stack(images), label_N
