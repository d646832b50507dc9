"""Measures of a long-tailed classifier and of its encoder, against independent computations."""

import math

import numpy as np
import pytest
import torch

from sickbay.models.longtail.metrics import (
    accuracy_signals,
    class_share,
    feature_signals,
    fisher_ratio,
    linear_cka,
    nearest_mean,
    paired_drop_error,
    rank_me,
    thirds,
    variance_ratio,
)


def test_head_and_tail_are_thirds_by_training_images():
    counts = (5, 100, 50, 7, 1, 3, 30, 20, 2, 60)
    assert thirds(counts) == {"head": [1, 9, 2], "middle": [6, 7, 3, 0], "tail": [5, 8, 4]}
    assert thirds((4, 9)) == {"head": [1], "middle": [], "tail": [0]}


def test_accuracies_by_hand():
    counts = (80, 15, 5)
    logits = torch.tensor([[3.0, 1, 0], [2.0, 1, 0], [2.0, 1.5, 1.4], [0.0, 0, 1]])
    label = torch.tensor([0, 1, 2, 2])
    signals, right = accuracy_signals(logits, label, counts)
    assert signals["val_accuracy"] == 0.5
    assert right.tolist() == [1.0, 0.0, 0.0, 1.0]
    assert (signals["val_accuracy_head"], signals["val_accuracy_tail"]) == (1.0, 0.5)
    assert signals["val_accuracy_middle"] == 0.0
    assert signals["val_confusion"] == [1, 0, 0, 1, 0, 0, 1, 0, 1]
    assert signals["logit_span"] == pytest.approx((3 + 2 + 0.6 + 1) / 4)
    # log-shares -0.22, -1.90, -3.00: the second and third row go over to the rarer classes
    assert signals["val_label_shift_accuracy"] == 0.75


def test_two_classes_have_no_middle():
    signals, _ = accuracy_signals(torch.eye(2), torch.tensor([0, 1]), (9, 1))
    assert math.isnan(signals["val_accuracy_middle"])


def test_the_nearest_mean_by_hand():
    support = torch.tensor([[0.0, 0], [2.0, 0], [10.0, 0]])
    features = torch.tensor([[1.2, 0], [5.0, 0], [6.0, 0]])
    assert nearest_mean(features, support, torch.tensor([0, 0, 1]), 2).tolist() == [0, 0, 1]


def test_the_paired_error_is_that_of_the_difference():
    generator = np.random.default_rng(0)
    before, now = (torch.from_numpy(generator.integers(0, 2, 500)) for _ in range(2))
    expected = (before - now).numpy().std(ddof=1) / math.sqrt(500)
    assert paired_drop_error(before, now) == pytest.approx(expected)
    assert paired_drop_error(before, before) == 0.0


def test_cka_by_centred_kernels():
    """Against HSIC of the kernel matrices: tr(KHLH) / √(tr(KHKH) tr(LHLH))."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(50, 7, generator=generator, dtype=torch.float64)
    y = x[:, :3] @ torch.randn(3, 5, generator=generator, dtype=torch.float64) + 1.0
    centre = torch.eye(50, dtype=torch.float64) - 1.0 / 50
    k, l = x @ x.T @ centre, y @ y.T @ centre  # noqa: E741
    expected = (k @ l).trace() / ((k @ k).trace() * (l @ l).trace()).sqrt()
    assert linear_cka(x, y) == pytest.approx(float(expected))
    turned = x @ torch.linalg.qr(torch.randn(7, 7, dtype=torch.float64))[0]
    assert linear_cka(x, 3.0 * turned + 2.0) == pytest.approx(1.0)
    assert math.isnan(linear_cka(x, torch.ones(50, 2)))


@pytest.mark.parametrize("rank", [1, 2, 6])
def test_equal_singular_values_are_so_many_directions(rank):
    basis = torch.linalg.qr(torch.randn(20, 6, dtype=torch.float64))[0]
    assert rank_me(basis[:, :rank] @ torch.eye(rank, 6, dtype=torch.float64)) == pytest.approx(rank)
    assert math.isnan(rank_me(torch.zeros(4, 3)))
    assert math.isnan(rank_me(torch.full((4, 3), math.nan)))


def test_fishers_ratio_by_hand():
    features = torch.tensor([[0.0], [2.0], [10.0], [12.0]])
    assert fisher_ratio(features, torch.tensor([0, 0, 1, 1])) == pytest.approx(25.0)
    assert math.isnan(fisher_ratio(features[::2], torch.tensor([0, 1])))


def test_features_that_have_not_moved():
    features = torch.randn(40, 6)
    signals = feature_signals(features, features, torch.arange(40) % 4)
    assert signals["encoder_cka"] == pytest.approx(1.0)
    assert signals["feature_drift"] == 0.0
    assert signals["feature_std"] == pytest.approx(1.0, abs=0.2)
    assert feature_signals(2 * features, features, torch.arange(40) % 4)[
        "feature_drift"
    ] == pytest.approx(1.0)


def test_the_variance_of_a_constant_is_none_and_of_the_truth_all():
    label = torch.arange(30) % 3
    assert variance_ratio(torch.zeros(30, 3), label) == 0.0
    sure = torch.nn.functional.one_hot(label).float() * 100.0
    assert variance_ratio(sure, label) == pytest.approx(1.0)
    assert math.isnan(variance_ratio(torch.zeros(3, 2), torch.zeros(3, dtype=torch.long)))


def test_each_class_has_its_share_of_the_gradient():
    gradient = torch.tensor([[1.0, -1.0, 0], [0.0, 0, 0], [0.0, 3, -3]])
    assert class_share(gradient, torch.tensor([0, 1, 2]), 3) == pytest.approx([0.25, 0.0, 0.75])
    assert all(map(math.isnan, class_share(torch.zeros(2, 3), torch.tensor([0, 1]), 3)))
