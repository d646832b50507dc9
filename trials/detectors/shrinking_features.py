"""`shrinking_features`: features shrink to a few per cent of their size."""

import numpy as np

from sickbay.trials.contract import Severity
from sickbay.trials.detector import RuleResult, clear, detector, fired, more_evaluations
from sickbay.trials.evidence.classes import RANKING_SIGNALS
from sickbay.trials.evidence.layers import lasting_no_skill
from sickbay.trials.evidence.skill import epoch_at, lasting, percent
from sickbay.trials.evidence.statistics import persistent
from sickbay.trials.evidence.thresholds import margin, whole
from sickbay.trials.history import History


def no_features(history: History) -> str | None:
    """`missing_signal`: the size of the features is not recorded."""
    if history.has("feature_std"):
        return None
    return "The size of the features is not recorded (`feature_std`)."


@detector(
    name="shrinking_features",
    version="1.0",
    title="Shrinking features",
    severity=Severity.FATAL,
    online=False,
    blocks_healthy=True,
    subject=no_features,
    signals="feature_std",
    optional_signals=(
        "feature_std_start",
        "train_loss",
        "val_loss",
        "val_loss_se",
        "val_floor_gap_se",
        "group_update_ratio",
        *RANKING_SIGNALS,
    ),
    rule="The standard deviation of the features over samples is under a tenth of what it was at "
    "the start (or at its largest, where the start was not recorded), three times in a row. A "
    "warning that blocks `healthy`; fatal if the model provably has no skill.",
    formula="sd(F) < 0.1 sd(F_start), k = 3",
    source="A loss that pulls features together is least at no features at all; weight decay or a "
    "heavy auxiliary loss gets there by scale, which the rank does not show.",
    remedy="Lower the weight of the loss that pulls the features together, normalise the features "
    "before it, or add a term that keeps their variance.",
    false_alarms="Features that a following normalisation rescales anyway.",
    margins="feature_shrunk persistence hysteresis skill_gain online_evaluations",
)
def detect(history: History) -> RuleResult:
    """Warn of shrunken features; fatal when the model has no skill either."""
    size, start = history.column("feature_std"), history.column("feature_std_start")
    stated = start[np.isfinite(start) & (start > 0.0)]
    before = np.fmax.accumulate(np.where(np.isfinite(size), size, np.nan))
    ratio = size / (stated[0] if len(stated) else np.where(before > 0.0, before, np.nan))
    limit, k = margin("feature_shrunk"), whole("persistence")
    index = persistent(ratio < limit, ratio >= limit * margin("hysteresis"), np.isnan(ratio), k)
    now = lasting(ratio)
    claim = f"The features vary by {percent(now)} of what they did at the start"
    if index is None:
        return more_evaluations(history, k) or clear(f"{claim}.", statistic=now, threshold=limit)
    since, lost = epoch_at(history, index), lasting_no_skill(history)
    return fired(
        f"{claim} (limit {limit:.0%}), since epoch {since}"
        + ("; the model has no skill." if lost else "; no loss of skill is shown."),
        onset=since,
        severity=Severity.FATAL if lost else Severity.WARNING,
        statistic=now,
        threshold=limit,
    )
