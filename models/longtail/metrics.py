"""Metrics of a long-tailed classifier and its encoder, on balanced images.

N images · C classes · D feature dimensions

Classes are sorted by their training images: the `head` is the third with most, the `tail` the third
with fewest (rounded, at least one class). NaN stands for what is undefined.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

Metrics = dict[str, float | list[float]]


def accuracy_signals(
    logits_NC: Tensor, label_N: Tensor, class_counts: Sequence[int]
) -> tuple[Metrics, Tensor]:
    """Return accuracies, the confusion and the logits' span; and whether each image was right.

    `val_label_shift_accuracy` is the accuracy with the logits lowered by the log of the training
    shares, as the balanced images ask for (Menon et al. 2021).
    """
    classes = len(class_counts)
    called_N = logits_NC.argmax(dim=1)
    right_N = (called_N == label_N).double()
    share_C = torch.tensor(class_counts, dtype=torch.float64, device=logits_NC.device)
    shifted_NC = logits_NC.double() - (share_C / share_C.sum()).log()
    cells = torch.bincount(label_N * classes + called_N, minlength=classes**2)
    span_N = logits_NC.amax(dim=1) - logits_NC.amin(dim=1)
    signals: Metrics = {
        "val_accuracy": float(right_N.mean()),
        "val_label_shift_accuracy": _share(shifted_NC.argmax(dim=1) == label_N),
        "val_confusion": [float(cell) for cell in cells.tolist()],
        "logit_span": float(span_N.double().mean()),
    }
    for name, members in thirds(class_counts).items():
        chosen_N = torch.isin(label_N, torch.tensor(members, device=label_N.device))
        signals[f"val_accuracy_{name}"] = _share(right_N[chosen_N])
    return signals, right_N


def thirds(class_counts: Sequence[int]) -> dict[str, list[int]]:
    """Return the classes of the head, the middle and the tail."""
    order = sorted(range(len(class_counts)), key=lambda c: (-class_counts[c], c))
    each = max(1, round(len(order) / 3))
    middle = order[each : len(order) - each]
    return {"head": order[:each], "middle": middle, "tail": order[len(order) - each :]}


def nearest_mean(
    features_ND: Tensor, support_MD: Tensor, support_label_M: Tensor, classes: int
) -> Tensor:
    """Return the class whose mean over the support is nearest to each feature, (N,)."""
    hot_MC = torch.nn.functional.one_hot(support_label_M, classes).double()
    mean_CD = (hot_MC.T @ support_MD.double()) / hot_MC.sum(dim=0).clamp(min=1.0)[:, None]
    exact = "donot_use_mm_for_euclid_dist"
    return torch.cdist(features_ND.double(), mean_CD, compute_mode=exact).argmin(dim=1)


def paired_drop_error(before_N: Tensor, now_N: Tensor) -> float:
    """Return the standard error of the mean difference of two rows of hits on the same images."""
    gap_N = before_N.double() - now_N.double()
    return float(gap_N.std() / math.sqrt(len(gap_N))) if len(gap_N) > 1 else math.nan


def linear_cka(one_ND: Tensor, other_NE: Tensor) -> float:
    """Return the linear CKA of two sets of features of the same images (Kornblith et al. 2019).

    1 for features that differ by a rotation and a scale; NaN where one set is constant.
    """
    x, y = (f.double() - f.double().mean(dim=0) for f in (one_ND, other_NE))
    scale = (x.T @ x).norm() * (y.T @ y).norm()
    return float((y.T @ x).square().sum() / scale) if float(scale) > 0.0 else math.nan


def rank_me(features_ND: Tensor) -> float:
    """Return RankMe: exp of the entropy of the normalised singular values (Garrido et al. 2023).

    NaN where all features are zero or one is not finite.
    """
    if not bool(torch.isfinite(features_ND).all()):
        return math.nan
    values = torch.linalg.svdvals(features_ND.double())
    total = float(values.sum())
    if total <= 0.0:
        return math.nan
    share = values / total
    return float(torch.exp(-torch.special.xlogy(share, share).sum()))


def fisher_ratio(features_ND: Tensor, label_N: Tensor) -> float:
    """Return the variance between class means over the mean variance within classes."""
    features, classes = features_ND.double(), torch.unique(label_N)
    means = torch.stack([features[label_N == c].mean(dim=0) for c in classes])
    within = torch.stack(
        [features[label_N == c].var(dim=0, correction=0).sum() for c in classes]
    ).mean()
    between = means.var(dim=0, correction=0).sum()
    return float(between / within) if float(within) > 0.0 else math.nan


def feature_std(features_ND: Tensor) -> float:
    """Return the root of the mean variance of a feature's dimension."""
    return float(features_ND.double().var(dim=0).mean().sqrt())


def feature_signals(features_ND: Tensor, start_ND: Tensor, label_N: Tensor) -> Metrics:
    """Compare features with those of the same images before training.

    `feature_drift` is |F − F0| / |F0|.
    """
    gap = float((features_ND - start_ND).double().norm())
    start = float(start_ND.double().norm())
    return {
        "encoder_cka": linear_cka(features_ND, start_ND),
        "feature_rank": rank_me(features_ND),
        "feature_drift": gap / start if start > 0.0 else math.nan,
        "feature_std": feature_std(features_ND),
        "fisher_ratio": fisher_ratio(features_ND, label_N),
    }


def variance_ratio(logits_NC: Tensor, label_N: Tensor) -> float:
    """Return the variance of the predicted shares over that of the true classes, summed over C."""
    shares_NC = torch.softmax(logits_NC.double(), dim=1)
    true_NC = torch.nn.functional.one_hot(label_N, shares_NC.shape[1]).double()
    truth = float(true_NC.var(dim=0, correction=0).sum())
    return float(shares_NC.var(dim=0, correction=0).sum()) / truth if truth > 0.0 else math.nan


def class_share(gradient_NC: Tensor, label_N: Tensor, classes: int) -> list[float]:
    """Return each class's share of the sum of |dL/dlogit| over its samples; NaN where all are 0."""
    size_N = gradient_NC.double().abs().sum(dim=1)
    total_C = torch.zeros(classes, dtype=torch.float64).index_add_(0, label_N.cpu(), size_N.cpu())
    whole = float(total_C.sum())
    if not 0.0 < whole < math.inf:
        return [math.nan] * classes
    return [float(total) / whole for total in total_C.tolist()]


def _share(right_N: Tensor) -> float:
    return float(right_N.double().mean()) if len(right_N) else math.nan
