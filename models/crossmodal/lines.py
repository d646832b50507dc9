"""Values known before training that the curves of a scene classifier are read against."""

import math

from sickbay.models.crossmodal.losses import label_entropy
from sickbay.models.shared.reference_lines import Line, unskilled_lines


def scene_lines(loss: str, pos_weight: float, share: float, tokens: int = 0) -> tuple[Line, ...]:
    """Return the lines of a scene classifier whose validation labels hold a `share` of ones.

    `tokens` is how many keys an attention chooses from, 0 without one.
    """
    lines = list(unskilled_lines(share)) if 0.0 < share < 1.0 else []
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
