"""Detector 22, `mixture_collapse`: one component carries the mixture, at a cost."""

from dataclasses import dataclass

import numpy as np

from sickbay.trials.contract import Severity
from sickbay.trials.detector import RuleResult, clear, detector, fired, more_evaluations, suspect
from sickbay.trials.evidence.skill import epoch_at, lasting, may_recover
from sickbay.trials.evidence.statistics import effective_number, persistent
from sickbay.trials.evidence.thresholds import margin, whole
from sickbay.trials.history import History


@dataclass(frozen=True)
class _Harm:
    """Whether the collapse is harmful; None if no signal shows it."""

    proven: bool | None
    words: str
    evidence: dict[str, float]


@detector(
    name="mixture_collapse",
    version="2.0",
    title="Mixture collapse",
    severity=Severity.FATAL,
    online=True,
    components=2,
    signals="mixture_weights",
    optional_signals="val_density_kl val_density_kl_se peak_coverage mixture_weights_entropy "
    "group_update_ratio",
    rule="Fewer than 1.2 effective components, or one with more than 0.95 of the weight, three "
    "times in a row. Fatal if the density is no better than the best single component (within "
    "two standard errors) or one component's share of the peaks is covered; a warning if neither "
    "was measured.",
    formula="exp H(w) < 1.2 or max w > 0.95, k = 3; harm: KL >= 0.98 KL_single - 2 SE or "
    "coverage <= 1/K + 0.05",
    source="Perplexity of the mean weights. Harm is measured on the density itself: a loss with "
    "predicted weights falls to 0.03 with one of four components alive.",
    remedy="Weight the loss uniformly over the true peaks, or add a term on the weights; an "
    "entropy bonus and a cap on the concentration help too.",
    false_alarms="Data with one peak need one component: then the density proves that there is "
    "no harm.",
    margins="effective_components largest_weight harm_se skill_gain coverage_over_one persistence "
    "hysteresis online_evaluations",
)
def detect(history: History) -> RuleResult:
    """Fire on a collapse of the weights that harms the density, or whose harm is unknown."""
    weights = history.vectors("mixture_weights")
    effective = effective_number(weights)
    largest = np.max(np.nan_to_num(weights, nan=0.0), axis=1)
    few, heavy, slack = (
        margin("effective_components"),
        margin("largest_weight"),
        margin("hysteresis"),
    )
    enter = (effective < few) | (largest > heavy)
    # 1.5 times the margin, counted from the full collapse
    leave = (effective > 1 + slack * (few - 1)) & (largest < 1 - slack * (1 - heavy))
    index = persistent(enter, leave, np.isnan(effective), whole("persistence"))
    now, count = lasting(effective), weights.shape[1]
    if index is None:
        return more_evaluations(history, whole("persistence")) or clear(
            f"{now:.2f} of {count} components carry the weight.", statistic=now, threshold=few
        )
    since = epoch_at(history, index)
    alive = f"{now:.2f} of {count} components carry the weight (the largest {lasting(largest):.4f})"
    harm = _harm(history, count)
    if harm.proven is False:
        return clear(f"{alive}, without harm: {harm.words}.", statistic=now, threshold=few)
    again = may_recover(history, effective, recovery_rises=True)
    if again:
        return suspect(
            f"Only {alive}, since epoch {since}; but {again}.",
            onset=since,
            statistic=now,
            threshold=few,
        )
    return fired(
        f"Only {alive}, since epoch {since}: {harm.words}.",
        onset=since,
        severity=Severity.FATAL if harm.proven else Severity.WARNING,
        statistic=now,
        threshold=few,
        evidence=harm.evidence,
    )


def _harm(history: History, count: int) -> _Harm:
    floor = history.facts.floors.get("val_density_kl")
    divergence = lasting(history.column("val_density_kl"))
    covered = lasting(history.column("peak_coverage"))
    proofs: list[bool] = []
    clauses: list[str] = []
    evidence: dict[str, float] = {}
    if floor is not None and np.isfinite(divergence):
        error = float(np.nan_to_num(lasting(history.column("val_density_kl_se"))))
        bar = floor * (1.0 - margin("skill_gain")) - margin("harm_se") * error
        proofs.append(divergence >= bar)
        side = "no better than" if proofs[-1] else "better than"
        clauses.append(
            f"its divergence from the true density, {divergence:.4g}, is {side} the best single "
            f"component's {floor:.4g}"
        )
        evidence |= {"density_kl": divergence, "density_floor": floor}
    if np.isfinite(covered):
        proofs.append(
            covered <= 1.0 / (history.facts.components or count) + margin("coverage_over_one")
        )
        clauses.append(f"it covers {covered:.0%} of the true peaks")
        evidence |= {"peak_coverage": covered}
    if not proofs:
        return _Harm(None, "whether that does harm was not measured", {})
    return _Harm(any(proofs), " and ".join(clauses), evidence)
