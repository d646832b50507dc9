"""Detector 11, `zero_supervision`: no supervision reaches the model."""

from collections.abc import Iterator

import numpy as np

from sickbay.trials.contract import Severity
from sickbay.trials.detector import RuleResult, clear, detector, fired, suspect
from sickbay.trials.evidence.skill import epoch_at, loss_is_zero, perfect_fit, stepped
from sickbay.trials.evidence.statistics import BoolArray, persistent
from sickbay.trials.evidence.thresholds import margin
from sickbay.trials.history import History


@detector(
    name="zero_supervision",
    version="2.0",
    title="No supervision",
    severity=Severity.FATAL,
    online=True,
    signals="train_loss|supervised_targets|zero_grad_share",
    optional_signals="train_loss_se train_steps group_grad_max val_loss val_loss_se "
    "val_floor_gap_se val_n",
    rule="Over a whole epoch: no target enters the loss, or the loss is at its least value or "
    "the same bit for bit in all steps, or the gradient is exactly zero in 95 % of the steps, or "
    "for every parameter group.",
    formula="targets = 0, or |L - L_min| <= 1e-12 H0, or SE(L) = 0 over >= 2 steps, or share(|g| "
    "= 0) >= 0.95",
    source="SageMaker Debugger's AllZero and UnchangedTensor, read per epoch.",
    remedy="Look at the mask, ignore_index, a detach, targets that are all background, or a loss "
    "that does not use the labels.",
    false_alarms="A perfect fit ends at zero as well: then the validation loss proves skill.",
    margins="zero_loss fitted_loss zero_grad_share had_skill_gain",
)
def detect(history: History) -> RuleResult:
    """Fire after one epoch without supervision that still lasts, except for a perfect fit."""
    counts = stepped(history) & ~perfect_fit(history)
    for where, claim in _signs(history):
        index = persistent(where & counts, ~where & stepped(history), k=1)
        if index is not None:
            since = epoch_at(history, index)
            reason = f"In a whole epoch {claim}, since epoch {since}"
            return fired(
                f"{reason}: nothing is learnt.", onset=since, statistic=0.0, confidence=1.0
            )
    zero = loss_is_zero(history)
    if zero[-1] and counts[-1]:
        return suspect(
            "The training loss has come down to its least value: it fits the training data "
            "perfectly, or does not use the labels."
        )
    return clear("No sign of a loss without targets, and none of gradients that are all zero.")


def _signs(history: History) -> Iterator[tuple[BoolArray, str]]:
    if history.has("supervised_targets"):
        yield history.column("supervised_targets") == 0.0, "no target enters the loss"
    zero = loss_is_zero(history)
    if zero.any():
        # a loss that came down to zero step by step may be a perfect fit; one that was zero may not
        near = loss_is_zero(history, margin("fitted_loss"))
        fell = np.concatenate([[False], near[:-1] & ~zero[:-1]])
        yield zero & ~np.logical_or.accumulate(fell), "the training loss is at its least value"
    if history.has("train_loss_se", "train_steps"):
        steps = history.column("train_steps")
        constant = (history.column("train_loss_se") == 0.0) & (steps >= 2)
        yield constant, "the training loss is the same bit for bit in every step"
    if history.has("zero_grad_share"):
        share = history.column("zero_grad_share")
        last = share[~np.isnan(share)]
        claim = f"{last[-1] if len(last) else 0.0:.0%} of the steps have a gradient of exactly zero"
        yield share >= margin("zero_grad_share"), claim
    if history.has("group_grad_max"):
        groups = history.vectors("group_grad_max")
        silent = np.all((groups == 0.0) | np.isnan(groups), axis=1) & np.any(groups == 0.0, axis=1)
        yield silent, "the gradient of every parameter group is exactly zero"
