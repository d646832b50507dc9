"""Values known before training that curves are read against: floors, collapses, what noise gives.

A line is (signal, value, what it means in words, short name, formula on one line). The workloads
hand them on with their facts, so that reports draw them from the store.
"""

import math

from sickbay.models.crossmodal.losses import label_entropy
from sickbay.models.orientation.vonmises import constant_floor, truth_to_one_peak, truth_to_uniform
from sickbay.models.pointwise.losses import LossOptions, best_constant, flip_weight

Line = tuple[str, float, str, str, str]


def mixture_lines(kfold: int, kappa: float) -> tuple[Line, ...]:
    """Return the lines of a mixture of von Mises against `kfold` even peaks of κ `kappa`."""
    components = max(kfold, 1)
    lines: tuple[Line, ...] = (
        (
            "val_matched_kl",
            constant_floor(kfold, kappa),
            "the best constant angle",
            "floor",
            "log I0(κ) − log I0(κ sin(π/K)/(π/K))",
        ),
        (
            "val_density_kl",
            truth_to_uniform(kfold, kappa),
            "no direction at all",
            "uniform",
            "KL(truth ‖ uniform) = log 2π − H(truth)",
        ),
        (
            "val_density_kl",
            truth_to_one_peak(kfold, kappa),
            "one peak predicted perfectly, the others forgotten",
            "collapse",
            "KL(truth ‖ its first peak)",
        ),
    )
    if components == 1:
        return lines
    return (
        *lines,
        (
            "peak_coverage",
            1.0 / components,
            "one living component: one peak of all",
            "collapse",
            "1/K",
        ),
        (
            "mixture_weights_entropy",
            math.log(components),
            "all components weigh alike",
            "even_weights",
            "log K",
        ),
    )


def scene_lines(loss: str, pos_weight: float, share: float, tokens: int = 0) -> tuple[Line, ...]:
    """Return the lines of a scene classifier whose validation labels hold a `share` of ones.

    `tokens` is how many keys an attention chooses from, 0 without one.
    """
    lines = list(_unskilled(share)) if 0.0 < share < 1.0 else []
    if loss == "bce" and pos_weight == 1.0:
        text = "the entropy H(p) of the labels: knowing their share only"
        formula = "−p log p − (1 − p) log(1 − p)"
        lines.append(("val_loss", label_entropy(share), text, "label_entropy", formula))
    if loss == "mean_std":
        text = "a score of 0 for every scene"
        lines.append(("val_loss", 0.0, text, "no_labels", "mean(s) + 0.1 std(s) at s = 0"))
    if tokens:
        text = "every point looks everywhere alike"
        line = ("attention_entropy", math.log(tokens), text, "even_attention", f"log {tokens}")
        lines.append(line)
    return tuple(lines)


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
        lines += _unskilled(share)
    return tuple(lines)


def flip_line(share: float) -> Line:
    """Return what labels flip by that are drawn anew each epoch with this share of ones."""
    text = "labels drawn anew in each epoch"
    return ("label_flip_rate", 2.0 * share * (1.0 - share), text, "redrawn_labels", "2 p (1 − p)")


def _unskilled(share: float) -> tuple[Line, ...]:
    """Return what scores reach that say nothing about the labels."""
    return (
        (
            "val_auroc",
            0.5,
            "no ranking at all",
            "chance",
            "P(s⁺ > s⁻) + P(s⁺ = s⁻)/2 of equal laws",
        ),
        ("val_auprc", share, "no ranking: the share of positives", "chance", "p"),
        (
            "val_accuracy",
            max(share, 1.0 - share),
            "always the larger class",
            "majority",
            "max(p, 1 − p)",
        ),
    )
