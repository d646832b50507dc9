"""Which signals a report draws besides the objective: those that show the causes found."""

from collections.abc import Mapping
from dataclasses import dataclass

from sickbay.service.query.sqltext import name
from sickbay.service.summary.values import Values
from sickbay.trials import registry
from sickbay.trials.contract import ReferenceLine, TaskFacts
from sickbay.trials.registry import RegistryError

MOST_SIGNALS = 3

# cause -> the signals that make it visible, the most telling first
SIGNALS: Mapping[str, tuple[str, ...]] = {
    "constant_output": ("output_variance_ratio",),
    "divergence": ("train_loss", "grad_norm_max"),
    "exploding_gradient": ("grad_norm_max", "clipped_share"),
    "late_collapse": ("train_loss",),
    "loss_plateau": ("train_loss", "grad_norm_p50"),
    "mixture_collapse": ("mixture_weights", "peak_coverage", "val_density_kl"),
    "no_parameter_update": ("group_grad_max", "group_update_norm"),
    "no_skill": ("train_loss", "val_density_kl"),
    "non_finite": ("nonfinite_params", "nonfinite_grad_steps", "grad_norm_max"),
    "overfitting": ("train_loss",),
    "symmetric_component_trap": ("component_distance", "component_gradient_cosine"),
    "vanishing_gradient": ("grad_norm_p50", "group_grad_max"),
    "zero_supervision": ("supervised_targets",),
}

# A vector is drawn as one number: the entry that tells. All others are drawn as their largest.
_LEAST = ("group_grad_max", "group_update_norm", "group_update_ratio")
_WORDS = {
    "clipped_share": "share of steps with a clipped gradient",
    "component_distance": "largest distance between components, relative",
    "component_gradient_cosine": "least cosine between the components' gradients",
    "grad_norm_max": "largest gradient norm of the epoch, before clipping",
    "grad_norm_p50": "median gradient norm of the epoch, before clipping",
    "group_grad_max": "largest |gradient| of the epoch, in the group where it is least",
    "group_update_norm": "change of the parameters in the epoch, in the group where it is least",
    "mixture_weights": "largest mean weight of a component (1: one component does it all)",
    "nonfinite_grad_steps": "steps of the epoch with a non-finite gradient",
    "nonfinite_params": "parameters that are NaN or infinite",
    "output_variance_ratio": "variance of the output, relative to the targets'",
    "peak_coverage": "share of the true peaks that are covered",
    "supervised_targets": "targets in the epoch's loss",
    "train_loss": "mean training loss of the epoch",
    "val_density_kl": "divergence from the true density, KL in nats",
    "val_loss": "validation loss",
}


@dataclass(frozen=True)
class Shown:
    """A signal to draw: its SQL as one number, its meaning, and the causes it shows."""

    signal: str
    expression: str
    words: str
    causes: tuple[str, ...] = ()
    is_objective: bool = False


def shown_signals(values: Values, types: Mapping[str, str]) -> tuple[Shown, ...]:
    """Choose the objective, then up to three signals of the causes found, the most common first.

    `types` are the recorded signals with their SQL types.
    """
    objective = values.objective.signal if values.objective else ""
    chosen: dict[str, list[str]] = {}
    wanted = {cause.name: _signals_of(cause.name, types, objective) for cause in values.causes}
    for place in range(MOST_SIGNALS):  # the first of every cause, then the second of every cause
        for cause, signals in wanted.items():
            if place < len(signals) and (len(chosen) < MOST_SIGNALS or signals[place] in chosen):
                chosen.setdefault(signals[place], []).append(cause)
    first = [_shown(objective, types, (), objective=True)] if objective in types else []
    return (*first, *(_shown(signal, types, tuple(some)) for signal, some in chosen.items()))


def _signals_of(cause: str, types: Mapping[str, str], objective: str) -> tuple[str, ...]:
    """The recorded signals that show a cause; for a third-party detector, those it reads."""
    named = SIGNALS.get(cause) or _read_by(cause)
    numbers = ("DOUBLE", "DOUBLE[]", "BIGINT")
    return tuple(signal for signal in named if types.get(signal) in numbers and signal != objective)


def _read_by(cause: str) -> tuple[str, ...]:
    try:
        detector = registry.detector(cause)
    except RegistryError:
        return ()
    asked = (*detector.signals, *detector.optional_signals)
    return tuple(part for alternatives in asked for part in alternatives.split("|"))


def _shown(
    signal: str, types: Mapping[str, str], causes: tuple[str, ...], *, objective: bool = False
) -> Shown:
    vector, least = types[signal].endswith("[]"), signal in _LEAST
    description = _WORDS.get(signal, "")
    column = name(signal)
    if vector:  # NaN in a vector is a gap (a frozen group), unless nothing else is there
        known = f"list_filter({column}, lambda v: NOT isnan(v))"
        reduce = "list_min" if least else "list_max"
        expression = f"coalesce({reduce}({known}), {reduce}({column}))"
        description = description or "the largest entry"
    else:
        expression = f"CAST({column} AS DOUBLE)"
    return Shown(signal, expression, description, causes, objective)


H0_TEXT = "the best constant predictor (H0)"


def reference_lines_of(facts: TaskFacts, signal: str) -> tuple[ReferenceLine, ...]:
    """Return a signal's reference lines: the floor (H0) first, then those the workload declares.

    A declared line that says no more than H0 does (a `floor` of the same value) is left out.
    """
    floor = facts.floors.get(signal)
    declared = tuple(line for line in facts.reference_lines if line.signal == signal)
    if floor is None:
        return declared
    first = ReferenceLine(signal, floor, H0_TEXT, "floor")
    same = [line for line in declared if line.name == "floor" and line.value == floor]
    if same:  # its formula is worth keeping
        first = ReferenceLine(signal, floor, H0_TEXT, "floor", same[0].formula)
    return (first, *(line for line in declared if line not in same))


def label_of(line: ReferenceLine) -> str:
    """Describe a reference line: its meaning, and its formula if it has one."""
    return f"{line.text}: {line.formula}" if line.formula else line.text
