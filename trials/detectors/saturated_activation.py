"""Detector 9, `saturated_activation`: bounded activations whose outputs stick to the ends."""

import numpy as np

from sickbay.trials.contract import Severity
from sickbay.trials.detector import RuleResult, clear, detector, fired, more_evaluations
from sickbay.trials.evidence.classes import RANKING_SIGNALS
from sickbay.trials.evidence.layers import held_since, lasting_no_skill, layer_words
from sickbay.trials.evidence.skill import epoch_at, lasting, may_recover
from sickbay.trials.evidence.thresholds import margin, whole
from sickbay.trials.history import History


def no_bounded_units(history: History) -> str | None:
    """`missing_signal`: no hidden layer with a bounded activation is recorded."""
    if history.has("saturated_share"):
        return None
    return "No hidden layer with tanh, sigmoid or softmax is recorded (`saturated_share`)."


@detector(
    name="saturated_activation",
    version="3.0",
    title="Saturated activations",
    severity=Severity.FATAL,
    online=True,
    subject=no_bounded_units,
    signals="saturated_share",
    optional_signals=(
        "train_loss",
        "val_loss",
        "val_loss_se",
        "val_floor_gap_se",
        "val_n",
        "group_update_ratio",
        *RANKING_SIGNALS,
    ),
    rule="More than half of a hidden layer's outputs on the probe batch lie within the outer "
    "hundredth of the activation's range (tanh over 0.99 or under -0.99), three times in a row: a "
    "warning. Fatal only if the model provably has no skill now, by its loss and, among "
    "classes, by its ranking.",
    formula="share of |f| > 0.99 (f scaled to [-1, 1]) > 0.5 of a layer, k = 3; fatal: G + z SE <= "
    "0.02",
    source="SageMaker Debugger (tanh inputs beyond 9.5, half of a layer), TheDeepChecker (0.85).",
    remedy="Scale the inputs, initialise with smaller weights (Glorot), lower the learning rate, "
    "or normalise before the activation.",
    false_alarms="Gates of an LSTM or of attention saturate healthily: leave them out of the "
    "signal.",
    margins="saturated_layer persistence hysteresis skill_gain online_evaluations",
)
def detect(history: History) -> RuleResult:
    """Warn of saturated layers; fatal when the model has no skill either."""
    shares = history.vectors("saturated_share")
    worst, k = np.fmax.reduce(shares, axis=1), whole("persistence")
    limit = margin("saturated_layer")
    leave = worst < limit / margin("hysteresis")
    index = held_since(worst, worst > limit, leave, history.recorded("saturated_share"), k)
    now = lasting(worst)
    known = shares[np.isfinite(shares).any(axis=1)]
    layer = layer_words(int(np.nanargmax(known[-1])) if len(known) else 0, shares.shape[1])
    claim = f"{now:.0%} of the outputs of {layer} are at an end of the activation's range"
    if index is None:
        return more_evaluations(history, k) or clear(f"{claim}.", statistic=now, threshold=limit)
    since = epoch_at(history, index)
    waits = may_recover(history, worst, recovery_rises=False)
    fatal = waits is None and lasting_no_skill(history)
    return fired(
        f"{claim} (limit {limit:.0%}), since epoch {since}"
        + ("; the model has no skill." if fatal else "; no loss of skill is shown."),
        onset=since,
        severity=Severity.FATAL if fatal else Severity.WARNING,
        statistic=now,
        threshold=limit,
    )
