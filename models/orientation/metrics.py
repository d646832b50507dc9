"""Metrics of a predicted mixture of von Mises, beyond the loss it was trained with.

S samples · K components, as many as true peaks · P pairs of components · G grid angles

Angles are radians inside, degrees in what is returned. All values are plain floats, NaN where
undefined (for example the distance of components when there is one). Coverage counts
true peaks that have a predicted one within 15° that carries more than a tenth of the weight: the
matched losses cannot see that.
"""

import math

import torch
from torch import Tensor

from sickbay.models.orientation.mixture import (
    GRID_POINTS,
    Mixture,
    density_kl,
    matched_kl,
    mixture_loss,
    weighted_matched_kl,
)
from sickbay.models.orientation.vonmises import circle_grid, circular_distance, log_density

NEAR = math.radians(15.0)
ALIVE = 0.1  # the weight from which a component counts

Metrics = dict[str, float | list[float]]


@torch.no_grad()
def mixture_metrics(predicted: Mixture, truth: Mixture, loss: str) -> Metrics:
    """Return every signal of a prediction against the truth, means over the samples.

    `val_loss` is the named loss, the one that is trained; its standard error is that over samples.
    """
    loss_S = mixture_loss(loss, predicted, truth)
    kl_SK, _ = matched_kl(predicted, truth)
    density_S = density_kl(predicted, truth)
    weight_SK = predicted.weight
    entropy_S = -(weight_SK * predicted.log_weight).sum(dim=-1)
    signals: Metrics = {
        "val_loss": float(loss_S.mean()),
        "val_loss_se": standard_error(loss_S),
        "val_n": float(len(loss_S)),
        "val_matched_kl": float(weighted_matched_kl(predicted, kl_SK).mean()),
        "val_uniform_kl": float(kl_SK.mean()),
        "val_density_kl": float(density_S.mean()),
        "val_density_kl_se": standard_error(density_S),
        "mixture_weights": weight_SK.mean(dim=0).tolist(),
        "mixture_weights_entropy": float(entropy_S.mean()),
        "kappa": predicted.kappa.mean(dim=0).tolist(),
        "component_distance": component_distance(predicted),
        "component_separation": component_separation(predicted),
        "output_variance_ratio": output_variance_ratio(predicted, truth),
    }
    return signals | peak_metrics(predicted, truth)


def standard_error(values_S: Tensor) -> float:
    """Return std / sqrt(n); NaN for fewer than two values."""
    if len(values_S) < 2:
        return math.nan
    return float(values_S.std() / math.sqrt(len(values_S)))


def peak_metrics(predicted: Mixture, truth: Mixture) -> Metrics:
    """Return coverage, with and without regard to weights, and the heaviest component's error.

    NaN where no true peak has a concentration: then every direction is right.
    """
    real_SK = truth.kappa > 0.0
    distance_SKK = circular_distance(truth.mu[:, :, None], predicted.mu[:, None, :])
    near_SKK = distance_SKK < NEAR
    alive_S1K = (predicted.weight > ALIVE)[:, None, :]
    heaviest_S11 = predicted.log_weight.argmax(dim=-1)[:, None, None]
    row_SK1 = heaviest_S11.expand(-1, distance_SKK.shape[1], 1)
    to_heaviest_SK = distance_SKK.gather(2, row_SK1)[:, :, 0]
    to_heaviest_SK = to_heaviest_SK.masked_fill(~real_SK, math.inf)
    error_S = to_heaviest_SK.amin(dim=-1)[real_SK.any(dim=-1)]
    return {
        "peak_coverage": float((near_SKK & alive_S1K).any(dim=-1)[real_SK].double().mean()),
        "peak_coverage_unweighted": float(near_SKK.any(dim=-1)[real_SK].double().mean()),
        "top_weight_error": math.degrees(float(error_S.mean())),
    }


def component_separation(predicted: Mixture) -> float:
    """Return the least angle between two components, degrees, mean over samples."""
    first, second = _pairs(predicted)
    if len(first) == 0:
        return math.nan
    mu_SK = predicted.mu
    distance_SP = circular_distance(mu_SK[:, first], mu_SK[:, second])
    return math.degrees(float(distance_SP.amin(dim=-1).mean()))


def component_distance(predicted: Mixture) -> float:
    """Return the greatest distance of two components' (cos μ, sin μ, log κ) by RMS length."""
    first, second = _pairs(predicted)
    if len(first) == 0:
        return math.nan
    mu_SK, kappa_SK = predicted.mu, predicted.kappa
    place_SK3 = torch.stack([torch.cos(mu_SK), torch.sin(mu_SK), torch.log(kappa_SK)], dim=-1)
    distance_SP = (place_SK3[:, first] - place_SK3[:, second]).norm(dim=-1)
    scale_S = place_SK3.square().sum(dim=-1).mean(dim=-1).sqrt()
    return float((distance_SP.amax(dim=-1) / scale_S).mean())


def gradient_cosine(gradient_KD: Tensor | None) -> float:
    """Return the least cosine between two components' gradients; NaN if one is zero or missing."""
    if gradient_KD is None or len(gradient_KD) < 2:
        return math.nan
    norm_K = gradient_KD.norm(dim=1)
    if not bool((norm_K > 0.0).all()):
        return math.nan
    unit_KD = gradient_KD / norm_K[:, None]
    return float((unit_KD @ unit_KD.T).amin())


def output_variance_ratio(predicted: Mixture, truth: Mixture) -> float:
    """Return how much the predicted density varies over the inputs, relative to the true one.

    A density is embedded as its values on the grid, which needs no matching and no order of peaks.
    0 for a prediction that ignores its input; NaN if the truth itself does not vary.
    """
    predicted_variance, true_variance = _density_variance(predicted), _density_variance(truth)
    return predicted_variance / true_variance if true_variance > 1e-12 else math.nan


def _density_variance(mixture: Mixture) -> float:
    theta_G = circle_grid(GRID_POINTS, mixture.mu)
    log_SG = log_density(theta_G, mixture.mu, mixture.kappa, mixture.log_weight)
    return float(log_SG.exp().var(dim=0, correction=0).sum())


def _pairs(mixture: Mixture) -> tuple[Tensor, Tensor]:
    components = mixture.mu.shape[1]
    first, second = torch.triu_indices(components, components, offset=1).unbind()
    return first, second
