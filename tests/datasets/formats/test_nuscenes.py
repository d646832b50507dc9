"""nuScenes' layout on a small tree written here, malformed ones included."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from nuscenes_samples import FOCAL, HEIGHT, SPEED, TALL, WIDE, Drive, yawed

from sickbay.datasets.formats.nuscenes import CLASSES, pose_matrix, read_cloud, read_sample
from sickbay.datasets.formats.nuscenes_tables import CAMERAS, NEEDED, read_tables, split_scenes
from sickbay.datasets.reweighting.frames import frames_of

REAL = Path(os.environ.get("SICKBAY_DATA", "none")) / "nuscenes"


@pytest.fixture
def drive(tmp_path):
    return Drive(tmp_path)


def test_points_come_out_with_x_forward_and_intensity_in_the_unit_interval(drive):
    sample = read_sample(read_tables(str(drive.root)), "0-0")
    np.testing.assert_allclose(sample.points, [[12.0, 0.0, -1.0, 0.2, 0.0]], atol=1e-5)


def test_earlier_sweeps_are_moved_to_where_the_vehicle_is_now(drive):
    """The post stands still, so both sweeps must show it at one place, one of them 0.1 s old."""
    sample = read_sample(read_tables(str(drive.root)), "0-1", sweeps=5)
    np.testing.assert_allclose(sample.points[:, :3], [[8.0, 0.0, -1.0]] * 2, atol=1e-5)
    np.testing.assert_allclose(sample.points[:, 4], [0.0, 0.1], atol=1e-6)


def test_boxes_are_in_the_lidar_frame_with_a_velocity(drive):
    tables = read_tables(str(drive.root))
    sample = read_sample(tables, "0-1")
    # 21.5 m along the world's y, the vehicle at 4 m heads there; the lidar is 1.8 m up.
    expected = [[17.5, 0.0, 1.0 - HEIGHT, 2.0, 4.5, 1.6, 0.0, 3.0, 0.0]]
    np.testing.assert_allclose(sample.boxes, expected, atol=1e-5)
    assert [CLASSES[index] for index in sample.classes] == ["car"]
    everything = read_sample(tables, "0-1", unseen=True)
    np.testing.assert_allclose(
        everything.boxes[:, 1], [0.0, -2.0], atol=1e-5
    )  # x of the world: right


def test_a_box_alone_has_no_velocity(tmp_path):
    drive = Drive(tmp_path, moments=1)
    assert read_sample(read_tables(str(drive.root)), "0-0").boxes[0, 7:].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("picture", [None, (18, 32)])
def test_points_project_to_where_the_camera_saw_them(drive, picture):
    """By hand: 0.1 s later the vehicle is 0.8 m nearer to the post; u = f y/x about the centre."""
    sample = read_sample(read_tables(str(drive.root)), "0-0", picture)
    scale = 1.0 if picture is None else 0.5
    assert sample.images.shape == (6, 3, round(TALL * scale), round(WIDE * scale))
    np.testing.assert_allclose(sample.images[0, :, 5, 5], [1.0, 0.5, 0.0], atol=0.03)
    point = np.array([12.0, 2.0, -1.0, 1.0])  # two metres to the left of the post
    u_d, v_d, depth, one = sample.lidar2img[0] @ point
    assert depth == pytest.approx(12.0 - SPEED * 0.1, abs=1e-4)
    assert u_d / depth == pytest.approx(scale * (WIDE / 2 - FOCAL * 2.0 / depth), abs=1e-3)
    assert v_d / depth == pytest.approx(scale * (TALL / 2 + FOCAL * 1.0 / depth), abs=1e-3)
    assert one == 1.0
    behind = sample.lidar2img[CAMERAS.index("CAM_BACK")] @ point
    assert behind[2] < 0.0


def test_samples_go_into_tensors(drive):
    tables = read_tables(str(drive.root))
    samples = [read_sample(tables, token, (8, 16), sweeps=1) for token in tables.samples()]
    frames = frames_of(samples, 51.2, 32, 8, 16)
    assert frames.views.shape == (4, 6, 3, 8, 16)
    assert float(frames.bev[:, 0].sum()) > 0.0
    assert frames.classes[:, 0].tolist() == [0] * 4


def test_samples_are_in_time_and_mini_is_split_as_published(drive):
    tables = read_tables(str(drive.root))
    assert tables.samples() == ["0-0", "0-1", "1-0", "1-1"]
    assert tables.samples(["scene-0103"]) == ["1-0", "1-1"]
    train, val = split_scenes(tables, np.random.default_rng(0))
    assert (train, val) == (["0-0", "0-1"], ["1-0", "1-1"])
    with pytest.raises(ValueError, match=r"v1.0-mini has no scene 'scene-9999'"):
        tables.samples(["scene-9999"])


def test_elsewhere_every_fifth_scene_validates(tmp_path):
    drive = Drive(tmp_path, [f"scene-{number:04d}" for number in range(10)], 1)
    drive.write("v1.0-trainval")
    tables = read_tables(str(tmp_path))
    assert tables.version == "v1.0-trainval"
    train, val = split_scenes(tables, np.random.default_rng(0))
    assert len(val) == 2
    assert sorted(train + val) == sorted(tables.samples())
    assert split_scenes(tables, np.random.default_rng(1))[1] != val


def test_one_scene_cannot_be_split(tmp_path):
    tables = read_tables(str(Drive(tmp_path, ["scene-0103"]).root))
    with pytest.raises(ValueError, match="one scene: two are needed"):
        split_scenes(tables, np.random.default_rng(0))


def test_a_pose_turns_and_shifts_as_its_quaternion_says():
    matrix = pose_matrix([1.0, 2.0, 3.0], [2.0 * value for value in yawed(90.0)])
    np.testing.assert_allclose(matrix @ [1.0, 0.0, 0.0, 1.0], [1.0, 3.0, 3.0, 1.0], atol=1e-12)
    for bad in ([0.0] * 4, [1.0] * 3):
        with pytest.raises(ValueError, match="no pose"):
            pose_matrix([0.0] * 3, bad)


def test_a_missing_root_says_what_to_download_and_what_is_expected(tmp_path):
    with pytest.raises(ValueError, match="not a folder") as caught:
        read_tables(str(tmp_path / "nowhere"))
    for word in ("'synthetic'", "nuScenes", "v1.0-mini", "samples/LIDAR_TOP/*.pcd.bin"):
        assert word in str(caught.value)
    with pytest.raises(ValueError, match=r"has no tables in v1.0-\*; expected"):
        read_tables(str(tmp_path))


def test_an_absent_version_is_refused(drive):
    with pytest.raises(ValueError, match=r"has no tables in v1.0-test"):
        read_tables(str(drive.root), "v1.0-test")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "scene.json: this is no readable JSON"),
        ("{}", "scene.json: expected a list of records"),
        ("[1]", "scene.json: expected a list of records"),
        ('[{"token": "x"}]', "scene.json: record 0 has no 'name'"),
        ('[{"name": "x"}]', "scene.json: record 0 has no 'token'"),
        (None, "scene.json: this table is missing; expected"),
    ],
)
def test_a_malformed_table_is_named(drive, text, message):
    path = drive.root / "v1.0-mini" / "scene.json"
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_tables(str(drive.root))


@pytest.mark.parametrize(
    ("table", "key", "value", "message"),
    [
        ("sample_data", "ego_pose_token", "gone", "ego_pose.json: there is no record with the tok"),
        ("ego_pose", "rotation", [0, 0, 0, 0], "ego_pose.json: the record .* is no pose"),
        ("calibrated_sensor", "camera_intrinsic", [], "intrinsic of shape \\(0,\\), not 3 x 3"),
        ("sample_annotation", "instance_token", "gone", "instance.json: there is no record with"),
        ("sample_data", "is_key_frame", False, "the sample '0-0' has no key frame of LIDAR_TOP"),
        ("sample_data", "filename", "samples/none", "samples/none: .*(cannot be read|no readable)"),
    ],
)
def test_a_broken_link_is_named(drive, table, key, value, message):
    for row in drive.tables[table]:
        row[key] = value
    drive.write()
    with pytest.raises(ValueError, match=message):
        read_sample(read_tables(str(drive.root)), "0-0")


# Of each key of a table some values of a wrong shape or type.
VECTOR = ([], [1.0], [1.0] * 5, ["a", "b", "c"], [math.nan] * 4, [[1.0, 2.0, 3.0]], 1.0, None, "x")
WRONG = {
    "camera_intrinsic": (1.0, [1.0] * 9, [[1.0] * 3] * 2, [[1.0] * 4] * 3, [[None] * 3] * 3, None),
    "is_key_frame": ("yes", 1, None),
    "rotation": (*VECTOR, [1.0] * 3),
    "size": (*VECTOR, [1.0] * 4),
    "timestamp": ("now", None, [1], math.inf),
    "translation": (*VECTOR, [1.0] * 4),
}


@pytest.mark.parametrize("table", NEEDED)
def test_every_key_of_a_wrong_shape_is_named_with_its_file(drive, table):
    row = drive.tables[table][0]
    path = drive.root / "v1.0-mini" / f"{table}.json"
    for key in ("token", *NEEDED[table]):
        right = row[key]
        for wrong in WRONG.get(key, (7, None, ["x"])):
            row[key] = wrong
            path.write_text(json.dumps(drive.tables[table]))
            with pytest.raises(ValueError, match=rf"{table}.json: record 0: '{key}' is .*, not "):
                read_tables(str(drive.root))
        row[key] = right


def test_an_unknown_sample_is_refused(drive):
    with pytest.raises(ValueError, match=r"sample.json: there is no record with the token 'x'"):
        read_sample(read_tables(str(drive.root)), "x")


@pytest.mark.parametrize("payload", [b"", b"\0" * 21, np.full(5, np.nan, "<f4").tobytes()])
def test_a_malformed_cloud_is_named(tmp_path, payload):
    path = tmp_path / "x.pcd.bin"
    path.write_bytes(payload)
    with pytest.raises(ValueError, match=r"x.pcd.bin: .*(whole number of points|not finite)"):
        read_cloud(path)


def test_a_damaged_picture_is_named(drive):
    path = drive.root / "samples" / "CAM_BACK" / "0-0.jpg"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"0-0.jpg: this is no readable picture"):
        read_sample(read_tables(str(drive.root)), "0-0")


@pytest.mark.data
@pytest.mark.skipif(not REAL.is_dir(), reason="put nuScenes below SICKBAY_DATA as `nuscenes`")
def test_real_boxes_hold_points_and_project_into_a_camera():
    tables = read_tables(str(REAL))
    sample = read_sample(tables, tables.samples()[0], (90, 160))
    assert len(sample.points) > 20_000
    assert len(sample.boxes) > 0
    centres = np.column_stack([sample.boxes[:, :3], np.ones(len(sample.boxes))])
    seen = np.zeros(len(centres), dtype=bool)
    for matrix in sample.lidar2img:
        u_d, v_d, depth, _ = (centres @ matrix.T).T
        seen |= (depth > 1) & (u_d > 0) & (u_d < 160 * depth) & (v_d > 0) & (v_d < 90 * depth)
    assert seen.mean() > 0.8
    near = [np.linalg.norm(sample.points[:, :3] - box[:3], axis=1).min() for box in sample.boxes]
    assert (np.array(near) < sample.boxes[:, 3:6].max(axis=1)).mean() > 0.9
