"""Matching and losses against scipy and against their formulas written out."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from scipy.optimize import linear_sum_assignment

from sickbay.models.orientation.mixture import (
    LOSSES,
    Mixture,
    density_kl,
    match,
    matched_kl,
    mixture_loss,
    pairwise_kl,
)


def mixture(samples, components, seed, *, spread=1.0):
    generator = torch.Generator().manual_seed(seed)
    mu = torch.randn(samples, components, generator=generator) * 3.0
    kappa = torch.rand(samples, components, generator=generator) * 12.0 + 0.1
    logits = torch.randn(samples, components, generator=generator) * spread
    return Mixture(mu, kappa, logits.log_softmax(dim=1))


def even(components, samples=1, kappa=8.0):
    mu = torch.tensor([2 * math.pi * k / components for k in range(components)])
    shape = (samples, components)
    log_weight = torch.full(shape, -math.log(components))
    return Mixture(mu.expand(shape), torch.full(shape, kappa), log_weight)


@pytest.mark.parametrize("components", [1, 2, 3, 4, 5, 6])
def test_matching_is_optimal(components):
    cost = pairwise_kl(mixture(40, components, 1), mixture(40, components, 2))
    sigma = match(cost)
    assert sorted(sigma[0].tolist()) == list(range(components))
    for matrix, row in zip(cost.numpy(), sigma.numpy(), strict=True):
        best = matrix[linear_sum_assignment(matrix)].sum()
        assert matrix[np.arange(components), row].sum() == pytest.approx(best, rel=1e-5)


@pytest.mark.parametrize("components", [3, 6])
def test_matching_survives_costs_that_are_not_finite(components):
    cost = torch.full((2, components, components), math.nan)
    cost[1] = math.inf
    for row in match(cost).tolist():
        assert sorted(row) == list(range(components))


def test_matching_a_reordered_truth_costs_nothing():
    truth = mixture(8, 4, 3)
    order = torch.tensor([2, 0, 3, 1])
    shuffled = Mixture(truth.mu[:, order], truth.kappa[:, order], truth.log_weight[:, order])
    kl, sigma = matched_kl(shuffled, truth)
    assert kl.abs().max() < 1e-4
    assert (sigma == order).all()
    for loss in LOSSES:
        assert mixture_loss(loss, shuffled, truth).abs().max() < 1e-4


def test_losses_are_their_formulas():
    predicted, truth = mixture(16, 4, 4), mixture(16, 4, 5)
    kl, sigma = (value.double().numpy() for value in matched_kl(predicted, truth))
    w = predicted.weight.double().numpy()
    g = np.take_along_axis(truth.weight.double().numpy(), sigma.astype(int), axis=1)
    weighted = (w * kl).sum(1) / w.sum(1)
    both = (g * np.log(g / w)).sum(1) + (w * np.log(w / g)).sum(1)
    expected = {"pred_w": weighted, "uniform": kl.mean(1), "pred_w+wl": weighted + 0.1 * 0.5 * both}
    for loss, values in expected.items():
        np.testing.assert_allclose(mixture_loss(loss, predicted, truth).numpy(), values, rtol=1e-4)


def test_density_kl_agrees_with_numerical_integration():
    predicted, truth = mixture(5, 3, 6), mixture(5, 3, 7)
    grid = np.linspace(-np.pi, np.pi, 20_001)

    def density(m, row):
        parts = zip(m.weight[row].tolist(), m.mu[row].tolist(), m.kappa[row].tolist(), strict=True)
        return sum(w * stats.vonmises.pdf(grid, kappa, loc=mu) for w, mu, kappa in parts)

    for row, ours in enumerate(density_kl(predicted, truth).tolist()):
        p, q = density(truth, row), density(predicted, row)
        assert ours == pytest.approx(integrate.trapezoid(p * np.log(p / q), grid), abs=1e-4)


def test_predicted_weights_can_cheat_the_matched_loss():
    """One right component with all the weight: no loss, although three of four peaks are missed."""
    truth = even(4)
    mu = torch.tensor([[0.0, 0.1, 0.2, 0.3]])
    kappa = torch.tensor([[8.0, 0.01, 0.01, 0.01]])
    log_weight = torch.log_softmax(torch.tensor([[16.0, 0.0, 0.0, 0.0]]), dim=1)
    cheat = Mixture(mu, kappa, log_weight)
    assert float(mixture_loss("pred_w", cheat, truth)) < 1e-3
    assert float(mixture_loss("uniform", cheat, truth)) > 3.0
    assert float(mixture_loss("dense", cheat, truth)) > 5.0
    assert float(mixture_loss("pred_w+wl", cheat, truth)) > 0.1


def test_uniform_loss_gives_the_weights_no_gradient_at_all():
    logits = torch.zeros(1, 4, requires_grad=True)
    mu = torch.rand(1, 4, requires_grad=True)
    predicted = Mixture(mu, torch.ones(1, 4), logits.log_softmax(dim=1))
    mixture_loss("uniform", predicted, even(4)).sum().backward()
    assert logits.grad is None
    assert mu.grad is not None
    assert mu.grad.abs().max() > 0


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_stay_finite_where_weights_and_concentrations_are_extreme(loss):
    log_weight = torch.log_softmax(torch.tensor([[0.0, -90.0, -200.0, -300.0]]), dim=1)
    kappa = torch.tensor([[200.0, 1e-6, 200.0, 1e-6]], requires_grad=True)
    predicted = Mixture(torch.zeros(1, 4), kappa, log_weight)
    value = mixture_loss(loss, predicted, even(4)).sum()
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(kappa.grad).all()


def test_matching_pulls_equal_components_apart_but_the_dense_loss_cannot():
    """The symmetric trap is real only for the dense loss: identical components, equal gradients."""
    truth = even(4)
    gradients = {}
    for loss in ("uniform", "dense"):
        mu = torch.full((1, 4), 0.7, requires_grad=True)
        same = Mixture(mu, torch.full((1, 4), 2.0), torch.full((1, 4), -math.log(4)))
        mixture_loss(loss, same, truth).sum().backward()
        gradients[loss] = mu.grad[0]
    assert gradients["uniform"].std() > 0.1
    assert gradients["dense"].std() < 1e-6


def test_an_unknown_loss_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"loss: 'huber' is not known; choose one of pred_w, unif"):
        mixture_loss("huber", even(2), even(2))


def test_samples_can_be_picked_and_put_together():
    whole = mixture(6, 3, 8)
    again = Mixture.concatenate([whole[:2], whole[torch.tensor([2, 3, 4, 5])]])
    assert torch.equal(again.mu, whole.mu)
    assert torch.equal(again.kappa, whole.kappa)
    assert torch.equal(again.log_weight, whole.log_weight)
