"""`dead_part`: one task, loss or class without skill while others learn."""

import numpy as np

from sickbay.trials.contract import Severity
from sickbay.trials.detector import RuleResult, clear, detector, fired, more_evaluations, suspect
from sickbay.trials.evidence.classes import CONFUSION_SIGNALS, confusion
from sickbay.trials.evidence.skill import epoch_at, lasting, may_recover, percent
from sickbay.trials.evidence.statistics import FloatArray, persistent
from sickbay.trials.evidence.thresholds import margin, whole
from sickbay.trials.history import History


def no_parts(history: History) -> str | None:
    """`not_applicable`: neither several losses nor three classes."""
    counted = confusion(history)
    if history.has("task_losses") or (counted is not None and counted.true.shape[1] > 2):
        return None
    return "Neither several losses (`task_losses`) nor a table of three classes is recorded."


@detector(
    name="dead_part",
    version="2.0",
    title="Part without learning",
    severity=Severity.FATAL,
    online=False,
    subject=no_parts,
    signals="task_losses|val_confusion",
    optional_signals=(
        "task_floors",
        "loss_gradient_cosine",
        "group_update_ratio",
        *CONFUSION_SIGNALS,
    ),
    rule="The gain of one of several losses over its own best constant predictor has never been "
    "over 0.02 and is not three times in a row, while another one's is over 0.10. Without floors "
    "(`task_floors`, or the fact `floors['task_losses_0']` and so on), a warning: one loss never "
    "fell by 2 %, and another fell by a quarter; fatal if the losses' gradients point against "
    "each other (cosine at most -0.1). Of three classes or more, at least a quarter have "
    "a recall of at most 0.10 (upper bound) while others are found: fatal at the end of a trial.",
    formula="max G_i <= 0.02 and G_j > 0.10, k = 3, with G = 1 - L / H0; without floors "
    "min L_i > 0.98 L_i(start) and min L_j < 0.75 L_j(start)",
    source="A sum of losses falls when one of its terms does: each has a floor of its own.",
    remedy="Look at this part's targets and at its weight in the sum; give it a rate or a layer of "
    "its own, or balance the gradients (GradNorm, PCGrad).",
    false_alarms="A part that is switched on later, or that the inputs cannot predict.",
    margins="skill_gain had_skill_gain part_fallen conflict_cosine lost_classes minority_recall "
    "persistence online_evaluations",
)
def detect(history: History) -> RuleResult:
    """Judge each loss by its floor, then each class by its recall."""
    short = more_evaluations(history, whole("persistence"))
    if short is not None:
        return short
    losses = history.vectors("task_losses")
    parts = _parts(history, losses) if losses.shape[1] > 1 else None
    return parts or _classes(history) or clear("Every recorded part learns something.")


def _parts(history: History, losses: FloatArray) -> RuleResult | None:
    floors = _floors(history, losses)
    start = np.where(np.isfinite(losses[:1]) & (losses[:1] > 0.0), losses[:1], np.nan)
    known = bool(np.isfinite(floors).all())
    gains = 1.0 - losses / (floors if known else start)
    none = margin("skill_gain")
    some = margin("had_skill_gain") if known else margin("part_fallen")
    best = np.fmax.accumulate(gains, axis=0)
    learns = (np.fmax.reduce(gains, axis=1) > some)[:, None]
    for part in range(losses.shape[1]):
        dead = (best[:, part] <= none) & learns[:, 0]
        index = persistent(dead, best[:, part] > none, k=whole("persistence"))
        if index is None:
            continue
        since, gained = epoch_at(history, index), lasting(gains[:, part])
        other = lasting(np.fmax.reduce(gains, axis=1))
        against = "its best constant predictor" if known else "its own start"
        reason = (
            f"Loss {part + 1} of {losses.shape[1]} improves on {against} by {percent(gained)}, "
            f"another by {percent(other)}, since epoch {since}"
        )
        again = may_recover(history, losses[:, part], recovery_rises=False)
        if again:
            return suspect(f"{reason}; but {again}.", onset=since, statistic=gained, threshold=none)
        return fired(
            f"{reason}.",
            onset=since,
            severity=Severity.FATAL if known or _opposed(history) else Severity.WARNING,
            statistic=gained,
            threshold=none,
            evidence={"part": float(part)},
        )
    return None


def _opposed(history: History) -> bool:
    """Whether the losses pull their shared features in different directions: NaN says no."""
    if not history.has("loss_gradient_cosine"):
        return False
    cosines = history.vectors("loss_gradient_cosine")
    return lasting(cosines.mean(axis=1)) <= margin("conflict_cosine")


def _floors(history: History, losses: FloatArray) -> FloatArray:
    """Loss of each part's best constant predictor, (n, parts) or (1, parts); NaN where unknown."""
    recorded = history.vectors("task_floors")
    if recorded.shape == losses.shape:
        return np.where(recorded > 0.0, recorded, np.nan)
    stated = [history.facts.floors.get(f"task_losses_{i}", np.nan) for i in range(losses.shape[1])]
    return np.array([[floor if floor > 0.0 else np.nan for floor in stated]])


def _classes(history: History) -> RuleResult | None:
    confusions = confusion(history)
    if confusions is None or confusions.true.shape[1] < 3:
        return None
    limit = margin("minority_recall")
    lost = (confusions.class_recall_upper <= limit).sum(axis=1) / (confusions.true > 0.0).sum(
        axis=1
    )
    share = np.where(np.isnan(confusions.total), np.nan, lost)
    enter = (share >= margin("lost_classes")) & (confusions.recall > limit)
    index = persistent(enter, ~enter, k=whole("persistence"))
    if index is None:
        return None
    since = epoch_at(history, index)
    return fired(
        f"{percent(lasting(share))} of the classes have a recall of at most {limit:g} (upper "
        f"bound), since epoch {since}, while others are found.",
        onset=since,
        severity=Severity.FATAL if history.finished else Severity.WARNING,
        statistic=lasting(share),
        threshold=margin("lost_classes"),
        remedy="Sample the classes evenly or weight the loss by their rarity; look at the labels "
        "of the lost ones.",
    )
