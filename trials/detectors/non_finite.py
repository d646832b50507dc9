"""Detector 1, `non_finite`: a loss, a parameter or too many gradients are NaN or infinite."""

import numpy as np

from sickbay.trials.contract import Severity
from sickbay.trials.detector import RuleResult, clear, detector, fired
from sickbay.trials.evidence.skill import epoch_at
from sickbay.trials.evidence.statistics import BoolArray, clopper_pearson_lower
from sickbay.trials.evidence.thresholds import margin
from sickbay.trials.history import History

LOSSES = ("train_loss", "val_loss")
LOOKED_AT = {
    "train_loss": "training loss",
    "val_loss": "validation loss",
    "nonfinite_loss_steps": "loss of a step",
    "nonfinite_params": "parameters",
    "nonfinite_grad_run": "runs of gradients",
    "nonfinite_grad_steps": "gradients",
}


@detector(
    name="non_finite",
    version="1.0",
    title="Numerical instability",
    severity=Severity.FATAL,
    online=True,
    signals="train_loss|val_loss",
    optional_signals="nonfinite_loss_steps nonfinite_params nonfinite_grad_steps "
    "nonfinite_grad_run train_steps",
    reads_nan=True,
    rule="Any NaN or infinity in a loss or a parameter, at once. Gradients: five steps in a row, "
    "or provably more than 1 % of the steps after the first epoch.",
    formula="count > 0; run >= 5; Clopper-Pearson lower bound of steps / n > 0.01",
    source="Common to all monitoring tools; OneTrainer#1147: why to check before the update.",
    remedy="Lower the learning rate, clip gradients, and look for a log or a division by zero in "
    "the loss and for non-finite inputs.",
    false_alarms="A loss scaler that searches its scale skips a few steps: the first epoch's "
    "share and short runs are let pass.",
    margins="nonfinite_grad_run nonfinite_grad_share",
)
def detect(history: History) -> RuleResult:
    """Fire at the first evaluation that shows a non-finite loss, parameter or run of gradients."""
    seen = {name: history.recorded(name) & ~np.isfinite(history.column(name)) for name in LOSSES}
    for name in ("nonfinite_loss_steps", "nonfinite_params"):
        seen[name] = history.column(name) > 0
    seen["gradients"] = _gradients(history)
    first = {name: int(np.argmax(where)) for name, where in seen.items() if where.any()}
    if not first:
        looked = [phrase for name, phrase in LOOKED_AT.items() if history.has(name)]
        return clear(f"None was NaN or infinite: {', '.join(looked)}.", statistic=0.0)
    index = min(first.values())
    names = ("nonfinite_loss_steps", "nonfinite_params", "nonfinite_grad_steps")
    counts = {name: history.column(name)[index] for name in names}
    phrases = {
        "train_loss": f"the training loss is {history.column('train_loss')[index]:g}",
        "val_loss": f"the validation loss is {history.column('val_loss')[index]:g}",
        "nonfinite_loss_steps": f"{counts['nonfinite_loss_steps']:g} steps have a loss that is NaN "
        "or infinite",
        "nonfinite_params": f"{counts['nonfinite_params']:g} parameters are NaN or infinite",
        "gradients": f"{counts['nonfinite_grad_steps']:g} steps have gradients that are NaN or "
        "infinite",
    }
    epoch = epoch_at(history, index)
    what = " and ".join(phrases[name] for name, at in first.items() if at == index)
    count = float(sum(int(where.sum()) for where in seen.values()))
    return fired(
        f"At epoch {epoch} {what}.", onset=epoch, statistic=count, threshold=0.0, confidence=1.0
    )


def _gradients(history: History) -> BoolArray:
    """Where gradients were non-finite for longer than a loss scaler explains, shape (n,)."""
    too_long = history.column("nonfinite_grad_run") >= margin("nonfinite_grad_run")
    bad = np.nan_to_num(history.column("nonfinite_grad_steps"), nan=0.0)
    if not bad.any():
        return too_long
    steps = np.diff(history.steps, prepend=0).astype(np.float64)
    if history.has("train_steps"):
        steps = np.nan_to_num(history.column("train_steps"), nan=0.0)
    bad[0] = steps[0] = 0.0  # the first epoch is where a loss scaler finds its scale
    for index in range(1, len(history)):
        counts = ((bad[index], steps[index]), (bad[: index + 1].sum(), steps[: index + 1].sum()))
        share = max(float(clopper_pearson_lower(hits, n)) for hits, n in counts)
        too_long[index] |= bool(bad[index]) and share > margin("nonfinite_grad_share")
    return too_long
