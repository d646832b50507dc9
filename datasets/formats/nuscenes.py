"""Samples of nuScenes: points, pictures, how the one projects into the others, boxes.

N points · V views · h, w pixels · M boxes

Poses are (translation, rotation as w, x, y, z) and take a sensor's frame to the vehicle's, the
vehicle's at one moment to the world. A camera's picture is taken at another moment than the sweep,
so that points go lidar → vehicle → world → vehicle at the picture's moment → camera. The lidar's
own x looks right; here, as in every sample of this kind, x is forward, y left, z up.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from sickbay.datasets.formats.nuscenes_tables import CAMERAS, LIDAR, TREE, Record, Tables
from sickbay.datasets.shared.detection_sample import DetectionSample

Floats = NDArray[np.float32]
Matrix = NDArray[np.float64]

CLASSES = (
    "car",
    "truck",
    "construction_vehicle",
    "bus",
    "trailer",
    "barrier",
    "motorcycle",
    "bicycle",
    "pedestrian",
    "traffic_cone",
)
CATEGORIES = {  # of 23; the others are not detected
    "human.pedestrian.adult": "pedestrian",
    "human.pedestrian.child": "pedestrian",
    "human.pedestrian.construction_worker": "pedestrian",
    "human.pedestrian.police_officer": "pedestrian",
    "movable_object.barrier": "barrier",
    "movable_object.trafficcone": "traffic_cone",
    "vehicle.bicycle": "bicycle",
    "vehicle.bus.bendy": "bus",
    "vehicle.bus.rigid": "bus",
    "vehicle.car": "car",
    "vehicle.construction": "construction_vehicle",
    "vehicle.motorcycle": "motorcycle",
    "vehicle.trailer": "trailer",
    "vehicle.truck": "truck",
}
COLUMNS = 5  # of a point on disk: x, y, z, intensity up to 255, ring
LONGEST_GAP = 1.5  # seconds between annotations that still make a velocity
MICROSECONDS = 1e6
# From the lidar's own frame (x right, y forward) to x forward, y left.
FORWARD = np.array([[0.0, 1.0, 0, 0], [-1.0, 0.0, 0, 0], [0, 0, 1.0, 0], [0, 0, 0, 1.0]])


def read_sample(
    tables: Tables,
    token: str,
    picture: tuple[int, int] | None = None,
    *,
    sweeps: int = 0,
    unseen: bool = False,
) -> DetectionSample:
    """Read one sample: its points with those of up to `sweeps` earlier sweeps, six views, boxes.

    Pictures are averaged down to `picture`, (h, w), and the projections with them. Boxes without a
    point of the lidar are left out unless `unseen`. Raises ValueError for files that are missing or
    malformed and for a sample without one of the sensors.
    """
    tables.get("sample", token)
    frames = tables.key_frames.get(token, {})
    lacking = [channel for channel in (LIDAR, *CAMERAS) if channel not in frames]
    if lacking:
        raise ValueError(f"{tables.root}: the sample {token!r} has no key frame of {lacking[0]}")
    lidar = frames[LIDAR]
    from_world = FORWARD @ np.linalg.inv(_to_world(tables, lidar))
    views = [_view(tables, frames[channel], from_world, picture) for channel in CAMERAS]
    boxes, classes = _boxes(tables, token, from_world, unseen=unseen)
    return DetectionSample(
        points=_clouds(tables, lidar, from_world, sweeps),
        images=np.stack([image for image, _ in views]),
        lidar2img=np.stack([matrix for _, matrix in views]).astype(np.float32),
        boxes=boxes,
        classes=classes,
    )


def read_cloud(path: Path) -> Floats:
    """Read a `.pcd.bin`, (N, 4): x, y, z in the lidar's own frame and intensity in [0, 1]."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}; {TREE}") from error
    if not raw or len(raw) % (4 * COLUMNS):
        problem = f"{len(raw)} bytes are no whole number of points"
        raise ValueError(f"{path}: {problem} of five 32-bit floats")
    points_N5 = np.frombuffer(raw, dtype="<f4").reshape(-1, COLUMNS)
    if not np.isfinite(points_N5).all():
        raise ValueError(f"{path}: a point is not finite")
    scale = np.array([1.0, 1.0, 1.0, 1.0 / 255.0], dtype=np.float32)
    cloud_N4: Floats = (points_N5[:, :4] * scale).astype(np.float32)
    return cloud_N4


def pose_matrix(translation: Sequence[float], rotation: Sequence[float]) -> Matrix:
    """Return the 4 x 4 matrix of a pose; the quaternion w, x, y, z need not have length 1.

    Raises ValueError for other lengths and for a quaternion of zeros.
    """
    shift, turn = np.asarray(translation, np.float64), np.asarray(rotation, np.float64)
    length = float(np.linalg.norm(turn)) if turn.shape == (4,) else 0.0
    if shift.shape != (3,) or not length > 0.0:
        raise ValueError(f"no pose: translation {translation!r}, rotation {rotation!r}")
    w, x, y, z = turn / length
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - z * w), 2.0 * (x * z + y * w)],
        [2.0 * (x * y + z * w), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - x * w)],
        [2.0 * (x * z - y * w), 2.0 * (y * z + x * w), 1.0 - 2.0 * (x * x + y * y)],
    ]
    matrix[:3, 3] = shift
    return matrix


