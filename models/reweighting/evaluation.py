"""Evaluation of a detector on a split, with the weights on its features and without."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sickbay.models.reweighting.losses import detection_losses
from sickbay.models.reweighting.maps import MapOptions
from sickbay.models.reweighting.network import Batch, Features, QueryDetector, Weighted
from sickbay.models.reweighting.probes import (
    Answer,
    Reference,
    Signals,
    gap_signals,
    loss_signals,
    map_signals,
    output_variance_ratio,
    reference_signals,
    reference_task,
    score_of,
    score_signals,
)

CHUNK = 8  # samples that go through the net at once: what fits into the processor's cache
KEPT_BYTES = 2**31  # features of frozen encoders that are kept rather than computed again
PLAIN_EVERY, PLAIN_LAST = 8, 3  # epochs in which the loss without weights is measured


@dataclass(frozen=True)
class Modulation:
    """How features are weighted; `detach` keeps the gradient from the generator."""

    maps: MapOptions
    detach: bool


@dataclass(frozen=True)
class Before:
    """Scores of a detector before it was tuned, repeated in every row, and the reference task."""

    signals: Signals
    reference: Reference


def look(
    net: QueryDetector, batch: Batch, modulation: Modulation | None
) -> tuple[Features, Weighted | None]:
    """Return the features of a batch and how they are weighted, None where they are not."""
    features = net.encode(batch)
    if modulation is None:
        return features, None
    return features, net.weigh(features, modulation.maps, detach=modulation.detach)


@torch.no_grad()
def assess_before(
    net: QueryDetector, train: Batch, val: Batch, modulation: Modulation | None
) -> Before:
    """Score a pretrained detector as it is, and under the weights of an untrained generator."""
    weighted, plain, _ = _answers(net.eval(), val, modulation, plain=True)
    assert plain is not None
    signals: Signals = {}
    for name, answer in (("start", weighted), ("pretrained", plain)):
        score = score_of(answer, val, net.options.rules)
        signals[f"val_map_{name}"] = score.mean_ap
        signals[f"val_nds_{name}"] = score.nds
    return Before(signals, reference_task(net, train, val))


@torch.no_grad()
def assess(
    net: QueryDetector,
    val: Batch,
    modulation: Modulation | None,
    floor_S: Tensor,
    *,
    plain: bool = True,
) -> Signals:
    """Return scores, losses, and what the maps are; `floor_S` are the best constant's losses.

    `plain` asks for the loss without weights as well, which costs as much as the one with them.
    """
    answer, unweighted, kept = _answers(net.eval(), val, modulation, plain=plain)
    signals = {
        **score_signals(score_of(answer, val, net.options.rules)),
        **loss_signals(answer, floor_S),
        **({} if unweighted is None else gap_signals(answer, unweighted)),
        "output_variance_ratio": output_variance_ratio(answer, val, net.options.extent),
    }
    if kept:
        signals |= map_signals([weighted for _, weighted in kept], [seen for seen, _ in kept])
    return signals


def measures_plain(epoch: int, epochs: int) -> bool:
    """Whether the loss without weights is measured: at the start, at the end, now and then."""
    return epoch == 1 or epoch > epochs - PLAIN_LAST or epoch % PLAIN_EVERY == 0


@torch.no_grad()
def encoded(net: QueryDetector, data: Batch) -> Batch:
    """Return the data with their features, if the encoders are frozen and the features fit."""
    pixels = data.bev[0, 0].numel() + data.views[0, :, 0].numel()
    size = len(data.bev) * pixels * net.options.width * data.bev.element_size()
    frozen = not any(parameter.requires_grad for parameter in net.grid_encoder.parameters())
    if not frozen or size > KEPT_BYTES:
        return data
    device, kept_on = next(net.parameters()).device, data.bev.device
    seen = []
    for index in torch.split(torch.arange(len(data.bev), device=kept_on), CHUNK):
        some = data.pick(index)
        some = replace(some, bev=some.bev.to(device), views=some.views.to(device))
        features = net.encode(some)
        seen.append((features.bev.to(kept_on), features.views.to(kept_on)))
    bev, views = (torch.cat(part) for part in zip(*seen, strict=True))
    return replace(data, encoded=(bev, views))


def compare_encoders(net: QueryDetector, train: Batch, val: Batch, before: Before) -> Signals:
    """Return the encoders' scores on the reference task, now and before training."""
    frozen = not any(parameter.requires_grad for parameter in net.grid_encoder.parameters())
    now = before.reference if frozen else reference_task(net, train, val)
    return reference_signals(now, before.reference)


def _answers(
    net: QueryDetector, val: Batch, modulation: Modulation | None, *, plain: bool
) -> tuple[Answer, Answer | None, list[tuple[Features, Weighted]]]:
    """Predict with the weights and, if `plain`, without; without any, both are the same."""
    with_weights: list[Answer] = []
    without: list[Answer] = []
    kept: list[tuple[Features, Weighted]] = []
    for index in torch.split(torch.arange(len(val.bev), device=val.bev.device), CHUNK):
        batch = val.pick(index)
        features, weighted = look(net, batch, modulation)
        if plain or weighted is None:
            without.append(_answer(net, batch, features, None))
        if weighted is not None:
            with_weights.append(_answer(net, batch, features, weighted))
            kept.append((features, weighted))
    unweighted = Answer.concatenate(without) if without else None
    answer = Answer.concatenate(with_weights) if with_weights else unweighted
    assert answer is not None
    return answer, unweighted, kept


def _answer(
    net: QueryDetector, batch: Batch, features: Features, weighted: Weighted | None
) -> Answer:
    predicted = net.decode(features, weighted)
    losses = detection_losses(predicted.logits, predicted.codes, batch.boxes, batch.classes)
    return Answer.of(predicted, losses)
