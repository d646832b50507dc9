"""Detector 7, `no_parameter_update`: what should train gets no gradient, or stands still."""

from dataclasses import dataclass

import numpy as np

from sickbay.trials.contract import Severity
from sickbay.trials.detector import RuleResult, clear, detector, fired, insufficient, suspect
from sickbay.trials.evidence.skill import epoch_at, perfect_fit, stepped
from sickbay.trials.evidence.statistics import BoolArray, FloatArray, persistent
from sickbay.trials.evidence.thresholds import whole
from sickbay.trials.history import History

DEAD_REMEDY = (
    "Give {names} another initialisation than zeros (preset or random weights and biases): at zero "
    "it passes no gradient, so it can never leave. Look for a detach or an argmax behind it, too."
)


@dataclass(frozen=True)
class _Groups:
    """What each group did in each epoch with steps, all of shape (n, groups)."""

    trains: BoolArray  # has a gradient at all: frozen on purpose means there is none
    dead: BoolArray  # its gradient was exactly zero in every step
    still: BoolArray  # its parameters did not change by a single bit


@detector(
    name="no_parameter_update",
    version="1.0",
    title="Frozen or disconnected parameters",
    severity=Severity.FATAL,
    online=True,
    signals=("group_update_norm|group_grad_max",),
    optional_signals=(
        "train_steps",
        "train_loss",
        "val_loss",
        "val_loss_se",
        "val_floor_gap_se",
        "val_n",
    ),
    rule="For two epochs in a row: no group changes at all; or one group that should train has a "
    "gradient of exactly zero in every step. A warning if a group has gradients but does not "
    "change.",
    formula="|change| = 0 for all groups, or max |gradient| = 0 for one, k = 2 epochs with steps",
    source="TrainCheck's invariants; Accelerate#2665. A zero-initialised direction head has a "
    "gradient of exactly zero for ever.",
    remedy="Hand the optimizer this model's parameters, and check the learning rate and "
    "requires_grad.",
    false_alarms="Groups frozen on purpose have no gradient (NaN) and do not count; neither does "
    "a perfect fit, nor the one epoch of a warmup that starts at zero.",
    margins=("frozen_epochs", "zero_loss"),
)
def detect(history: History) -> RuleResult:
    """Fire on exact zeros only: no threshold, no statistics."""
    groups = _observe(history)
    width = groups.trains.shape[1]
    lasted = whole("frozen_epochs")
    k = 1 if history.finished and len(history) == 1 else lasted
    rest: BoolArray = np.all(groups.still | ~groups.trains, axis=1)
    frozen = rest & np.any(groups.still, axis=1)
    index = persistent(frozen, ~frozen, k=k)
    if index is not None:
        since = epoch_at(history, index)
        return fired(
            f"Not one parameter of {width} groups has changed by a single bit since epoch {since}.",
            onset=since,
            statistic=0.0,
            threshold=0.0,
            confidence=1.0,
        )
    return (
        _dead(history, groups, k)
        or _not_held(history, groups, k)
        or _odd(history, groups, lasted)
        or clear(
            f"All {width} parameter groups get gradients and change.",
            statistic=0.0,
            threshold=0.0,
            confidence=1.0,
        )
    )


def _observe(history: History) -> _Groups:
    gradients = history.vectors("group_grad_max")
    changes = history.vectors("group_update_norm")
    width = max(gradients.shape[1], changes.shape[1])
    shape = (len(history), width)
    gradients, changes = _widen(gradients, shape), _widen(changes, shape)
    counts = (stepped(history) & ~perfect_fit(history))[:, None]
    trains = ~np.isnan(gradients if history.has("group_grad_max") else changes)
    return _Groups(trains, (gradients == 0.0) & counts, (changes == 0.0) & trains & counts)


def _dead(history: History, groups: _Groups, k: int) -> RuleResult | None:
    since = _since(groups.dead, k)
    if not since:
        return None
    onset = epoch_at(history, min(since.values()))
    names = _list(history, since)
    return fired(
        f"The gradient of {names} is exactly zero in every step since epoch {onset}: it can "
        f"never learn.",
        onset=onset,
        statistic=float(len(since)),
        threshold=0.0,
        confidence=1.0,
        evidence={"groups": float(groups.trains.shape[1])},
        remedy=DEAD_REMEDY.format(names=names),
    )


def _not_held(history: History, groups: _Groups, k: int) -> RuleResult | None:
    since = _since(groups.still & ~groups.dead, k)
    if not since:
        return None
    onset = epoch_at(history, min(since.values()))
    share = len(since) / groups.trains.shape[1]
    return fired(
        f"{_list(history, since)} ({share:.0%} of the groups) has not changed by a single bit "
        f"since epoch {onset}, although it should train: does the optimizer hold it?",
        onset=onset,
        severity=Severity.WARNING,
        statistic=share,
        threshold=0.0,
        confidence=1.0,
    )


def _odd(history: History, groups: _Groups, lasted: int) -> RuleResult | None:
    odd = (groups.dead | groups.still)[-1]
    if odd.any():
        which = _list(history, dict.fromkeys(map(int, np.flatnonzero(odd)), 0))
        return suspect(
            f"{which} had no gradient or did not change in the last epoch; it takes {lasted} in a "
            f"row.",
            onset=epoch_at(history, len(history) - 1),
        )
    if not stepped(history).any():
        return insufficient("No training step lies between the evaluations yet; it needs 1 more.")
    return None


def _since(where: BoolArray, k: int) -> dict[int, int]:
    """Return the groups for which the state holds at the end, and where each began."""
    found = {
        group: persistent(where[:, group], ~where[:, group], k=k) for group in range(where.shape[1])
    }
    return {group: index for group, index in found.items() if index is not None}


def _widen(values: FloatArray, shape: tuple[int, int]) -> FloatArray:
    wide = np.full(shape, np.nan)
    wide[:, : values.shape[1]] = values
    return wide


def _list(history: History, groups: dict[int, int]) -> str:
    names = history.facts.groups
    return ", ".join(
        f"`{names[g]}`" if g < len(names) else f"group {g + 1}" for g in sorted(groups)
    )
