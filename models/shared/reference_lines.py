"""Values known before training to compare curves with: floors, collapses, results of noise.

A line is (signal, value, what it means in words, short name, formula on one line). The workloads
pass them on with their facts, so that reports can draw them from the store.
"""

Line = tuple[str, float, str, str, str]


def flip_line(share: float) -> Line:
    """Return the flip rate of labels that are redrawn each epoch with this share of ones."""
    text = "labels drawn anew in each epoch"
    return ("label_flip_rate", 2.0 * share * (1.0 - share), text, "redrawn_labels", "2 p (1 − p)")


def unskilled_lines(share: float) -> tuple[Line, ...]:
    """Return the values of scores that carry no information about the labels."""
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
