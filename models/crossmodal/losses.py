"""Losses of the scene classifier, per sample, and the best that a constant can reach.

N samples

    bce       w y softplus(-z) + (1 - y) softplus(z)
    focal     the same, times (1 - p_t)^2 and 0.25 for y = 1, 0.75 for y = 0 (Lin et al. 2017)
    mean_std  mean(s) + 0.1 std(s) with s = sigmoid(z): it never looks at the labels, and its
              minimum is s = 0 everywhere, which a net finds within twenty steps
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

LOSSES = ("bce", "mean_std", "focal")
FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0
STD_WEIGHT = 0.1
GRID_LIMIT, GRID_STEPS = 20.0, 4001


def sample_loss(loss: str, logit_N: Tensor, target_N: Tensor, pos_weight: float = 1.0) -> Tensor:
    """Return the loss of each sample (N,); the training loss is their mean.

    `pos_weight` multiplies the loss of positives, except in `mean_std`, which has none. There the
    samples' values are parts of the batch's mean and standard deviation. ValueError for another.
    """
    if loss not in LOSSES:
        raise ValueError(f"loss: {loss!r} is not known; choose one of {', '.join(LOSSES)}")
    if loss == "mean_std":
        return _mean_std(torch.sigmoid(logit_N))
    weight_N = 1.0 + (pos_weight - 1.0) * target_N
    sign_N = 1.0 - 2.0 * target_N
    plain_N = functional.softplus(sign_N * logit_N)
    if loss == "bce":
        return weight_N * plain_N
    alpha_N = torch.where(target_N > 0.5, FOCAL_ALPHA, 1.0 - FOCAL_ALPHA)
    return weight_N * alpha_N * torch.sigmoid(sign_N * logit_N) ** FOCAL_GAMMA * plain_N


def uses_labels(loss: str) -> bool:
    """Whether any target enters the loss."""
    return loss != "mean_std"


def constant_losses(loss: str, target_N: Tensor, pos_weight: float = 1.0) -> Tensor:
    """Return the loss of each sample (N,), float64, under the best constant logit.

    The logit is found on a grid and then refined. Where only one class is present, and for
    `mean_std`, the best constant logit is infinite, and every loss is 0.
    """
    target_N = target_N.detach().double()
    share = float(target_N.mean())
    if not uses_labels(loss) or share in (0.0, 1.0):
        return torch.zeros_like(target_N)
    logit = _best_logit(loss, share, pos_weight)
    return sample_loss(loss, torch.full_like(target_N, logit), target_N, pos_weight)


def label_entropy(share: float) -> float:
    """Return H(p) in nats: the least cross-entropy of a prediction that knows only the share."""
    if share in (0.0, 1.0):
        return 0.0
    return -share * math.log(share) - (1.0 - share) * math.log1p(-share)


def _mean_std(score_N: Tensor) -> Tensor:
    """Split mean + 0.1 std into parts whose mean it is."""
    spread = score_N.std(correction=0)
    gap_N = (score_N - score_N.mean()).square()
    # Equal scores have no spread; the gradient there is set to 0 instead of 0/0.
    some = spread > 0.0
    shares_N = torch.where(some, gap_N / torch.where(some, spread, 1.0), 0.0)
    return score_N + STD_WEIGHT * shares_N


def _best_logit(loss: str, share: float, pos_weight: float) -> float:
    low, high = -GRID_LIMIT, GRID_LIMIT
    for _ in range(3):
        logit_G = torch.linspace(low, high, GRID_STEPS, dtype=torch.float64)
        ones_G = torch.ones_like(logit_G)
        hit_G = sample_loss(loss, logit_G, ones_G, pos_weight)
        miss_G = sample_loss(loss, logit_G, 0.0 * ones_G, pos_weight)
        best = int((share * hit_G + (1.0 - share) * miss_G).argmin())
        low, high = float(logit_G[max(best - 1, 0)]), float(logit_G[min(best + 1, GRID_STEPS - 1)])
    return 0.5 * (low + high)
