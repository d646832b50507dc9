"""What other tools would have said of the same histories: each rule as its authors publish it.

A baseline returns the epoch of its first alarm, None if there is none. Where a history holds a
summary of what a rule reads (the largest gradient of a group, not its mean), the comment says so.
Read in: awsdocs/amazon-sagemaker-developer-guide@1a9c31e^, shiningrain/AUTOTRAINER@03a463e,
BerkeleyHCI/umlaut@68c2a02, Ray's TrialPlateauStopper, Lightning's EarlyStopping, llm-foundry's
KillLossSpike, OLMo-core's SkipStepOptimizer.
"""

from collections.abc import Callable, Mapping

import numpy as np

from sickbay.trials.history import FloatArray, History

Baseline = Callable[[History], int | None]


def first(history: History, alarm: FloatArray) -> int | None:
    """Return the first epoch at which an alarm, shape (n,), is set."""
    where = np.flatnonzero(alarm)
    return int(history.epochs[where[0]]) if len(where) else None


def step_losses(history: History) -> tuple[FloatArray, FloatArray]:
    """Return the loss of every step, and the epoch that each belongs to."""
    losses = history.vectors("train_loss_steps")
    epochs = np.broadcast_to(history.epochs[:, None], losses.shape)
    return losses.ravel(), epochs.ravel().astype(np.float64)


def sagemaker_debugger(history: History) -> int | None:
    """Any of its run-time rules, at their defaults; save interval 1."""
    train, val = history.column("train_loss"), history.column("val_loss")
    gradient = np.nanmin(_or_inf(history.vectors("group_grad_max")), axis=1)
    ratio = history.vectors("group_update_ratio")
    bad = ~np.isfinite(train) | (history.column("nonfinite_params") > 0)  # ExplodingTensor
    bad |= gradient < 1e-7  # VanishingGradient; the mean is under the largest
    bad |= np.nanmax(_or_zero(history.vectors("dead_unit_share")), axis=1) > 0.5  # DeadRelu
    bad |= np.nanmax(_or_zero(history.vectors("saturated_share")), axis=1) > 0.5
    bad |= (np.nan_to_num(ratio, nan=1.0) > 10.0).any(axis=1)  # WeightUpdateRatio
    bad |= (np.nan_to_num(ratio, nan=1.0) < 1e-8).any(axis=1)
    bad |= val - train > 0.1 * np.abs(train)  # Overfit
    bad |= _waited(train, 5, 0.01) | _waited(val, 10, 0.01)  # Overtraining
    bad |= np.r_[False, np.isclose(train[1:], train[:-1], rtol=1e-5, atol=1e-8)]  # UnchangedTensor
    bad |= train == 0.0  # AllZero
    counts = history.facts.class_counts
    if counts and max(counts) > 10 * max(min(counts), 1):  # ClassImbalance
        bad[:] = True
    steps, epochs = step_losses(history)  # LossNotDecreasing: < 0.1 % over 10 steps
    for place in range(10, len(steps), 10):
        if not steps[place] < steps[place - 10] * 0.999:
            bad[int(np.searchsorted(history.epochs, epochs[place]))] = True
    return first(history, bad)


def autotrainer(history: History) -> int | None:
    """Vanishing, exploding, dying ReLU, oscillation, slow convergence; from 30 % of the epochs."""
    train, gradient = history.column("train_loss"), history.vectors("group_grad_max")
    start, end = gradient[:, 0], gradient[:, -1]  # largest of a layer where it takes the norm
    bad = ~(train < 1e3)
    bad |= (start < 1e-3 * end) & (start < 1e-4)
    bad |= (gradient[:, :-1] > 70.0 * gradient[:, 1:]).any(axis=1)
    bad |= np.nanmax(_or_zero(history.vectors("dead_unit_share")), axis=1) >= 0.7
    late = history.epochs >= 0.3 * history.epochs_planned
    if history.has("train_accuracy"):
        accuracy = history.column("train_accuracy")
        jumps = np.abs(np.diff(accuracy, prepend=accuracy[0]))
        turns = np.r_[False, np.diff(np.sign(np.diff(accuracy))) != 0, False]
        counts = np.cumsum(turns & (jumps >= 0.03)) / np.arange(1, len(accuracy) + 1)
        bad |= counts >= 0.2
        flat = np.maximum.accumulate(jumps) < 0.01
        bad |= (np.maximum.accumulate(accuracy) < 0.6) & flat
    return first(history, bad & late)


