"""Signals of system 4: a detector's maps, features and predictions.

B samples · Q queries · V views · M boxes · K classes · D width · N boxes of all samples

Where a signal is a pair, the grid of the lidar comes first, then the views of the cameras.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sickbay.models.reweighting.losses import Losses, decode_boxes
from sickbay.models.reweighting.maps import place_in_views, place_on_grid
from sickbay.models.reweighting.metrics import (
    Boxes,
    Score,
    ScoreRules,
    detection_score,
    top_predictions,
)
from sickbay.models.reweighting.network import Batch, Features, Predicted, QueryDetector, Weighted
from sickbay.models.reweighting.parts import window

Signals = dict[str, float | list[float]]

COARSE = 4  # cells a side in which answers are counted
AROUND = 3  # pixels around a box's centre that a reference feature is the mean of


@dataclass(frozen=True)
class Answer:
    """What evaluation keeps of some samples: probabilities (B, Q, K), boxes (B, Q, 9), losses."""

    probability: Tensor
    boxes: Tensor
    losses: Losses

    @classmethod
    def of(cls, predicted: Predicted, losses: Losses) -> "Answer":
        """Take the last layer's answer."""
        return cls(predicted.logits[-1].sigmoid(), decode_boxes(predicted.codes[-1]), losses)

    @classmethod
    def concatenate(cls, parts: Sequence["Answer"]) -> "Answer":
        """Join the samples of several batches."""
        return cls(
            torch.cat([part.probability for part in parts]),
            torch.cat([part.boxes for part in parts]),
            Losses(
                torch.cat([part.losses.classes for part in parts]),
                torch.cat([part.losses.boxes for part in parts]),
            ),
        )


def score_of(answer: Answer, truth: Batch, rules: ScoreRules) -> Score:
    """Return mAP and NDS of the best predictions of each sample."""
    probability, boxes, real = (
        tensor.double().cpu().numpy() for tensor in (answer.probability, answer.boxes, truth.boxes)
    )
    # A net that diverged detects nothing; NaN must not break the sorting.
    probability = np.nan_to_num(probability, nan=0.0)
    detections = top_predictions(probability, np.nan_to_num(boxes, nan=1e6), rules.kept)
    classes = truth.classes.cpu().numpy()
    wanted = Boxes(real, classes, np.ones(classes.shape))
    return detection_score(detections, wanted, probability.shape[-1], rules)


def score_signals(score: Score) -> Signals:
    """Return mAP, NDS, AP by class and the five errors."""
    errors: Signals = {f"val_error_{name}": value for name, value in score.errors.items()}
    return {
        "val_map": score.mean_ap,
        "val_nds": score.nds,
        "val_class_ap": list(score.by_class),
        **errors,
    }


def loss_signals(answer: Answer, floor_B: Tensor) -> Signals:
    """Return the loss and its errors, of the gap to the best constant in pairs."""
    loss = answer.losses.total.double()
    return {
        "val_loss": float(loss.mean()),
        "val_loss_se": _error(loss),
        "val_floor_gap_se": _error(loss - floor_B.double()),
        "val_n": float(len(loss)),
    }


def gap_signals(answer: Answer, plain: Answer) -> Signals:
    """Return the loss without modulation, its error, and that of its gap to the loss, in pairs."""
    loss, unweighted = answer.losses.total.double(), plain.losses.total.double()
    return {
        "val_loss_unmodulated": float(unweighted.mean()),
        "val_loss_unmodulated_se": _error(unweighted),
        "val_modulation_gap_se": _error(loss - unweighted),
    }


