"""What is said about a prediction whose quality is known."""

import math

import pytest
import torch

from sickbay.models.orientation.metrics import (
    component_distance,
    gradient_cosine,
    mixture_metrics,
    standard_error,
)
from sickbay.models.orientation.mixture import Mixture

SAMPLES = 24


def truth(kfold=4, kappa=8.0):
    yaw = torch.arange(SAMPLES)[:, None] * 0.37
    mu = torch.tensor([2 * math.pi * k / kfold for k in range(kfold)]) + yaw
    return Mixture(mu, torch.full_like(mu, kappa), torch.full_like(mu, -math.log(kfold)))


def weights(rows):
    return torch.tensor([rows]).expand(SAMPLES, -1).log()


def test_a_perfect_prediction():
    signals = mixture_metrics(truth(), truth(), "uniform")
    assert signals["val_loss"] == pytest.approx(0.0, abs=1e-5)
    assert signals["val_density_kl"] == pytest.approx(0.0, abs=1e-5)
    assert signals["peak_coverage"] == signals["peak_coverage_unweighted"] == 1.0
    assert signals["output_variance_ratio"] == pytest.approx(1.0)
    assert signals["component_separation"] == pytest.approx(90.0, abs=1e-3)
    assert signals["mixture_weights"] == pytest.approx([0.25] * 4)
    assert signals["mixture_weights_entropy"] == pytest.approx(math.log(4))
    assert signals["kappa"] == pytest.approx([8.0] * 4)
    assert signals["top_weight_error"] == pytest.approx(0.0, abs=1e-3)
    assert signals["val_n"] == SAMPLES


def test_a_collapsed_mixture_is_seen_although_its_loss_is_not():
    true = truth()
    collapsed = Mixture(true.mu, true.kappa, weights([1.0 - 3e-7, 1e-7, 1e-7, 1e-7]))
    signals = mixture_metrics(collapsed, true, "pred_w")
    assert signals["val_loss"] == pytest.approx(0.0, abs=1e-5)
    assert signals["peak_coverage"] == pytest.approx(0.25)
    assert signals["peak_coverage_unweighted"] == 1.0
    assert signals["val_density_kl"] > 5.0
    assert signals["mixture_weights_entropy"] < 1e-4


def test_a_component_just_above_a_tenth_counts_and_one_just_below_does_not():
    true = truth()
    share = Mixture(true.mu, true.kappa, weights([0.33, 0.33, 0.23, 0.11]))
    assert mixture_metrics(share, true, "uniform")["peak_coverage"] == 1.0
    share = Mixture(true.mu, true.kappa, weights([0.34, 0.34, 0.23, 0.09]))
    assert mixture_metrics(share, true, "uniform")["peak_coverage"] == pytest.approx(0.75)


@pytest.mark.parametrize(("degrees", "covered"), [(14.0, 1.0), (16.0, 0.0)])
def test_near_means_within_fifteen_degrees(degrees, covered):
    true = truth()
    off = Mixture(true.mu + math.radians(degrees), true.kappa, true.log_weight)
    signals = mixture_metrics(off, true, "uniform")
    assert signals["peak_coverage"] == covered
    assert signals["top_weight_error"] == pytest.approx(degrees, abs=1e-2)


def test_a_constant_prediction_does_not_vary():
    constant = truth()[torch.zeros(SAMPLES, dtype=torch.long)]
    assert mixture_metrics(constant, truth(), "dense")["output_variance_ratio"] < 1e-9


def test_a_truth_without_direction_leaves_directions_undefined():
    flat = Mixture(torch.zeros(SAMPLES, 1), torch.zeros(SAMPLES, 1), torch.zeros(SAMPLES, 1))
    signals = mixture_metrics(truth(1), flat, "uniform")
    for name in ("peak_coverage", "top_weight_error", "output_variance_ratio"):
        assert math.isnan(signals[name]), name
    for name in ("component_separation", "component_distance"):
        assert math.isnan(signals[name]), name
    assert signals["val_loss"] > 0.0


def test_component_distance_is_zero_only_for_equal_components():
    true = truth()
    same = Mixture(true.mu[:, :1].expand(-1, 4), true.kappa, true.log_weight)
    assert component_distance(same) == 0.0
    assert component_distance(true) > 0.5
    other_kappa = Mixture(same.mu, true.kappa * torch.tensor([1.0, 1.0, 1.0, 2.0]), same.log_weight)
    assert component_distance(other_kappa) > 0.1


def test_gradient_cosine_is_the_least_of_all_pairs():
    assert gradient_cosine(torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]])) == pytest.approx(0.0)
    assert gradient_cosine(torch.tensor([[1.0, 2.0], [2.0, 4.0]])) == pytest.approx(1.0)
    assert math.isnan(gradient_cosine(torch.tensor([[1.0, 0.0], [0.0, 0.0]])))
    assert math.isnan(gradient_cosine(torch.ones(1, 3)))
    assert math.isnan(gradient_cosine(None))


def test_standard_error():
    assert standard_error(torch.tensor([1.0, 2.0, 3.0])) == pytest.approx(1.0 / math.sqrt(3))
    assert math.isnan(standard_error(torch.tensor([1.0])))
