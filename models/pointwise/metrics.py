"""The signals of an anomaly detector: how it ranks, what it was taught, against what is true.

S scenes · N points · U units: what has a target, points in plan A, scenes in the others
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sickbay.models.pointwise.losses import (
    LossOptions,
    best_constant,
    constant_logits,
    scene_logits,
    scene_losses,
)
from sickbay.models.pointwise.network import PointAnomalyNet, attention_entropy
from sickbay.models.shared.classification_metrics import (
    Metrics,
    auroc_with_error,
    binary_metrics,
    class_gradient_share,
    confusion,
    label_flip_rate,
)

EVAL_POINTS = 16_384  # points that go through the net at once in evaluation


@dataclass(frozen=True)
class Seen:
    """What an epoch of training saw: probability, target and |dL/dlogit| of each unit, (U,)."""

    score: Tensor
    target: Tensor
    gradient: Tensor


@dataclass(frozen=True)
class Judged:
    """What an evaluation found.

    `score` and `target` are of units, (U,); `loss` of the model and `floor` of the best constant
    are of scenes, (S,); `point_score` and `truth` are of points, (S, N).
    """

    score: Tensor
    target: Tensor
    loss: Tensor
    floor: Tensor
    point_score: Tensor
    truth: Tensor


def unit_of(plan: str, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return probability, target and |dL/dlogit| of whatever has a target, after backward.

    The gradient must have been retained at `logits`; a scene's is the sum over its points.
    """
    assert logits.grad is not None
    size = logits.grad.abs()
    if plan == "A":
        return torch.sigmoid(logits.detach()), target, size
    score = torch.sigmoid(scene_logits(plan, logits.detach()))
    return score, target, size if plan == "B" else size.sum(dim=1)


@torch.no_grad()
def evaluate(
    net: PointAnomalyNet,
    views: tuple[Tensor, Tensor],
    truth_SN: Tensor,
    target: Tensor,
    plan: str,
    options: LossOptions,
) -> Metrics:
    """Return the `val_*` signals of a net on points (S, N, 4) and images (S, 3, H, W).

    `target` is (S, N) in plan A, else (S,). Data may lie on the host, from where they are sent.
    Leaves the net in evaluation mode.
    """
    net.eval()
    points_SN4, images = views
    device = next(net.parameters()).device
    point_logits, logits, entropies = [], [], []
    for index_B in torch.arange(len(target)).split(max(EVAL_POINTS // points_SN4.shape[1], 1)):  # type: ignore[no-untyped-call]
        chosen_B = index_B.to(target.device)
        feature_BNC, weight_BHNT = net.encode(
            points_SN4[chosen_B].to(device), images[chosen_B].to(device)
        )
        point_logits.append(net.decide(feature_BNC, "A"))
        logits.append(net.decide(feature_BNC, plan) if plan == "B" else point_logits[-1])
        if weight_BHNT is not None:
            entropies.append(attention_entropy(weight_BHNT) * len(index_B))
    logit, point_logit = torch.cat(logits), torch.cat(point_logits)
    truth_SN, target = truth_SN.to(device), target.to(device)
    decided = logit if plan == "A" else scene_logits(plan, logit)
    share, points = float(target.double().mean()), points_SN4.shape[1]
    constant = constant_logits(plan, best_constant(options, share, plan, points)[0], logit)
    judged = Judged(
        score=torch.sigmoid(decided).flatten(),
        target=target.flatten(),
        loss=scene_losses(plan, options, logit, target),
        floor=scene_losses(plan, options, constant, target),
        point_score=torch.sigmoid(point_logit),
        truth=truth_SN,
    )
    entropy: Metrics = {"attention_entropy": sum(entropies) / len(target)} if entropies else {}
    return {**judged_signals(judged), **entropy}


def seen_signals(seen: Seen) -> Metrics:
    """Return the `train_*` signals, of scores in training mode, and each class's share of gradient.

    `train_recall` is NaN without a positive target.
    """
    tn, _, fn, tp = confusion(seen.score, seen.target)
    return {
        "train_accuracy": (tn + tp) / seen.score.numel(),
        "train_recall": _ratio(tp, tp + fn),
        "train_auroc": auroc_with_error(seen.score, seen.target)[0],
        "train_mean_probability": float(seen.score.double().mean()),
        "class_gradient_share": class_gradient_share(seen.gradient, seen.target),
    }


def label_signals(target: Tensor, truth: Tensor, before: Tensor | None) -> Metrics:
    """Hold targets against the truth, and against those of the previous epoch if there was one.

    Recall is the share of true anomalies that bear the label, precision that of labels on true
    anomalies; NaN where there is none.
    """
    _, extra, lost, met = confusion(target, truth)
    signals: Metrics = {
        "label_positive_rate": float(target.double().mean()),
        "label_truth_recall": _ratio(met, met + lost),
        "label_truth_precision": _ratio(met, met + extra),
    }
    if before is not None:
        signals["label_flip_rate"] = label_flip_rate(before, target)
        signals["label_flip_n"] = float(target.numel())
    return signals


def judged_signals(judged: Judged) -> Metrics:
    """Return the `val_*` signals.

    Points of one scene are not independent, so the standard errors of the loss are taken over
    scenes. `val_auroc` ranks against the labels that were trained on, `val_truth_auroc` points
    against the truth, `val_scene_auroc` scenes, by their highest point, against the truth.
    """
    _, extra, lost, met = confusion(judged.score, judged.target)
    scenes = math.sqrt(len(judged.loss))
    spread = float(judged.target.double().var(unbiased=False))
    varied = float(judged.score.double().var(unbiased=False))
    return {
        **binary_metrics(judged.score, judged.target),
        "val_loss": float(judged.loss.double().mean()),
        "val_loss_se": float(judged.loss.double().std()) / scenes,
        "val_floor_gap_se": float((judged.loss - judged.floor).double().std()) / scenes,
        "val_n": float(judged.target.numel()),
        "val_recall": _ratio(met, met + lost),
        "val_precision": _ratio(met, met + extra),
        "val_truth_auroc": auroc_with_error(judged.point_score, judged.truth)[0],
        "val_scene_auroc": auroc_with_error(
            judged.point_score.amax(dim=1), judged.truth.any(dim=1)
        )[0],
        "score_std": math.sqrt(varied),
        "output_variance_ratio": varied / spread if spread > 0.0 else math.nan,
    }


def gradient_norm(module: torch.nn.Module | None) -> float:
    """Return the norm of all gradients a module holds; NaN if it holds none."""
    parameters = [] if module is None else list(module.parameters())
    norms = [parameter.grad.norm() for parameter in parameters if parameter.grad is not None]
    return float(torch.stack(norms).norm()) if norms else math.nan


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0.0 else math.nan
