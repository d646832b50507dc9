"""`toy_small_validation`: a detector of one rule, as small as one can be."""

from sickbay.trials.contract import Severity
from sickbay.trials.detector import RuleResult, clear, detector, fired
from sickbay.trials.history import History

FEWEST = 30.0  # below this, a mean's normal interval is not to be trusted


@detector(
    name="toy_small_validation",
    version="1.0",
    severity=Severity.WARNING,
    online=False,
    signals=("val_n",),
    rule=f"Fires when the validation split has fewer than {FEWEST:.0f} samples.",
    remedy="Validate on more samples.",
)
def detect(history: History) -> RuleResult:
    """Warn when the validation split is too small to tell trials apart."""
    n = float(history.column("val_n")[-1])
    reason = f"{n:.0f} validation samples (at least {FEWEST:.0f} wanted)."
    if n < FEWEST:
        return fired(reason, onset=int(history.epochs[0]), statistic=n, threshold=FEWEST)
    return clear(reason, statistic=n, threshold=FEWEST)
