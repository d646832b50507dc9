"""Detector 15, `accuracy_paradox`: high accuracy, but predictions unrelated to the class."""

import numpy as np

from sickbay.trials.contract import Severity
from sickbay.trials.detector import (
    RuleResult,
    clear,
    detector,
    fired,
    insufficient,
    more_evaluations,
)
from sickbay.trials.evidence.classes import (
    CLASSIFICATION,
    CONFUSION,
    CONFUSION_SIGNALS,
    NO_TABLE,
    confusion,
    no_classes,
)
from sickbay.trials.evidence.skill import epoch_at, lasting
from sickbay.trials.evidence.statistics import matthews, normal_quantile, persistent
from sickbay.trials.evidence.thresholds import margin, whole
from sickbay.trials.history import History


@detector(
    name="accuracy_paradox",
    version="2.0",
    title="Accuracy paradox",
    severity=Severity.WARNING,
    online=False,
    kinds=CLASSIFICATION,
    subject=no_classes,
    signals=(CONFUSION,),
    optional_signals=CONFUSION_SIGNALS,
    rule="The accuracy is at least 0.9, but the upper bound of Matthews' correlation between "
    "prediction and class is at most 0.1, three times in a row.",
    formula="accuracy >= 0.9 and MCC + 1.645 / sqrt(n_minority) <= 0.1, k = 3",
    source="Standard: under imbalance accuracy is the share of the most frequent class. The error "
    "is the worst case, few but precise predictions of the minority.",
    remedy="Report average precision, MCC or recall beside the accuracy; see "
    "`majority_class_collapse` and `chance_level_ranking`.",
    false_alarms="A wrong threshold on scores that rank well.",
    margins="paradox_accuracy paradox_mcc ranking_alpha persistence hysteresis",
)
def detect(history: History) -> RuleResult:
    """Warn when accuracy looks like success and the confusion table does not."""
    confusions = confusion(history)
    if confusions is None:
        return insufficient(NO_TABLE)
    if not confusions.minority.any():
        return insufficient("The validation split has samples of one class only.")
    high, limit = margin("paradox_accuracy"), margin("paradox_mcc")
    mcc = np.where(np.isnan(confusions.total), np.nan, matthews(confusions.table))
    rare = confusions.true[:, confusions.minority].sum(axis=1)
    upper = mcc + normal_quantile(margin("ranking_alpha")) / np.sqrt(rare)
    accuracy = confusions.accuracy
    leave = (accuracy < high) | (mcc > limit * margin("hysteresis"))
    index = persistent(
        (accuracy >= high) & (upper <= limit), leave, np.isnan(upper), whole("persistence")
    )
    right, relation, bound = lasting(accuracy), lasting(mcc), lasting(upper)
    claim = f"The accuracy is {right:.4f}, Matthews' correlation {relation:.3f}"
    if index is not None:
        since = epoch_at(history, index)
        return fired(
            f"{claim}, at most {bound:.3f} (limit {limit:g}), since epoch {since}: the accuracy "
            f"shows nothing but the class shares.",
            onset=since,
            statistic=bound,
            threshold=limit,
        )
    short = more_evaluations(history, whole("persistence"))
    if short is not None:
        return short
    if right >= high and relation <= limit:
        return insufficient(
            f"{claim}, but it may be {bound:.3f}: about {(bound / limit) ** 2:.1f} times "
            f"the {lasting(rare):.0f} minority samples would settle it.",
            statistic=bound,
            threshold=limit,
        )
    return clear(f"{claim}.", statistic=relation, threshold=limit)
