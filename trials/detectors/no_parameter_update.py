"""Detector 7, `no_parameter_update`: trainable parameters get no gradient, or do not change."""

from dataclasses import dataclass

import numpy as np

from sickbay.trials.contract import Severity
from sickbay.trials.detector import RuleResult, clear, detector, fired, insufficient, suspect
from sickbay.trials.evidence.classes import RANKING_SIGNALS, metric_skill
from sickbay.trials.evidence.skill import (
    epoch_at,
    gain,
    lasting,
    perfect_fit,
    stands_still,
    stepped,
)
from sickbay.trials.evidence.statistics import BoolArray, FloatArray, persistent
from sickbay.trials.evidence.thresholds import margin, whole
from sickbay.trials.history import History

ZERO_REMEDY = (
    "Initialise {names} with random or preset values: with all weights at zero, this group gets no "
    "gradient and stays at zero."
)
BORN_DEAD_REMEDY = (
    "Look between {names} and the loss for a detach, an argmax, a clamp (a cap on the loss has no "
    "gradient above it), rectifiers with a large negative bias, or an initialisation with zeros."
)
KILLED_REMEDY = (
    "The gradient of {names} went to zero at epoch {onset}: restart from a checkpoint before it "
    "with a learning rate divided by 10, a warmup, or gradient clipping; look for a loss "
    "that has run into a cap, and for rectifiers that died (`dead_units`)."
)
CAPPED_REMEDY = (
    "The loss of {names} is over its cap, where a clamped loss has no gradient: raise the cap, "
    "scale the loss down, or clip the gradient instead of the loss."
)
GRADIENT_NORMS = ("grad_norm_p50", "grad_norm_p90", "grad_norm_max")
FEWEST_EQUAL = 5  # evaluations with one loss, where no parameter group is recorded
BARELY_REMEDY = (
    "Raise the learning rate, and look at what scales it or the gradient down: a warmup that is "
    "too long, a schedule that begins at zero, a clipping threshold, a factor on the loss."
)


@dataclass(frozen=True)
class _Groups:
    """State of each group in each epoch with steps, all of shape (n, groups)."""

    trains: BoolArray  # has a gradient at all: frozen on purpose means there is none
    dead: BoolArray  # its gradient was exactly zero in every step
    still: BoolArray  # its parameters did not change by a single bit


@detector(
    name="no_parameter_update",
    version="2.1",
    title="Frozen or disconnected parameters",
    severity=Severity.FATAL,
    online=True,
    signals="group_update_norm|group_grad_max|val_loss",
    optional_signals=(
        "train_steps",
        "train_loss",
        "val_loss_se",
        "val_floor_gap_se",
        "group_update_ratio",
        "group_weight_norm",
        "semantic_capped_share",
        *GRADIENT_NORMS,
        *RANKING_SIGNALS,
    ),
    rule="For two epochs in a row: no group changes at all; or one group that should train has a "
    "gradient of exactly zero in every step. Or all steps together, had they gone one way, would "
    "move no group by a thousandth of its size: fatal unless the model has skill. A warning if a "
    "group has gradients but does not change. Where no group is recorded, at the end of a trial: "
    "the validation loss has been the same to the last digit for half of at least five "
    "evaluations, without a gain, while the gradient norm is not zero.",
    formula="|change| = 0 for all groups, or max |gradient| = 0 for one, k = 2 epochs with steps; "
    "or max(|step| / |weights|) x steps < 1e-3",
    source="TrainCheck's invariants; Accelerate#2665. A zero-initialised direction head has a "
    "gradient of exactly zero throughout.",
    remedy="Hand the optimizer this model's parameters, and check the learning rate and "
    "requires_grad.",
    false_alarms="Groups frozen on purpose have no gradient (NaN) and do not count; neither does "
    "a perfect fit, nor the one epoch of a warmup that starts at zero.",
    margins="frozen_epochs zero_loss zero_grad_share still_movement still_evaluations skill_gain",
)
def detect(history: History) -> RuleResult:
    """Fire on exact zeros, and on steps too small to matter even in total."""
    if not (history.has("group_grad_max") or history.has("group_update_norm")):
        return _by_loss(history)
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
        or _barely(history)
        or _odd(history, groups, lasted)
        or clear(
            f"All {width} parameter groups get gradients and change.",
            statistic=0.0,
            threshold=0.0,
            confidence=1.0,
        )
    )


