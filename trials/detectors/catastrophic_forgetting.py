"""Detector 28, `catastrophic_forgetting`: a pretrained encoder loses its skill."""

import numpy as np

from sickbay.trials.contract import Severity
from sickbay.trials.detector import (
    RuleResult,
    clear,
    detector,
    fired,
    insufficient,
    more_evaluations,
    suspect,
)
from sickbay.trials.evidence.skill import alpha_quantiles, epoch_at, gain, lasting, may_recover
from sickbay.trials.evidence.statistics import BoolArray, FloatArray, noise, persistent
from sickbay.trials.evidence.thresholds import margin, whole
from sickbay.trials.history import History


def no_reference(history: History) -> str | None:
    """`missing_signal`: the encoder is not compared with its state before training."""
    names = ("encoder_reference_skill", "encoder_reference_skill_start", "encoder_cka")
    if any(history.has(name) for name in names):
        return None
    return "The encoder is not compared with its state before training (`encoder_reference_skill`)."


@detector(
    name="catastrophic_forgetting",
    version="2.2",
    title="Catastrophic forgetting",
    severity=Severity.FATAL,
    online=True,
    subject=no_reference,
    signals="encoder_reference_skill",
    optional_signals="encoder_reference_skill_start encoder_reference_n encoder_reference_drop_se "
    "encoder_cka group_update_ratio nonfinite_params val_loss val_loss_se val_floor_gap_se val_n "
    "val_accuracy val_auroc",
    rule="The skill of the encoder on a fixed reference task has fallen (lower bound) by more than "
    "5 points, or by more than a quarter of what it was at the start, and has not come back: three "
    "times in a row, at weights that are numbers. A running trial is stopped only by a drop within "
    "a tenth of the plan. A slow drop that the new task outweighs (its accuracy, its AUROC or "
    "its gain on the best constant predictor rose by more since its first evaluation) is a "
    "warning; so is a linear CKA to the features at the start under 0.5 alone (representation "
    "drift).",
    formula="S_0 - S - z SE > min(0.05, 0.25 S_0), k = 3; running: the same drop within 10 % of "
    "the epochs; CKA < 0.5, k = 3",
    source="Forgetting is a loss of skill; drift alone may be adaptation. Unpaired error of the "
    "difference unless `encoder_reference_drop_se` (paired, McNemar or bootstrap) is recorded.",
    remedy="Divide the encoder's learning rate by 10, lengthen its warmup, freeze lower layers, or "
    "pull the weights towards their start (L2-SP).",
    false_alarms="A dip after unfreezing that comes back: the drop must last. Without "
    "`encoder_reference_skill_start` the first evaluation is the start, and what was lost before "
    "it is not seen.",
    margins="forgotten_points forgotten_share forgotten_window drift_cka persistence hysteresis "
    "online_evaluations",
)
def detect(history: History) -> RuleResult:
    """Fire when reference skill was lost suddenly and for good."""
    # weights that are no numbers know nothing, but they have not forgotten it
    broken = history.column("nonfinite_params") > 0.0
    skill = np.where(broken, np.nan, history.column("encoder_reference_skill"))
    if np.isnan(skill).all():
        return insufficient("No evaluation has a reference skill of weights that are numbers.")
    start, begun = _start(history, skill)
    error = _error(history, skill, start)
    limit = min(margin("forgotten_points"), margin("forgotten_share") * abs(start))
    lower = start - skill - alpha_quantiles(history) * error
    back = start - skill < limit / margin("hysteresis")
    gap = np.isnan(lower) & ~broken
    index = persistent(lower > limit, back, gap, whole("persistence"))
    drop, now = lasting(start - skill), lasting(lower)
    claim = f"The skill on the reference task was {start:.3f} and is {lasting(skill):.3f}"
    if index is None:
        short = more_evaluations(history, whole("persistence"))
        return short or _drift(history) or _kept(claim, drop, now, limit)
    since = epoch_at(history, index)
    reason = f"{claim}, lower by at least {now:.3f} (limit {limit:.3f}), since epoch {since}"
    again = may_recover(history, skill, recovery_rises=True)
    if again:
        return suspect(f"{reason}; but {again}.", onset=since, statistic=now, threshold=limit)
    sudden = _sudden(history, skill, error, limit, start if begun else None)[index:].any()
    manner = "it was lost suddenly" if sudden else "it was lost slowly"
    paid = None if sudden else _outweighed(history, drop)
    fatal = sudden or (history.finished and paid is None)
    return fired(
        f"{reason}; {manner}{'' if paid is None else f', but {paid}'}.",
        onset=since,
        severity=Severity.FATAL if fatal else Severity.WARNING,
        statistic=now,
        threshold=limit,
        evidence={"drop": drop},
    )


