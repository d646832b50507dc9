"""Detector 6, `vanishing_gradient`: layers near the input do not move, and there is no skill."""

import numpy as np

from sickbay.trials.contract import Severity
from sickbay.trials.detector import (
    RuleResult,
    clear,
    detector,
    fired,
    more_evaluations,
    not_applicable,
    suspect,
)
from sickbay.trials.evidence.classes import RANKING_SIGNALS, metric_skill, worthless_since
from sickbay.trials.evidence.skill import epoch_at, gain, lasting, may_recover
from sickbay.trials.evidence.statistics import persistent
from sickbay.trials.evidence.thresholds import margin, whole
from sickbay.trials.history import History


@detector(
    name="vanishing_gradient",
    version="3.0",
    title="Vanishing gradient",
    severity=Severity.FATAL,
    online=True,
    signals="group_update_ratio",
    optional_signals=(
        "val_loss",
        "val_loss_se",
        "group_grad_max",
        "val_floor_gap_se",
        "val_n",
        *RANKING_SIGNALS,
    ),
    rule="The trainable group nearest to the input moves by less than 1e-6 of its size per step, "
    "and by less than a thousandth of what the last group moves, three times in a row. Fatal if "
    "the model has no skill, a warning if its skill is unknown; a model with skill, by its loss "
    "or its ranking, may pause.",
    formula="r_first < 1e-6 and r_first / r_last < 1e-3, k = 3, with r = |step| / |weights|; and "
    "G <= 0.02",
    source="SageMaker Debugger (1e-7, 1e-8), AutoTrainer (1e-3); 1e-4 to 1e-1 is the healthy band.",
    remedy="Use residual connections or normalisation, another activation, or a larger "
    "initialisation.",
    false_alarms="A converged net hardly moves either, hence the check of skill.",
    margins="vanishing_ratio vanishing_to_last skill_gain persistence hysteresis",
)
def detect(history: History) -> RuleResult:
    """Compare the relative updates of the first and the last group that train."""
    ratios = history.vectors("group_update_ratio")
    moving = np.flatnonzero(np.nanmax(np.nan_to_num(ratios, nan=0.0), axis=0) > 0.0)
    trained = np.flatnonzero(~np.isnan(ratios).all(axis=0))
    if len(trained) < 2:
        return not_applicable("Only one parameter group trains; there is no depth to vanish in.")
    short = more_evaluations(history, whole("persistence"))
    if short is not None:
        return short
    if len(moving) == 0:
        return suspect("No parameter group moves at all.", statistic=0.0)
    first, last = ratios[:, trained[0]], ratios[:, moving[-1]]
    limit, slack = margin("vanishing_ratio"), margin("hysteresis")
    still = (first < limit) & (first < margin("vanishing_to_last") * last)
    index = persistent(still, first >= limit * slack, k=whole("persistence"))
    now = lasting(first)
    name = _name(history, int(trained[0]))
    if index is None:
        return clear(
            f"{name}, nearest to the input, moves by {now:.2g} of its size per step.",
            statistic=now,
            threshold=limit,
        )
    since = epoch_at(history, index)
    reason = (
        f"{name}, nearest to the input, moves by only {now:.2g} of its size per step "
        f"(limit {limit:g}), the last group by {lasting(last):.2g}, since epoch {since}"
    )
    again = may_recover(history, first, recovery_rises=True)
    gains = gain(history)
    skilled = gains is not None and lasting(gains.lower) > margin("skill_gain")
    if again or skilled or metric_skill(history):
        return suspect(
            f"{reason}; but {again or 'the model has skill'}.",
            onset=since,
            statistic=now,
            threshold=limit,
        )
    lost = worthless_since(history) is not None
    return fired(
        f"{reason}; {'the model has no skill' if lost else 'its skill is not proven'}.",
        onset=since,
        severity=Severity.FATAL if lost else Severity.WARNING,
        statistic=now,
        threshold=limit,
    )


def _name(history: History, group: int) -> str:
    names = history.facts.groups
    return f"The group `{names[group]}`" if group < len(names) else f"Parameter group {group + 1}"
