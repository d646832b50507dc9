"""Detector 21, `symmetric_component_trap`: equal components with equal gradients stay equal."""

from sickbay.trials.contract import Severity
from sickbay.trials.detector import RuleResult, clear, detector, fired, more_evaluations, suspect
from sickbay.trials.evidence.skill import epoch_at, lasting
from sickbay.trials.evidence.statistics import persistent
from sickbay.trials.evidence.thresholds import margin, whole
from sickbay.trials.history import History


@detector(
    name="symmetric_component_trap",
    version="1.0",
    title="Symmetric components",
    severity=Severity.FATAL,
    online=True,
    components=2,
    signals="component_distance component_gradient_cosine",
    rule="All components of the mixture lie within a thousandth of the parameter scale and "
    "receive gradients of cosine 0.999 or more, at three evaluations in a row with training "
    "between them.",
    formula="max |theta_i - theta_j| / scale <= 1e-3 and min cos(g_i, g_j) >= 0.999, k = 3",
    source="Permutation symmetry: components with equal parameters receive equal gradients, an "
    "exact argument.",
    remedy="Spread the component centres (preset around the circle), or jitter them; use "
    "different biases.",
    false_alarms="Components that are tied by design.",
    margins="component_distance component_cosine persistence hysteresis",
)
def detect(history: History) -> RuleResult:
    """Fire while components are indistinguishable in parameters and gradients."""
    short = more_evaluations(history, whole("persistence"))
    if short is not None:
        return short
    distance, cosine = (
        history.column("component_distance"),
        history.column("component_gradient_cosine"),
    )
    limit = margin("component_distance")
    near = distance <= limit
    apart = distance > limit * margin("hysteresis")
    index = persistent(near & (cosine >= margin("component_cosine")), apart, k=whole("persistence"))
    now = lasting(distance)
    trained = history.steps[-1] > history.steps[0]
    if index is not None and trained:
        since = epoch_at(history, index)
        return fired(
            f"The components lie within {now:.2g} of the parameter "
            f"scale (limit {limit:g}) and their gradients agree to a cosine of "
            f"{lasting(cosine):.6f}, since epoch {since}: they can never diverge.",
            onset=since,
            statistic=now,
            threshold=limit,
        )
    if near[-1]:
        return suspect(
            f"The components lie within {now:.2g} of the parameter scale, but their gradients "
            f"differ or are zero.",
            statistic=now,
            threshold=limit,
        )
    return clear(
        f"The components lie {now:.3g} of the parameter scale apart.",
        statistic=now,
        threshold=limit,
    )
