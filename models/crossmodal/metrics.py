"""Metrics of a scene classifier's steps and scores, beyond the loss it is trained with.

S scenes · B scenes of a batch

NaN stands for what is undefined: a ranking without both classes, a share of nothing, the
gradient of a branch that the fusion does not have.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.utils import get_total_norm

from sickbay.models.crossmodal.losses import constant_losses, sample_loss, uses_labels
from sickbay.models.crossmodal.network import Scored
from sickbay.models.shared.classification_metrics import (
    Metrics,
    auroc_with_error,
    binary_metrics,
    class_gradient_share,
)

BRANCHES = ("points", "image")


@dataclass
class Steps:
    """What is recorded of an epoch's steps: logits, labels, dL/dlogit, norms by branch."""

    logits: list[Tensor] = field(default_factory=list)
    labels: list[Tensor] = field(default_factory=list)
    gradients: list[Tensor] = field(default_factory=list)
    branches: list[Tensor] = field(default_factory=list)

    def add(self, logits_B: Tensor, labels_B: Tensor) -> None:
        """Keep a step, after backward; the logits must have kept their gradient."""
        assert logits_B.grad is not None
        self.logits.append(logits_B.detach())
        self.labels.append(labels_B)
        self.gradients.append(logits_B.grad)


def branch_norms(groups: Mapping[str, Sequence[Parameter]]) -> Tensor:
    """Return the norms of the gradients of the points' and of the image's encoder, (2,)."""
    gradients = [
        [parameter.grad for parameter in groups.get(name, []) if parameter.grad is not None]
        for name in BRANCHES
    ]
    there = next(parameter for some in groups.values() for parameter in some)
    missing = there.new_full((), math.nan)
    return torch.stack([get_total_norm(some) if some else missing for some in gradients])


def training_signals(steps: Steps, loss: str, threshold: float = 0.5) -> Metrics:
    """Return the signals of an epoch's steps, in training mode, calls made above a threshold.

    `branch_gradient_norm` is the root mean square over the steps in which it was measured.
    """
    logits_S, labels_S = torch.cat(steps.logits).double(), torch.cat(steps.labels)
    cut = math.log(threshold / (1.0 - threshold))
    norms = torch.stack(steps.branches) if steps.branches else torch.full((1, 2), math.nan)
    return {
        "train_accuracy": float(((logits_S > cut) == (labels_S > 0.5)).double().mean()),
        "train_auroc": auroc_with_error(torch.sigmoid(logits_S), labels_S)[0],
        "class_gradient_share": class_gradient_share(torch.cat(steps.gradients), labels_S),
        "branch_gradient_norm": norms.double().square().mean(dim=0).sqrt().tolist(),
        "supervised_targets": float(len(labels_S)) if uses_labels(loss) else 0.0,
    }


def truth_signals(labels_S: Tensor, truth_S: Tensor) -> Metrics:
    """Compare the training labels with the ground truth."""
    positive_S, true_S = labels_S > 0.5, truth_S > 0.5
    both_S = positive_S & true_S
    hits, positives, true = (float(one_S.sum()) for one_S in (both_S, positive_S, true_S))
    return {
        "label_truth_recall": hits / true if true else math.nan,
        "label_truth_precision": hits / positives if positives else math.nan,
    }


def evaluation_signals(
    scored: Scored,
    labels_S: Tensor,
    truth_S: Tensor | None,
    loss: str,
    pos_weight: float,
    threshold: float = 0.5,
) -> Metrics:
    """Return the `val_*` signals and what the scores look like.

    `truth_S` is given where it differs from the training labels. `val_floor_gap_se` is the standard
    error of the paired difference to the best constant predictor on these labels.
    """
    logit_S, label_S = scored.logits.double(), labels_S.double()
    score_S = torch.sigmoid(logit_S)
    loss_S = sample_loss(loss, logit_S, label_S, pos_weight)
    signals: Metrics = {
        "val_loss": float(loss_S.mean()),
        "val_loss_se": _standard_error(loss_S),
        "val_floor_gap_se": _standard_error(loss_S - constant_losses(loss, label_S, pos_weight)),
        "val_n": float(len(label_S)),
        **binary_metrics(score_S, label_S, threshold),
        "score_std": float(score_S.std(correction=0)),
        "output_variance_ratio": _variance_ratio(score_S, label_S),
    }
    if truth_S is not None:
        signals["val_truth_auroc"] = auroc_with_error(score_S, truth_S)[0]
    if scored.entropy is not None:
        signals["attention_entropy"] = float(scored.entropy.mean())
    return signals


def _standard_error(values_S: Tensor) -> float:
    return float(values_S.std() / math.sqrt(len(values_S))) if len(values_S) > 1 else math.nan


def _variance_ratio(score_S: Tensor, label_S: Tensor) -> float:
    """Return the variance of the scores over that of the labels; NaN where these are all alike."""
    variance = float(label_S.var(correction=0))
    return float(score_S.var(correction=0)) / variance if variance > 0.0 else math.nan
