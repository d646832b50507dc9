"""The best constant, found through the loss, against its closed form."""

import math

import pytest
import torch

from sickbay.models.orientation.floor import density_floor, loss_floor
from sickbay.models.orientation.mixture import Mixture, mixture_loss
from sickbay.models.orientation.vonmises import constant_floor, truth_to_uniform


def turned_truth(kfold, samples=144, kappa=8.0):
    """The same peaks at evenly spread yaws: the closed forms' uniform yaw."""
    yaw = torch.arange(samples)[:, None] * (2 * math.pi / samples)
    mu = torch.tensor([2 * math.pi * k / kfold for k in range(kfold)]) + yaw
    return Mixture(mu, torch.full_like(mu, kappa), torch.full_like(mu, -math.log(kfold)))


@pytest.mark.parametrize("loss", ["pred_w", "uniform", "pred_w+wl"])
def test_matched_losses_have_the_closed_floor(loss):
    assert loss_floor(loss, turned_truth(4), 8.0) == pytest.approx(0.7429, abs=2e-3)


@pytest.mark.parametrize("kfold", [1, 2, 3, 6])
def test_the_floor_follows_the_number_of_peaks(kfold):
    floor = loss_floor("uniform", turned_truth(kfold, 72), 8.0)
    assert floor == pytest.approx(constant_floor(kfold, 8.0), rel=1e-2)


def test_the_dense_floor_is_no_direction_at_all():
    assert loss_floor("dense", turned_truth(4), 8.0) == pytest.approx(0.1306, abs=2e-4)
    assert density_floor(turned_truth(4), 8.0) == pytest.approx(0.1306, abs=2e-4)


def test_one_component_reaches_less_where_the_yaws_agree():
    truth = turned_truth(1)[:1]
    assert density_floor(truth, 5.0) == pytest.approx(0.0, abs=2e-3)
    assert truth_to_uniform(1, 8.0) > 1.0


def test_no_constant_does_better_than_the_floor():
    truth = turned_truth(4, 48)
    floor = loss_floor("pred_w", truth, 8.0)
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        mu = torch.rand(1, 4, generator=generator) * 6.3
        kappa = torch.rand(1, 4, generator=generator) * 12
        logits = torch.randn(1, 4, generator=generator) * 3
        guess = Mixture(mu, kappa, logits.log_softmax(1))[torch.zeros(48, dtype=torch.long)]
        assert float(mixture_loss("pred_w", guess, truth).mean()) > floor - 1e-4


def test_the_floor_does_not_touch_the_global_generator():
    before = torch.get_rng_state()
    loss_floor("pred_w", turned_truth(2, 12), 8.0)
    assert torch.equal(before, torch.get_rng_state())
