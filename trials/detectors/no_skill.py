"""Detector 10, `no_skill`: the model is no better than the best constant predictor."""

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
from sickbay.trials.evidence.classes import RANKING_SIGNALS, metric_skill, skill_on_its_way
from sickbay.trials.evidence.skill import (
    Gain,
    epoch_at,
    gain,
    lasting,
    no_gain_p,
    no_skill_since,
    percent,
    stands_still,
)
from sickbay.trials.evidence.thresholds import margin, whole
from sickbay.trials.history import History


@detector(
    name="no_skill",
    version="3.0",
    title="Stuck at the base rate",
    severity=Severity.FATAL,
    online=True,
    signals="val_loss",
    optional_signals=(
        "val_loss_se",
        "val_floor_gap_se",
        "val_n",
        "train_loss",
        "group_update_ratio",
        *RANKING_SIGNALS,
    ),
    rule="The upper bound of the gain over the best constant predictor is at most 0.02 three "
    "times in a row, and no earlier lower bound was above, over at least ten evaluations. A "
    "running trial must also show no falling training loss, unless the validation loss is twice "
    "the floor or more and its slope, doubled, does not reach the floor by the end of the plan; "
    "nor an AUROC that rises or is over one half. Five evaluations suffice where no parameter "
    "group can move by a thousandth of its size in the steps to come. A finished "
    "trial whose gain stays between -0.02 and 0.005 has none at any n. Only a warning if a "
    "metric proves skill: the lower bound of the AUROC is over 0.60, or that of the accuracy is "
    "over the share of the most frequent class by a tenth of what is left to 1. Clear if the lower "
    "bound of the gain is over 0.02.",
    formula="G = 1 - L/H0; G + z SE(L - H0)/H0 <= 0.02, max (G - z SE(L)/H0) <= 0.02, k = 3; "
    "running: Mann-Kendall down of train L over 10, p > 0.05",
    source="Comparison with a trivial model (deepchecks); equivalence test instead of a "
    "flat-curve test, which stopped 12 to 15 of 15 recorded healthy runs.",
    remedy="Check that inputs and labels belong together and that the loss reaches the model; "
    "then the learning rate and the initialisation. If several configurations agree, the data "
    "may hold no signal.",
    false_alarms="A task with so little signal that its best gain is under 0.02.",
    margins="skill_gain floor_gain had_skill_gain persistence hysteresis online_evaluations "
    "trend_p trend_window still_evaluations still_movement cap_over_floor reach_speed "
    "ranking_margin",
)
def detect(history: History) -> RuleResult:
    """Fire when there is provably no gain, clear when there is, else say what is missing."""
    gains = gain(history)
    if gains is None:
        return missing_fact(BEST_CONSTANT)
    limit = margin("skill_gain")
    lower = lasting(gains.lower)
    index = no_skill_since(history)
    if index is None:
        if lower > limit:
            return clear(
                f"The gain over the best constant predictor is {percent(lasting(gains.value))}, "
                f"at least {percent(lower)} (margin {limit:.0%}).",
                statistic=lower,
                threshold=limit,
            )
        return more_evaluations(history, whole("online_evaluations")) or _open(gains)
    return _without(history, gains, index)


def _without(history: History, gains: Gain, index: int) -> RuleResult:
    limit, since, loss = margin("skill_gain"), epoch_at(history, index), history.column("val_loss")
    upper = lasting(gains.upper)
    reason = (
        f"The validation loss {lasting(loss):.4g} is no better than the best constant predictor's "
        f"{history.facts.floor_loss:.4g}: the gain is at most {percent(upper)} "
        f"(margin {limit:.0%}), since epoch {since}"
    )
    train = history.column("train_loss") if history.has("train_loss") else loss
    again = skill_on_its_way(history, train)
    if again:
        return suspect(f"{reason}; but {again}.", onset=since, statistic=upper, threshold=limit)
    short = more_evaluations(history, whole("online_evaluations"))
    if short is not None and not stands_still(history):
        return short
    ranked = metric_skill(history)
    if ranked is not None:
        return fired(
            f"{reason}; but {ranked}.",
            onset=since,
            severity=Severity.WARNING,
            statistic=upper,
            threshold=limit,
            evidence={"gain": lasting(gains.value)},
            remedy="Calibrate the scores, or look at the weights of the classes in the loss.",
        )
    p_value = no_gain_p(gains)
    return fired(
        f"{reason}.",
        onset=since,
        statistic=upper,
        threshold=limit,
        confidence=1.0 - p_value,
        evidence={"p_value": p_value, "gain": lasting(gains.value)},
    )


def _open(gains: Gain) -> RuleResult:
    limit = margin("skill_gain")
    lower, upper = lasting(gains.lower), lasting(gains.upper)
    if np.isnan(upper):
        return insufficient("The standard error of the validation loss is not known.")
    if upper <= limit:
        return suspect(
            f"The gain was over {limit:.0%} and is now at most {percent(upper)}.",
            statistic=upper,
            threshold=limit,
        )
    # the error shrinks with the root of the number of samples
    half, value = (upper - lower) / 2.0, lasting(gains.value)
    times = min((half / max(abs(limit - value), 1e-9)) ** 2, 1e6)
    more = (
        f"about {times:.1f} times as many validation samples would settle it"
        if times > 1.0
        else "it settles once the gain has stayed on one side for three evaluations"
    )
    return insufficient(
        f"The gain over the best constant predictor lies between {percent(lower)} and "
        f"{percent(upper)}, on both sides of the margin {limit:.0%}: {more}.",
        statistic=upper,
        threshold=limit,
    )
