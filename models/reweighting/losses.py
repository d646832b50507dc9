"""The detector's loss: boxes matched to queries one to one, focal loss and L1; the best constant.

B samples · Q queries · M boxes · K classes · L decoder layers
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from sickbay.models.reweighting.network import BOX_CODE, CLASS_BIAS
from sickbay.models.reweighting.parts import focal

CLASS_WEIGHT, BOX_WEIGHT = 2.0, 0.25
CODE_WEIGHTS = (2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.2, 0.2)
CONSTANT_STEPS, CONSTANT_LR = 60, 0.1


@dataclass(frozen=True)
class Losses:
    """Loss of each sample by its two tasks, mean over the decoder's layers: (B,) each."""

    classes: Tensor
    boxes: Tensor

    @property
    def total(self) -> Tensor:
        """Return the loss that is trained, (B,)."""
        return self.classes + self.boxes


def encode_boxes(boxes_BM9: Tensor) -> Tensor:
    """Return the codes (B, M, 10) that the head predicts of boxes x, y, z, w, l, h, yaw, vx, vy."""
    x, y, z, wide, long, tall, yaw, vx, vy = boxes_BM9.unbind(dim=-1)
    sizes = [size.clamp(min=1e-3).log() for size in (wide, long, tall)]
    columns = [x, y, sizes[0], sizes[1], z, sizes[2], yaw.sin(), yaw.cos(), vx, vy]
    return torch.stack(columns, dim=-1)


def decode_boxes(codes: Tensor) -> Tensor:
    """Return boxes (…, 9) from codes (…, 10)."""
    x, y, wide, long, z, tall, sin, cos, vx, vy = codes.unbind(dim=-1)
    sizes = [size.clamp(max=6.0).exp() for size in (wide, long, tall)]
    return torch.stack([x, y, z, *sizes, torch.atan2(sin, cos), vx, vy], dim=-1)


def detection_losses(
    logits_LBQK: Tensor, codes_LBQ10: Tensor, boxes_BM9: Tensor, classes_BM: Tensor
) -> Losses:
    """Return the loss of each sample; its sums are divided by the number of its boxes, at least 1.

    Each layer is matched by itself (Hungarian, at twice the focal cost plus a quarter of L1, the
    weights of the loss). Rows of `classes` that are -1 are no boxes.
    """
    codes_BM10 = encode_boxes(boxes_BM9)
    count_B = (classes_BM >= 0).sum(dim=1).clamp(min=1).to(codes_BM10.dtype)
    weights = code_weights(codes_BM10.device)
    matches = match(logits_LBQK, codes_LBQ10, codes_BM10, classes_BM)
    unit = torch.ones((), device=codes_BM10.device)
    by_layer = []
    for logits, codes, (sample, query, box) in zip(logits_LBQK, codes_LBQ10, matches, strict=True):
        target = torch.zeros_like(logits)
        target[sample, query, classes_BM[sample, box]] = unit
        classified_B = focal(logits, target).sum(dim=(1, 2))
        apart_N = ((codes[sample, query] - codes_BM10[sample, box]).abs() * weights).sum(dim=-1)
        # One-hot times values: a sum by sample with a deterministic gradient on any device.
        whose_BN = sample[None] == torch.arange(len(logits), device=logits.device)[:, None]
        located_B = whose_BN.to(apart_N.dtype) @ apart_N
        pair = (CLASS_WEIGHT * classified_B / count_B, BOX_WEIGHT * located_B / count_B)
        by_layer.append(torch.stack(pair))
    mean_2B = torch.stack(by_layer).mean(dim=0)
    return Losses(mean_2B[0], mean_2B[1])


@functools.lru_cache(maxsize=8)
def code_weights(device: torch.device) -> Tensor:
    """Return the weights of a box code's ten numbers, made once on each device."""
    return torch.tensor(CODE_WEIGHTS, device=device)


@torch.no_grad()
def match(
    logits_LBQK: Tensor, codes_LBQ10: Tensor, codes_BM10: Tensor, classes_BM: Tensor
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Return sample, query and box of each layer's cheapest assignment, vectors of one length.

    All layers' costs go to the host in one copy, and come back in another: the assignment itself
    is scipy's. It is the only wait for the device in a step.
    """
    hit = focal(logits_LBQK, torch.ones_like(logits_LBQK))
    miss = focal(logits_LBQK, torch.zeros_like(logits_LBQK))
    layers, _, queries, _ = logits_LBQK.shape
    wanted = classes_BM.clamp(min=0)[None, :, None].expand(layers, -1, queries, -1)
    cost = CLASS_WEIGHT * (hit - miss).gather(3, wanted)
    apart = (codes_LBQ10[:, :, :, None] - codes_BM10[:, None]).abs() @ code_weights(cost.device)
    real = (classes_BM >= 0).to(cost.dtype)[None, :, None].expand(layers, -1, 1, -1)
    whole = torch.cat([cost + BOX_WEIGHT * apart, real], dim=2).cpu().numpy()
    total = np.nan_to_num(whole[:, :, :-1], nan=1e6, posinf=1e6)
    triples: list[Sequence[np.ndarray]] = []
    lengths = []
    for layer in range(layers):
        for index, there in enumerate(whole[layer, :, -1]):
            boxes = np.flatnonzero(there)
            rows, column = linear_sum_assignment(total[layer, index][:, boxes])
            triples.append((np.full(len(rows), index), rows, boxes[column]))
        lengths.append(sum(len(triple[0]) for triple in triples[-len(codes_BM10) :]))
    columns = np.stack([np.concatenate([triple[side] for triple in triples]) for side in range(3)])
    placed = torch.from_numpy(columns).to(logits_LBQK.device, non_blocking=True)
    return [(part[0], part[1], part[2]) for part in torch.split(placed, lengths, dim=1)]


def best_constant(points_Q2: Tensor, boxes_SM9: Tensor, classes_SM: Tensor, classes: int) -> Tensor:
    """Return the loss (S,) of the best answer that is the same for all samples.

    Every query predicts one box and one set of logits, fitted through the same loss by gradient
    descent, starting from the queries' positions and boxes of the median size.
    """
    codes_SM10 = encode_boxes(boxes_SM9)
    usual = codes_SM10[classes_SM >= 0].median(dim=0).values
    start = usual.expand(len(points_Q2), BOX_CODE).clone()
    start[:, :2] = points_Q2
    code_Q10 = start.requires_grad_()
    logit_QK = torch.full((len(points_Q2), classes), CLASS_BIAS, device=start.device)
    logit_QK.requires_grad_()
    fit = torch.optim.Adam([code_Q10, logit_QK], lr=CONSTANT_LR)
    best: Tensor | None = None
    for _ in range(CONSTANT_STEPS):
        shape = (1, len(boxes_SM9), len(points_Q2))
        losses = detection_losses(
            logit_QK.expand(*shape, classes),
            code_Q10.expand(*shape, BOX_CODE),
            boxes_SM9,
            classes_SM,
        ).total
        if best is None or bool(losses.mean() < best.mean()):
            best = losses.detach()
        fit.zero_grad()
        losses.mean().backward()  # type: ignore[no-untyped-call]
        fit.step()
    assert best is not None
    return best
