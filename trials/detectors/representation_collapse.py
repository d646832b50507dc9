"""Detector 23, `representation_collapse`: features collapse onto a few directions."""

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
from sickbay.trials.evidence.statistics import mann_kendall, persistent, variance_upper
from sickbay.trials.evidence.thresholds import margin, whole
from sickbay.trials.history import History


def no_features(history: History) -> str | None:
    """`missing_signal`: the rank of the features is not recorded."""
    if history.has("feature_rank") or history.has("feature_rank_start"):
        return None
    return "The rank of the features is not recorded (`feature_rank`)."


@detector(
    name="representation_collapse",
    version="3.0",
    title="Representation collapse",
    severity=Severity.FATAL,
    online=True,
    subject=no_features,
    signals="feature_rank",
    optional_signals=(
        "feature_rank_start",
        "train_loss",
        "val_loss",
        "val_loss_se",
        "output_variance_ratio",
        "val_n",
        "val_floor_gap_se",
        "group_update_ratio",
        *RANKING_SIGNALS,
    ),
    rule="The effective rank of the features on a probe batch is under a tenth of what it was at "
    "the start and falling, or under 1.5, three times in a row. A warning; fatal only if the model "
    "has no skill or its output is constant. A classifier with skill may have one direction a "
    "class. Features that never spanned more have not collapsed: a warning, too.",
    formula="RankMe = exp H(sigma / sum sigma); R < 0.1 R_0 and Mann-Kendall down p < 0.01, or R < "
    "1.5; k = 3",
    source="RankMe (Garrido et al. 2023). Unreliable alone under imbalance, hence never fatal "
    "alone.",
    remedy="Add a variance or decorrelation term, or lower the learning rate.",
    false_alarms="Good classifiers converge to one direction fewer than there are classes.",
    margins="rank_share rank_least rising_p skill_gain output_variance persistence hysteresis "
    "online_evaluations",
)
def detect(history: History) -> RuleResult:
    """Fire when the features span few directions; fatal when the model has no skill either."""
    rank = history.column("feature_rank")
    start = _start(history)
    least, share, slack = margin("rank_least"), margin("rank_share"), margin("hysteresis")
    k = whole("persistence")
    # one direction is the least there is: the slack is counted from there
    flat = persistent(rank < least, rank >= 1.0 + slack * (least - 1.0), np.isnan(rank), k)
    low = persistent(rank < share * start, rank >= slack * share * start, np.isnan(rank), k)
    if low is not None and mann_kendall(rank, rising=False) >= margin("rising_p"):
        low = None
    onsets = [index for index in (flat, low) if index is not None]
    now = lasting(rank)
    claim = f"The features span {now:.3g} directions, {start:.3g} at the start"
    limit = max(least, share * start)
    if not onsets:
        return more_evaluations(history, k) or clear(f"{claim}.", statistic=now, threshold=limit)
    since = epoch_at(history, min(onsets))
    if _enough_for_classes(history, now):
        return clear(
            f"{claim}: as many as {len(history.facts.class_counts)} classes take, and the model "
            f"has skill.",
            statistic=now,
            threshold=limit,
        )
    harm = _harm(history)
    again = may_recover(history, rank, recovery_rises=True)
    if again:
        return suspect(
            f"{claim}, since epoch {since}; but {again}.",
            onset=since,
            statistic=now,
            threshold=limit,
        )
    born = start < least
    if born:
        harm = "they never spanned more: look at the inputs and the initialisation"
    return fired(
        f"{claim} (limit {limit:.3g}), since epoch {since}; {harm or 'the model may still serve'}.",
        onset=since,
        severity=Severity.FATAL if harm and not born else Severity.WARNING,
        statistic=now,
        threshold=limit,
    )


def _start(history: History) -> float:
    recorded = history.column("feature_rank_start")
    known = recorded[np.isfinite(recorded)]
    rank = history.column("feature_rank")
    return float(known[0] if len(known) else rank[~np.isnan(rank)][0])


def _enough_for_classes(history: History, rank: float) -> bool:
    classes, gains = len(history.facts.class_counts), gain(history)
    skilled = gains is not None and lasting(gains.lower) > margin("skill_gain")
    return skilled and classes >= 2 and rank >= 0.9 * (classes - 1)


def _harm(history: History) -> str | None:
    """State that the model has no skill or a constant output; None if neither is shown."""
    loss = history.column("train_loss" if history.has("train_loss") else "val_loss")
    if metric_skill(history):
        return None
    if worthless_since(history) is not None:
        falls = skill_on_its_way(history, loss)
        return None if falls else "the model has no skill"
    ratio = history.column("output_variance_ratio")
    upper = variance_upper(ratio, history.column("val_n"), alphas(history))
    constant = upper < margin("output_variance")
    if persistent(constant, ~constant, k=whole("persistence")) is None:
        return None
    return "its output is constant"
