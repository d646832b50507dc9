"""`double_activation`: a softmax or sigmoid before a loss that applies one itself."""

import math

import numpy as np

from sickbay.trials.contract import Severity
from sickbay.trials.detector import RuleResult, clear, detector, fired, insufficient
from sickbay.trials.evidence.classes import CLASSIFICATION, CONFUSION_SIGNALS, confusion, no_classes
from sickbay.trials.evidence.skill import epoch_at, lasting
from sickbay.trials.evidence.statistics import FloatArray, persistent, theil_sen
from sickbay.trials.evidence.thresholds import margin, whole
from sickbay.trials.history import History

PAIRS = (("train_loss", "train_accuracy"), ("val_loss", "val_accuracy"))


@detector(
    name="double_activation",
    version="1.1",
    title="Activation applied twice",
    severity=Severity.FATAL,
    online=True,
    blocks_healthy=True,
    kinds=CLASSIFICATION,
    subject=no_classes,
    signals="logit_min|train_accuracy|val_accuracy",
    optional_signals=(
        "logit_max",
        "logit_row_sum_deviation",
        "train_loss",
        "val_loss",
        *CONFUSION_SIGNALS,
    ),
    rule="What enters the loss as logits lies in [0, 1] and, of several classes, sums to one in "
    "each row, three times in a row, and no loss is below what a softmax of such rows can reach. "
    "Fatal for three classes or more; a warning for two, where a sigmoid looks like a small range "
    "of logits. Without the probe, a warning: the loss has come to rest within 0.06 of the value "
    "that a one-hot output has under a second softmax at the accuracy reached, and that is over "
    "0.85.",
    formula="0 <= z <= 1, |sum z - 1| < 1e-3, L >= log(e + C - 1) - 1; without the probe "
    "|L - (log(e + C - 1) - accuracy)| < 0.06",
    source="Softmax of a one-hot row gives its class e / (e + C - 1): the loss of a perfect "
    "classifier is log(e + C - 1) - 1, 1.46 for ten classes, and a miss costs one more.",
    remedy="Remove the softmax or sigmoid at the end of the model (`cross_entropy` and "
    "`binary_cross_entropy_with_logits` apply it), or use the loss that takes probabilities.",
    false_alarms="A loss that does take probabilities: it falls below the bound once it learns.",
    margins="probability_slack twice_loss twice_accuracy still_share persistence",
)
def detect(history: History) -> RuleResult:
    """Fire on probabilities where logits belong; warn by the loss alone."""
    classes = _classes(history)
    if history.has("logit_min"):
        seen = _probabilities(history, classes)
        if seen is not None:
            return seen
    elif classes is None:
        return insufficient("The number of classes is not known: state the class counts.")
    elif classes > 2:
        rests = _rests_at_twice(history, classes)
        if rests is not None:
            return rests
    return clear("What enters the loss does not look like probabilities.")


def _classes(history: History) -> int | None:
    counted = confusion(history)
    known = len(history.facts.class_counts) or (0 if counted is None else counted.true.shape[1])
    return known if known >= 2 else None


def _least(classes: int) -> float:
    """Loss of a one-hot output of the right class under a second softmax, in nats."""
    return math.log(math.e + classes - 1.0) - 1.0


def _nat(history: History) -> float:
    """One nat in the unit of the loss: the floor over the entropy of the classes, or 1."""
    counts = np.asarray(history.facts.class_counts, dtype=np.float64)
    shares = counts[counts > 0.0] / counts.sum() if counts.sum() > 0.0 else counts
    entropy, floor = float(-(shares * np.log(shares)).sum()), history.facts.floor_loss
    return floor / entropy if floor and entropy > 0.0 else 1.0


def _probabilities(history: History, classes: int | None) -> RuleResult | None:
    low, high = history.column("logit_min"), history.column("logit_max")
    apart = history.column("logit_row_sum_deviation")
    slack = margin("probability_slack")
    several = not np.isnan(apart).all()
    inside = (low >= -slack) & (high <= 1.0 + slack) & (~(apart > slack) if several else True)
    index = persistent(inside, ~inside, k=whole("persistence"))
    losses = np.concatenate([history.column("train_loss"), history.column("val_loss")])
    losses = losses / _nat(history)
    # of two classes the positive one alone bounds the loss of a second sigmoid
    bound = _least(classes if several and classes else 2)
    if index is None or losses[np.isfinite(losses)].min(initial=np.inf) < bound - slack:
        return None
    since = epoch_at(history, index)
    rows = f", and their rows sum to 1 within {lasting(apart):.1g}" if several else ""
    return fired(
        f"What enters the loss lies between {lasting(low):.3g} and {lasting(high):.3g}{rows}, "
        f"since epoch {since}: probabilities, not logits.",
        onset=since,
        severity=Severity.FATAL if several and (classes or 3) > 2 else Severity.WARNING,
        statistic=lasting(apart) if several else lasting(high),
        threshold=slack if several else 1.0,
    )


def _rests_at_twice(history: History, classes: int) -> RuleResult | None:
    known = [pair for pair in PAIRS if history.has(*pair)]
    gaps = [_gap(history, *pair, classes) for pair in known]
    if not history.finished or not gaps or not all(gap < margin("twice_loss") for gap in gaps):
        return None
    loss, accuracy = (lasting(history.column(name)) for name in known[-1])
    loss = loss / _nat(history)
    expected = _least(classes) + 1.0 - accuracy
    return fired(
        f"The loss rests at {loss:.3f}, where an accuracy of {accuracy:.3f} would give "
        f"{expected:.3f} if a softmax were applied twice to {classes} classes, since epoch "
        f"{epoch_at(history, 0)}.",
        onset=epoch_at(history, 0),
        severity=Severity.WARNING,
        statistic=abs(loss - expected),
        threshold=margin("twice_loss"),
    )


def _gap(history: History, signal: str, metric: str, classes: int) -> float:
    """How far a loss at rest is from that of two softmaxes; infinite if it does not qualify."""
    loss, accuracy = history.column(signal) / _nat(history), history.column(metric)
    right, third = lasting(accuracy), loss[-max(len(loss) // 3, 3) :]
    if not right >= margin("twice_accuracy") or not _still(third, math.log(classes)):
        return math.inf
    return abs(lasting(loss) - (_least(classes) + 1.0 - right))


def _still(loss: FloatArray, floor: float) -> bool:
    steps = np.arange(len(loss), dtype=np.float64)
    return abs(theil_sen(steps, loss)) * len(loss) < margin("still_share") * floor
