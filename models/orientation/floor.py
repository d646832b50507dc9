"""The best constant mixture: what a model reaches that ignores its input, the H0 of every loss.

R constants · S samples · K components
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from sickbay.models.orientation.mixture import Mixture, density_kl, mixture_loss

Loss = Callable[[Mixture, Mixture], Tensor]  # (rows, K) twice -> (rows,)

MOST_SAMPLES = 192  # a floor over more samples is the same to three digits
STEPS = 60
RATE = 0.05
KEPT = 2  # starts that are worth descending from


def loss_floor(loss: str, truth: Mixture, kappa: float) -> float:
    """Return the least mean loss on `truth` of one constant mixture with as many components.

    Found by descent from the best of several starts, through the loss itself, so that every
    weighting is honoured. `kappa` is the concentration to start from. Of more than 192 samples,
    192 are used, evenly spread.
    """
    return _least(lambda constant, true: mixture_loss(loss, constant, true), truth, kappa)


def density_floor(truth: Mixture, kappa: float) -> float:
    """Return the least mean KL(truth || constant) that one single component reaches."""
    return _least(density_kl, truth, kappa, components=1)


def _least(loss: Loss, truth: Mixture, kappa: float, components: int | None = None) -> float:
    samples, peaks = truth.mu.shape
    spread = torch.linspace(0, samples - 1, min(samples, MOST_SAMPLES)).round().long()
    truth = truth[spread]
    start_RD = _starts(components or peaks, kappa).to(truth.mu)
    with torch.no_grad():
        order_R = _mean_loss(loss, start_RD, truth).argsort(stable=True)
    parameter_RD = start_RD[order_R[:KEPT]].requires_grad_()
    optimizer = torch.optim.Adam([parameter_RD], lr=RATE)
    best = math.inf
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss_R = _mean_loss(loss, parameter_RD, truth)
        best = min(best, float(loss_R.detach().min()))
        loss_R.sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return best


def _starts(components: int, kappa: float) -> Tensor:
    """Return rows of angles, log concentrations and logits: evenly spaced, sharp or flat."""
    gap = 2.0 * math.pi / components
    rows = []
    for turn in range(6):
        angles = [gap * (k + turn / 6.0) for k in range(components)]
        for concentration in (max(kappa, 0.05), 0.05):
            for first in (0.0, 8.0):  # all components alike, or the first one almost alone
                logits = [first] + [0.0] * (components - 1)
                rows.append(angles + [math.log(concentration)] * components + logits)
    return torch.tensor(rows)


def _mean_loss(loss: Loss, parameter_RD: Tensor, truth: Mixture) -> Tensor:
    constants, samples = len(parameter_RD), len(truth.mu)
    mu_RK, log_kappa_RK, logit_RK = parameter_RD.chunk(3, dim=1)
    one_each = Mixture(mu_RK, log_kappa_RK.exp(), logit_RK.log_softmax(dim=1))
    row = torch.arange(constants, device=mu_RK.device).repeat_interleave(samples)
    sample = torch.arange(samples, device=mu_RK.device).repeat(constants)
    return loss(one_each[row], truth[sample]).reshape(constants, samples).mean(dim=1)