def _start(history: History, skill: FloatArray) -> tuple[float, bool]:
    """Skill before training, and whether it was recorded; else that of the first evaluation."""
    recorded = history.column("encoder_reference_skill_start")
    known = recorded[np.isfinite(recorded)]
    if len(known):
        return float(known[0]), True
    return float(skill[~np.isnan(skill)][0]), False


def _error(history: History, skill: FloatArray, start: float) -> FloatArray:
    """Standard error of the drop: recorded, binomial, or the noise between evaluations, (n,)."""
    recorded, n = history.column("encoder_reference_drop_se"), _samples(history)
    now, before = np.clip(skill, 0.0, 1.0), min(max(start, 0.0), 1.0)
    binomial = np.sqrt((now * (1.0 - now) + before * (1.0 - before)) / n)
    between = np.nan_to_num(noise(skill), nan=0.0) * np.sqrt(2.0)
    error = np.where(np.isnan(recorded), binomial, recorded)
    return np.where(np.isnan(error), between, error)


def _samples(history: History) -> FloatArray:
    n = history.column("encoder_reference_n")
    return np.where(n >= 1.0, n, np.nan)


def _sudden(
    history: History, skill: FloatArray, error: FloatArray, limit: float, start: float | None
) -> BoolArray:
    """Where the skill fell over the limit within a tenth of the plan, or one evaluation, (n,)."""
    window = margin("forgotten_window") * history.epochs_planned
    bar = limit + alpha_quantiles(history) * error
    sudden = np.zeros(len(skill), dtype=np.bool_)
    for index, epoch in enumerate(history.epochs):
        near = (history.epochs >= epoch - window) & (history.epochs < epoch)
        near[max(index - 1, 0) : index] = True
        before = list(skill[near & ~np.isnan(skill)])
        if start is not None and epoch <= max(window, history.epochs[0]):
            before.append(start)
        sudden[index] = bool(before) and max(before) - skill[index] > bar[index]
    return sudden


def _outweighed(history: History, drop: float) -> str | None:
    """State that the new task gained more than the reference task lost, since the start."""
    gains = gain(history)
    measures = {
        "accuracy": history.column("val_accuracy"),
        "AUROC": history.column("val_auroc"),
        "gain": np.full(1, np.nan) if gains is None else gains.value,
    }
    for name, metric in measures.items():
        known = metric[~np.isnan(metric)]
        won = lasting(metric) - known[0] if len(known) else 0.0
        if won > drop:
            return f"the new task's {name} rose by {won:.3f}"
    return None


def _drift(history: History) -> RuleResult | None:
    cka, limit = history.column("encoder_cka"), margin("drift_cka")
    index = persistent(cka < limit, cka >= limit, k=whole("persistence"))
    if index is None:
        return None
    since = epoch_at(history, index)
    return fired(
        f"The linear CKA of the features to those at the start is {lasting(cka):.3f} (limit "
        f"{limit:g}), since epoch {since}, at no loss of skill (representation_drift).",
        onset=since,
        severity=Severity.WARNING,
        statistic=lasting(cka),
        threshold=limit,
    )


def _kept(claim: str, drop: float, lower: float, limit: float) -> RuleResult:
    if drop > limit:
        return insufficient(
            f"{claim}, lower by {drop:.3f}, of which {max(lower, 0.0):.3f} is proven (limit "
            f"{limit:.3f}): more reference samples or evaluations would settle it.",
            statistic=lower,
            threshold=limit,
        )
    return clear(f"{claim}.", statistic=drop, threshold=limit)
