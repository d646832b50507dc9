"""`accumulated_gradient`: steps are taken with the gradients of earlier steps still in them."""

import numpy as np

from sickbay.trials.contract import Severity
from sickbay.trials.detector import RuleResult, clear, detector, fired, insufficient
from sickbay.trials.evidence.classes import RANKING_SIGNALS, metric_skill
from sickbay.trials.evidence.skill import epoch_at, gain, lasting, percent
from sickbay.trials.evidence.statistics import persistent
from sickbay.trials.evidence.thresholds import margin, whole
from sickbay.trials.history import History


def not_watched(history: History) -> str | None:
    """`missing_signal`: the probe did not watch how gradients are cleared."""
    if history.has("uncleared_grad_share"):
        return None
    return "Clearing of gradients was not recorded (`uncleared_grad_share`, from the probe)."


@detector(
    name="accumulated_gradient",
    version="1.0",
    title="Gradients not cleared",
    severity=Severity.FATAL,
    online=True,
    subject=not_watched,
    signals="uncleared_grad_share",
    optional_signals=("val_loss", "val_loss_se", "val_floor_gap_se", *RANKING_SIGNALS),
    rule="In at least half of the watched steps the gradient of the step before was still there "
    "when the next was added, although a step had been taken in between, in two evaluations in a "
    "row. Fatal, but a warning while the model has skill.",
    formula="share of steps with grad after backward != gradient of this backward pass >= 0.5, "
    "k = 2",
    source="The definition of the gradient step. Hooks on one parameter see both sides exactly; "
    "from the norms alone it cannot be distinguished from a blow-up.",
    remedy="Call `optimizer.zero_grad()` before each `loss.backward()`, on the optimizer that "
    "holds this model's parameters.",
    false_alarms="None by design: accumulation over micro-batches takes no step in between.",
    margins="uncleared_share frozen_epochs skill_gain",
)
def detect(history: History) -> RuleResult:
    """Fire when steps are taken without clearing the gradients."""
    share, limit = history.column("uncleared_grad_share"), margin("uncleared_share")
    k = 1 if history.finished and len(history) == 1 else whole("frozen_epochs")
    index = persistent(share >= limit, share < limit, k=k)
    now = lasting(share, 1)
    claim = (
        f"In {percent(now)} of the watched steps the gradient of the step before was not cleared"
    )
    if index is None:
        if np.isnan(now):
            return insufficient("No two steps of an epoch were watched yet.")
        return clear(f"{claim}.", statistic=now, threshold=limit)
    since, gains = epoch_at(history, index), gain(history)
    learns = gains is not None and lasting(gains.lower) > margin("skill_gain")
    skilled = metric_skill(history) or ("the validation loss proves skill" if learns else None)
    return fired(
        f"{claim} (limit {limit:.0%}), since epoch {since}"
        + (f"; however, {skilled}." if skilled else ": each step sums up all gradients so far."),
        onset=since,
        severity=Severity.WARNING if skilled else Severity.FATAL,
        statistic=now,
        threshold=limit,
        confidence=1.0,
    )
