"""Detector 14, `chance_level_ranking`: the scores rank no better than random scores."""

import numpy as np

from sickbay.trials.contract import Severity, TaskKind
from sickbay.trials.detector import (
    RuleResult,
    clear,
    detector,
    fired,
    insufficient,
    more_evaluations,
    suspect,
)
from sickbay.trials.evidence.classes import (
    RANKING_SIGNALS,
    Ranking,
    chance_since,
    classes_may_recover,
    no_classes,
    ranking,
)
from sickbay.trials.evidence.skill import epoch_at, lasting, skill_may_come, stands_still
from sickbay.trials.evidence.statistics import persistent
from sickbay.trials.evidence.thresholds import margin, whole
from sickbay.trials.history import History


@detector(
    name="chance_level_ranking",
    version="2.0",
    title="Ranking at chance level",
    severity=Severity.FATAL,
    online=True,
    kinds=(TaskKind.BINARY,),
    subject=no_classes,
    signals="val_auroc|val_scores_hist_pos",
    optional_signals=(*RANKING_SIGNALS, "val_loss", "train_loss", "group_update_ratio"),
    rule="The upper bound of the AUROC is at most 0.60 and that of the average precision at most "
    "1.5 times the base rate, three times in a row; or the AUROC is provably under one half "
    "(inverted ranking). Clear if its lower bound is over one half. A running trial needs 50 "
    "positives, half of its plan (or parameters that stand still), and neither a rising AUROC nor "
    "a falling training or validation loss.",
    formula="A + 1.645 SE <= 0.60 and AP + 1.645 SE <= 1.5 base rate, k = 3; clear: A - z SE > 0.5 "
    "with alpha spent over the looks",
    source="DeLong 1988, Hanley and McNeil 1982. An equivalence test: with a margin of 0.10 a "
    "worthless ranking is found in 45 % of runs with 20 positives, 75 % with 50, 95 % with 100.",
    remedy="Check that labels belong to their inputs, that features reach the head, and that the "
    "loss uses the labels.",
    false_alarms="Few positives: the finding says how many are needed. A ranking that is good for "
    "one group only.",
    margins="ranking_margin ranking_alpha ranking_precision ranking_positives persistence "
    "hysteresis online_evaluations jump_share",
)
def detect(history: History) -> RuleResult:
    """Fire when the ranking is provably at chance or inverted, clear when it is not."""
    rankings = ranking(history)
    if rankings is None or np.isnan(rankings.near).all():
        return insufficient(
            "The standard error of the AUROC is unknown: record `val_auroc_se`, or the counts "
            "of the classes (`val_confusion`)."
        )
    inverted = persistent(rankings.upper < 0.5, rankings.upper >= 0.5, k=whole("persistence"))
    index = chance_since(history) if inverted is None else inverted
    value, lower = lasting(rankings.auroc), lasting(rankings.lower)
    if index is None:
        if lower > 0.5:
            return clear(
                f"The AUROC is {value:.3f}, at least {lower:.3f}.", statistic=lower, threshold=0.5
            )
        return more_evaluations(history, whole("persistence")) or _open(rankings)
    since, limit = epoch_at(history, index), 0.5 + margin("ranking_margin")
    upper = lasting(rankings.near)
    reason = (
        f"The AUROC {value:.3f} is at most {upper:.3f} (limit {limit:g}) and the average precision "
        f"at most {lasting(rankings.precision_ratio):.2f} times the base rate, since epoch {since}"
    )
    remedy = None
    if inverted is not None:
        limit, upper = 0.5, lasting(rankings.upper)
        reason = f"The AUROC {value:.3f} is under one half (inverted_ranking), since epoch {since}"
        remedy = "The classes, or the sign of the score, are swapped: look at the label encoding."
    again = (
        _early(history)
        or classes_may_recover(history, rankings.auroc)
        or skill_may_come(history, history.column("train_loss"))
        or _few(history, rankings)
    )
    if again:
        return suspect(f"{reason}; but {again}.", onset=since, statistic=upper, threshold=limit)
    return fired(
        f"{reason}.",
        onset=since,
        statistic=upper,
        threshold=limit,
        evidence={"auroc": value},
        remedy=remedy,
    )


def _early(history: History) -> str | None:
    """Why a running trial is not judged yet: a ranking may jump after a long plateau."""
    share = margin("jump_share")
    if history.finished or stands_still(history):
        return None
    if history.epochs[-1] >= share * history.epochs_planned:
        return None
    return f"a ranking may jump late: a running trial has {share:.0%} of its plan"


def _few(history: History, rankings: Ranking) -> str | None:
    """Why a running trial is not judged yet: positives are too few or unknown."""
    positives = lasting(rankings.positives)
    if history.finished or positives >= margin("ranking_positives"):
        return None
    return f"{positives:.0f} positives are too few to stop a running trial"


def _open(rankings: Ranking) -> RuleResult:
    value, lower, near = lasting(rankings.auroc), lasting(rankings.lower), lasting(rankings.near)
    limit = 0.5 + margin("ranking_margin")
    if near <= limit:
        ratio = lasting(rankings.precision_ratio)
        why = (
            "the average precision (`val_auprc`) is not known"
            if np.isnan(ratio)
            else f"the average precision may be {ratio:.2f} times the base rate"
        )
        return suspect(
            f"The AUROC {value:.3f} is at most {near:.3f}, but {why}, or not for long enough.",
            statistic=near,
            threshold=limit,
        )
    # the error shrinks with the root of the number of positives
    distance = max(abs(value - (0.5 if value > limit else limit)), 1e-3)
    times = min(((near - lower) / 2.0 / distance) ** 2, 1e6)
    return insufficient(
        f"The AUROC lies between {lower:.3f} and {near:.3f}: about {max(times, 1.1):.1f} times "
        f"the {lasting(rankings.positives):.0f} positives would settle it.",
        statistic=near,
        threshold=limit,
    )
