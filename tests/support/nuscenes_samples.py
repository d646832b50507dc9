"""nuScenes' layout on a small tree: tables, clouds and pictures of a vehicle that drives ahead."""

import json
import math
from pathlib import Path

import numpy as np
from PIL import Image

from sickbay.datasets.formats.nuscenes_tables import CAMERAS, LIDAR, NEEDED

WIDE, TALL, FOCAL = 64, 36, 50.0
# Camera frames: x right, y down, z into the picture. This one looks along the vehicle's x.
LOOKS_AHEAD = (0.5, -0.5, 0.5, -0.5)
LIDAR_TURN = (math.sqrt(0.5), 0.0, 0.0, -math.sqrt(0.5))  # its y looks along the vehicle's x
HEIGHT = 1.8
SPEED = 8.0  # metres a second, along the world's y: the vehicle heads there


def yawed(degrees):
    half = math.radians(degrees) / 2
    return [math.cos(half), 0.0, 0.0, math.sin(half)]


def product(left, right):
    a, b = np.array(left), np.array(right)
    scalar = a[0] * b[0] - a[1:] @ b[1:]
    return [float(scalar), *(a[0] * b[1:] + b[0] * a[1:] + np.cross(a[1:], b[1:])).tolist()]


def cloud_file(path: Path, points) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = np.column_stack([points, np.full(len(points), 51.0), np.zeros(len(points))])
    rows.astype("<f4").tofile(path)


class Drive:
    """Tables under construction: one scene, a key frame each half second, a sweep before each."""

    def __init__(self, root: Path, scenes=("scene-0061", "scene-0103"), moments=2):
        self.root, self.tables = root, {name: [] for name in NEEDED}
        self.add("category", "c-car", name="vehicle.car")
        self.add("category", "c-dog", name="animal")
        for index, channel in enumerate((LIDAR, *CAMERAS)):
            turn = (
                LIDAR_TURN if channel == LIDAR else product(yawed(-60.0 * (index - 1)), LOOKS_AHEAD)
            )
            intrinsic = [[FOCAL, 0, WIDE / 2], [0, FOCAL, TALL / 2], [0, 0, 1]]
            self.add("sensor", f"s-{channel}", channel=channel)
            self.add(
                "calibrated_sensor",
                f"k-{channel}",
                sensor_token=f"s-{channel}",
                translation=[0.0, 0.0, HEIGHT],
                rotation=list(turn),
                camera_intrinsic=[] if channel == LIDAR else intrinsic,
            )
        for number, name in enumerate(scenes):
            self.add("scene", f"scene{number}", name=name)
            for moment in range(moments):
                self.moment(number, moment, moments)
        self.write()

    def add(self, table, token, **members):
        self.tables[table].append({"token": token, **members})

    def moment(self, number, moment, moments):
        name, seconds = f"{number}-{moment}", 0.5 * moment
        self.add("sample", name, timestamp=round(seconds * 1e6), scene_token=f"scene{number}")
        for channel in (LIDAR, *CAMERAS):
            late = 0.0 if channel == LIDAR else 0.1
            ending = "pcd.bin" if channel == LIDAR else "jpg"
            file = f"samples/{channel}/{name}.{ending}"
            previous = f"w-{name}" if channel == LIDAR else ""
            self.data(f"d-{name}-{channel}", name, channel, seconds + late, file, previous)
            if channel != LIDAR:
                path = self.root / file
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (WIDE, TALL), (255, 128, 0)).save(path, quality=95)
        self.data(f"w-{name}", name, LIDAR, seconds - 0.1, f"sweeps/{LIDAR}/{name}.pcd.bin", "")
        # A post that stands 12 m ahead of where the vehicle is at 0 s; in the lidar's own frame.
        for when, folder in ((seconds, "samples"), (seconds - 0.1, "sweeps")):
            post = np.array([[0.0, 12.0 - SPEED * when, -1.0]])
            cloud_file(self.root / folder / LIDAR / f"{name}.pcd.bin", post)
        around = [f"{number}-{moment + step}" for step in (-1, 1)]
        ends = [
            "" if not 0 <= moment + step < moments else a
            for step, a in zip((-1, 1), around, strict=True)
        ]
        for kind, shift, lidar_points in (("car", 0.0, 5), ("dog", 1.0, 5), ("hidden", 2.0, 0)):
            category = "c-dog" if kind == "dog" else "c-car"
            if moment == 0:
                self.add("instance", f"i-{number}-{kind}", category_token=category)
            self.add(
                "sample_annotation",
                f"a-{name}-{kind}",
                sample_token=name,
                instance_token=f"i-{number}-{kind}",
                translation=[shift, 20.0 + 3.0 * seconds, 1.0],
                size=[2.0, 4.5, 1.6],
                rotation=yawed(90.0),
                prev=f"a-{ends[0]}-{kind}" if ends[0] else "",
                next=f"a-{ends[1]}-{kind}" if ends[1] else "",
                num_lidar_pts=lidar_points,
            )

    def data(self, token, sample, channel, seconds, file, previous):
        self.add("ego_pose", token, translation=[0.0, SPEED * seconds, 0.0], rotation=yawed(90.0))
        self.add(
            "sample_data",
            token,
            sample_token=sample,
            ego_pose_token=token,
            calibrated_sensor_token=f"k-{channel}",
            timestamp=round(seconds * 1e6),
            is_key_frame=file.startswith("samples"),
            filename=file,
            prev=previous,
        )

    def write(self, version="v1.0-mini"):
        folder = self.root / version
        folder.mkdir(parents=True, exist_ok=True)
        for name, rows in self.tables.items():
            (folder / f"{name}.json").write_text(json.dumps(rows))