def output_variance_ratio(answer: Answer, truth: Batch, extent: float) -> float:
    """Return the variance over samples of where what is predicted, over that of the truth.

    A sample's answer is embedded as the probabilities of each class summed over the queries whose
    boxes lie in each of 4 x 4 cells; the truth as its counts.
    """
    kinds = answer.probability.shape[-1]
    real = torch.nn.functional.one_hot(truth.classes.clamp(min=0), kinds)
    real = real * (truth.classes >= 0)[..., None]
    mine = _counted(answer.probability, answer.boxes, extent)
    theirs = _counted(real.to(mine.dtype), truth.boxes, extent)
    return float(mine.var(dim=0).sum() / theirs.var(dim=0).sum())


@torch.no_grad()
def map_signals(weighted: Sequence[Weighted], features: Sequence[Features]) -> Signals:
    """Return statistics of the maps of some batches, and of the features weighted with them."""
    sides: list[dict[str, float]] = []
    errors: list[float] = []
    for side in (0, 1):
        weight = torch.cat([batch.weights[..., side] for batch in weighted])
        raw = torch.cat([batch.raw[side] for batch in weighted]).flatten(1)
        drawn = torch.cat([batch.maps[side] for batch in weighted]).flatten(1)
        kept, change, mean, std = _modulated(weighted, features, side)
        square = drawn.square().sum(dim=1)
        support = torch.where(square > 0.0, drawn.sum(dim=1).square() / square, 0.0)
        sides.append(
            {
                "map_mean_before": float(weight.mean()),
                "map_mean_raw": float(raw.mean()),
                "map_mean_after": float(drawn.mean()),
                "map_max": float(drawn.max()),
                "map_min": float(drawn.min()),
                "map_overlap_sum": float(raw.max()),
                "map_zero_share": float((drawn == 0.0).double().mean()),
                "map_effective_support": float(support.mean()) / drawn.shape[1],
                "map_hottest_queries": float(
                    torch.cat([batch.hottest[side] for batch in weighted]).max()
                ),
                "feature_energy_ratio": float(kept.mean()),
                "feature_relative_change": float(change.mean()),
                "modulated_mean": mean,
                "modulated_std": std,
            }
        )
        errors.append(_error(kept))
    worst = 0 if sides[0]["feature_energy_ratio"] <= sides[1]["feature_energy_ratio"] else 1
    pairs: Signals = {name: [signals[name] for signals in sides] for name in sides[0]}
    return {**pairs, "feature_energy_ratio_se": errors[worst]}


def gradient_signals(compared: Sequence[tuple[Tensor, Tensor]]) -> Signals:
    """Compare the gradients of the class loss and of the box loss, batch by batch of an epoch."""
    cosines, norms = [], []
    for gradient, other in compared:
        cosines.append(torch.nn.functional.cosine_similarity(gradient, other, dim=0, eps=0.0))
        norms.append(torch.stack([gradient.norm(), other.norm()]))
    return {
        "loss_gradient_cosine": torch.stack(cosines).double().tolist(),
        "loss_gradient_batches": float(len(cosines)),
        "loss_gradient_norms": torch.stack(norms).double().mean(dim=0).tolist(),
    }


@dataclass(frozen=True)
class Reference:
    """A fixed task for the encoders: which class a box is of, by the nearest mean of its class.

    `hits` (N,) marks the validation boxes that were right, `features` (N, 2 D) are the boxes' own.
    """

    hits: Tensor
    features: Tensor


@torch.no_grad()
def reference_task(net: QueryDetector, train: Batch, val: Batch) -> Reference:
    """Run the task, by cosine distances of standardised features."""
    seen, kinds = _box_features(net, train)
    asked, truth = _box_features(net, val)
    classes = int(net.options.classes)
    middle, scale = seen.mean(dim=0), seen.std(dim=0).clamp(min=1e-6)
    seen, unit = (seen - middle) / scale, (asked - middle) / scale
    means = torch.stack([seen[kinds == kind].mean(dim=0) for kind in range(classes)])
    likeness = torch.nn.functional.normalize(unit, dim=1) @ torch.nn.functional.normalize(
        means, dim=1
    ).nan_to_num(nan=-1.0).transpose(0, 1)
    return Reference(likeness.argmax(dim=1) == truth, asked)


