"""Detector 3, `late_collapse`: a model that had skill has lost it."""

import numpy as np

from sickbay.trials.contract import Severity
from sickbay.trials.detector import (
    BEST_CONSTANT,
    RuleResult,
    clear,
    detector,
    fired,
    insufficient,
    missing_fact,
    more_evaluations,
    suspect,
)
from sickbay.trials.evidence.classes import RANKING_SIGNALS, metric_skill
from sickbay.trials.evidence.skill import epoch_at, gain, lasting, may_recover, no_gain_p, percent
from sickbay.trials.evidence.statistics import persistent
from sickbay.trials.evidence.thresholds import margin, whole
from sickbay.trials.history import History


@detector(
    name="late_collapse",
    version="3.0",
    title="Late collapse",
    severity=Severity.FATAL,
    online=True,
    signals="val_loss",
    optional_signals=(
        "val_loss_se",
        "val_floor_gap_se",
        "val_n",
        "train_loss",
        "train_loss_se",
        "group_update_ratio",
        *RANKING_SIGNALS,
    ),
    rule="The gain over the best constant predictor was at least 0.10, and now its upper bound "
    "is at most 0.02, three times in a row. Only a warning while the training loss keeps its "
    "gain, or a metric proves skill (see `no_skill`).",
    formula="max G >= 0.10 earlier and G + z SE / H0 <= 0.02, k = 3",
    source="Recorded run of Stack Overflow 60335387: a net that learnt, then fell back to chance.",
    remedy="Restart from the best checkpoint with a lower learning rate; check that gradients "
    "are zeroed each step.",
    false_alarms="A cyclic learning rate may lose and regain skill within one cycle.",
    margins="had_skill_gain skill_gain persistence hysteresis",
)
def detect(history: History) -> RuleResult:
    """Fire when skill that was there is provably gone."""
    gains = gain(history)
    if gains is None:
        return missing_fact(BEST_CONSTANT)
    short = more_evaluations(history, whole("persistence") + 1)
    limit, had = margin("skill_gain"), margin("had_skill_gain")
    best = np.fmax.accumulate(np.nan_to_num(gains.value, nan=-np.inf))
    lost = (gains.upper <= limit) & (best >= had)
    back = gains.upper > limit * margin("hysteresis")
    index = persistent(lost, back, np.isnan(gains.upper), whole("persistence"))
    top, last = float(best[-1]), lasting(gains.upper, 1)
    if index is None:
        if short is not None:
            return short
        return _not_lost(top, last, lasting(gains.lower))
    since = epoch_at(history, index)
    reason = (
        f"The gain over the best constant predictor was {top:.0%} and is now "
        f"at most {percent(last)}, since epoch {since}"
    )
    again = may_recover(history, history.column("val_loss"), recovery_rises=False)
    if again:
        return suspect(f"{reason}; but {again}.", onset=since, statistic=last, threshold=limit)
    kept = metric_skill(history)
    if kept is None and _training_gain(history) >= had:
        kept = "the training loss keeps its gain: keep the best checkpoint"
    p_value = no_gain_p(gains)
    return fired(
        f"{reason}; {kept}." if kept else f"{reason}.",
        onset=since,
        severity=Severity.WARNING if kept else Severity.FATAL,
        statistic=last,
        threshold=limit,
        confidence=1.0 - p_value,
        evidence={"p_value": p_value, "best_gain": top},
    )


def _not_lost(top: float, upper: float, lower: float) -> RuleResult:
    limit, had = margin("skill_gain"), margin("had_skill_gain")
    if np.isnan(upper):
        return insufficient(
            "The standard error of the validation loss is not known yet: 3 evaluations."
        )
    if top < had:
        return clear(f"The gain never reached {had:.0%} (at most {percent(top)}): nothing to lose.")
    if lower <= limit:
        return suspect(
            f"The gain was {top:.0%} and may be lost: it lies between {percent(lower)} and "
            f"{percent(upper)}.",
            statistic=upper,
            threshold=limit,
        )
    return clear(
        f"The gain, {top:.0%} at its best, is still at least {percent(lower)}.",
        statistic=upper,
        threshold=limit,
    )


def _training_gain(history: History) -> float:
    gains = gain(history, "train_loss")
    return -np.inf if gains is None else lasting(gains.value)
