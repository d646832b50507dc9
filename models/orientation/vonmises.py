"""The von Mises distribution on the circle, its divergences, and the closed forms built on them.

    vM(θ|μ,κ) = exp(κ cos(θ−μ)) / (2π I0(κ))          Mardia & Jupp, Directional Statistics, 3.5.4

Everything goes through the exponentially scaled Bessel functions `i0e`, `i1e`: the plain `i0`
overflows float32 at κ of about 88, and a trained concentration passes that. Angles are in radians.
"""

import math

import torch
from torch import Tensor

LOG_2PI = math.log(2.0 * math.pi)


def log_i0(kappa: Tensor) -> Tensor:
    """Return log I0(κ), any shape, finite for every finite κ ≥ 0. NaN stays NaN."""
    return torch.log(torch.special.i0e(kappa)) + kappa


def mean_resultant(kappa: Tensor) -> Tensor:
    """Return A(κ) = I1(κ)/I0(κ), the length of the mean direction, in [0, 1). NaN stays NaN."""
    numerator: Tensor = torch.special.i1e(kappa)
    denominator: Tensor = torch.special.i0e(kappa)
    return numerator / denominator


def von_mises_kl(mu_p: Tensor, kappa_p: Tensor, mu_q: Tensor, kappa_q: Tensor) -> Tensor:
    """Return KL(vM_p || vM_q) in nats; the four shapes broadcast.

    KL = log I0(κq) − log I0(κp) + A(κp)·(κp − κq cos(μp − μq)). NaN in, NaN out.
    """
    agreement = kappa_p - kappa_q * torch.cos(mu_p - mu_q)
    return log_i0(kappa_q) - log_i0(kappa_p) + mean_resultant(kappa_p) * agreement


def circle_grid(points: int, like: Tensor) -> Tensor:
    """Return `points` equally spaced angles in [0, 2π), shape (G,), dtype and device of `like`."""
    steps = torch.arange(points, dtype=like.dtype, device=like.device)
    return steps * (2.0 * math.pi / points)


def log_density(theta_G: Tensor, mu_BK: Tensor, kappa_BK: Tensor, log_weight_BK: Tensor) -> Tensor:
    """Return the log density of B mixtures at G angles, shape (B, G). A weight may be exactly 0."""
    cosine_BGK = torch.cos(theta_G[None, :, None] - mu_BK[:, None, :])
    offset_BK = log_weight_BK - LOG_2PI - log_i0(kappa_BK)
    return torch.logsumexp(kappa_BK[:, None, :] * cosine_BGK + offset_BK[:, None, :], dim=-1)


def circular_distance(a: Tensor, b: Tensor) -> Tensor:
    """Return the angle between two directions in [0, π]; shapes broadcast."""
    difference = torch.remainder(a - b + math.pi, 2.0 * math.pi) - math.pi
    return difference.abs()


def constant_floor(kfold: int, kappa: float) -> float:
    """Return the least matched KL that one constant component reaches, in nats.

    The truth has `kfold` equal peaks of concentration `kappa`, evenly spaced, at a uniform yaw.
    A constant μ is then off by δ, uniform in ±π/kfold, from the nearest peak; the mean of cos δ is
    s = sin(π/kfold)/(π/kfold), the best concentration is κs, and what is left is
    log I0(κ) − log I0(κs). For kfold 4 and κ 8: 0.7429. With no peak at all (kfold 0) it is 0.
    """
    if kfold == 0:
        return 0.0
    half = math.pi / kfold
    shrunk = kappa * math.sin(half) / half
    bessel = log_i0(torch.tensor([kappa, shrunk], dtype=torch.float64))
    return float(bessel[0] - bessel[1])


def truth_to_uniform(kfold: int, kappa: float, points: int = 720) -> float:
    """Return KL(truth || uniform) in nats for `kfold` equal peaks; 0.1306 for 4 peaks of κ 8."""
    log_truth_G = _truth(kfold, kappa, points)
    return float((log_truth_G.exp() * (log_truth_G + LOG_2PI)).mean() * 2.0 * math.pi)


def truth_to_one_peak(kfold: int, kappa: float, points: int = 720) -> float:
    """Return KL(truth || its first peak alone) in nats; 6.189 for 4 peaks of κ 8.

    This is the divergence of a model that predicts one of the peaks perfectly and forgets the rest.
    """
    log_truth_G = _truth(kfold, kappa, points)
    log_peak_G = _truth(min(kfold, 1), kappa, points)
    return float((log_truth_G.exp() * (log_truth_G - log_peak_G)).mean() * 2.0 * math.pi)


def _truth(kfold: int, kappa: float, points: int) -> Tensor:
    peaks = max(kfold, 1)
    mu_1K = circle_grid(peaks, torch.zeros(1, dtype=torch.float64))[None]
    kappa_1K = torch.full_like(mu_1K, kappa if kfold else 0.0)
    log_weight_1K = torch.full_like(mu_1K, -math.log(peaks))
    return log_density(circle_grid(points, mu_1K), mu_1K, kappa_1K, log_weight_1K)[0]