def reference_signals(now: Reference, start: Reference) -> Signals:
    """Compare the encoders with those before training; the drop's error is paired (McNemar)."""
    fallen = start.hits.double() - now.hits.double()
    return {
        "encoder_reference_skill": float(now.hits.double().mean()),
        "encoder_reference_skill_start": float(start.hits.double().mean()),
        "encoder_reference_n": float(len(now.hits)),
        "encoder_reference_drop_se": _error(fallen),
        "encoder_cka": linear_cka(now.features, start.features),
    }


def linear_cka(one_ND: Tensor, other_ND: Tensor) -> float:
    """Return the linear CKA of two sets of features, 1 for equal ones; NaN if one is constant."""
    centred = one_ND.double() - one_ND.double().mean(dim=0)
    other = other_ND.double() - other_ND.double().mean(dim=0)
    cross = (centred.T @ other).square().sum()
    return float(cross / ((centred.T @ centred).norm() * (other.T @ other).norm()))


def _modulated(
    weighted: Sequence[Weighted], features: Sequence[Features], side: int
) -> tuple[Tensor, Tensor, float, float]:
    """Energy kept and relative change of each sample (B,); mean and deviation of the product."""
    kept, change, total, square, count = [], [], 0.0, 0.0, 0
    for batch, seen in zip(weighted, features, strict=True):
        if side == 0:
            plain, factor = seen.bev.flatten(1), batch.factors[0].expand_as(seen.bev)
        else:
            plain, factor = (
                seen.views.flatten(1),
                batch.factors[1][:, :, None].expand_as(seen.views),
            )
        product = plain * factor.flatten(1)
        energy = plain.double().square().sum(dim=1)
        kept.append(product.double().square().sum(dim=1) / energy)
        change.append(((product - plain).double().square().sum(dim=1) / energy).sqrt())
        total += float(product.double().sum())
        square += float(product.double().square().sum())
        count += product.numel()
    mean = total / count
    return torch.cat(kept), torch.cat(change), mean, math.sqrt(max(square / count - mean**2, 0.0))


def _box_features(net: QueryDetector, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return both encoders' features at the boxes' centres (N, 2 D), and their classes (N,)."""
    features, classes_BM = net.encode(batch), batch.classes
    height, width = batch.views.shape[-2:]
    centre = batch.boxes[..., :3]
    on_grid = place_on_grid(centre, net.options.extent, batch.bev.shape[-1])
    in_view = place_in_views(centre, batch.lidar2img, height, width)
    pixels = [
        torch.stack([place.row + place.view * height, place.column], dim=-1)
        for place in (on_grid, in_view)
    ]
    stacked = features.views.transpose(1, 2).flatten(2, 3)
    parts = [
        window(maps, pixel, AROUND).mean(dim=2)
        for maps, pixel in zip((features.bev, stacked), pixels, strict=True)
    ]
    parts[1] = parts[1] * in_view.valid[..., None]  # in no camera's view: no colour
    real = classes_BM >= 0
    return torch.cat(parts, dim=-1)[real], classes_BM[real]


def _counted(weight_BQK: Tensor, boxes_BQ9: Tensor, extent: float) -> Tensor:
    """Sum weights by the coarse cell in which their boxes lie, (B, cells K)."""
    place = place_on_grid(boxes_BQ9[..., :3].nan_to_num(), extent, COARSE)
    cell_BQC = torch.nn.functional.one_hot(place.row * COARSE + place.column, COARSE * COARSE)
    return (cell_BQC.to(weight_BQK.dtype).transpose(1, 2) @ weight_BQK).flatten(1)


def _error(values: Tensor) -> float:
    """Return the standard error of a mean; NaN of fewer than two values."""
    return float(values.double().std() / math.sqrt(len(values))) if len(values) > 1 else math.nan
