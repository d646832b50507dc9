"""The JSON tables of nuScenes (Caesar et al. 2020), read without its devkit.

    ROOT/v1.0-{mini,trainval,test}/<table>.json     lists of records, each with a `token`
    ROOT/samples/LIDAR_TOP/*.pcd.bin                key frames, twice a second
    ROOT/samples/CAM_*/*.jpg
    ROOT/sweeps/LIDAR_TOP/*.pcd.bin                 what lies between

A bad file is a ValueError that names it.
"""

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

Record = Mapping[str, Any]

VERSIONS = ("v1.0-trainval", "v1.0-mini", "v1.0-test")
LIDAR = "LIDAR_TOP"
CAMERAS = (
    "CAM_FRONT",
    "CAM_FRONT_RIGHT",
    "CAM_FRONT_LEFT",
    "CAM_BACK",
    "CAM_BACK_LEFT",
    "CAM_BACK_RIGHT",
)
NEEDED = {  # table -> what a record must have, beside its token
    "calibrated_sensor": ("sensor_token", "translation", "rotation", "camera_intrinsic"),
    "category": ("name",),
    "ego_pose": ("translation", "rotation"),
    "instance": ("category_token",),
    "sample": ("timestamp", "scene_token"),
    "sample_annotation": (
        "sample_token",
        "instance_token",
        "translation",
        "size",
        "rotation",
        "prev",
        "next",
    ),
    "sample_data": (
        "sample_token",
        "ego_pose_token",
        "calibrated_sensor_token",
        "timestamp",
        "is_key_frame",
        "filename",
        "prev",
    ),
    "scene": ("name",),
    "sensor": ("channel",),
}
LENGTHS = {"translation": 3, "rotation": 4, "size": 3}  # keys whose value is so many numbers
FLAGS, MOMENTS = ("is_key_frame",), ("timestamp",)
MATRICES = ("camera_intrinsic",)  # 3 x 3, or empty for a sensor that is no camera
MINI_VAL = ("scene-0103", "scene-0916")  # of `mini` these validate
ASIDE = 5  # else every fifth scene does: the tables do not hold the official lists
TREE = """expected
  ROOT/v1.0-mini (or -trainval, -test)/{sample,sample_data,sample_annotation,calibrated_sensor,
    ego_pose,instance,category,scene,sensor}.json
  ROOT/samples/LIDAR_TOP/*.pcd.bin
  ROOT/samples/{CAM_FRONT,CAM_FRONT_RIGHT,CAM_FRONT_LEFT,CAM_BACK,CAM_BACK_LEFT,CAM_BACK_RIGHT}/*.jpg
  ROOT/sweeps/LIDAR_TOP/*.pcd.bin"""


@dataclass(frozen=True)
class Tables:
    """The tables by token, and by sample: its key frames by channel, its annotations."""

    root: Path
    version: str
    records: Mapping[str, Mapping[str, Record]]
    key_frames: Mapping[str, Mapping[str, Record]]
    annotations: Mapping[str, Sequence[Record]]

    def get(self, table: str, token: str) -> Record:
        """Look up a record. Raises ValueError for a token that the table does not have."""
        try:
            return self.records[table][token]
        except KeyError:
            path = self.root / self.version / f"{table}.json"
            raise ValueError(f"{path}: there is no record with the token {token!r}") from None

    def channel(self, data: Record) -> str:
        """Name the sensor that a record of `sample_data` comes from."""
        calibrated = self.get("calibrated_sensor", data["calibrated_sensor_token"])
        return str(self.get("sensor", calibrated["sensor_token"])["channel"])

    def samples(self, scenes: Sequence[str] = ()) -> list[str]:
        """Return the samples of some scenes (all without a name), scene by scene, in time.

        Raises ValueError for a scene that is not there.
        """
        names = {token: str(scene["name"]) for token, scene in self.records["scene"].items()}
        unknown = sorted(set(scenes) - set(names.values()))
        if unknown:
            raise ValueError(f"{self.root}: {self.version} has no scene {unknown[0]!r}")
        timeline = [
            (names.get(sample["scene_token"], ""), sample["timestamp"], token)
            for token, sample in self.records["sample"].items()
        ]
        return [token for name, _, token in sorted(timeline) if not scenes or name in scenes]


