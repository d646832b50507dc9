"""Detector 16, `minority_gradient_starvation`: the rare class gets little gradient."""

import numpy as np

from sickbay.trials.contract import Severity, TaskKind
from sickbay.trials.detector import (
    RuleResult,
    clear,
    detector,
    fired,
    insufficient,
    more_evaluations,
    suspect,
)
from sickbay.trials.evidence.classes import (
    CONFUSION,
    RANKING_SIGNALS,
    Confusion,
    classes_may_recover,
    collapse_is_fatal,
    confusion,
    no_classes,
)
from sickbay.trials.evidence.skill import epoch_at, lasting
from sickbay.trials.evidence.statistics import FloatArray, persistent
from sickbay.trials.evidence.thresholds import margin, whole
from sickbay.trials.history import History


@detector(
    name="minority_gradient_starvation",
    version="2.0",
    title="Starved minority",
    severity=Severity.FATAL,
    online=True,
    kinds=(TaskKind.BINARY,),
    subject=no_classes,
    signals=("class_gradient_share", CONFUSION),
    optional_signals=(
        "val_mean_probability",
        *RANKING_SIGNALS,
        "val_loss",
        "val_loss_se",
        "val_floor_gap_se",
        "group_update_ratio",
    ),
    rule="The minority's share of the gradient at the logits is under 0.10 over the first three "
    "epochs, and later its recall is at most 0.10 (upper bound), three times in a row. Fatal "
    "together with a collapse onto the majority. A running trial waits while the recall rises or "
    "the validation loss falls. The class weight itself is never read.",
    formula="mean share[:3] < 0.10 and CP_95 upper bound of the recall <= 0.10, k = 3; share = "
    "p w / (p w + 1 - p) at prediction 1/2",
    source="Share of sum |dL/dlogit| by class; w = n_negative / n_positive makes it one half.",
    remedy="Raise the weight of the rare class to about n_negative / n_positive, or resample; but "
    "no weight rescues labels that are noise.",
    false_alarms="A rare class that is easy is learnt with a small share: hence the look "
    "at its recall.",
    margins="starved_share minority_recall first_window persistence hysteresis online_evaluations",
)
def detect(history: History) -> RuleResult:
    """Fire when a class with little gradient at the start is not predicted later."""
    confusions = confusion(history)
    shares = history.vectors("class_gradient_share")
    if (
        confusions is None
        or not confusions.minority.any()
        or shares.shape[1] != confusions.true.shape[1]
    ):
        return insufficient(
            "It needs the gradient share of each class, and validation samples of both classes."
        )
    k, window = whole("persistence"), whole("first_window")
    short = more_evaluations(history, window + k)
    if short is not None:
        return short
    share = shares[:, confusions.minority].sum(axis=1)
    known = share[~np.isnan(share)]
    first = float(known[:window].mean()) if len(known) else float("nan")
    limit, lost = margin("starved_share"), margin("minority_recall")
    upper = confusions.recall_upper
    index = persistent(upper <= lost, confusions.recall > lost * margin("hysteresis"), k=k)
    claim = f"The rare class had {first:.1%} of the gradient in the first epochs"
    if np.isnan(first):
        return insufficient("The gradient shares are not numbers.")
    if first >= limit:
        return clear(f"{claim}.", statistic=first, threshold=limit)
    if index is None:
        return _alive(confusions, claim, first)
    return _starved(history, confusions.recall, f"{claim} (limit {limit:.0%})", (first, index))


def _alive(confusions: Confusion, claim: str, first: float) -> RuleResult:
    limit, lost = margin("starved_share"), margin("minority_recall")
    recall, upper = lasting(confusions.recall), lasting(confusions.recall_upper)
    if recall <= lost:
        return insufficient(
            f"{claim}; its recall lies between {recall:.3f} and {upper:.3f}; more samples of it "
            f"would settle it.",
            statistic=upper,
            threshold=lost,
        )
    return clear(f"{claim}, and its recall is {recall:.3f}.", statistic=first, threshold=limit)


def _starved(
    history: History, recall: FloatArray, claim: str, measured: tuple[float, int]
) -> RuleResult:
    first, index = measured
    limit, onset = margin("starved_share"), epoch_at(history, 0)
    reason = f"{claim}, and its recall is {lasting(recall):.3f} since epoch "
    reason += f"{epoch_at(history, index)}"
    again = classes_may_recover(history, recall)
    if again:
        return suspect(f"{reason}; but {again}.", onset=onset, statistic=first, threshold=limit)
    return fired(
        f"{reason}.",
        onset=onset,
        severity=Severity.FATAL if collapse_is_fatal(history) else Severity.WARNING,
        statistic=first,
        threshold=limit,
        remedy=_weight(history),
    )


def _weight(history: History) -> str | None:
    counts = history.facts.class_counts
    if len(counts) != 2 or min(counts) <= 0:
        return None
    rare = int(np.argmin(counts))
    return (
        f"Weight class {rare} by about {max(counts) / min(counts):.3g} (its rarity in training), "
        f"or resample; but no weight rescues labels that are noise."
    )
