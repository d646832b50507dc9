"""The von Mises distribution against scipy and numerical integration."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, optimize, special, stats

from sickbay.models.orientation.vonmises import (
    circular_distance,
    constant_floor,
    log_density,
    log_i0,
    mean_resultant,
    truth_to_one_peak,
    truth_to_uniform,
    von_mises_kl,
)

GRID = np.linspace(-np.pi, np.pi, 20_001)


def peaks(kfold, kappa):
    """Density of `kfold` equal peaks on GRID, by scipy."""
    means = [2 * np.pi * k / kfold for k in range(kfold)]
    return np.mean([stats.vonmises.pdf(GRID, kappa, loc=mean) for mean in means], axis=0)


def divergence(p, q):
    return integrate.trapezoid(p * np.log(p / q), GRID)


@pytest.mark.parametrize("kappa", [0.0, 1e-6, 0.3, 8.0, 88.0, 200.0, 1e4])
def test_log_i0_agrees_with_scipy_and_does_not_overflow_float32(kappa):
    expected = np.log(special.ive(0, kappa)) + kappa
    assert float(log_i0(torch.tensor(kappa, dtype=torch.float64))) == pytest.approx(expected)
    assert float(log_i0(torch.tensor(kappa))) == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_plain_i0_would_overflow_where_ours_does_not():
    assert torch.isinf(torch.special.i0(torch.tensor(100.0)))
    assert torch.isfinite(log_i0(torch.tensor(100.0)))


@pytest.mark.parametrize("kappa", [0.0, 0.5, 8.0, 200.0])
def test_mean_resultant_is_the_mean_cosine(kappa):
    density = stats.vonmises.pdf(GRID, kappa) if kappa else np.full_like(GRID, 0.5 / np.pi)
    expected = integrate.trapezoid(np.cos(GRID) * density, GRID)
    assert float(mean_resultant(torch.tensor(kappa))) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("mu_p", "kappa_p", "mu_q", "kappa_q"),
    [(0.0, 8.0, 0.0, 8.0), (0.3, 2.0, -1.0, 8.0), (3.0, 30.0, -3.0, 4.0), (1.0, 0.01, 0.0, 8.0)],
)
def test_kl_agrees_with_numerical_integration(mu_p, kappa_p, mu_q, kappa_q):
    p = stats.vonmises.pdf(GRID, kappa_p, loc=mu_p)
    q = stats.vonmises.pdf(GRID, kappa_q, loc=mu_q)
    ours = von_mises_kl(*(torch.tensor(value) for value in (mu_p, kappa_p, mu_q, kappa_q)))
    assert float(ours) == pytest.approx(divergence(p, q), abs=1e-4)


def test_kl_has_the_gradient_of_its_finite_difference_also_at_a_large_kappa():
    for kappa in (0.01, 8.0, 200.0):
        inputs = [
            torch.tensor(value, dtype=torch.float64, requires_grad=True)
            for value in (0.4, kappa, -0.7, 8.0)
        ]
        assert torch.autograd.gradcheck(von_mises_kl, inputs, eps=1e-6, atol=1e-4)


def test_kl_lets_nan_through():
    assert torch.isnan(von_mises_kl(torch.tensor(math.nan), *torch.ones(3)))


def test_log_density_integrates_to_one_and_matches_scipy():
    theta = torch.tensor(GRID)
    rows = ([[0.0, 2.0]], [[8.0, 120.0]], [[0.3, 0.7]])
    mu, kappa, weight = (torch.tensor(row, dtype=torch.float64) for row in rows)
    ours = log_density(theta, mu, kappa, weight.log())[0].exp().numpy()
    expected = 0.3 * stats.vonmises.pdf(GRID, 8.0) + 0.7 * stats.vonmises.pdf(GRID, 120.0, loc=2.0)
    np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-12)
    assert integrate.trapezoid(ours, GRID) == pytest.approx(1.0)


def test_log_density_survives_a_weight_of_zero():
    log_weight = torch.tensor([[0.0, -math.inf]])
    density = log_density(torch.zeros(1), torch.zeros(1, 2), torch.ones(1, 2), log_weight)
    assert torch.isfinite(density).all()


def test_circular_distance_goes_the_short_way():
    near = circular_distance(torch.tensor(math.pi - 0.1), torch.tensor(-math.pi + 0.1))
    assert float(near) == pytest.approx(0.2, abs=1e-5)


@pytest.mark.parametrize(
    ("kfold", "kappa", "expected"),
    [(4, 8.0, 0.7429), (2, 8.0, 2.6703), (1, 8.0, 6.0581), (3, 4.0, None), (6, 8.0, None)],
)
def test_constant_floor_is_the_least_mean_kl_of_one_constant_angle(kfold, kappa, expected):
    """Found the long way: integrate the divergence over every offset, then minimise over κ."""
    offsets = np.linspace(-np.pi / kfold, np.pi / kfold, 401)

    def mean_kl(kappa_p):
        p = stats.vonmises.pdf(GRID[::20], kappa_p)
        kls = [
            integrate.trapezoid(
                p * np.log(p / stats.vonmises.pdf(GRID[::20], kappa, loc=o)), GRID[::20]
            )
            for o in offsets[::8]
        ]
        return integrate.trapezoid(kls, offsets[::8]) / (2 * np.pi / kfold)

    least = optimize.minimize_scalar(mean_kl, bounds=(1e-3, 12.0), method="bounded").fun
    assert constant_floor(kfold, kappa) == pytest.approx(least, rel=2e-3)
    if expected is not None:
        assert constant_floor(kfold, kappa) == pytest.approx(expected, abs=5e-5)


def test_the_best_constant_concentration_is_the_shrunk_one():
    assert 8.0 * math.sin(math.pi / 4) / (math.pi / 4) == pytest.approx(7.2025, abs=5e-5)


def test_divergences_of_the_truth_agree_with_the_published_figures():
    truth, uniform = peaks(4, 8.0), np.full_like(GRID, 0.5 / np.pi)
    assert truth_to_uniform(4, 8.0) == pytest.approx(divergence(truth, uniform), abs=1e-6)
    assert truth_to_uniform(4, 8.0) == pytest.approx(0.1306, abs=5e-5)
    assert truth_to_one_peak(4, 8.0) == pytest.approx(divergence(truth, peaks(1, 8.0)), abs=1e-5)
    assert truth_to_one_peak(4, 8.0) == pytest.approx(6.189, abs=5e-4)
    # The reverse direction, which a matched loss measures, hardly minds the missing peaks.
    assert divergence(peaks(1, 8.0), truth) == pytest.approx(1.293, abs=5e-4)


def test_without_a_peak_there_is_nothing_to_lose():
    assert constant_floor(0, 8.0) == 0.0
    assert truth_to_uniform(0, 8.0) == pytest.approx(0.0, abs=1e-12)
    assert truth_to_one_peak(0, 8.0) == pytest.approx(0.0, abs=1e-12)