def read_tables(root: str, version: str = "") -> Tables:
    """Read the tables of a version, by itself the one that is there, trainval before mini.

    Raises ValueError for a missing root, missing or malformed tables and missing members.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise ValueError(
            f"dataset: {root} is not a folder. Use 'synthetic' for generated scenes, or download "
            f"nuScenes (v1.0-mini is the smallest part) and give the path of its root; {TREE}"
        )
    there = [name for name in VERSIONS if (folder / name).is_dir()]
    if (version and version not in there) or not there:
        wanted = version or "v1.0-*"
        raise ValueError(f"dataset: {root} has no tables in {wanted}; {TREE}")
    version = version or there[0]
    records = {table: _read_table(folder / version / f"{table}.json") for table in NEEDED}
    tables = Tables(folder, version, records, defaultdict(dict), defaultdict(list))
    return _indexed(tables)


def split_scenes(tables: Tables, rng: np.random.Generator) -> tuple[list[str], list[str]]:
    """Return the samples to train and to validate with; they share no scene.

    `mini` is split as published; elsewhere every fifth scene, drawn by `rng`, is put aside. Raises
    ValueError for fewer than two scenes.
    """
    names = sorted({str(scene["name"]) for scene in tables.records["scene"].values()})
    if len(names) < 2:
        raise ValueError(f"{tables.root}: {tables.version} has one scene: two are needed at least")
    aside = [name for name in names if name in MINI_VAL and tables.version == "v1.0-mini"]
    if not aside or len(aside) == len(names):
        order = rng.permutation(len(names)).tolist()
        aside = [names[index] for index in order[: max(1, round(len(names) / ASIDE))]]
    return tables.samples([name for name in names if name not in aside]), tables.samples(aside)


def _read_table(path: Path) -> dict[str, Record]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"{path}: this table is missing; {TREE}") from error
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: this is no readable JSON: {error}") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{path}: expected a list of records")
    for number, row in enumerate(rows):
        lacking = [key for key in ("token", *NEEDED[path.stem]) if key not in row]
        if lacking:
            raise ValueError(f"{path}: record {number} has no {lacking[0]!r}")
        for key in ("token", *NEEDED[path.stem]):
            expected = _expected(key, row[key])
            if expected:
                shown = repr(row[key])[:60]
                raise ValueError(f"{path}: record {number}: {key!r} is {shown}, not {expected}")
    return {row["token"]: row for row in rows}


def _expected(key: str, value: object) -> str:
    """Say what the value of a key must be; empty if it is that."""
    if key in LENGTHS:
        length = LENGTHS[key]
        return "" if _is_vector(value, length) else f"a list of {length} finite numbers"
    if key in MATRICES:
        good = value == [] or (_has_length(value, 3) and all(_is_vector(row, 3) for row in value))
        return "" if good else "a list of 3 lists of 3 finite numbers, or an empty one"
    if key in FLAGS:
        return "" if isinstance(value, bool) else "true or false"
    if key in MOMENTS:
        return "" if _is_number(value) else "a finite number"
    return "" if isinstance(value, str) else "a string"


def _is_vector(value: object, length: int) -> bool:
    return _has_length(value, length) and all(_is_number(member) for member in value)


def _has_length(value: object, length: int) -> TypeGuard[list[object]]:
    return isinstance(value, list) and len(value) == length


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _indexed(tables: Tables) -> Tables:
    """Group key frames and annotations by their sample."""
    key_frames: dict[str, dict[str, Record]] = defaultdict(dict)
    for data in tables.records["sample_data"].values():
        if data["is_key_frame"]:
            key_frames[data["sample_token"]][tables.channel(data)] = data
    annotations: dict[str, list[Record]] = defaultdict(list)
    for annotation in tables.records["sample_annotation"].values():
        annotations[annotation["sample_token"]].append(annotation)
    return Tables(tables.root, tables.version, tables.records, key_frames, annotations)
