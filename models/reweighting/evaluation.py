"""What a detector answers for a split, with the weights on its features and without."""

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

CHUNK = 8  # samples that go through the net at once: what fits into a cache
KEPT_BYTES = 2**31  # features of resting encoders that are kept instead of computed anew
PLAIN_EVERY, PLAIN_LAST = 8, 3  # epochs in which the loss without weights is measured


@dataclass(frozen=True)
class Modulation:
    """How features are weighted; `detach` keeps the gradient from the generator."""

    maps: MapOptions
    detach: bool


@dataclass(frozen=True)
class Before:
    """What a detector could do before it was tuned: signals of every row, and the reference."""

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
    """Score a pretrained detector as it is, and under weights that nothing has learnt yet."""
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
    """Return the data with their features, where the encoders rest and the features find room."""
    pixels = data.bev[0, 0].numel() + data.views[0, :, 0].numel()
    size = len(data.bev) * pixels * net.options.width * data.bev.element_size()
    resting = not any(parameter.requires_grad for parameter in net.grid_encoder.parameters())
    if not resting or size > KEPT_BYTES:
        return data
    chunks = torch.split(torch.arange(len(data.bev), device=data.bev.device), CHUNK)
    seen = [net.encode(data.pick(index)) for index in chunks]
    bev, views = (
        torch.cat([features.bev for features in seen]),
        torch.cat([features.views for features in seen]),
    )
    return replace(data, encoded=(bev, views))


def compare_encoders(net: QueryDetector, train: Batch, val: Batch, before: Before) -> Signals:
    """Return how the encoders do on the reference task, against how they did."""
    frozen = not any(parameter.requires_grad for parameter in net.grid_encoder.parameters())
    now = before.reference if frozen else reference_task(net, train, val)
    return reference_signals(now, before.reference)


def _answers(
    net: QueryDetector, val: Batch, modulation: Modulation | None, *, plain: bool
) -> tuple[Answer, Answer | None, list[tuple[Features, Weighted]]]:
    """Answer with the weights, and without if asked to; where there are none, both are the same."""
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
