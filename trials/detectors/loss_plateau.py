"""`loss_plateau`: further epochs would hardly lower the loss."""

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
)
from sickbay.trials.evidence.skill import epoch_at
from sickbay.trials.evidence.statistics import (
    BoolArray,
    FloatArray,
    mann_kendall_windows,
    persistent,
    theil_sen_windows,
)
from sickbay.trials.evidence.thresholds import margin, whole
from sickbay.trials.history import History


@detector(
    name="loss_plateau",
    version="1.0",
    title="Loss plateau",
    severity=Severity.INFO,
    online=False,
    signals="val_loss",
    optional_signals="train_loss",
    rule="Over 15 evaluations the validation loss shows no trend, and its slope times the epochs "
    "to come would gain less than 1 % of what the best evaluation gained, three times in a row.",
    formula="-TheilSen(L) (planned - epoch) < 0.01 (H0 - min L) and Mann-Kendall down p > 0.1 "
    "over 15, k = 3",
    source="Power by simulation: a slope of 0.3 sd an evaluation is seen in 99.8 % over 15, in "
    "66 % over 10.",
    remedy="Lower the learning rate, or end the trial earlier.",
    false_alarms="Every converged run has one, hence severity info.",
    margins="plateau_window plateau_share plateau_p skill_gain persistence hysteresis",
)
def detect(history: History) -> RuleResult:
    """Report a plateau that lasts until the end."""
    floor = history.facts.floor_loss
    if floor is None:
        return missing_fact(BEST_CONSTANT)
    window, k = whole("plateau_window"), whole("persistence")
    short = more_evaluations(history, window + k - 1)
    if short is not None:
        return short
    loss = history.column("val_loss")
    # where nothing was won, ask for a hundredth of the skill that would count
    won = max(floor - float(np.nanmin(loss)), margin("skill_gain") * abs(floor))
    worth = margin("plateau_share") * won
    left, flat = _outlook(history, loss, window)
    enter = flat & (left <= worth)
    index = persistent(enter, left > worth * margin("hysteresis"), k=k)
    if index is None:
        return clear(
            f"The validation loss still moves: at its slope the remaining epochs lower it by "
            f"{left[-1]:.3g}.",
            statistic=float(left[-1]),
            threshold=worth,
        )
    since = epoch_at(history, max(index - window + 1, 0))
    return fired(
        f"The validation loss is flat at {np.nanmedian(loss[-window:]):.4g} since epoch {since}: "
        f"at its slope the remaining epochs lower it by {max(float(left[-1]), 0.0):.2g}, under "
        f"{margin('plateau_share'):.0%} of the gain so far.",
        onset=since,
        statistic=float(left[-1]),
        threshold=worth,
    )


def _outlook(history: History, loss: FloatArray, window: int) -> tuple[FloatArray, BoolArray]:
    """Return what the slope would gain until the planned end, and whether there is no trend."""
    epochs = history.epochs.astype(np.float64)
    behind = epochs - np.concatenate([np.full(window - 1, np.nan), epochs[: 1 - window]])
    # at the end of the plan, ask what as many epochs again as the window has would win
    ahead = np.fmax(history.epochs_planned - epochs, behind)
    left = -theil_sen_windows(epochs, loss, window) * ahead
    return left, mann_kendall_windows(loss, window, rising=False) > margin("plateau_p")
