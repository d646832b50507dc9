"""Detector 30, `overfitting`: the validation loss rises while the training loss falls."""

import numpy as np

from sickbay.trials.contract import Severity
from sickbay.trials.detector import (
    BEST_CONSTANT,
    RuleResult,
    clear,
    detector,
    fired,
    missing_fact,
    more_evaluations,
    suspect,
)
from sickbay.trials.evidence.classes import RANKING_SIGNALS, metric_skill
from sickbay.trials.evidence.skill import epoch_at, gain
from sickbay.trials.evidence.statistics import (
    BoolArray,
    FloatArray,
    mann_kendall_windows,
    normal_quantile,
    persistent,
)
from sickbay.trials.evidence.thresholds import margin, whole
from sickbay.trials.history import History


@detector(
    name="overfitting",
    version="3.0",
    title="Over-fitting",
    severity=Severity.FATAL,
    online=False,
    signals="val_loss train_loss",
    optional_signals=(
        "val_loss_se",
        "test_loss",
        "test_loss_se",
        "val_floor_gap_se",
        *RANKING_SIGNALS,
    ),
    rule="The validation loss has risen over its minimum by more than two standard errors of the "
    "difference and 5 % of what was won, and rises over ten evaluations while the training loss "
    "falls, three times in a row. A warning; at the end fatal if even the best evaluation has no "
    "skill. A test loss that lies outside the 99 % interval around the validation loss at the end "
    "is a warning too (generalisation_gap).",
    formula="L - min L > max(2 SE_diff, 0.05 (H0 - min L)), Mann-Kendall up p < 0.01 (val), down "
    "p < 0.05 (train), k = 3; fatal: upper bound of the best G <= 0.02; gap at the end: |L_test - "
    "L_val| > z_99 SE_diff",
    source="Deep Learning Tuning Playbook: the validation error starts to rise. Ratios of the "
    "losses false-alarm.",
    remedy="Keep the best checkpoint, regularise, augment, or end the trial at its best epoch.",
    false_alarms="Double descent, and the tail of a cosine schedule.",
    margins="overfitting_se overfitting_share rising_p trend_p trend_window persistence "
    "hysteresis skill_gain gap_alpha",
)
def detect(history: History) -> RuleResult:
    """Warn while validation rises and training falls; fatal only if there never was skill."""
    floor, gains = history.facts.floor_loss, gain(history)
    if floor is None or gains is None:
        return missing_fact(BEST_CONSTANT)
    window, k = whole("trend_window"), whole("persistence")
    short = more_evaluations(history, window + k - 1)
    if short is not None:
        return short
    loss = history.column("val_loss")
    rise, limit = _rise(history, loss, floor)
    moving = _apart(loss, history.column("train_loss"), window)
    index = persistent((rise > limit) & moving, rise < limit / margin("hysteresis"), k=k)
    last = int(np.flatnonzero(~np.isnan(loss))[-1])
    best = int(np.nanargmin(loss))
    risen, allowed = float(rise[last]), float(limit[last])
    where = f"{loss[best]:.4g} at epoch {epoch_at(history, best)}"
    if index is None:
        gap = _gap(history)
        if gap is not None:
            return gap
        if risen > allowed:
            return suspect(
                f"The validation loss is {loss[last]:.4g} after {where}, without a trend.",
                statistic=risen,
                threshold=allowed,
            )
        return clear(
            f"The validation loss is {loss[last]:.4g}, its best {where}.",
            statistic=risen,
            threshold=allowed,
        )
    useless = history.finished and gains.upper[best] <= margin("skill_gain")
    useless = useless and metric_skill(history) is None
    onset = epoch_at(history, min(best + 1, last))
    return fired(
        f"The validation loss rose from {where} to {loss[last]:.4g} while the training loss fell"
        + (
            "; even the best evaluation has no skill." if useless else "; keep the best checkpoint."
        ),
        onset=onset,
        severity=Severity.FATAL if useless else Severity.WARNING,
        statistic=risen,
        threshold=allowed,
    )


def _rise(history: History, loss: FloatArray, floor: float) -> tuple[FloatArray, FloatArray]:
    """How far each evaluation lies over the minimum so far, and how far it may."""
    lowest = np.fmin.accumulate(loss)
    error = np.nan_to_num(history.column("val_loss_se"), nan=0.0)
    # the error of the evaluation that holds the minimum so far: carried on from place to place
    places = np.maximum.accumulate(np.where(loss == lowest, np.arange(len(loss)), 0))
    at_lowest = error[places]
    noise = margin("overfitting_se") * np.hypot(error, at_lowest)
    won = margin("overfitting_share") * np.maximum(floor - lowest, 0.0)
    return loss - lowest, np.maximum(noise, won)


def _apart(val: FloatArray, train: FloatArray, window: int) -> BoolArray:
    up = mann_kendall_windows(val, window, rising=True) < margin("rising_p")
    return up & (mann_kendall_windows(train, window, rising=False) < margin("trend_p"))


def _gap(history: History) -> RuleResult | None:
    """Warn if the test loss at the end differs from the validation loss by more than chance."""
    val, test = history.column("val_loss"), history.column("test_loss")
    error = np.hypot(history.column("val_loss_se"), history.column("test_loss_se"))
    known = np.flatnonzero(np.isfinite(val) & np.isfinite(test) & (error > 0.0))
    if not history.finished or len(known) == 0:
        return None
    last = int(known[-1])
    apart = float((test[last] - val[last]) / error[last])
    limit = normal_quantile(margin("gap_alpha") / 2.0)
    if abs(apart) <= limit:
        return None
    side = "over" if apart > 0.0 else "under"
    return fired(
        f"The test loss {test[last]:.4g} is {side} the validation loss {val[last]:.4g} by "
        f"{abs(apart):.1f} standard errors (limit {limit:.2f}): the two splits do not measure the "
        f"same (generalisation_gap).",
        onset=epoch_at(history, last),
        severity=Severity.WARNING,
        statistic=abs(apart),
        threshold=limit,
        remedy="Draw validation and test split alike; tune on the validation split less often.",
    )
