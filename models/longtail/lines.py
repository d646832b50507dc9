"""Values known before training that the curves of the long-tailed system are read against.

A line is (signal, value, what it means in words, short name, formula on one line).
"""

import math
from collections.abc import Sequence

from sickbay.models.longtail.losses import bounded_floor, entropy
from sickbay.models.longtail.network import HeadOptions, wcdas_range

Line = tuple[str, float, str, str, str]


def longtail_lines(class_counts: Sequence[int], head: HeadOptions) -> tuple[Line, ...]:
    """Return the lines of a task with these training images by class, and of its head."""
    classes = len(class_counts)
    lucky = 1.0 / classes
    lines: tuple[Line, ...] = (
        ("val_loss", math.log(classes), "all classes alike: knowing nothing", "uniform", "log C"),
        ("val_accuracy", lucky, "one class for every image", "chance", "1 / C"),
        ("encoder_reference_skill", lucky, "an encoder without information", "chance", "1 / C"),
        (
            "train_loss",
            entropy(class_counts),
            "the shares of the training classes, and nothing of the image",
            "floor",
            "−Σ p log p",
        ),
    )
    if head.kind != "wcdas":
        return lines
    floor = bounded_floor(*wcdas_range(head), classes)
    text = "the least that WCDAS can reach as it starts"
    formula = "log(1 + (C − 1) exp(−(z_max − z_min)))"
    return (*lines, ("train_loss", floor, text, "wcdas_floor", formula))
