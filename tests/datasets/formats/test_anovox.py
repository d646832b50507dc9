"""AnoVox's layout on small trees written here, malformed ones included."""

import itertools
import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sickbay.datasets.crossmodal.synthetic import SceneSpec as WholeSpec
from sickbay.datasets.crossmodal.synthetic import crossmodal_data
from sickbay.datasets.formats.anovox import (
    find_scenarios,
    read_points,
    read_semantic_points,
    read_voxels,
)
from sickbay.datasets.formats.anovox_scenes import name_points, read_frames, split, voxel_ids
from sickbay.datasets.formats.anovox_voxels import ANOMALY_IDS, TRANSFORMS, indices, voxel_grid
from sickbay.datasets.pointwise.synthetic import Labelling, point_labels, point_scenes
from sickbay.datasets.pointwise.synthetic import SceneSpec as PointSpec
from sickbay.trials.contract import Context
from sickbay.trials.registry import workload

REAL = Path(os.environ.get("SICKBAY_DATA", "none")) / "anovox"
PLACE = "(0, 0, 1.8)(0, 0, 0)"
POINTS = 60


def rng(seed=0):
    return np.random.default_rng(seed)


def street(seed, *, strange):
    """A cloud with a road below and perhaps an anomaly ahead, and the ids of its points."""
    road = np.column_stack([rng(seed).uniform(-20, 20, (POINTS, 2)), np.full(POINTS, -1.8)])
    thing = rng(seed).uniform([9.6, 0.1, -0.4], [9.9, 0.4, 0.1], (10, 3))
    where = np.concatenate([road, thing]) if strange else road
    ids = np.array([1] * POINTS + [30] * (len(where) - POINTS))
    return where.astype(np.float32), ids


def scenario(collection: Path, name: str, seed: int, *, strange: bool, frames=(0, 1, 2)) -> Path:
    folder = collection / f"Scenario_{name}"
    tag = abs(hash(name)) % 10**9 + seed  # as in the data set: another one each time
    sensors = {kind: folder / f"{kind}{PLACE}_{tag}" for kind in ("RGB-CAM", "LIDAR")}
    sensors["SEMANTIC-LIDAR"] = folder / f"SEMANTIC-LIDAR{PLACE}_{tag + 1}"
    for path in (*sensors.values(), folder / "VOXEL_GRID", folder / "ANOMALY", folder / "ACTION"):
        path.mkdir(parents=True)
    (folder / "sensor_setup.json").write_text(json.dumps({"LIDAR": {"file_ending": "npy"}}))
    for frame in frames:
        where, ids = street(seed * 100 + frame, strange=strange)
        shine = np.full((len(where), 1), 0.5, np.float32)
        np.save(_file(sensors["LIDAR"], frame, "npy"), np.hstack([where, shine]))
        named = np.hstack([where + 0.01, ids[:, None]]).astype(np.float32)
        np.save(_file(sensors["SEMANTIC-LIDAR"], frame, "npy"), named)
        grid = voxel_grid(where, ids, (24, *ANOMALY_IDS))
        np.save(_file(folder / "VOXEL_GRID", frame, "npy"), grid.astype(np.uint16))
        picture = rng(seed).integers(0, 256, (32, 48, 3), dtype=np.uint8)
        Image.fromarray(picture).save(_file(sensors["RGB-CAM"], frame, "png"))
        note = "anomaly_type ; animal\nanomaly_is_alive ; True\n" if strange else "speed ; 3.4\n"
        _file(folder / "ANOMALY", frame, "csv").write_text(note)
    return folder


def _file(folder: Path, frame: int, ending: str) -> Path:
    return folder / f"{folder.name}_{frame}.{ending}"


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("anovox")
    dynamic, normal = root / "AnoVox_Dynamic_Mono_Town07", root / "AnoVox_Normality_Mono_Town07"
    for index, name in enumerate(("a", "b")):
        scenario(dynamic, name, index, strange=True)
        scenario(normal, name, index + 5, strange=False)
    (dynamic / "Scenario_broken_off").mkdir()  # without sensor_setup.json: skipped
    return root


@pytest.fixture
def one(tmp_path):
    return scenario(tmp_path / "AnoVox_Static_Surround_Town10HD", "x", 1, strange=True)


def sole(path, pattern):
    (match,) = path.glob(pattern)
    return match


def test_scenarios_are_found_with_kind_town_and_frames(tree):
    scenarios = find_scenarios(str(tree))
    assert [(recording.kind, recording.town) for recording in scenarios] == [
        ("Dynamic", "Town07")
    ] * 2 + [("Normality", "Town07")] * 2
    assert all(recording.frames == (0, 1, 2) for recording in scenarios)
    assert scenarios[0].setup["LIDAR"]["file_ending"] == "npy"
    below = find_scenarios(str(tree / "AnoVox_Dynamic_Mono_Town07"))  # a collection by itself
    assert [recording.folder.name for recording in below] == ["Scenario_a", "Scenario_b"]


