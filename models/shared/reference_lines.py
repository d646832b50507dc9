"""Values known before training that curves are read against: floors, collapses, what noise gives.

A line is (signal, value, what it means in words, short name, formula on one line). The workloads
hand them on with their facts, so that reports draw them from the store.
"""

Line = tuple[str, float, str, str, str]


def flip_line(share: float) -> Line:
    """Return what labels flip by that are drawn anew each epoch with this share of ones."""
    text = "labels drawn anew in each epoch"
    return ("label_flip_rate", 2.0 * share * (1.0 - share), text, "redrawn_labels", "2 p (1 − p)")


def unskilled_lines(share: float) -> tuple[Line, ...]:
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
