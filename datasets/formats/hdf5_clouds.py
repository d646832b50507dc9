"""The HDF5 release of ModelNet40: files with `data` (n, 2048, 3) and `label` (n, 1)."""

from pathlib import Path

import numpy as np

from sickbay.datasets.formats.meshes import FloatArray, IntArray


def read_labelled(path: Path, classes: int) -> tuple[FloatArray, IntArray]:
    """Return the clouds (n, points, 3) and their class indices (n,).

    Raises ValueError if h5py is missing, the file is no HDF5, or its arrays do not fit together.
    """
    try:
        import h5py  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        problem = "reading HDF5 needs h5py; install it with `pip install 'sickbay[hdf5]'`"
        raise ValueError(f"{path}: {problem}") from error
    try:
        with h5py.File(path, "r") as file:
            data = np.asarray(file["data"], dtype=np.float64)
            labels = np.asarray(file["label"], dtype=np.int64).reshape(-1)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: expected an HDF5 file with numbers in `data` and `label`: {error}"
        ) from error
    if not np.isfinite(data).all():
        raise ValueError(f"{path}: `data` holds a number that is not finite")
    if data.ndim != 3 or data.shape[2] < 3 or len(data) != len(labels):
        shapes = f"data {data.shape}, label {labels.shape}"
        raise ValueError(f"{path}: expected data (n, points, 3) and n labels, found {shapes}")
    if len(labels) and not (labels.min() >= 0 and labels.max() < classes):
        raise ValueError(f"{path}: a label is outside the {classes} classes of shape_names.txt")
    return data[:, :, :3], labels
