"""How a long-tailed system scores on balanced images, and what its encoder still represents.

N images · C classes · D feature dimensions

The reference task needs no head: which class's mean, over a fixed balanced support, is nearest to
an image's features? The encoder is scored on it before training and after every epoch.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sickbay.models.longtail.losses import constant_loss
from sickbay.models.longtail.metrics import (
    Metrics,
    accuracy_signals,
    feature_signals,
    feature_std,
    nearest_mean,
    paired_drop_error,
    rank_me,
    variance_ratio,
)
from sickbay.models.longtail.network import LongtailNet, WcdasHead

WATCHED = 256  # images whose features are compared with those before training


@dataclass(frozen=True)
class Seen:
    """Features (N, D) of fixed images and their labels, from one encoder."""

    features: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Views:
    """An encoder's features of the images to test on, of the support, and of training images."""

    val: Seen
    support: Seen
    means: Seen


@dataclass(frozen=True)
class Start:
    """The encoder before training: features of watched images, hits on the reference task."""

    features: Tensor
    hits: Tensor
    rank: float
    std: float
    weights: Tensor


@torch.no_grad()
def encoded(encoder: nn.Module, chunks: Iterable[Tensor]) -> Tensor:
    """Return the features of images that come in chunks, (N, D), in evaluation mode."""
    encoder.eval()
    return torch.cat([encoder(images) for images in chunks])


def start_of(net: LongtailNet, views: Views) -> Start:
    """Record the encoder's features and reference skill before training."""
    watched = views.val.features[:: _stride(views.val)]
    rank, std = rank_me(watched), feature_std(watched)
    return Start(watched, _hits(views), rank, std, _weights(net.encoder))


@torch.no_grad()
def evaluate(net: LongtailNet, views: Views, start: Start, counts: Sequence[int]) -> Metrics:
    """Return the signals of an evaluation; `counts` are the training images by class.

    `val_floor_gap_se` is the standard error of the paired difference to the loss of the best
    constant on these very images.
    """
    net.eval()
    seen = views.val
    logits_NC = net.head(seen.features).float()
    loss_N = nn.functional.cross_entropy(logits_NC.double(), seen.labels, reduction="none")
    signals, _ = accuracy_signals(logits_NC, seen.labels, counts)
    signals |= {
        "val_loss": float(loss_N.mean()),
        "val_loss_se": paired_drop_error(loss_N, torch.zeros_like(loss_N)),
        "val_floor_gap_se": paired_drop_error(loss_N, constant_loss(seen.labels)),
        "val_n": float(len(loss_N)),
        "output_variance_ratio": variance_ratio(logits_NC, seen.labels),
        "val_ncm_accuracy": _ncm(seen, views.means),
    }
    return signals | _encoder_signals(net, views, start) | _head_signals(net.head)


def _encoder_signals(net: LongtailNet, views: Views, start: Start) -> Metrics:
    hits_N = _hits(views)
    stride = _stride(views.val)
    weights = _weights(net.encoder)
    return {
        "encoder_reference_skill": float(hits_N.mean()),
        "encoder_reference_skill_start": float(start.hits.mean()),
        "encoder_reference_n": float(len(hits_N)),
        "encoder_reference_drop_se": paired_drop_error(start.hits, hits_N),
        "encoder_weight_change": float((weights - start.weights).norm() / start.weights.norm()),
        "feature_rank_start": start.rank,
        "feature_std_start": start.std,
        **feature_signals(views.val.features[::stride], start.features, views.val.labels[::stride]),
    }


def _head_signals(head: nn.Module) -> Metrics:
    if not isinstance(head, WcdasHead):
        return {}
    gamma_C = head.gamma()
    return {
        "wcdas_scale": float(head.scale()),
        "wcdas_gamma_min": float(gamma_C.min()),
        "wcdas_gamma_max": float(gamma_C.max()),
        "wcdas_least_loss": float(head.least_loss()),
    }


def _hits(views: Views) -> Tensor:
    classes = int(views.support.labels.max()) + 1
    called_N = nearest_mean(
        views.val.features, views.support.features, views.support.labels, classes
    )
    return (called_N == views.val.labels).double()


def _ncm(seen: Seen, means: Seen) -> float:
    classes = int(means.labels.max()) + 1
    called_N = nearest_mean(seen.features, means.features, means.labels, classes)
    return float((called_N == seen.labels).double().mean())


def _weights(encoder: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in encoder.parameters()])


def _stride(seen: Seen) -> int:
    return max(1, len(seen.labels) // WATCHED)
