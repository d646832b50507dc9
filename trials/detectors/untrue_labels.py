"""`untrue_labels`: the training labels contradict a truth that is known beside them."""

import numpy as np

from sickbay.trials.contract import Severity
from sickbay.trials.detector import RuleResult, clear, detector, fired, insufficient
from sickbay.trials.evidence.skill import epoch_at, percent
from sickbay.trials.evidence.thresholds import margin
from sickbay.trials.history import History

AGREEMENT = {
    "label_truth_precision": "of the positive labels are true",
    "label_truth_recall": "of the true positives are labelled",
}


@detector(
    name="untrue_labels",
    version="1.0",
    title="Labels against the truth",
    severity=Severity.WARNING,
    online=False,
    signals="label_truth_precision|label_truth_recall",
    optional_signals=("label_positive_rate", *AGREEMENT),
    rule="Where the training labels are held against a truth, as with two sources of labels: in "
    "any epoch, the first included, less than half of the positive labels are true, or less than "
    "half of the true positives are labelled.",
    formula="P(true | label) < 0.5 or P(label | true) < 0.5",
    source="Natarajan et al. 2013: from labels that are flipped at random one can learn as long "
    "as the flip rates of the two classes sum to less than one.",
    remedy="Compare the sources of the labels before training: how many positives a scene each "
    "has, and how often they agree. Look at the join, the coordinates and the resolution.",
    false_alarms="A truth that is itself the poorer source, or rare positives that are labelled "
    "generously on purpose.",
    margins="label_agreement",
)
def detect(history: History) -> RuleResult:
    """Warn of the measure of agreement that is lowest."""
    limit, worst = margin("label_agreement"), None
    for signal, words in AGREEMENT.items():
        shares = history.column(signal)
        shares = np.where((shares >= 0.0) & (shares <= 1.0), shares, np.nan)
        if np.isfinite(shares).any():
            index = int(np.nanargmin(shares))
            if worst is None or shares[index] < worst[0]:
                worst = (float(shares[index]), index, words)
    if worst is None:
        return insufficient("No value lies between 0 and 1: record agreement as a share.")
    lowest, index, words = worst
    rates = history.column("label_positive_rate")
    known = f"; {percent(float(rates[index]))} of the labels are positive"
    claim = f"{percent(lowest)} {words}{known if np.isfinite(rates[index]) else ''}"
    if lowest >= limit:
        return clear(f"At the least, {claim}.", statistic=lowest, threshold=limit)
    return fired(
        f"Only {claim}.", onset=epoch_at(history, index), statistic=lowest, threshold=limit
    )
