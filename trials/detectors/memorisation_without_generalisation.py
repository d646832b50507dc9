"""Detector 18, `memorisation_without_generalisation`: the model fits the training data alone."""

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
from sickbay.trials.evidence.classes import RANKING_SIGNALS, chance_since, metric_skill
from sickbay.trials.evidence.skill import Gain, epoch_at, gain, lasting, may_recover, percent
from sickbay.trials.evidence.statistics import persistent
from sickbay.trials.evidence.thresholds import margin, whole
from sickbay.trials.history import History


@detector(
    name="memorisation_without_generalisation",
    version="3.0",
    title="Memorisation without generalisation",
    severity=Severity.FATAL,
    online=True,
    signals="train_loss val_loss",
    optional_signals=(
        "val_loss_se",
        "val_floor_gap_se",
        "train_loss_se",
        *RANKING_SIGNALS,
        "group_update_ratio",
    ),
    rule="The training loss improves on the best constant predictor by at least 50 %, while the "
    "validation loss never proved a gain of 0.10 and now provably has none over 0.02, or the "
    "ranking is at chance level, three times in a row. A running trial is judged from half of its "
    "plan on. Only a warning while a metric proves skill (see `no_skill`).",
    formula="G_train >= 0.5 and (G_val + z SE <= 0.02 or ranking at chance), max (G_val - z SE) <= "
    "0.10, k = 3",
    source="Zhang et al. 2017: nets fit random labels. A model that had skill and lost it is "
    "`overfitting` or `late_collapse` instead.",
    remedy="Print ten inputs with their labels from each split: labels that are shuffled or off by "
    "one, splits that are mixed up, and a validation split that is augmented or preprocessed in "
    "another way all look like this. If they are right, regularise and get more data.",
    false_alarms="A tiny validation split; a task that is generalised late, after memorisation.",
    margins="memorised_gain memorised_share had_skill_gain skill_gain persistence hysteresis "
    "online_evaluations",
)
def detect(history: History) -> RuleResult:
    """Fire when the model fits the training data and has no skill on validation data."""
    train, val = gain(history, "train_loss"), gain(history)
    if train is None or val is None:
        return missing_fact(BEST_CONSTANT)
    index = _since(history, train, val)
    known, upper, limit = lasting(train.value), lasting(val.upper), margin("memorised_gain")
    if index is None:
        return more_evaluations(history, whole("persistence")) or _open(train, val)
    since = epoch_at(history, index)
    reason = (
        f"The training loss improves on the best constant predictor by {percent(known)} (limit "
        f"{limit:.0%}), the validation loss by at most {percent(upper)}, since epoch {since}"
    )
    again = _early(history) or may_recover(
        history, history.column("val_loss"), recovery_rises=False
    )
    if again:
        return suspect(f"{reason}; but {again}.", onset=since, statistic=known, threshold=limit)
    skilled = metric_skill(history)
    if skilled:
        return fired(
            f"{reason}; but {skilled}.",
            onset=since,
            severity=Severity.WARNING,
            statistic=known,
            threshold=limit,
            remedy="Calibrate the scores (temperature), regularise, or keep the best checkpoint.",
        )
    return fired(
        f"{reason}: what was learnt does not generalise.",
        onset=since,
        statistic=known,
        threshold=limit,
        evidence={"train_gain": known, "val_gain": lasting(val.value)},
    )


def _since(history: History, train: Gain, val: Gain) -> int | None:
    enough, limit, slack = margin("memorised_gain"), margin("skill_gain"), margin("hysteresis")
    shown = np.fmax.accumulate(np.nan_to_num(val.lower, nan=-np.inf)) > margin("had_skill_gain")
    chance = np.zeros(len(history), dtype=np.bool_)
    first = chance_since(history)
    if first is not None:
        chance[first:] = True
    fitted = train.value >= enough
    enter = fitted & ~shown & ((val.upper <= limit) | chance)
    leave = (train.value < enough / slack) | shown | ((val.upper > limit * slack) & ~chance)
    return persistent(enter, leave, None, whole("persistence"))


def _early(history: History) -> str | None:
    share = margin("memorised_share")
    if history.finished or history.epochs[-1] >= share * history.epochs_planned:
        return None
    return f"a running trial is judged from {share:.0%} of its {history.epochs_planned} epochs on"


def _open(train: Gain, val: Gain) -> RuleResult:
    known, lower, upper = lasting(train.value), lasting(val.lower), lasting(val.upper)
    limit = margin("memorised_gain")
    claim = f"The training loss improves on the best constant predictor by {percent(known)}"
    open_gain = lower <= margin("skill_gain") < upper or np.isnan(upper)
    if known >= limit and open_gain:
        return insufficient(
            f"{claim}, the validation loss by {percent(lower)} to {percent(upper)}: more "
            f"validation samples would settle it.",
            statistic=known,
            threshold=limit,
        )
    return clear(
        f"{claim}, the validation loss by {percent(lasting(val.value))}.",
        statistic=known,
        threshold=limit,
    )
