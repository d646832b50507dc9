"""Real object clouds with their facing directions, from any of the layouts they come in.

    <root>/<class>/{train,test}/<id>.off             ModelNet40, raw: Z up, turned to Y up here
    <root>/modelnet40_shape_names.txt, modelnet40_{train,test}.txt, <class>/<id>.txt
                                                     modelnet40_normal_resampled: Y up
    <root>/shape_names.txt, ply_data_{train,test}*.h5   the HDF5 release with 2,048 points
    <root>/<class>/<id>.ply                          loose clouds, Y up; split here, 4 to 1 a class

Beside a cloud may lie `<id>_multi_peak_vM_gt.txt` (the peaks themselves) or, for OFF and PLY,
`<id>.txt` (a frame: side, up, front, Y up). Without either, an object faces −Z, as ModelNet40
stores it. Where a data set has a test split, it serves as the validation split.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sickbay.datasets.formats.meshes import FloatArray, Mesh, sample_surface, to_unit_sphere
from sickbay.datasets.formats.pointclouds import (
    Peak,
    read_off,
    read_orientation,
    read_peaks,
    read_ply,
    read_xyz,
)
from sickbay.datasets.orientation.yaw_shapes import peak_angles

CLASS_PEAKS = {
    "chair": 1,
    "car": 1,
    "sofa": 1,
    "toilet": 1,
    "door": 2,
    "curtain": 2,
    "bathtub": 4,
    "glass_box": 4,
    "cone": 0,
    "bowl": 0,
    "bottle": 0,
    "plant": 0,
}
LAYOUTS = """expected one of
  ModelNet40:                   ROOT/<class>/{train,test}/<id>.off
  modelnet40_normal_resampled:  ROOT/modelnet40_shape_names.txt, ROOT/modelnet40_{train,test}.txt,
                                ROOT/<class>/<id>.txt
  modelnet40_ply_hdf5_2048:     ROOT/shape_names.txt, ROOT/ply_data_{train,test}*.h5
  loose clouds:                 ROOT/<class>/<id>.ply, and a frame for each in <id>.txt"""


@dataclass(frozen=True)
class OrientedCloud:
    """A named cloud (N, 3), Y up, in the unit sphere, and the directions it may face."""

    name: str
    points: FloatArray
    peaks: tuple[Peak, ...]


@dataclass(frozen=True)
class Item:
    """An object on disk: its class, its name, its split (train, test, or none), how to read it."""

    category: str
    name: str
    split: str
    read: Callable[[int, np.random.Generator], FloatArray]
    beside: Path | None = None
    framed: bool = False


def read_clouds(
    root: str, classes: Sequence[str], kfold: int, points: int, rng: np.random.Generator
) -> tuple[list[OrientedCloud], list[OrientedCloud]]:
    """Read the training and the validation clouds; they share no object.

    `classes` empty means every class with `kfold` peaks. Raises ValueError for a missing root, an
    unknown layout or class, an empty split and every malformed file.
    """
    items = list_items(Path(root))
    present = sorted({item.category for item in items})
    wanted = tuple(classes) or tuple(c for c in present if CLASS_PEAKS.get(c) == kfold)
    unknown = [name for name in wanted if name not in present]
    if unknown or not wanted:
        problem = f"has no class {unknown[0]!r}" if unknown else f"has no class with {kfold} peaks"
        raise ValueError(f"dataset: {root} {problem}; it has {', '.join(present)}")
    items = [item for item in items if item.category in wanted]
    train, val = _split(items, rng)
    if not (train and val):
        empty = "validation" if train else "training"
        raise ValueError(f"dataset: {root} has no {empty} object of {', '.join(wanted)}")
    loaded = [[_load(item, kfold, points, rng) for item in part] for part in (train, val)]
    return loaded[0], loaded[1]


def list_items(root: Path) -> list[Item]:
    """Find the objects below a root, sorted by name. Raises ValueError if there is none."""
    if not root.is_dir():
        raise ValueError(
            f"dataset: {root} is not a folder. Use 'synthetic' for generated shapes, or download "
            f"ModelNet40 (or modelnet40_normal_resampled) and give the path of its root; {LAYOUTS}"
        )
    for listing in (_resampled, _hdf5, _meshes, _loose):
        items = listing(root)
        if items:
            return sorted(items, key=lambda item: (item.category, item.name))
    raise ValueError(f"dataset: {root} holds no point clouds that are known here; {LAYOUTS}")


def _resampled(root: Path) -> list[Item]:
    if not (root / "modelnet40_shape_names.txt").is_file():
        return []
    classes = _words(root / "modelnet40_shape_names.txt")
    items = []
    for split in ("train", "test"):
        for name in _words(root / f"modelnet40_{split}.txt"):
            category = name.rsplit("_", 1)[0]
            if category not in classes:
                listed = f"modelnet40_{split}.txt lists {name!r}"
                raise ValueError(f"{root}: {listed}, whose class is not in the shape names")
            path = root / category / f"{name}.txt"
            items.append(Item(category, name, split, _thinned(read_xyz, path), path))
    return items


def _hdf5(root: Path) -> list[Item]:
    files = sorted(root.glob("*train*.h5")) + sorted(root.glob("*test*.h5"))
    if not files:
        return []
    from sickbay.datasets.formats.hdf5_clouds import read_labelled  # noqa: PLC0415 - h5py is an extra

    classes = _words(root / "shape_names.txt")
    items = []
    for path in files:
        split = "train" if "train" in path.name else "test"
        data, labels = read_labelled(path, len(classes))
        for index, (cloud, label) in enumerate(zip(data, labels, strict=True)):
            name = f"{path.stem}_{index:04d}"
            items.append(Item(classes[label], name, split, _kept(cloud)))
    return items


def _meshes(root: Path) -> list[Item]:
    return [
        Item(
            path.parent.parent.name, path.stem, path.parent.name, _sampled(path), path, framed=True
        )
        for split in ("train", "test")
        for path in root.glob(f"*/{split}/*.off")
    ]


def _loose(root: Path) -> list[Item]:
    return [
        Item(path.parent.name, path.stem, "", _thinned(read_ply, path), path, framed=True)
        for path in root.glob("*/*.ply")
    ]


def _split(items: list[Item], rng: np.random.Generator) -> tuple[list[Item], list[Item]]:
    """Follow the data set's own split; without one, put every fifth object of a class aside."""
    if any(item.split for item in items):
        train = [item for item in items if item.split == "train"]
        return train, [item for item in items if item.split == "test"]
    train, val = [], []
    for category in sorted({item.category for item in items}):
        members = [item for item in items if item.category == category]
        aside = max(1, round(len(members) / 5))
        order = rng.permutation(len(members)).tolist()
        val += [members[index] for index in sorted(order[:aside])]
        train += [members[index] for index in sorted(order[aside:])]
    return train, val


