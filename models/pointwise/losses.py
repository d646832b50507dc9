"""Losses of point-wise anomaly detection, and what a constant can reach in them.

B scenes · N points

w weighs the positives: BCE is -w y log q - (1 - y) log(1 - q), the focal loss (Lin et al., 2017)
-w α y (1 - q)^γ log q - (1 - α)(1 - y) q^γ log(1 - q). Note that α stands with the POSITIVES: at
α = 0.1 they weigh a ninth of the negatives. Under labels that are noise of rate p the best answer
is one constant q*(p, w) = w p / (w p + 1 - p) for BCE, so that at a threshold of 0.5 the recall
jumps from 0 to 1 at w = (1 - p)/p: nothing is learnt on either side of it.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

LOSSES = ("focal", "bce")
PLANS = ("A", "B", "C", "Ctop5")
TOP = 5
WIDEST_LOGIT = 30.0


@dataclass(frozen=True)
class LossOptions:
    """The kind of loss, the weight of positives, and α and γ of the focal one."""

    kind: str
    pos_weight: float = 1.0
    alpha: float = 0.1
    gamma: float = 3.0

    def __post_init__(self) -> None:
        """Raise ValueError for an unknown kind."""
        _require("loss", self.kind, LOSSES)


def elementwise_loss(options: LossOptions, logit: Tensor, target: Tensor) -> Tensor:
    """Return the loss of each logit against its target of 0 or 1, of any one shape."""
    hit = options.pos_weight * target * functional.softplus(-logit)
    miss = (1.0 - target) * functional.softplus(logit)
    if options.kind == "bce":
        return hit + miss
    q = torch.sigmoid(logit)
    hit = options.alpha * (1.0 - q) ** options.gamma * hit
    return hit + (1.0 - options.alpha) * q**options.gamma * miss


def scene_losses(plan: str, options: LossOptions, logits: Tensor, targets: Tensor) -> Tensor:
    """Return each scene's loss, (B,).

    Plan A compares logits (B, N) with the labels (B, N) of points, plan B a logit (B,) of the
    pooled feature with a label (B,) of the scene. Plans C and Ctop5 pool the logits (B, N) of
    points and compare with scenes (B,): C takes the largest for a positive scene but the mean over
    all points for a negative one, as the report proposed; Ctop5 the mean of the five largest, for
    both. Raises ValueError for an unknown plan.
    """
    _require("plan", plan, PLANS)
    if plan == "A":
        return elementwise_loss(options, logits, targets).mean(dim=1)
    if plan == "C":
        largest = elementwise_loss(options, logits.amax(dim=1), targets)
        every = elementwise_loss(options, logits, torch.zeros_like(logits)).mean(dim=1)
        return torch.where(targets > 0.5, largest, every)
    return elementwise_loss(options, scene_logits(plan, logits), targets)


def scene_logits(plan: str, logits: Tensor) -> Tensor:
    """Return the logit (B,) by which plans B, C and Ctop5 judge a scene; A takes the largest."""
    _require("plan", plan, PLANS)
    if plan == "B":
        return logits
    if plan == "Ctop5":
        return logits.topk(min(TOP, logits.shape[1]), dim=1).values.mean(dim=1)
    return logits.amax(dim=1)


def best_constant(
    options: LossOptions, share: float, plan: str = "A", points: int = 1
) -> tuple[float, float]:
    """Return the probability q* that no constant beats where `share` of targets is 1, and its loss.

    Found on ever finer grids of logits through `elementwise_loss` itself. With one class only, q*
    is that class and the loss 0. In plan C a scene's answer may be constant although its points
    differ: best is one of them at q* and all others at 0, which satisfies the maximum of a positive
    scene and costs a negative one only its mean over `points`. For a loss like that a low value
    proves nothing.
    """
    dilution = points if plan == "C" else 1
    if share <= 0.0 or share >= 1.0:
        return (0.0 if share <= 0.0 else 1.0), 0.0
    middle, width = 0.0, WIDEST_LOGIT
    values = torch.zeros(1)
    while width > 1e-7:
        logits = torch.linspace(middle - width, middle + width, 401, dtype=torch.float64)
        hit = elementwise_loss(options, logits, torch.ones_like(logits))
        miss = elementwise_loss(options, logits, torch.zeros_like(logits))
        values = share * hit + (1.0 - share) * miss / dilution
        middle = float(logits[values.argmin()])
        width /= 50.0
    return float(torch.sigmoid(torch.tensor(middle, dtype=torch.float64))), float(values.min())


def constant_logit(probability: float) -> float:
    """Return the logit of a constant answer; 0 and 1 are as far as `best_constant` looks."""
    if not 0.0 < probability < 1.0:
        return -WIDEST_LOGIT if probability <= 0.0 else WIDEST_LOGIT
    return math.log(probability) - math.log1p(-probability)


def constant_logits(plan: str, probability: float, like: Tensor) -> Tensor:
    """Return the logits, shaped as `like`, of a net that gives every scene the best answer."""
    logits = torch.full_like(like, constant_logit(probability))
    if plan == "C":
        logits[:, 1:] = -WIDEST_LOGIT
    return logits


def flip_weight(share: float) -> float:
    """Return the weight of positives at which recall on pure noise jumps from 0 to 1 (BCE)."""
    return (1.0 - share) / share


def _require(key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{key}: {value!r} is not known; choose one of {', '.join(allowed)}")
