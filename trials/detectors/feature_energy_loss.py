"""Detector 27, `feature_energy_loss`: a weight map removes the features' energy."""

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
from sickbay.trials.evidence.features import (
    energy_kept,
    energy_lost_since,
    modulation_gap,
    no_weight_map,
)
from sickbay.trials.evidence.skill import epoch_at, lasting, may_recover, percent
from sickbay.trials.evidence.thresholds import margin, whole
from sickbay.trials.history import History


@detector(
    name="feature_energy_loss",
    version="1.1",
    title="Feature energy lost",
    severity=Severity.FATAL,
    online=True,
    subject=no_weight_map,
    signals="feature_energy_ratio",
    optional_signals="feature_energy_ratio_se val_loss val_loss_se val_loss_unmodulated "
    "val_loss_unmodulated_se val_modulation_gap_se group_update_ratio",
    rule="The weight map leaves less than half of the features' energy (upper bound), three times "
    "in a row; under a tenth is severe. A warning, because attention may help; fatal if the model "
    "is worse than with its modulation switched off, by more than two standard errors.",
    formula="|F W|^2 / |F|^2 + z SE < 0.5, k = 3; fatal: L - L_unmodulated > 2 SE",
    source="Lost energy does not depend on the scale of the features; whether it matters, only the "
    "model without modulation can tell.",
    remedy="Add a residual path, F (1 + W), or mix with the unweighted features; initialise the "
    "map near one.",
    false_alarms="Attention that helps by looking away: then the model is no worse.",
    margins="energy_loss energy_severe harm_se persistence hysteresis online_evaluations",
)
def detect(history: History) -> RuleResult:
    """Fire when energy is lost; fatal when the model does better without the map."""
    ratio, upper = energy_kept(history)
    index, limit = energy_lost_since(history), margin("energy_loss")
    kept, bound = lasting(ratio), lasting(upper)
    if index is None:
        short = more_evaluations(history, whole("persistence"))
        if short is not None:
            return short
        if kept < limit <= bound:
            return insufficient(
                f"The features keep {percent(kept)} of their energy, at most {percent(bound)}: "
                "a larger probe batch is needed.",
                statistic=bound,
                threshold=limit,
            )
        return clear(
            f"The features keep {percent(kept)} of their energy.", statistic=kept, threshold=limit
        )
    since = epoch_at(history, index)
    severe = "severe: " if bound < margin("energy_severe") else ""
    reason = (
        f"The features keep {severe}{percent(kept)} of their energy (limit {limit:.0%}), since "
        f"epoch {since}"
    )
    again = may_recover(history, ratio, recovery_rises=True)
    if again:
        return suspect(f"{reason}; but {again}.", onset=since, statistic=bound, threshold=limit)
    gap, error = modulation_gap(history)
    if np.isnan(gap):
        harm = "the model without modulation was not measured"
    else:
        side = "worse" if gap > 0.0 else "no worse"
        harm = f"the model is {side} than without modulation by {abs(gap):.3g} of the floor"
    return fired(
        f"{reason}; {harm}.",
        onset=since,
        severity=Severity.FATAL if gap > margin("harm_se") * error else Severity.WARNING,
        statistic=bound,
        threshold=limit,
    )
