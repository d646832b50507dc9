"""Detector 2, `divergence`: the loss grows away from what it already was."""

import numpy as np

from sickbay.trials.contract import Severity
from sickbay.trials.detector import RuleResult, clear, detector, fired, more_evaluations, suspect
from sickbay.trials.evidence.classes import RANKING_SIGNALS, metric_skill
from sickbay.trials.evidence.loss_explosion import LOSSES, blowup, may_pass
from sickbay.trials.evidence.skill import epoch_at
from sickbay.trials.evidence.thresholds import whole
from sickbay.trials.history import History


@detector(
    name="divergence",
    version="3.0",
    title="Divergence",
    severity=Severity.FATAL,
    online=True,
    signals="val_loss|train_loss",
    optional_signals=(
        "val_loss_se",
        "train_loss_se",
        "val_floor_gap_se",
        "val_n",
        "group_update_ratio",
        *RANKING_SIGNALS,
    ),
    rule="Three times in a row, the loss is twice its running minimum and three standard errors "
    "above the best constant predictor; or ten times the largest of the first three evaluations; "
    "or twice the best constant predictor's and rising. But for the rule of ten times, a running "
    "trial waits while the loss falls. While a metric of a classifier proves skill (see "
    "`no_skill`), a running trial waits, and a finished one gets a warning.",
    formula="L >= 2 min L and L > H0 + 3 SE, or L >= 10 max L[:3], or L > 2 H0 and Mann-Kendall "
    "up p < 0.01; k = 3. Losses that can be negative: (L - min L) >= 10 MAD and L > H0 + 3 SE",
    source="TheDeepChecker (2x running minimum), Megatron (10x), llm-foundry (cap; here relative "
    "to H0, so that the unit of the loss does not matter).",
    remedy="Divide the learning rate by 3 to 10, lengthen the warmup, clip gradients.",
    false_alarms="Over-fitting raises the validation loss too: it must pass the floor to count.",
    margins="divergence_ratio divergence_floor_se blowup_ratio first_window divergence_mad "
    "cap_over_floor rising_p persistence hysteresis",
)
def detect(history: History) -> RuleResult:
    """Fire when the validation or the training loss has blown up and stays there."""
    explosion = blowup(history, whole("persistence"))
    fresh = blowup(history, 1) if explosion is None else explosion
    if fresh is None:
        short = more_evaluations(history, whole("persistence"))
        return short or clear(f"No loss has blown up: {_lasts(history)}.")
    if explosion is None:
        return suspect(
            f"The {LOSSES[fresh.signal]} is {fresh.statistic:.3g} {fresh.text}; not yet three in "
            f"a row.",
            onset=epoch_at(history, fresh.index),
            statistic=fresh.statistic,
            threshold=fresh.threshold,
        )
    loss = history.column(explosion.signal)
    since = epoch_at(history, explosion.index)
    name = LOSSES[explosion.signal]
    last = loss[~np.isnan(loss)][-1]
    reason = (
        f"The {name} is {last:.4g}, {explosion.statistic:.3g} {explosion.text}, since epoch {since}"
    )
    # a metric that proves skill: nothing is lost, the scores have only grown too large
    skilled = metric_skill(history)
    again = may_pass(history, explosion) or (None if history.finished else skilled)
    if again:
        return suspect(
            f"{reason}; but {again}.",
            onset=since,
            statistic=explosion.statistic,
            threshold=explosion.threshold,
        )
    return fired(
        f"{reason} (limit {explosion.threshold:g})" + (f"; but {skilled}." if skilled else "."),
        onset=since,
        severity=Severity.WARNING if skilled else Severity.FATAL,
        statistic=explosion.statistic,
        threshold=explosion.threshold,
        evidence={"loss": float(last)},
    )


def _lasts(history: History) -> str:
    clauses = []
    for signal, name in LOSSES.items():
        values = history.column(signal)
        kept = values[~np.isnan(values)]
        if len(kept):
            lowest = float(kept.min())
            clauses.append(f"the {name} is {kept[-1]:.4g}, its minimum {lowest:.4g}")
    return ", ".join(clauses)
