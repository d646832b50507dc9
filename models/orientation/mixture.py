"""Mixtures of von Mises as values, the exact matching of two of them, and the losses built on it.

B samples · K components, as many as true peaks · P permutations of K · G grid angles

    C_ij      = KL(predicted i || true j)                      (the reverse direction, as upstream)
    σ         = the permutation that minimises Σ_i C_{i,σ(i)}
    pred_w    = Σ w_i C_{i,σ(i)} / (Σ w_i + 1e-8)              weighted by the PREDICTED weights
    uniform   = Σ C_{i,σ(i)} / K                               never looks at the weights
    pred_w+wl = pred_w + 0.1·½·(KL(g||w) + KL(w||g))           g: the true weights, matched
    dense     = ∫ p_true log(p_true / p_predicted) dθ          forward, on a grid, no matching

`pred_w` can be cheated: a model that puts its whole weight on one component is asked for one peak.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from sickbay.models.orientation.vonmises import circle_grid, log_density, von_mises_kl

LOSSES = ("pred_w", "uniform", "pred_w+wl", "dense")
GRID_POINTS = 180
WEIGHT_LOSS_SCALE = 0.1
ENUMERATED = 4  # up to 4! = 24 permutations are tried at once; beyond that, the Hungarian method


@dataclass(frozen=True)
class Mixture:
    """B mixtures of K von Mises: angles in radians, concentrations, log weights, each (B, K)."""

    mu: Tensor
    kappa: Tensor
    log_weight: Tensor

    @property
    def weight(self) -> Tensor:
        """The mixture weights; each row sums to 1."""
        return self.log_weight.exp()

    def __getitem__(self, rows: Tensor | slice) -> "Mixture":
        """Pick samples."""
        return Mixture(self.mu[rows], self.kappa[rows], self.log_weight[rows])

    @classmethod
    def concatenate(cls, parts: Sequence["Mixture"]) -> "Mixture":
        """Put samples one after another."""
        return cls(
            torch.cat([part.mu for part in parts]),
            torch.cat([part.kappa for part in parts]),
            torch.cat([part.log_weight for part in parts]),
        )


def pairwise_kl(predicted: Mixture, truth: Mixture) -> Tensor:
    """Return C, shape (B, K, K): KL from predicted component i to true peak j."""
    return von_mises_kl(
        predicted.mu[:, :, None],
        predicted.kappa[:, :, None],
        truth.mu[:, None, :],
        truth.kappa[:, None, :],
    )


def match(cost_BKK: Tensor) -> Tensor:
    """Return for each component the true peak it is matched to, shape (B, K), exactly.

    Minimises the summed cost over all permutations. A cost that is not finite counts as 1e6, so
    that a diverged model still gets a matching (and a loss of NaN, which says what happened).
    """
    components = cost_BKK.shape[-1]
    cost_BKK = cost_BKK.detach().nan_to_num(nan=1e6, posinf=1e6, neginf=-1e6)
    if components > ENUMERATED:
        rows = [linear_sum_assignment(cost)[1] for cost in cost_BKK.cpu().numpy()]
        return torch.from_numpy(np.stack(rows)).to(cost_BKK.device)
    sigma_PK = _permutations(components, cost_BKK.device)
    row_1K = torch.arange(components, device=cost_BKK.device)[None]
    total_BP = cost_BKK[:, row_1K, sigma_PK].sum(dim=-1)
    return sigma_PK[total_BP.argmin(dim=-1)]


@functools.lru_cache(maxsize=16)
def _permutations(components: int, device: torch.device) -> Tensor:
    """Return all permutations of so many components, (P, K), made once on each device."""
    return torch.tensor(list(itertools.permutations(range(components))), device=device)


def matched_kl(predicted: Mixture, truth: Mixture) -> tuple[Tensor, Tensor]:
    """Return C_{i,σ(i)} and σ, both (B, K)."""
    cost_BKK = pairwise_kl(predicted, truth)
    sigma_BK = match(cost_BKK)
    return cost_BKK.gather(2, sigma_BK[:, :, None])[:, :, 0], sigma_BK


def density_kl(predicted: Mixture, truth: Mixture) -> Tensor:
    """Return KL(truth || prediction) of the whole densities, shape (B,), on 180 angles."""
    theta_G = circle_grid(GRID_POINTS, truth.mu)
    log_true_BG = log_density(theta_G, truth.mu, truth.kappa, truth.log_weight)
    log_pred_BG = log_density(theta_G, predicted.mu, predicted.kappa, predicted.log_weight)
    integrand_BG = log_true_BG.exp() * (log_true_BG - log_pred_BG)
    return integrand_BG.mean(dim=-1) * (2.0 * math.pi)


def weighted_matched_kl(predicted: Mixture, kl_BK: Tensor) -> Tensor:
    """Return the matched divergences averaged with the predicted weights, shape (B,)."""
    weight_BK = predicted.weight
    return (weight_BK * kl_BK).sum(dim=-1) / (weight_BK.sum(dim=-1) + 1e-8)


def mixture_loss(name: str, predicted: Mixture, truth: Mixture) -> Tensor:
    """Return a loss of each sample, shape (B,), by its name; see the top of this file.

    `uniform` does not touch the weights, so that their head has no gradient at all. Raises
    ValueError for a name that is not in `LOSSES`.
    """
    if name == "dense":
        return density_kl(predicted, truth)
    kl_BK, sigma_BK = matched_kl(predicted, truth)
    if name == "uniform":
        return kl_BK.mean(dim=-1)
    if name == "pred_w":
        return weighted_matched_kl(predicted, kl_BK)
    if name == "pred_w+wl":
        difference_BK = truth.log_weight.gather(1, sigma_BK) - predicted.log_weight
        true_weight_BK = truth.weight.gather(1, sigma_BK)
        jeffreys_B = ((true_weight_BK - predicted.weight) * difference_BK).sum(dim=-1)
        return weighted_matched_kl(predicted, kl_BK) + WEIGHT_LOSS_SCALE * 0.5 * jeffreys_B
    raise ValueError(f"loss: {name!r} is not known; choose one of {', '.join(LOSSES)}")
