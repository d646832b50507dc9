"""What a detector answers for a split, with the weights on its features and without."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sickbay.models.reweighting.losses import detection_losses
from sickbay.models.reweighting.maps import MapOptions
from sickbay.models.reweighting.network import Batch, Features, QueryDetector, Weighted
from sickbay.models.reweighting.probes import (
    Answer,
    Reference,
    Signals,
    loss_signals,
    map_signals,
    output_variance_ratio,
    reference_signals,
    reference_task,
    score_of,
    score_signals,
)

CHUNK = 8  # samples that go through the net at once: what fits into a cache


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
    weighted, plain, _ = _answers(net.eval(), val, modulation)
    signals: Signals = {}
    for name, answer in (("start", weighted), ("pretrained", plain)):
        score = score_of(answer, val)
        signals[f"val_map_{name}"] = score.mean_ap
        signals[f"val_nds_{name}"] = score.nds
    return Before(signals, reference_task(net, train, val))


@torch.no_grad()
def assess(
    net: QueryDetector, val: Batch, modulation: Modulation | None, floor_S: Tensor
) -> Signals:
    """Return scores, losses, and what the maps are; `floor_S` are the best constant's losses."""
    answer, plain, kept = _answers(net.eval(), val, modulation)
    signals = {
        **score_signals(score_of(answer, val)),
        **loss_signals(answer, plain, floor_S),
        "output_variance_ratio": output_variance_ratio(answer, val, net.options.extent),
    }
    if kept:
        signals |= map_signals([one for _, one in kept], [seen for seen, _ in kept])
    return signals


def compare_encoders(net: QueryDetector, train: Batch, val: Batch, before: Before) -> Signals:
    """Return how the encoders do on the reference task, against how they did."""
    frozen = not any(parameter.requires_grad for parameter in net.grid_encoder.parameters())
    now = before.reference if frozen else reference_task(net, train, val)
    return reference_signals(now, before.reference)


def _answers(
    net: QueryDetector, val: Batch, modulation: Modulation | None
) -> tuple[Answer, Answer, list[tuple[Features, Weighted]]]:
    """Answer with the weights and without; where there are none, both are the same."""
    answers: list[tuple[Answer, Answer]] = []
    kept: list[tuple[Features, Weighted]] = []
    for index in torch.split(torch.arange(len(val.bev), device=val.bev.device), CHUNK):
        batch = val.pick(index)
        features, weighted = look(net, batch, modulation)
        plain = weighty = _answer(net, batch, features, None)
        if weighted is not None:
            weighty = _answer(net, batch, features, weighted)
            kept.append((features, weighted))
        answers.append((weighty, plain))
    first, second = (Answer.concatenate([pair[side] for pair in answers]) for side in (0, 1))
    return first, second, kept


def _answer(
    net: QueryDetector, batch: Batch, features: Features, weighted: Weighted | None
) -> Answer:
    predicted = net.decode(features, weighted)
    losses = detection_losses(predicted.logits, predicted.codes, batch.boxes, batch.classes)
    return Answer.of(predicted, losses)
