"""The founding pathologies (a) to (j): which detectors should find each, and the repaired twins."""

from collections.abc import Mapping

from docs.tools.corpus.report.figures import Judged, Table
from docs.tools.corpus.report.measures import Figure, share_of

WORDS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "a": ("components collapse or never part", ("symmetric_component_trap", "mixture_collapse")),
    "b": (
        "flat loss: no supervision, no update, no gradient",
        (
            "zero_supervision",
            "no_parameter_update",
            "no_skill",
            "vanishing_gradient",
            "constant_output",
            "loss_plateau",
        ),
    ),
    "c": (
        "majority class",
        ("majority_class_collapse", "accuracy_paradox", "minority_gradient_starvation"),
    ),
    "d": (
        "chance-level ranking",
        (
            "chance_level_ranking",
            "accuracy_paradox",
            "no_skill",
            "memorisation_without_generalisation",
            "constant_output",
        ),
    ),
    "e": ("labels that are noise", ("label_instability", "memorisation_without_generalisation")),
    "f": ("rare class starved of gradient", ("minority_gradient_starvation",)),
    "g": (
        "weight map attenuates, or leaves its range",
        ("weight_map_attenuation", "weight_map_out_of_range", "feature_energy_loss"),
    ),
    "h": (
        "forgetting, conflict of losses",
        ("catastrophic_forgetting", "gradient_conflict", "representation_collapse"),
    ),
    "i": (
        "numerical trouble",
        ("non_finite", "divergence", "late_collapse", "loss_spike", "exploding_gradient"),
    ),
    "j": ("overfitting", ("overfitting", "memorisation_without_generalisation")),
}


def found(table: Table, letter: str) -> dict[str, Figure]:
    """Of the runs that a pathology's operators harmed: found at all, and by a detector of its own.

    Mild strengths of an operator leave a model that is worse and has skill; "no skill left" counts
    the others, those that are not finite included: what the pathology's name says.
    The repaired twin of a run is the control of its task and seed: it is clear if its label is not
    pathological and none of the pathology's detectors fired as fatal.
    """
    names = WORDS[letter][1]
    faults = [
        run
        for run in table
        if run.case.kind == "fault" and run.pathological and run.operator.pathology == letter
    ]
    twins = {(run.case.task, run.case.seed) for run in faults}
    repaired = [
        run
        for run in table
        if run.case.kind == "control" and (run.case.task, run.case.seed) in twins
    ]
    lost = [run for run in faults if not run.worse]
    return {
        "found": share_of([run.called or own(run, names) for run in faults]),
        "found, no skill left": share_of([run.called or own(run, names) for run in lost]),
        "called pathological": share_of([run.called for run in faults]),
        "called so, no skill left": share_of([run.called for run in lost]),
        "its own detector fired": share_of([own(run, names) for run in faults]),
        "twin clear": share_of(
            [
                not run.called and not any(run.verdict.fired(name, fatal=True) for name in names)
                for run in repaired
            ]
        ),
    }


def own(run: Judged, names: tuple[str, ...]) -> bool:
    """Whether one of these detectors fired, however badly."""
    return any(run.verdict.fired(name) for name in names)
