"""Values known before training that the curves of a point scorer are read against."""

import math

from torch import Tensor

from sickbay.models.pointwise.losses import LossOptions, best_constant, flip_weight
from sickbay.models.pointwise.metrics import label_signals
from sickbay.models.shared.reference_lines import Line, unskilled_lines


def point_lines(
    plan: str, loss: LossOptions, share: float, points: int, *, noise: bool = False
) -> tuple[Line, ...]:
    """Return the lines of a point scorer whose validation targets hold a `share` of ones.

    `noise` says that the labels are random, so that the best answer is the constant q*.
    """
    q_star, floor = best_constant(loss, share, plan, points)
    kind = "BCE" if loss.kind == "bce" else "focal loss"
    minimum = f"min over q of p ℓ(q, 1) + (1 − p) ℓ(q, 0), ℓ the {kind}"
    formula = "w p / (w p + 1 − p)" if loss.kind == "bce" and plan != "C" else f"the arg {minimum}"
    text = "q*: the answer to labels that are noise"
    lines: list[Line] = [
        ("val_mean_probability", q_star, text, "q_star", formula),
        ("val_loss", floor, "the best constant probability", "floor", minimum),
    ]
    if not 0.0 < share < 1.0:
        return tuple(lines)
    if loss.kind == "bce" and plan != "C":
        weight = flip_weight(share)
        text = f"noise: 0 below pos_weight {weight:.4g}, 1 above"
        value = float(loss.pos_weight > weight)
        lines.append(("val_recall", value, text, "noise_recall", "1 if w > (1 − p)/p, else 0"))
    if noise:
        lines += unskilled_lines(share)
    return tuple(lines)


def label_lines(target: Tensor, truth: Tensor) -> tuple[Line, ...]:
    """Return what the training labels look like before training, held against the truth.

    `target` and `truth` are of points, (S, N), or of scenes, (S,). A share of nothing is left out.
    """
    known = label_signals(target, truth, None)
    if target.dim() > 1:
        each_S = target.double().sum(dim=1)
        text = f"labelled points a scene: {float(each_S.mean()):.3g}, at most {int(each_S.max())}"
    else:
        text = f"positive scenes: {int(target.sum())} of {len(target)}"
    lines = (
        ("label_positive_rate", text, "labels", "share of positive training labels"),
        ("label_truth_recall", "true positives that are labelled", "agreement", "P(label | true)"),
        ("label_truth_precision", "labels that are true", "agreement", "P(true | label)"),
    )
    values = {name: value for name, value in known.items() if isinstance(value, float)}
    return tuple(
        (name, values[name], text, short, formula)
        for name, text, short, formula in lines
        if math.isfinite(values[name])
    )
