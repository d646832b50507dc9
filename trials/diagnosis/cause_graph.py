"""Which pathology explains which, so that a trial gets one primary cause, not nine alarms."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from sickbay.trials.contract import Finding, FindingState, Severity
from sickbay.trials.evidence.thresholds import whole
from sickbay.trials.history import History

# What a model that distinguishes its inputs by nothing looks like.
_WORTHLESS = (
    "late_collapse chance_level_ranking minority_gradient_starvation no_skill dead_part "
    "majority_class_collapse accuracy_paradox"
)
# cause: what it brings along. A graph without cycles; its order also breaks ties.
_GRAPH = f"""
# numbers that cannot be: whatever else they seem to show
impossible_loss: loss_spike exploding_gradient divergence non_finite saturated_activation
    dead_units representation_collapse posterior_collapse constant_output
    memorisation_without_generalisation {_WORTHLESS}
zero_supervision: no_parameter_update vanishing_gradient symmetric_component_trap mixture_collapse
    representation_collapse posterior_collapse constant_output {_WORTHLESS}
label_instability: posterior_collapse constant_output memorisation_without_generalisation
    overfitting {_WORTHLESS}
accumulated_gradient: loss_spike exploding_gradient divergence non_finite saturated_activation
    dead_units no_parameter_update catastrophic_forgetting representation_collapse
    mixture_collapse overfitting posterior_collapse constant_output {_WORTHLESS}
double_activation: vanishing_gradient overfitting late_collapse divergence representation_collapse
    constant_output memorisation_without_generalisation {_WORTHLESS}
gradient_conflict: dead_part catastrophic_forgetting late_collapse no_skill
catastrophic_forgetting: divergence representation_collapse constant_output {_WORTHLESS}
loss_spike: exploding_gradient divergence non_finite
exploding_gradient: divergence non_finite saturated_activation dead_units
divergence: non_finite saturated_activation dead_units representation_collapse posterior_collapse
    constant_output {_WORTHLESS}
non_finite: no_parameter_update mixture_collapse posterior_collapse constant_output {_WORTHLESS}
saturated_activation: no_parameter_update vanishing_gradient representation_collapse
    posterior_collapse constant_output {_WORTHLESS}
dead_units: no_parameter_update vanishing_gradient mixture_collapse representation_collapse
    posterior_collapse constant_output {_WORTHLESS}
no_parameter_update: vanishing_gradient symmetric_component_trap mixture_collapse
    representation_collapse posterior_collapse constant_output {_WORTHLESS}
symmetric_component_trap: mixture_collapse constant_output no_skill
vanishing_gradient: mixture_collapse representation_collapse posterior_collapse constant_output
    {_WORTHLESS}
mixture_collapse: constant_output late_collapse no_skill
weight_map_out_of_range: weight_map_attenuation feature_energy_loss
weight_map_attenuation: feature_energy_loss constant_output {_WORTHLESS}
feature_energy_loss: constant_output {_WORTHLESS}
shrinking_features: representation_collapse constant_output {_WORTHLESS}
representation_collapse: constant_output {_WORTHLESS}
# a constant output is the sharper name where nothing else explains idle latent variables
constant_output: posterior_collapse {_WORTHLESS}
posterior_collapse: no_skill
memorisation_without_generalisation: overfitting {_WORTHLESS}
overfitting: late_collapse no_skill
late_collapse: chance_level_ranking dead_part majority_class_collapse accuracy_paradox
# a model that cannot rank does not suffer from the weight of its classes
chance_level_ranking: minority_gradient_starvation no_skill dead_part majority_class_collapse
    accuracy_paradox
minority_gradient_starvation: no_skill dead_part majority_class_collapse accuracy_paradox
no_skill: dead_part majority_class_collapse accuracy_paradox
# a part without skill is named by what killed it
dead_part: majority_class_collapse accuracy_paradox
majority_class_collapse: accuracy_paradox
accuracy_paradox:
metric_inconsistency:
loss_plateau:
# of the machine: they explain nothing that a curve shows
throughput_decay:
memory_growth:
slow_input:
idle_gpu:
untrue_labels:
"""


def _read(graph: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The entries of the text of a graph: comments begin with #, a long line goes on indented."""
    for line in re.sub(r"#.*|\n +", " ", graph).split("\n"):
        cause, _, effects = line.partition(":")
        if cause.strip():
            yield cause.strip(), tuple(effects.split())


EXPLAINS: Mapping[str, tuple[str, ...]] = MappingProxyType(dict(_read(_GRAPH)))


def is_fatal(finding: Finding) -> bool:
    """Whether a finding alone makes its trial pathological."""
    return finding.state is FindingState.FIRED and finding.severity is Severity.FATAL


def primary_cause(history: History, findings: Iterable[Finding]) -> Finding | None:
    """Pick the fatal finding that no other fatal one explains; None if there is no fatal finding.

    A cause that begins later than its consequence, beyond a slack of three evaluations, explains
    nothing. Of several roots the one that began first is taken, then the order of the graph.
    """
    return _root(history, [finding for finding in findings if is_fatal(finding)])


def first_cause(history: History, findings: Iterable[Finding]) -> Finding | None:
    """Pick the cause of missing skill among findings that are not fatal, or None.

    It must have fired as a warning, and bring no skill about by the graph.
    """
    return _root(
        history,
        [
            finding
            for finding in findings
            if finding.state is FindingState.FIRED
            and finding.severity is not Severity.INFO
            and (finding.detector == "no_skill" or "no_skill" in EXPLAINS.get(finding.detector, ()))
        ],
    )


def _root(history: History, findings: Sequence[Finding]) -> Finding | None:
    caused = {
        effect.detector
        for cause in findings
        for effect in findings
        if _explains(history, cause, effect)
    }
    roots = [finding for finding in findings if finding.detector not in caused]
    return min(roots, key=lambda finding: (_onset(history, finding), rank(finding)), default=None)


def consequences(history: History, findings: Iterable[Finding], primary: str) -> tuple[str, ...]:
    """List the other fired findings above info, the fatal first, then by onset."""
    others = [
        finding
        for finding in findings
        if finding.state is FindingState.FIRED
        and finding.severity is not Severity.INFO
        and finding.detector != primary
    ]
    others.sort(
        key=lambda finding: (not is_fatal(finding), _onset(history, finding), rank(finding))
    )
    return tuple(finding.detector for finding in others)


def rank(finding: Finding) -> tuple[int, str]:
    """Sort key of a finding: by the graph, then third-party detectors by name."""
    order = list(EXPLAINS)
    known = finding.detector in EXPLAINS
    return (order.index(finding.detector) if known else len(order), finding.detector)


def _explains(history: History, cause: Finding, effect: Finding) -> bool:
    if effect.detector not in EXPLAINS.get(cause.detector, ()):
        return False
    return _onset(history, cause) <= _onset(history, effect) + whole("cause_slack")


def _onset(history: History, finding: Finding) -> int:
    """Count the evaluations before a finding's onset."""
    if finding.onset_epoch is None:
        return 0
    return int((history.epochs < finding.onset_epoch).sum())
