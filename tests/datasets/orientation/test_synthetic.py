"""The tensors that training sees: seeded, turned as their targets, never mixed between splits."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from sickbay.datasets.orientation.synthetic import (
    OrientationSpec,
    batches,
    orientation_data,
    turned,
)

SPEC = OrientationSpec(
    dataset="synthetic",
    kfold=4,
    kappa=8.0,
    components=4,
    points=64,
    train_shapes=5,
    val_shapes=3,
    classes="",
    seed=0,
)


def variant(**changes):
    return orientation_data(dataclasses.replace(SPEC, **changes))


def test_data_follow_from_the_seed_alone():
    first = orientation_data(SPEC)
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002 - the global generators must not matter
    again = orientation_data(SPEC)
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a.points, b.points)
        assert torch.equal(a.mu, b.mu)
    assert not torch.equal(variant(seed=1)[0].points, first[0].points)


def test_splits_have_their_sizes_and_share_no_shape():
    train, val = orientation_data(SPEC)
    assert (len(train), len(val)) == (5, 3)
    assert train.points.shape == (5, 64, 3)
    assert not any(torch.equal(a, b) for a in train.points for b in val.points)
    assert train.points.norm(dim=-1).amax(dim=1) == pytest.approx(torch.ones(5))


@pytest.mark.parametrize("kfold", [1, 2, 3, 4, 6])
def test_targets_are_evenly_spaced_peaks(kfold):
    train, _ = variant(kfold=kfold, components=kfold)
    gaps = torch.cos(kfold * (train.mu - train.mu[:, :1]))
    assert gaps.min() == pytest.approx(1.0, abs=1e-5)
    assert len({round(value, 4) for value in (train.mu[0] % (2 * math.pi)).tolist()}) == kfold
    assert (train.kappa == 8.0).all()
    assert train.weight.sum(dim=1) == pytest.approx(torch.ones(5))


def test_a_shape_without_direction_has_a_flat_target():
    train, _ = variant(kfold=0, components=1)
    assert (train.kappa == 0.0).all()


def test_fewer_peaks_than_components_share_them_without_changing_the_density():
    train, _ = variant(kfold=3, components=4)
    assert train.weight[0].tolist() == pytest.approx([1 / 6, 1 / 3, 1 / 3, 1 / 6])
    assert train.mu[0, 0] == train.mu[0, 3]


def test_more_peaks_than_components_are_refused():
    with pytest.raises(ValueError, match=r"kfold: synthetic has 6 peaks and the mixture only 4"):
        variant(kfold=6, components=4)


def test_yaws_are_spread_over_the_circle():
    train, _ = variant(kfold=1, components=1, train_shapes=200, points=4)
    resultant = torch.exp(1j * train.mu[:, 0]).mean().abs()
    assert resultant < 0.15


def test_targets_turn_with_their_clouds():
    """The front of a chair, found in the turned cloud itself, is where the target says it is."""
    train, _ = variant(kfold=1, components=1, points=3000)
    batch = turned(train, torch.arange(5 * 12), 12)
    for cloud, mu in zip(batch.points, batch.mu[:, 0], strict=True):
        back = cloud[cloud[:, 1] > cloud[:, 1].quantile(0.85)].mean(dim=0)
        towards_front = math.atan2(-float(back[0]), float(back[2]))
        assert math.cos(towards_front - float(mu)) > 0.97


def test_a_turn_is_about_y_and_keeps_lengths():
    train, _ = orientation_data(SPEC)
    batch = turned(train, torch.tensor([0, 1, 11]), 12)
    assert torch.equal(batch.points[0], train.points[0])
    assert batch.points[1][:, 1] == pytest.approx(train.points[0][:, 1])
    assert batch.points[1].norm(dim=1) == pytest.approx(train.points[0].norm(dim=1), abs=1e-5)
    assert float(batch.mu[1, 0]) == pytest.approx(
        float(train.mu[0, 0]) - math.radians(30), abs=1e-5
    )


def test_evaluation_goes_through_every_sample_in_order():
    _, val = orientation_data(SPEC)
    parts = list(batches(val, 12, 10))
    assert [len(part.points) for part in parts] == [10, 10, 10, 6]
    whole = turned(val, torch.arange(36), 12)
    assert torch.equal(torch.cat([part.points for part in parts]), whole.points)


def test_training_goes_through_every_sample_once_jittered_in_a_seeded_order():
    train, _ = orientation_data(SPEC)

    def epoch(seed):
        parts = list(batches(train, 12, 16, torch.Generator().manual_seed(seed)))
        return torch.cat([part.points for part in parts]), torch.cat([part.mu for part in parts])

    points, mu = epoch(1)
    plain = turned(train, torch.arange(60), 12)
    assert sorted(mu[:, 0].tolist()) == pytest.approx(sorted(plain.mu[:, 0].tolist()))
    order = [int((plain.mu[:, 0] == value).nonzero()[0]) for value in mu[:, 0]]
    noise = points - plain.points[order]
    assert noise.abs().max() <= 0.05 + 1e-6
    assert float(noise.std()) == pytest.approx(0.01, rel=0.05)
    again, other = epoch(1), epoch(2)
    assert torch.equal(again[0], points)
    assert not torch.equal(other[1], mu)


def test_going_through_the_data_leaves_the_shared_tensors_alone():
    train, _ = orientation_data(SPEC)
    before = train.points.clone()
    list(batches(train, 12, 16, torch.Generator().manual_seed(1)))
    assert torch.equal(train.points, before)


def test_generated_classes_take_turns_and_share_their_peaks_among_the_components():
    spec = dataclasses.replace(SPEC, classes="tank, chair", train_shapes=5)
    train, _ = orientation_data(spec)
    distinct = [len({round(angle, 4) for angle in row}) for row in train.mu.tolist()]
    assert distinct == [4, 1, 4, 1, 4]
    assert torch.allclose(train.weight.sum(dim=1), torch.ones(5))
