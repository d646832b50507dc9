"""Detector 13, `majority_class_collapse`: only the most frequent class is ever predicted."""

from sickbay.trials.contract import Severity
from sickbay.trials.detector import (
    RuleResult,
    clear,
    detector,
    fired,
    insufficient,
    more_evaluations,
    suspect,
)
from sickbay.trials.evidence.classes import (
    CLASSIFICATION,
    CONFUSION,
    NO_TABLE,
    RANKING_SIGNALS,
    Confusion,
    classes_may_recover,
    collapse_since,
    confusion,
    no_classes,
    threshold_only,
)
from sickbay.trials.evidence.skill import epoch_at, lasting
from sickbay.trials.evidence.thresholds import margin, whole
from sickbay.trials.history import History

ENOUGH = 29  # samples from which no hit at all puts the upper bound of a recall under 0.10


@detector(
    name="majority_class_collapse",
    version="2.0",
    title="Collapse onto the most frequent class",
    severity=Severity.FATAL,
    online=True,
    kinds=CLASSIFICATION,
    subject=no_classes,
    signals=(CONFUSION,),
    optional_signals=(
        *RANKING_SIGNALS,
        "val_loss",
        "val_loss_se",
        "val_floor_gap_se",
        "group_update_ratio",
    ),
    rule="The recall of every minority class is at most 0.10 (upper bound), the accuracy cannot "
    "be told from the share of the most frequent class, and the minority is predicted at under a "
    "tenth of its base rate, three times in a row. Only a warning, about the threshold, if the "
    "AUROC is provably over chance or the loss proves skill. A running trial waits while the "
    "recall rises or the validation loss falls.",
    formula="max CP_95(recall_c) <= 0.10 over c != majority, majority rate in Wilson_95(accuracy), "
    "predicted minority < 0.1 base rate, k = 3; 0 hits need n >= 29",
    source="Rule of three for the recall; 12 of AutoTrainer's Reuters models end like this.",
    remedy="Weight the loss by n_negative / n_positive, resample, or use a focal loss; check that "
    "the minority's labels are right.",
    false_alarms="A threshold of one half over rare positives that are ranked well: hence the "
    "look at the AUROC.",
    margins="minority_recall minority_predicted skill_gain persistence hysteresis "
    "online_evaluations",
)
def detect(history: History) -> RuleResult:
    """Fire when no minority class is predicted any more; warn if only the threshold is wrong."""
    confusions = confusion(history)
    if confusions is None:
        return insufficient(NO_TABLE)
    if not confusions.minority.any():
        return insufficient("The validation split has samples of one class only.")
    index, limit = collapse_since(history), margin("minority_recall")
    recall, upper = lasting(confusions.recall), lasting(confusions.recall_upper)
    if index is None:
        return more_evaluations(history, whole("persistence")) or _not_collapsed(confusions)
    since = epoch_at(history, index)
    reason = (
        f"No minority class has a recall over {upper:.3f} (limit {limit:g}) and the accuracy "
        f"{lasting(confusions.accuracy):.4f} is the share of the most frequent class, "
        f"{lasting(confusions.majority_rate):.4f}, since epoch {since}"
    )
    proof = threshold_only(history)
    if proof is not None:
        return fired(
            f"{reason}; but {proof}: only the threshold is wrong (threshold_miscalibrated).",
            onset=since,
            severity=Severity.WARNING,
            statistic=upper,
            threshold=limit,
            remedy="Choose the threshold on validation data, or weight the loss; the ranking is "
            "good.",
        )
    again = classes_may_recover(history, confusions.recall)
    if again:
        return suspect(f"{reason}; but {again}.", onset=since, statistic=upper, threshold=limit)
    return fired(
        f"{reason}.",
        onset=since,
        statistic=upper,
        threshold=limit,
        evidence={"recall": recall, "minority_predicted": lasting(confusions.minority_predicted)},
    )


def _not_collapsed(confusions: Confusion) -> RuleResult:
    limit = margin("minority_recall")
    recall, upper = lasting(confusions.recall), lasting(confusions.recall_upper)
    predicted = lasting(confusions.minority_predicted)
    low = recall <= limit and predicted < margin("minority_predicted")
    smallest = min(lasting(confusions.true[:, index]) for index in confusions.minority.nonzero()[0])
    if low and upper > limit:
        return insufficient(
            f"The minority is hardly found, but its recall may be up to {upper:.3f}: with "
            f"{smallest:.0f} samples of the rarest class nothing is proven; without any hit it "
            f"takes {ENOUGH}.",
            statistic=upper,
            threshold=limit,
        )
    return clear(
        f"The recall of a minority class is {recall:.3f}; the minority is predicted at "
        f"{predicted:.3g} times its base rate.",
        statistic=recall,
        threshold=limit,
    )