def _load(item: Item, kfold: int, points: int, rng: np.random.Generator) -> OrientedCloud:
    cloud = to_unit_sphere(item.read(points, rng))
    return OrientedCloud(item.name, cloud, _peaks(item, CLASS_PEAKS.get(item.category, kfold)))


def _peaks(item: Item, kfold: int) -> tuple[Peak, ...]:
    yaw = 0.0
    if item.beside is not None:
        given = item.beside.with_name(f"{item.name}_multi_peak_vM_gt.txt")
        if given.is_file():
            return read_peaks(given)
        frame = item.beside.with_suffix(".txt")
        if item.framed and frame.is_file():
            yaw = read_orientation(frame)
    angles = peak_angles(kfold)
    kappa = 0.0 if kfold == 0 else None
    return tuple(Peak(yaw + theta, kappa, 1.0 / len(angles)) for theta in angles)


def _thinned(
    read: Callable[[Path], FloatArray], path: Path
) -> Callable[[int, np.random.Generator], FloatArray]:
    return lambda count, rng: _choose(read(path), count, rng)


def _kept(cloud: FloatArray) -> Callable[[int, np.random.Generator], FloatArray]:
    return lambda count, rng: _choose(cloud, count, rng)


def _sampled(path: Path) -> Callable[[int, np.random.Generator], FloatArray]:
    def read(count: int, rng: np.random.Generator) -> FloatArray:
        mesh = read_off(path)
        x, y, z = mesh.vertices.T
        try:
            return sample_surface(Mesh(np.stack([x, z, -y], axis=1), mesh.triangles), count, rng)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    return read


def _choose(cloud: FloatArray, count: int, rng: np.random.Generator) -> FloatArray:
    """Draw points in random order (the net relies on it), each once where there are enough."""
    return np.asarray(cloud[rng.choice(len(cloud), size=count, replace=len(cloud) < count)])


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}; {LAYOUTS}") from error