def _by_loss(history: History) -> RuleResult:
    """Judge by the validation loss of a finished trial: parameters that change move it."""
    unseen = clear(
        "Parameter groups are not recorded, and no loss shows that all of them stand still."
    )
    if not history.finished:
        return unseen
    loss, gains = history.column("val_loss"), gain(history)
    norms = next((history.column(n) for n in GRADIENT_NORMS if history.has(n)), np.empty(0))
    count = max(len(loss) - len(loss) // 2, FEWEST_EQUAL)
    if len(loss) < count or gains is None or len(norms) != len(loss):
        return unseen
    still = (loss[-count:] == loss[-1]).all() and (norms[-count:] > 0.0).all()
    if not still or lasting(gains.value) > margin("skill_gain"):
        return unseen
    changed = np.flatnonzero(loss != loss[-1])
    since = epoch_at(history, int(changed[-1]) + 1 if len(changed) else 0)
    return fired(
        f"The validation loss has been {loss[-1]:.6g} to the last digit since epoch {since}, "
        f"although the gradient is not zero: do the parameters change at all?",
        onset=since,
        statistic=0.0,
        threshold=0.0,
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
        f"The gradient of {names} is exactly zero in every step since epoch {onset}: it does not "
        f"learn.",
        onset=onset,
        statistic=float(len(since)),
        threshold=0.0,
        confidence=1.0,
        evidence={"groups": float(groups.trains.shape[1])},
        remedy=_dead_remedy(history, since).format(names=names, onset=onset),
    )


def _dead_remedy(history: History, since: dict[int, int]) -> str:
    """The remedy for a group at zero, one without gradients, one that lost them, or a cap."""
    if lasting(history.column("semantic_capped_share")) >= margin("zero_grad_share"):
        return CAPPED_REMEDY
    norms = history.vectors("group_weight_norm")
    if all(group < norms.shape[1] and norms[-1, group] == 0.0 for group in since):
        return ZERO_REMEDY
    return BORN_DEAD_REMEDY if min(since.values()) == 0 else KILLED_REMEDY


def _barely(history: History) -> RuleResult | None:
    """Fire if all steps so far, had they gone one way, would not have moved any group."""
    ratios, taken = history.vectors("group_update_ratio"), float(history.steps[-1])
    known = ratios[:, ~np.isnan(ratios).all(axis=0)]
    enough = len(history) >= whole("still_evaluations")
    if not enough or known.size == 0 or not np.isfinite(known).all():
        return None
    largest, limit = float(known.max()), margin("still_movement")
    if taken < history.epochs[-1] or largest * taken >= limit:
        return None
    if perfect_fit(history).any() or not (history.finished or stands_still(history)):
        return None
    since, gains = epoch_at(history, 0), gain(history)
    skilled = metric_skill(history) or (gains and lasting(gains.lower) > margin("skill_gain"))
    return fired(
        f"No parameter group moves by more than {largest:.2g} of its size per step: all "
        f"{taken:.0f} steps together cannot change any by {limit:g}, since epoch {since}"
        + ("; however, the model has skill." if skilled else "."),
        onset=since,
        severity=Severity.WARNING if skilled else Severity.FATAL,
        statistic=largest * taken,
        threshold=limit,
        remedy=BARELY_REMEDY,
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
            f"{which} had no gradient or did not change in the last epoch; {lasted} in a row "
            f"are needed.",
            onset=epoch_at(history, len(history) - 1),
        )
    if not stepped(history).any():
        return insufficient("No training step lies between the evaluations yet; it needs 1 more.")
    return None


def _since(where: BoolArray, k: int) -> dict[int, int]:
    """Return the groups for which the state holds at the end, and where each began."""
    starts = {
        group: persistent(where[:, group], ~where[:, group], k=k) for group in range(where.shape[1])
    }
    return {group: index for group, index in starts.items() if index is not None}


def _widen(values: FloatArray, shape: tuple[int, int]) -> FloatArray:
    wide = np.full(shape, np.nan)
    wide[:, : values.shape[1]] = values
    return wide


def _list(history: History, groups: dict[int, int]) -> str:
    names = history.facts.groups
    return ", ".join(
        f"`{names[g]}`" if g < len(names) else f"group {g + 1}" for g in sorted(groups)
    )