def umlaut_overfitting(history: History) -> int | None:
    """One epoch in which the validation loss rises and the training loss does not."""
    train, val = np.diff(history.column("train_loss")), np.diff(history.column("val_loss"))
    return first(history, np.r_[False, (val > 0.0) & (train <= 0.0)])


def ray_plateau(history: History) -> int | None:
    """TrialPlateauStopper: the validation loss's std over 4 results under 0.01, grace 4."""
    val = history.column("val_loss")
    flat = [
        place >= 4 and bool(np.std(val[place - 3 : place + 1]) < 0.01) for place in range(len(val))
    ]
    return first(history, np.asarray(flat))


def lightning_patience(history: History) -> int | None:
    """EarlyStopping: patience 3, min_delta 0, check_finite."""
    val = history.column("val_loss")
    return first(history, _waited(val, 3, 0.0) | ~np.isfinite(val))


def llm_foundry_spike(history: History) -> int | None:
    """KillLossSpike: over twice the mean of a window five times in a row, or half of it high."""
    losses, epochs = step_losses(history)
    window = max(100, round(0.05 * len(losses)))
    row, cap = 0, min(10.0, float(np.max(losses[:window], initial=-np.inf)))
    for place in range(window, len(losses)):
        seen = losses[place - window : place]
        row = row + 1 if losses[place] >= 2.0 * seen.mean() else 0
        if row > 4 or (seen > cap).sum() > window // 2:
            return int(epochs[place])
    return None


def six_sigma(history: History) -> int | None:
    """OLMo and Levanter: a step over mean + 6 sigma of the last 128, of which 64 must be there."""
    losses, epochs = step_losses(history)
    for place in range(64, len(losses)):
        seen = losses[max(0, place - 128) : place]
        if losses[place] > seen.mean() + 6.0 * seen.std():
            return int(epochs[place])
    return None


def never_under_the_floor(history: History) -> int | None:
    """One line: the validation loss was never 2 % under the best constant's; said at the end."""
    floor, val = history.facts.floor_loss, history.column("val_loss")
    if floor is None or (np.isfinite(val) & (val < floor - 0.02 * abs(floor))).any():
        return None
    return int(history.epochs[-1])


BASELINES: Mapping[str, Baseline] = {
    "SageMaker Debugger, all rules": sagemaker_debugger,
    "AutoTrainer": autotrainer,
    "UMLAUT, overfitting": umlaut_overfitting,
    "Ray TrialPlateauStopper": ray_plateau,
    "Lightning EarlyStopping, patience 3": lightning_patience,
    "llm-foundry KillLossSpike": llm_foundry_spike,
    "6 sigma of 128 steps": six_sigma,
    "validation loss never 2 % under the floor": never_under_the_floor,
}


def _waited(loss: FloatArray, patience: int, delta: float) -> FloatArray:
    """Where a loss has not improved by more than `delta` for `patience` evaluations, (n,)."""
    best, wait, waited = np.inf, 0, np.zeros(len(loss), dtype=bool)
    for place, value in enumerate(loss):
        if value < best - delta:
            best, wait = value, 0
        else:
            wait += 1
        waited[place] = wait >= patience
    return waited


def _or_inf(values: FloatArray) -> FloatArray:
    return np.where(np.isnan(values), np.inf, values)


def _or_zero(values: FloatArray) -> FloatArray:
    return np.where(np.isnan(values), 0.0, values)
