"""AnoVox as it lies on a disk: scenarios, their sensors' folders, and single files.

    ROOT/AnoVox_<kind>_<setup>_<town>/Scenario_<uuid>/
        sensor_setup.json
        RGB-CAM(x, y, z)(roll, pitch, yaw)_<hash>/…_<frame>.png
        LIDAR(…)_<hash>/…_<frame>.npy             N rows x, y, z, intensity
        SEMANTIC-LIDAR(…)_<hash>/…_<frame>.npy    N rows x, y, z, semantic id
        VOXEL_GRID/VOXEL_GRID_<frame>.npy         M rows vx, vy, vz, semantic id
        ANOMALY/ANOMALY_<frame>.csv               lines `key ; value`

A sensor's folder ends in a hash that differs from recording to recording, so it is found by its
beginning. In the files y has been negated already: x is forward, y left, z up, the sensor at the
origin. Nothing is ever unpickled. A bad file is a ValueError that begins with its path.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

RGB, LIDAR, SEMANTIC, VOXELS, ANOMALY = (
    "RGB-CAM",
    "LIDAR",
    "SEMANTIC-LIDAR",
    "VOXEL_GRID",
    "ANOMALY",
)
ENDINGS = {RGB: "png", LIDAR: "npy", SEMANTIC: "npy", VOXELS: "npy", ANOMALY: "csv"}
AHEAD = "(0, 0, 0)"  # the rotation of a camera that looks forward, in its folder's name
TREE = """expected
  ROOT/AnoVox_{Normality,Static,Dynamic}_{Mono,Stereo,Multi,Surround}_Town<NN>/Scenario_<uuid>/
    sensor_setup.json
    RGB-CAM(...)_<hash>/..._<frame>.png
    LIDAR(...)_<hash>/..._<frame>.npy, SEMANTIC-LIDAR(...)_<hash>/..._<frame>.npy, or both
    VOXEL_GRID/VOXEL_GRID_<frame>.npy
    ANOMALY/ANOMALY_<frame>.csv
(older releases with RGB_IMG and SEMANTIC_PCD are not read)"""


@dataclass(frozen=True)
class Scenario:
    """One recording: its folder, the collection's kind and town, its sensors as set up.

    `kind` is Normality, Static or Dynamic, and like `town` empty where the folder above has another
    name. `files` holds, for each kind of file that is there, its path by frame.
    """

    folder: Path
    kind: str
    town: str
    setup: Mapping[str, Any]
    files: Mapping[str, Mapping[int, Path]]

    @property
    def frames(self) -> tuple[int, ...]:
        """The frames with a picture, points and a voxel grid, ascending."""
        clouds = set(self.files.get(LIDAR, {})) | set(self.files.get(SEMANTIC, {}))
        return tuple(sorted(clouds & set(self.files[RGB]) & set(self.files[VOXELS])))


def find_scenarios(root: str) -> tuple[Scenario, ...]:
    """Find the scenarios below a root, sorted by path; those without sensor_setup.json are skipped.

    Raises ValueError for a missing root, one without scenarios, and a scenario with no frame that
    has a picture, points and a voxel grid.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise ValueError(
            f"dataset: {root} is not a folder. Use 'synthetic' for generated scenes, or download "
            f"AnoVox (Zenodo record 11577567) and give the path of its root; {TREE}"
        )
    setups = sorted(folder.glob("Scenario_*/sensor_setup.json"))
    setups += sorted(folder.glob("*/Scenario_*/sensor_setup.json"))
    if not setups:
        raise ValueError(f"dataset: {root} holds no scenario of AnoVox; {TREE}")
    return tuple(_scenario(setup) for setup in setups)


def read_points(path: Path) -> Floats:
    """Read a lidar's points, (N, 4): x forward, y left, z up in metres, intensity."""
    return _table(path, "x, y, z and intensity").astype(np.float32)


def read_semantic_points(path: Path) -> tuple[Floats, Ints]:
    """Read a semantic lidar's points (N, 3) and their semantic ids (N,)."""
    table = _table(path, "x, y, z and a semantic id")
    return table[:, :3].astype(np.float32), _whole(path, table[:, 3])


def read_voxels(path: Path) -> Ints:
    """Read a voxel grid, (M, 4): indices x, y, z and a semantic id."""
    return _whole(path, _table(path, "three indices and a semantic id"))


def _scenario(setup: Path) -> Scenario:
    folder = setup.parent
    try:
        sensors = json.loads(setup.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{setup} is not readable JSON: {error}") from error
    if not isinstance(sensors, dict):
        raise ValueError(  # noqa: TRY004 - a bad file, not a bad argument
            f"{setup}: expected a JSON object with a member for each sensor"
        )
    named = re.fullmatch(r"AnoVox_([^_]+)_[^_]+_(.+)", folder.parent.name)
    kind, town = named.groups() if named else ("", "")
    scenario = Scenario(
        folder, kind, town, sensors, {name: _files(folder, name) for name in ENDINGS}
    )
    if not scenario.frames:
        there = ", ".join(name for name, files in scenario.files.items() if files) or "none of them"
        raise ValueError(
            f"{folder}: no frame has a picture, points and a voxel grid; found {there}; {TREE}"
        )
    return scenario


def _files(scenario: Path, name: str) -> dict[int, Path]:
    """List a sensor's files by frame; of several such sensors, the first that looks forward."""
    pattern = re.compile(rf".*_(\d+)\.{ENDINGS[name]}")
    folders = sorted(path for path in scenario.iterdir() if path.name.startswith(name))
    folders = [path for path in folders if path.is_dir()]
    ahead = [path for path in folders if AHEAD in path.name.partition(")")[2]]
    for folder in (ahead or folders)[:1]:
        matches = ((pattern.fullmatch(path.name), path) for path in folder.iterdir())
        return {int(match[1]): path for match, path in matches if match}
    return {}


def _table(path: Path, columns: str) -> NDArray[Any]:
    try:
        table = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path} is not a readable array of numbers: {error}") from error
    if not isinstance(table, np.ndarray) or table.ndim != 2 or table.shape[1] != 4:
        shape = getattr(table, "shape", "several arrays")
        raise ValueError(f"{path}: expected rows of {columns}, found {shape}")
    if table.dtype.kind not in "iuf" or not np.isfinite(table).all():
        raise ValueError(f"{path}: expected finite numbers, found {table.dtype}")
    return table


def _whole(path: Path, values: NDArray[Any]) -> Ints:
    whole = values.astype(np.int64)
    if (whole != values).any():
        raise ValueError(f"{path}: expected whole numbers as indices and semantic ids")
    return whole
