"""Detector 30, `overfitting`: the validation loss rises while the training loss falls."""

import numpy as np

from sickbay.trials.contract import Severity
from sickbay.trials.detecting import (
    Outcome,
    clear,
    detector,
    fired,
    missing_fact,
    more_evaluations,
    suspect,
)
from sickbay.trials.evidence import epoch_at, gain
from sickbay.trials.history import History
from sickbay.trials.margins import margin, whole
from sickbay.trials.statistics import BoolArray, FloatArray, mann_kendall_windows, persistent


@detector(
    name="overfitting",
    version="1.0",
    title="Over-fitting",
    severity=Severity.FATAL,
    online=False,
    signals=("val_loss", "train_loss"),
    optional_signals=("val_loss_se",),
    rule="The validation loss has risen over its minimum by more than two standard errors of the "
    "difference and 5 % of what was won, and rises over ten evaluations while the training loss "
    "falls, three times in a row. A warning; at the end fatal if even the best evaluation has no "
    "skill.",
    formula="L - min L > max(2 SE_diff, 0.05 (H0 - min L)), Mann-Kendall up p < 0.01 (val), down "
    "p < 0.05 (train), k = 3; fatal: upper bound of the best G <= 0.02",
    source="Deep Learning Tuning Playbook: the validation error starts to rise. Ratios of the "
    "losses false-alarm.",
    remedy="Keep the best checkpoint, regularise, augment, or end the trial at its best epoch.",
    false_alarms="Double descent, and the tail of a cosine schedule.",
    margins=(
        "overfitting_se",
        "overfitting_share",
        "rising_p",
        "trend_p",
        "trend_window",
        "persistence",
        "hysteresis",
        "skill_gain",
    ),
)
def detect(history: History) -> Outcome:
    """Warn while validation rises and training falls; fatal only if nothing was ever learnt."""
    floor, found = history.facts.floor_loss, gain(history)
    if floor is None or found is None:
        return missing_fact("the loss of the best constant predictor (`floors['val_loss']`)")
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
    useless = history.finished and found.upper[best] <= margin("skill_gain")
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