def test_sensors_are_matched_by_prefix_and_the_forward_camera_is_taken(one):
    turned = one / "RGB-CAM(0, 0, 1.8)(0, 90, 0)_111"
    shutil.copytree(sole(one, "RGB-CAM*"), turned)
    (recording,) = find_scenarios(str(one.parent.parent))
    assert recording.town == "Town10HD"
    assert "(0, 90, 0)" not in str(recording.files["RGB-CAM"][0])
    assert recording.files["LIDAR"][0].parent.name.startswith("LIDAR")


def test_files_are_read_in_their_frame(one):
    where, ids = street(100, strange=True)
    cloud = read_points(sole(one, "LIDAR*/*_0.npy"))
    assert cloud.dtype == np.float32
    np.testing.assert_array_equal(cloud[:, :3], where)
    named, named_ids = read_semantic_points(sole(one, "SEMANTIC-LIDAR*/*_0.npy"))
    np.testing.assert_allclose(named, where + 0.01, atol=1e-5)
    assert named_ids.tolist() == ids.tolist()
    grid = read_voxels(one / "VOXEL_GRID" / "VOXEL_GRID_0.npy")
    cell, inside = indices(where[-1:], TRANSFORMS["anovox"])
    assert inside.all()
    assert [*cell[0].tolist(), 30] in grid.tolist()


def test_points_are_named_by_the_nearest_semantic_one_and_else_by_nothing():
    named = np.array([[0, 0, 0], [5, 0, 0]], np.float32)
    points = np.array([[0.1, 0, 0], [4.8, 0.1, 0], [2.5, 0, 0]], np.float32)
    assert name_points(points, named, np.array([3, 30])).tolist() == [3, 30, 0]


def test_points_are_named_by_their_voxel_where_no_semantic_lidar_is():
    where, ids = street(3, strange=True)
    grid = voxel_grid(where, ids, (24, *ANOMALY_IDS))
    assert (voxel_ids(where, grid) == ids).mean() > 0.95
    assert voxel_ids(np.array([[1e4, 0, 0]], np.float32), grid).tolist() == [0]


def test_splits_share_no_scenario_and_cover_every_kind(tree):
    train, val = split(find_scenarios(str(tree)), rng())
    assert (
        {recording.kind for recording in train}
        == {recording.kind for recording in val}
        == {"Dynamic", "Normality"}
    )
    assert not {recording.folder for recording in train} & {recording.folder for recording in val}
    assert len(train) == len(val) == 2


@pytest.mark.parametrize("lacking", ["LIDAR", "SEMANTIC-LIDAR"])
def test_one_lidar_of_the_two_is_enough(tree, tmp_path, lacking):
    shutil.copytree(tree, tmp_path / "copy")
    for folder in list((tmp_path / "copy").glob(f"*/*/{lacking}*")):
        shutil.rmtree(folder)
    frames = list(read_frames(str(tmp_path / "copy"), (9, 9), (16, 16), rng())[0])
    assert len(frames) == 6
    assert {frame.anomalous for frame in frames} == {True, False}
    assert {bool((frame.points[:, 3] > 0).all()) for frame in frames} == {lacking != "LIDAR"}


def test_system_2_sees_visible_anomalies_only(tree):
    spec = WholeSpec(str(tree), 5, 50, 16, 16, 0)
    train, val = crossmodal_data(spec)
    assert len(train) == 5  # of six frames, those asked for
    assert len(val) == 6
    assert train.images.shape == (5, 3, 16, 16)
    assert train.images.dtype == torch.uint8
    assert val.returns.tolist() == [POINTS + 10] * 3 + [POINTS] * 3
    assert val.truth.tolist() == val.voxel.tolist() == [True] * 3 + [False] * 3
    assert bool((val.points[3:, POINTS:] == 0).all())


def test_system_3_finds_its_labels_by_the_right_transform_only(tree):
    train, _ = point_scenes(PointSpec(str(tree), 40, 50, 50, "small", 0))
    assert train.points.shape == (6, 40, 4)
    assert train.images.shape == (6, 3, 16, 24)
    assert 0.0 <= float(train.images.min()) < float(train.images.max()) <= 1.0
    right = point_labels(train, Labelling("transform", "anovox", False, 0, 0), 1)
    assert torch.equal(right.bool(), train.truth)
    assert int(train.truth.sum()) > 5
    wrong = point_labels(train, Labelling("transform", "muvo_v3", False, 0, 0), 1)
    assert int(wrong.sum()) == 0


