"""Detector 20, `constant_output`: the prediction does not depend on the input."""

import numpy as np

from sickbay.trials.contract import Severity
from sickbay.trials.detector import RuleResult, clear, detector, fired, more_evaluations, suspect
from sickbay.trials.evidence.classes import (
    RANKING_SIGNALS,
    metric_skill,
    skill_on_its_way,
    worthless_since,
)
from sickbay.trials.evidence.skill import alphas, epoch_at, gain, lasting, may_recover
from sickbay.trials.evidence.statistics import persistent, variance_upper
from sickbay.trials.evidence.thresholds import margin, whole
from sickbay.trials.history import History


@detector(
    name="constant_output",
    version="3.0",
    title="Prediction collapse",
    severity=Severity.FATAL,
    online=True,
    signals="output_variance_ratio",
    optional_signals=(
        "val_n",
        "val_loss",
        "val_loss_se",
        "train_loss",
        "val_floor_gap_se",
        "group_update_ratio",
        *RANKING_SIGNALS,
    ),
    rule="The variance of the prediction over inputs is under a thousandth of the target's "
    "(upper bound), three times in a row, and neither the validation loss nor the ranking "
    "proves skill. While the trial runs, the loss must prove that there is none, and neither loss "
    "nor ranking may be on its way to it.",
    formula="s² (n-1) / chi²(alpha, n-1) < 1e-3, k = 3, with s² = Var(prediction) / Var(target)",
    source="TheDeepChecker's output variance coefficient of 1e-3.",
    remedy="Look for a net that only trains its last bias, dead layers, or inputs and targets of "
    "wild scale.",
    false_alarms="Targets that hardly vary, or vary by rare outliers: hence the look at skill.",
    margins="output_variance skill_gain persistence hysteresis online_evaluations",
)
def detect(history: History) -> RuleResult:
    """Fire when the output is practically constant and the loss proves no skill."""
    ratio = history.column("output_variance_ratio")
    upper = variance_upper(ratio, history.column("val_n"), alphas(history))
    limit = margin("output_variance")
    index = persistent(
        upper < limit, upper > limit * margin("hysteresis"), np.isnan(upper), whole("persistence")
    )
    now = lasting(upper)
    if index is None:
        return more_evaluations(history, whole("persistence")) or clear(
            f"The prediction varies over inputs by {lasting(ratio):.3g} of the target's variance.",
            statistic=now,
            threshold=limit,
        )
    since = epoch_at(history, index)
    reason = (
        f"The prediction varies over inputs by at most {now:.2g} of the target's variance "
        f"(limit {limit:g}), since epoch {since}"
    )
    gains = gain(history)
    skilled = metric_skill(history)
    if gains is not None and lasting(gains.lower) > margin("skill_gain"):
        skilled = "the validation loss proves skill"
    again = _undecided(history)
    if skilled or again:
        return suspect(
            f"{reason}; but {skilled or again}.", onset=since, statistic=now, threshold=limit
        )
    return fired(
        f"{reason}: it does not depend on the input.", onset=since, statistic=now, threshold=limit
    )


def _undecided(history: History) -> str | None:
    """Why a running trial may still recover: long plateaus of healthy nets look the same."""
    ratio = history.column("output_variance_ratio")
    again = may_recover(history, ratio, recovery_rises=True)
    if history.finished or again:
        return again
    if worthless_since(history) is None:
        return "the validation loss does not prove yet that it has no skill"
    return skill_on_its_way(history, history.column("train_loss"))
