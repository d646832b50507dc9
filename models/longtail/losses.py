"""The semantic loss of the diffusion model, and the losses of a constant.

N samples · C classes · D latent dimensions

    D   = mean over samples of  min(SNR_t, 5) · |x0̂ − x|²
    L_p = mean of (x0̂ − μ_y)²           towards the prototype of the class
    L_r = mean of (|x0̂ − μ_y| − r_y)²   at its radius; or relu(||x0̂ − μ_y| − r_y| − 0.5)
    S   = D + η_p L_p + η_r L_r          and min(S, cap) where a cap is set

A clamp has zero gradient above its bound: a capped S teaches the model nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from sickbay.models.longtail.diffusion import STEPS
from sickbay.models.longtail.network import LongtailNet

SNR_CAP = 5.0  # min-SNR weighting (Hang et al. 2023)
HINGE = 0.5
RADII = ("mse", "hinge.5")


@dataclass(frozen=True)
class SemanticOptions:
    """Weights of the prototype and the radius loss, the radius loss's form, and the cap."""

    eta_p: float
    eta_r: float
    radius: str
    cap: float = math.inf


@dataclass(frozen=True)
class Semantic:
    """The semantic loss as trained, its three terms before the cap, and whether that cut it."""

    loss: Tensor
    diffusion: Tensor
    prototype: Tensor
    radius: Tensor
    capped: Tensor

    def detached(self) -> "Semantic":
        """Return the same numbers off the graph."""
        fields = (self.loss, self.diffusion, self.prototype, self.radius, self.capped)
        return Semantic(*(field.detach() for field in fields))


def semantic_loss(
    net: LongtailNet,
    latents_ND: Tensor,
    label_N: Tensor,
    options: SemanticOptions,
    generator: torch.Generator,
) -> Semantic:
    """Return the semantic loss of a batch. Steps and noise are drawn from `generator`, on the CPU.

    Raises ValueError for an unknown form of the radius loss.
    """
    device = latents_ND.device
    t_N = torch.randint(STEPS, (len(latents_ND),), generator=generator).to(device)
    noise_ND = torch.randn(latents_ND.shape, generator=generator).to(device)
    noisy_ND = net.diffusion.noisy(latents_ND, t_N, noise_ND)
    x0_ND = net.diffusion.predict(noisy_ND, t_N, label_N)
    weight_N = net.diffusion.weight(t_N, SNR_CAP)
    diffusion = (weight_N * (x0_ND - latents_ND).square().sum(dim=1)).mean()
    centre_ND = net.get_buffer("prototype_CD")[label_N]
    prototype = functional.mse_loss(x0_ND, centre_ND)
    away_N = (x0_ND - centre_ND).square().sum(dim=1).clamp(min=1e-12).sqrt()
    radius = _radius_loss(options.radius, away_N - net.get_buffer("radius_C")[label_N])
    whole = diffusion + options.eta_p * prototype + options.eta_r * radius
    return Semantic(whole.clamp(max=options.cap), diffusion, prototype, radius, whole > options.cap)


def _radius_loss(form: str, gap_N: Tensor) -> Tensor:
    if form == "mse":
        return gap_N.square().mean()
    if form == "hinge.5":
        return functional.relu(gap_N.abs() - HINGE).mean()
    raise ValueError(f"radius: {form!r} is not known; choose one of {', '.join(RADII)}")


def constant_loss(label_N: Tensor) -> Tensor:
    """Return each sample's loss under the best constant for these very labels, (N,).

    It predicts the shares of the classes among them: logits are free in both heads' losses. Its
    mean is the entropy of the labels, log C where all classes are alike.
    """
    counts_C = torch.bincount(label_N).double()
    losses_N: Tensor = -(counts_C / counts_C.sum()).log()[label_N]
    return losses_N


def entropy(class_counts: Sequence[int]) -> float:
    """Return the entropy of the training classes in nats: the floor of the training loss."""
    total = sum(class_counts)
    return -sum(n / total * math.log(n / total) for n in class_counts if n)


def bounded_floor(least: float, greatest: float, classes: int) -> float:
    """Return the least cross-entropy that logits between two bounds can reach."""
    return math.log1p((classes - 1) * math.exp(least - greatest))