@pytest.mark.parametrize("name", ["crossmodal_anomaly", "pointwise_anomaly"])
def test_workloads_train_on_it_and_their_trials_know_the_data(tree, tmp_path, name):
    known = workload(name)
    config = {**known.defaults, "dataset": str(tree), "label_source": "transform"}
    if name == "crossmodal_anomaly":
        config |= {"label_source": "true", "height": 16, "width": 16}
    context = Context(0, 1, "cpu", ".", lambda: None, lambda make: None)
    (row,) = known.train(config, context)
    assert np.isfinite(row.signals["val_loss"])
    assert known.facts(config, context).n["val"] > 0
    identity = known.data_identity(config)
    assert len(identity) == 64
    assert known.data_identity(known.defaults) == ""
    shutil.copytree(tree, tmp_path / "more")
    scenario(tmp_path / "more" / "AnoVox_Dynamic_Mono_Town07", "c", 9, strange=True)
    assert known.data_identity({**config, "dataset": str(tmp_path / "more")}) != identity


def test_a_missing_root_says_what_to_download_and_what_is_expected(tmp_path):
    for read in (
        lambda root: crossmodal_data(WholeSpec(root, 1, 1, 16, 16, 0)),
        lambda root: point_scenes(PointSpec(root, 8, 1, 1, "small", 0)),
    ):
        with pytest.raises(ValueError, match="AnoVox") as caught:
            read(str(tmp_path / "nowhere"))
        for word in ("nowhere is not a folder", "Zenodo", "'synthetic'", "VOXEL_GRID_<frame>.npy"):
            assert word in str(caught.value)
    with pytest.raises(ValueError, match="holds no scenario of AnoVox; expected"):
        find_scenarios(str(tmp_path))


def test_a_single_scenario_cannot_be_split(one):
    with pytest.raises(ValueError, match="no kind and town has two scenarios"):
        read_frames(str(one.parent.parent), (1, 1), (8, 8), rng())


@pytest.mark.parametrize("lacking", ["RGB-CAM*", "VOXEL_GRID", "*LIDAR*"])
def test_a_scenario_without_a_whole_frame_is_refused(one, lacking):
    for folder in list(one.glob(lacking)):
        shutil.rmtree(folder)
    with pytest.raises(ValueError, match=r"Scenario_x: no frame has a picture, points and a voxel"):
        find_scenarios(str(one.parent.parent))


def test_a_damaged_setup_is_named(one):
    (one / "sensor_setup.json").write_text("{")
    with pytest.raises(ValueError, match=r"sensor_setup.json is not readable JSON"):
        find_scenarios(str(one.parent))
    (one / "sensor_setup.json").write_text("[1]")
    with pytest.raises(ValueError, match="expected a JSON object"):
        find_scenarios(str(one.parent))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 5)), "expected rows of three indices and a semantic id, found \\(3, 5\\)"),
        (np.zeros(4), "found \\(4,\\)"),
        (np.full((2, 4), np.nan), "expected finite numbers"),
        (np.full((2, 4), 0.5), "expected whole numbers"),
        (np.array([["a"] * 4]), "expected finite numbers, found <U1"),
    ],
)
def test_a_malformed_grid_is_named(tmp_path, array, message):
    path = tmp_path / "VOXEL_GRID_0.npy"
    np.save(path, array)
    with pytest.raises(ValueError, match=message) as caught:
        read_voxels(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "columns"),
    [
        ("LIDAR(*/*.npy", "x, y, z and intensity"),
        ("SEMANTIC-LIDAR(*/*.npy", "x, y, z and a semantic id"),
        ("VOXEL_GRID/*.npy", "three indices and a semantic id"),
    ],
)
@pytest.mark.parametrize("array", [np.zeros((3, 3)), np.zeros((2, 3, 4)), np.zeros(8)])
def test_a_wrong_shape_names_the_file_and_what_its_columns_are(
    tree, tmp_path, pattern, columns, array
):
    root = tmp_path / "tree"
    shutil.copytree(tree, root)
    wrong = max(root.glob(f"*/Scenario_*/{pattern}"))
    np.save(wrong, array)
    splits = read_frames(str(root), (50, 50), (8, 8), rng())
    with pytest.raises(ValueError, match="expected rows of") as caught:
        list(itertools.chain(*splits))
    assert str(caught.value) == f"{wrong}: expected rows of {columns}, found {array.shape}"


def test_nothing_is_ever_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    path = tmp_path / "VOXEL_GRID_0.npy"
    np.save(path, np.array([[Trap()] * 4], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="is not a readable array of numbers"):
        read_voxels(path)
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ValueError, match="is not a readable array of numbers"):
        read_voxels(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="is not a readable array of numbers"):
        read_points(path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.data
@pytest.mark.skipif(not REAL.is_dir(), reason="put AnoVox below SICKBAY_DATA as `anovox`")
def test_real_frames_are_read_and_found_by_the_right_transform():
    frames = [frame for part in read_frames(str(REAL), (20, 5), (32, 48), rng()) for frame in part]
    for frame in frames:
        assert frame.image.shape == (3, 32, 48)
        assert len(frame.points) > 1000
        _, inside = indices(frame.points[:, :3], TRANSFORMS["anovox"])
        assert inside.mean() > 0.9
        named = voxel_ids(frame.points[:, :3], frame.grid)
        assert (named != 0).mean() > 0.5
