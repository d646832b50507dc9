"""Detector 5, `exploding_gradient`: gradient norms run away, or clipping does the training."""

import numpy as np

from sickbay.trials.contract import Severity
from sickbay.trials.detector import RuleResult, clear, detector, fired, more_evaluations, suspect
from sickbay.trials.evidence.classes import RANKING_SIGNALS, metric_skill
from sickbay.trials.evidence.loss_explosion import blowup, may_pass
from sickbay.trials.evidence.skill import epoch_at, gain, lasting
from sickbay.trials.evidence.statistics import clopper_pearson_lower, mann_kendall, persistent
from sickbay.trials.evidence.thresholds import margin, whole
from sickbay.trials.history import History

SHORTEST_TREND = 5  # five evaluations in ascending order are the first to give p < 0.01


@detector(
    name="exploding_gradient",
    version="3.0",
    title="Exploding gradient",
    severity=Severity.FATAL,
    online=True,
    signals="grad_norm_p90",
    optional_signals=(
        "clipped_share",
        "train_steps",
        "train_loss",
        "val_loss",
        "val_loss_se",
        "train_loss_se",
        "val_floor_gap_se",
        "val_n",
        "group_update_ratio",
        *RANKING_SIGNALS,
    ),
    rule="The 90th percentile of the gradient norm (before clipping) is a hundred times its "
    "median over the first three evaluations and rising while the training loss does not fall; "
    "or provably more than half of the steps are clipped, three times in a row. Fatal if the "
    "loss has blown up too (see `divergence`).",
    formula="p90 >= 100 median(p90[:3]), Mann-Kendall up p < 0.01 and train L down p > 0.05; or "
    "clipped > 0.5, k = 3",
    source="Deep Learning Tuning Playbook (norms before clipping, half of the steps); AutoTrainer.",
    remedy="Clip at the 90th percentile of the norm, warm the learning rate up, or lower it.",
    false_alarms="Norms differ by tens in the first epochs of healthy runs; clipping half of the "
    "steps alone is often harmless, hence only a warning.",
    margins="explosion_ratio clipped_share had_skill_gain rising_p trend_p first_window "
    "persistence hysteresis trend_window",
)
def detect(history: History) -> RuleResult:
    """Fire on a runaway norm or on clipping in most steps; fatal together with a blow-up."""
    short = more_evaluations(history, SHORTEST_TREND)
    if short is not None:
        return short
    severity = Severity.FATAL if _blown_up(history) else Severity.WARNING
    p90 = history.column("grad_norm_p90")
    start = float(np.median(p90[~np.isnan(p90)][: whole("first_window")]))
    limit = margin("explosion_ratio")
    high = p90 >= limit * start if start > 0.0 else np.zeros(len(p90), dtype=np.bool_)
    last = float(p90[~np.isnan(p90)][-1])
    ratio = last / start if start > 0.0 else 1.0
    index = persistent(high, ~high, k=1)
    window = slice(-whole("trend_window"), None)
    falls = mann_kendall(history.column("train_loss")[window], rising=False)
    if index is not None:
        since = epoch_at(history, index)
        reason = (
            f"The gradient norm is {ratio:.3g} times that of the first epochs, since epoch {since}"
        )
        rises = mann_kendall(p90, rising=True)
        if rises < margin("rising_p") and falls > margin("trend_p"):
            return fired(
                f"{reason}, and the training loss does not fall.",
                onset=since,
                severity=severity,
                statistic=ratio,
                threshold=limit,
                evidence={"rise_p": rises},
            )
        return suspect(
            f"{reason}, but it is not rising steadily or the training loss still falls.",
            onset=since,
            statistic=ratio,
            threshold=limit,
        )
    return _clipping(history, severity) or clear(
        f"The gradient norm (90th percentile) is {last:.3g}, {ratio:.3g} times that of the first "
        f"epochs.",
        statistic=ratio,
        threshold=limit,
    )


def _blown_up(history: History) -> bool:
    explosion = blowup(history, whole("persistence"))
    return explosion is not None and not (may_pass(history, explosion) or metric_skill(history))


def _clipping(history: History, severity: Severity) -> RuleResult | None:
    share, limit = history.column("clipped_share"), margin("clipped_share")
    steps = np.nan_to_num(history.column("train_steps"), nan=0.0)
    # a share of few steps may be over the limit by chance
    sure = clopper_pearson_lower(np.round(np.nan_to_num(share) * steps), steps)
    over = (share > limit) & ((sure > limit) | (steps == 0.0))
    index = persistent(over, share < limit / margin("hysteresis"), k=whole("persistence"))
    if index is None:
        return None
    since, usual = epoch_at(history, index), float(np.nanmedian(share[index:]))
    skill = gain(history)
    harmless = skill is not None and lasting(skill.lower) >= margin("had_skill_gain")
    return fired(
        f"{usual:.0%} of the steps are clipped (limit {limit:.0%}), since epoch {since}"
        + ("; however, the model learns." if harmless else "."),
        onset=since,
        severity=Severity.INFO if harmless and severity is Severity.WARNING else severity,
        statistic=usual,
        threshold=limit,
    )
