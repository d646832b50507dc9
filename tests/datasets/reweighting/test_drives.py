"""System 4 on nuScenes' layout: what it reads of a small tree; its trials know the data."""

import math
import shutil

import pytest
import torch
from nuscenes_samples import HEIGHT, Drive

from sickbay.datasets.reweighting.drives import real_drives
from sickbay.datasets.reweighting.synthetic import WorldSpec
from sickbay.trials.contract import Context
from sickbay.trials.store import pretrained
from sickbay.trials.workloads.declarations.reweighting import WORKLOAD

SMALL = {
    "views": 6,
    "grid": 16,
    "extent": 24.0,
    "train_samples": 2,
    "val_samples": 2,
    "pretrain_steps": 1,
    "pretrain_batch": 1,
    "batch_size": 1,
    "steps": 1,
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return Drive(tmp_path_factory.mktemp("drive")).root


def spec(root, **changes):
    known = {"train_samples": 9, "val_samples": 9, "extent": 24.0, "grid": 16, "views": 6}
    return WorldSpec(str(root), **{**known, "height": 9, "width": 16, "seed": 0, **changes})


def test_both_splits_are_grids_views_and_boxes_of_scenes_of_their_own(tree):
    train, val = real_drives(spec(tree))
    assert (len(train), len(val)) == (2, 2)
    assert train.bev.shape == (2, 8, 16, 16)
    assert train.views.shape == (2, 6, 3, 9, 16)
    assert train.classes.tolist() == [[0], [0]]  # a car each; dogs are not detected
    # 20 m and then 21.5 m along the way of the vehicle, which is at 0 m and then at 4 m.
    expected = torch.tensor([[20.0, 0.0, 1.0 - HEIGHT], [17.5, 0.0, 1.0 - HEIGHT]])
    torch.testing.assert_close(train.boxes[:, 0, :3], expected, atol=1e-4, rtol=0.0)
    assert float(train.bev[:, 0].sum()) > 0.0


def test_samples_are_limited_and_follow_the_seed(tree):
    train, val = real_drives(spec(tree, train_samples=1, val_samples=1))
    assert (len(train), len(val)) == (1, 1)
    drawn = {
        float(real_drives(spec(tree, train_samples=1, seed=seed))[0].boxes[0, 0, 0])
        for seed in range(6)
    }
    assert len(drawn) == 2


def test_boxes_outside_are_no_targets(tree):
    train, _ = real_drives(spec(tree, extent=19.0))
    assert train.classes.tolist() == [[-1], [0]]
    with pytest.raises(ValueError, match="2 samples have no box within 10 m; take more of them"):
        real_drives(spec(tree, extent=10.0))


def test_without_sweeps_their_folder_need_not_be_there(tree, tmp_path):
    bare = shutil.copytree(tree, tmp_path / "bare")
    shutil.rmtree(bare / "sweeps")
    train, _ = real_drives(spec(bare, sweeps=0))
    assert 0.0 < float(train.bev[:, 0].sum()) <= float(real_drives(spec(tree))[0].bev[:, 0].sum())
    with pytest.raises(ValueError, match="sweeps/LIDAR_TOP"):
        real_drives(spec(bare))


def test_six_views_are_asked_for(tree):
    with pytest.raises(ValueError, match="views: 4 is not possible: nuScenes has 6 cameras; set"):
        real_drives(spec(tree, views=4))


def test_trials_train_on_it_and_know_the_data(tree, tmp_path, monkeypatch):
    states = tmp_path / "states"
    monkeypatch.setattr(pretrained, "kept_in", lambda: states)
    config = {**WORKLOAD.defaults, **SMALL, "dataset": str(tree)}
    context = Context(0, 1, "cpu", ".", lambda: None, lambda make: None)
    (row,) = WORKLOAD.train(config, context)
    assert math.isfinite(row.signals["val_loss"])
    assert row.signals["val_n"] == 2
    assert len(row.signals["val_class_ap"]) == 1  # of ten classes, one is there
    assert WORKLOAD.facts(config, context).n == {"train": 2, "val": 2}
    assert len(list(states.glob("*.pt"))) == 1
    identity = WORKLOAD.data_identity(config)
    assert len(identity) == 64
    assert WORKLOAD.data_identity(WORKLOAD.defaults) == ""

    more = tmp_path / "more"
    shutil.copytree(tree, more)
    (more / "samples" / "LIDAR_TOP" / "other.pcd.bin").write_bytes(b"\0" * 20)
    others = {**config, "dataset": str(more)}
    assert WORKLOAD.data_identity(others) != identity
    next(iter(WORKLOAD.train(others, context)))
    assert len(list(states.glob("*.pt"))) == 2  # a state of other data is another one