def _pose(tables: Tables, table: str, token: str) -> Matrix:
    record = tables.get(table, token)
    try:
        return pose_matrix(record["translation"], record["rotation"])
    except ValueError as error:
        path = tables.root / tables.version / f"{table}.json"
        raise ValueError(f"{path}: the record {token!r} is {error}") from error


def _to_world(tables: Tables, data: Record) -> Matrix:
    """Return the pose of the sensor that made a record of `sample_data`, at its moment."""
    sensor = _pose(tables, "calibrated_sensor", data["calibrated_sensor_token"])
    return _pose(tables, "ego_pose", data["ego_pose_token"]) @ sensor


def _clouds(tables: Tables, lidar: Record, from_world: Matrix, sweeps: int) -> Floats:
    """Return points (N, 5) of the key frame and of the sweeps before, moved into its frame."""
    parts, data = [], lidar
    for _ in range(sweeps + 1):
        cloud_N4 = read_cloud(tables.root / str(data["filename"]))
        into = from_world @ _to_world(tables, data)
        place_N3 = cloud_N4[:, :3] @ into[:3, :3].T + into[:3, 3]
        age = (lidar["timestamp"] - data["timestamp"]) / MICROSECONDS
        parts.append(np.column_stack([place_N3, cloud_N4[:, 3], np.full(len(cloud_N4), age)]))
        if not data["prev"]:
            break
        data = tables.get("sample_data", data["prev"])
    return np.concatenate(parts).astype(np.float32)


def _view(
    tables: Tables, camera: Record, from_world: Matrix, picture: tuple[int, int] | None
) -> tuple[Floats, Matrix]:
    """Return a picture (3, h, w) in [0, 1] and the matrix that takes points to its pixels."""
    pixels = _read_image(tables.root / str(camera["filename"]))
    calibrated = tables.get("calibrated_sensor", camera["calibrated_sensor_token"])
    intrinsic = np.asarray(calibrated["camera_intrinsic"], np.float64)
    if intrinsic.shape != (3, 3):
        path = tables.root / tables.version / "calibrated_sensor.json"
        problem = f"the camera {calibrated['token']!r} has an intrinsic of shape {intrinsic.shape}"
        raise ValueError(f"{path}: {problem}, not 3 x 3")
    tall, wide = pixels.shape[1:]
    height, width = picture or (tall, wide)
    padded = np.eye(4)
    padded[:3, :3] = np.diag([width / wide, height / tall, 1.0]) @ intrinsic
    to_camera = np.linalg.inv(_to_world(tables, camera)) @ np.linalg.inv(from_world)
    image = torch.from_numpy(pixels.astype(np.float32) / 255.0)
    if picture is not None:
        image = functional.interpolate(image[None], size=picture, mode="area")[0]
    return image.numpy(), padded @ to_camera


def _read_image(path: Path) -> NDArray[np.uint8]:
    from PIL import Image  # noqa: PLC0415 - for those who read pictures only

    try:
        with Image.open(path, formats=["JPEG", "PNG"]) as image:
            pixels = np.asarray(image.convert("RGB"), dtype=np.uint8)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: this is no readable picture: {error}") from error
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _boxes(
    tables: Tables, token: str, from_world: Matrix, *, unseen: bool
) -> tuple[Floats, NDArray[np.int64]]:
    """Return boxes (M, 9), as x, y, z, width, length, height, yaw, vx, vy, and their classes."""
    boxes: list[list[float]] = []
    classes: list[int] = []
    for annotation in tables.annotations.get(token, ()):
        instance = tables.get("instance", annotation["instance_token"])
        name = CATEGORIES.get(str(tables.get("category", instance["category_token"])["name"]))
        if name is None or not (unseen or annotation.get("num_lidar_pts", 1) > 0):
            continue
        pose = from_world @ _pose(tables, "sample_annotation", annotation["token"])
        yaw = float(np.arctan2(pose[1, 0], pose[0, 0]))
        velocity = from_world[:3, :3] @ _velocity(tables, annotation)
        size = [float(value) for value in annotation["size"]]
        boxes.append([*pose[:3, 3], *size, yaw, velocity[0], velocity[1]])
        classes.append(CLASSES.index(name))
    return np.array(boxes, np.float32).reshape(-1, 9), np.array(classes, np.int64)


def _velocity(tables: Tables, annotation: Record) -> Matrix:
    """Return the velocity (3,) in the world, from annotations before and after; 0 if unknown."""
    ends = [
        tables.get("sample_annotation", annotation[side]) if annotation[side] else annotation
        for side in ("prev", "next")
    ]
    first, last = (tables.get("sample", end["sample_token"])["timestamp"] for end in ends)
    seconds = (last - first) / MICROSECONDS
    steps = sum(bool(annotation[side]) for side in ("prev", "next"))
    if not 0.0 < seconds <= LONGEST_GAP * steps:
        return np.zeros(3)
    places = [np.asarray(end["translation"], np.float64) for end in ends]
    velocity: Matrix = (places[1] - places[0]) / seconds
    return velocity
