"""The fault operators: what each changes at three strengths, where, and what may be blamed.

Written before any result was read. `causes` are the detectors whose name, as primary cause, counts
as a right diagnosis of a run that this operator harmed; whether it did harm is for `truth.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TASKS = (
    "tabular_20",
    "tabular_200",
    "cnn",
    "sequence",
    "regression",
    "mixture",
    "vae",
    "shared",
    "weight_map",
)
CALIBRATION = TASKS[::2]  # odd places of the list; thresholds may be chosen on these
HELD_OUT = TASKS[1::2]
STRENGTHS = 3
BLOWUP = ("divergence", "non_finite", "exploding_gradient", "late_collapse")
STUCK = ("no_skill", "constant_output", "vanishing_gradient", "no_parameter_update")
DEAD = ("dead_units", "saturated_activation", "representation_collapse")
MEMORISED = ("memorisation_without_generalisation", "overfitting")
RANKLESS = ("no_skill", "chance_level_ranking", "constant_output")
MINORITY = ("minority_gradient_starvation", "majority_class_collapse")


@dataclass(frozen=True)
class Operator:
    """One way to spoil a run. `pathology` is the founding pathology (a to j) it stands for."""

    name: str
    levels: tuple[Mapping[str, Any], ...]
    causes: tuple[str, ...]
    tasks: tuple[str, ...] = ()  # none: four of all nine, by its place in the list
    but: tuple[str, ...] = ()  # tasks on which it makes no sense
    pathology: str = ""
    onset: tuple[float, ...] = (0.0, 0.0, 0.0)  # share of the plan at which each strength begins

    def may_cause(self, name: str | None) -> bool:
        """Whether a primary cause is right; no skill among classes is a ranking like chance."""
        known = name == "chance_level_ranking" and "no_skill" in self.causes
        return known or name in self.causes


def _of(key: str, *values: Any, **others: Any) -> tuple[dict[str, Any], ...]:
    return tuple({key: value, **others} for value in values)


TABLES = ("tabular_20", "tabular_200")
LATE = (0.7, 0.4, 0.0)

_GENERIC = (
    Operator(
        "lr_too_high",
        _of("lr_factor", 30.0, 300.0, 3000.0),
        (*BLOWUP, *DEAD, *STUCK[:2]),
        pathology="i",
    ),
    Operator("lr_too_low", _of("lr_factor", 1e-2, 1e-4, 1e-6), STUCK, pathology="b"),
    Operator(
        "unheld_groups", _of("unheld_groups", 1, 2, 9), ("no_parameter_update",), pathology="b"
    ),
    Operator(
        "no_zero_grad",
        _of("no_zero_grad_from", *LATE),
        (*BLOWUP, *DEAD[:2], "no_skill"),
        pathology="i",
        onset=LATE,
    ),
    Operator("gradient_ascent", _of("ascend_from", *LATE), BLOWUP, pathology="i", onset=LATE),
    Operator(
        "momentum_too_high",
        _of("momentum", 0.99, 0.999, 1.01, optimizer="sgd", lr=0.05),
        (*BLOWUP, *DEAD, "no_skill"),
        pathology="i",
    ),
    Operator("weight_decay_huge", _of("weight_decay", 10.0, 60.0, 300.0), (*STUCK, *DEAD)),
    Operator(
        "lr_jump",
        _of("lr_jump", 100.0, 1000.0, 10000.0),
        (*BLOWUP, *DEAD, "constant_output"),
        pathology="i",
        onset=(0.5, 0.5, 0.5),
    ),
    Operator(
        "clip_tiny",
        _of("clip", 1e-2, 1e-4, 1e-6, optimizer="sgd", lr=0.05),
        (*STUCK, "exploding_gradient"),
    ),
    Operator(
        "nan_inputs", _of("nan_inputs_from", *LATE), ("non_finite",), pathology="i", onset=LATE
    ),
    Operator(
        "infinite_loss",
        _of("infinite_loss_from", *LATE),
        ("non_finite",),
        pathology="i",
        onset=LATE,
    ),
    Operator(
        "half_overflow", _of("half_overflow", 1e4, 1e6, 1e8), ("non_finite", *STUCK), pathology="i"
    ),
    Operator(
        "zero_start",
        _of("zeroed", "last", "hidden", "all"),
        (*STUCK, "dead_units", "symmetric_component_trap"),
        pathology="b",
    ),
    Operator(
        "huge_start", _of("init_scale", 10.0, 50.0, 300.0), (*BLOWUP, *DEAD, *MEMORISED, "no_skill")
    ),
    Operator("tiny_start", _of("init_scale", 1e-2, 1e-4, 1e-8), STUCK),
    Operator(
        "dead_relu", _of("hidden_bias", -2.0, -10.0, -100.0), (*DEAD, *STUCK), but=("regression",)
    ),
    Operator(
        "deep_sigmoid",
        tuple({"activation": "sigmoid", "depth": d} for d in (4, 8, 12)),
        (*STUCK, *DEAD),
        tasks=("tabular_20", "tabular_200", "regression", "mixture", "shared"),
    ),
    Operator(
        "input_scale",
        _of("input_scale", 30.0, 1e3, 1e5),
        (*BLOWUP, *DEAD, *MEMORISED, "no_skill"),
        but=("weight_map",),
    ),
    Operator(
        "inputs_lost",
        _of("inputs_lost", 0.5, 0.8, 1.0),
        (*RANKLESS, *MEMORISED, *MINORITY),
        pathology="d",
    ),
    Operator("graph_cut", _of("cut_groups", 1, 2, 3), STUCK),
    Operator("dropout_extreme", _of("dropout", 0.9, 0.97, 0.995), (*STUCK, *DEAD)),
    Operator(
        "masked_targets",
        _of("masked", 0.9, 0.99, 1.0),
        ("zero_supervision", *MEMORISED),
        pathology="b",
    ),
    Operator(
        "loss_scaled_away",
        _of("loss_scale", 1e-4, 1e-8, 1e-12, optimizer="sgd", lr=0.05),
        (*STUCK, "zero_supervision"),
    ),
    Operator(
        "misaligned_targets",
        _of("misaligned", 0.5, 0.9, 1.0),
        (*RANKLESS, *MEMORISED, *MINORITY),
        but=("vae",),
        pathology="d",
    ),
    Operator(
        "shuffled_labels",
        _of("shuffled", 0.5, 0.9, 1.0),
        (*RANKLESS, *MEMORISED, *MINORITY),
        but=("vae",),
        pathology="e",
    ),
    Operator(
        "redrawn_labels", _of("redrawn", 0.5, 0.9, 1.0), ("label_instability",), pathology="e"
    ),
    Operator(
        "mismatched_pipelines",
        _of("mismatched", 0.5, 0.75, 1.0),
        (*RANKLESS, *MEMORISED, "metric_inconsistency", "divergence", "late_collapse"),
    ),
    Operator(
        "too_little_data",
        _of("kept_samples", 0.1, 0.03, 0.01),
        (*MEMORISED, *RANKLESS[:2]),
        pathology="j",
    ),
)
_SINGLE = (
    Operator(
        "class_weight_lost",
        _of("class_weight", 0.05, 0.005, 0.0005),
        MINORITY,
        tasks=TABLES,
        pathology="f",
    ),
    Operator(
        "positives_dropped",
        _of("positives_dropped", 0.9, 0.97, 1.0),
        (*MINORITY, "chance_level_ranking", *MEMORISED),
        tasks=TABLES,
        pathology="c",
    ),
    Operator(
        "components_tied",
        _of("component_jitter", 1e-3, 1e-6, 0.0),
        ("symmetric_component_trap", "mixture_collapse"),
        tasks=("mixture",),
        pathology="a",
    ),
    Operator(
        "components_greedy",
        _of("first_logit", 1.0, 4.0, 8.0, mixture_loss="pred_w"),
        ("mixture_collapse",),
        tasks=("mixture",),
        pathology="a",
    ),
    Operator(
        "beta_huge",
        _of("beta", 5.0, 30.0, 200.0),
        ("posterior_collapse", "constant_output", "no_skill"),
        tasks=("vae",),
    ),
    Operator(
        "encoder_rate",
        _of("encoder_lr", 10.0, 100.0, 1000.0),
        ("catastrophic_forgetting", *BLOWUP, *DEAD),
        tasks=("shared",),
        pathology="h",
    ),
    Operator(
        "losses_opposed",
        _of("opposed", 0.7, 1.0, 3.0),
        ("gradient_conflict",),
        tasks=("shared",),
        pathology="h",
    ),
    Operator(
        "map_divided",
        _of("map_divisor", 10.0, 30.0, 100.0),
        ("weight_map_attenuation", "feature_energy_loss"),
        tasks=("weight_map",),
        pathology="g",
    ),
    Operator(
        "map_out_of_range",
        _of("map_gain", 3.0, 30.0, 300.0),
        ("weight_map_out_of_range", *BLOWUP, *MEMORISED),
        tasks=("weight_map",),
        pathology="g",
    ),
    Operator(
        "map_narrow",
        tuple({"map_base": 0.0, "map_sigma": s} for s in (0.8, 0.3, 0.05)),
        ("weight_map_attenuation", "feature_energy_loss"),
        tasks=("weight_map",),
        pathology="g",
    ),
)


def _spread(place: int, but: tuple[str, ...]) -> tuple[str, ...]:
    """Four tasks, by an operator's place in the list: nobody chooses."""
    order = [TASKS[(place + step) % len(TASKS)] for step in (0, 2, 5, 7, 3, 1)]
    return tuple(task for task in order if task not in but)[:4]


def operators() -> tuple[tuple[Operator, tuple[str, ...]], ...]:
    """Return every operator with the tasks that it is applied to."""
    every = [*_GENERIC, *_SINGLE]
    return tuple((one, one.tasks or _spread(place, one.but)) for place, one in enumerate(every))


def level_name(operator: str, strength: int) -> str:
    """The level of the factor `fault`: operator and strength, 1 the mildest."""
    return f"{operator}-{strength}"


def faults_of(task: str) -> dict[str, Mapping[str, Any]]:
    """Return the changed settings of every fault of a task, by the name of the level."""
    return {
        level_name(one.name, strength): changes
        for one, tasks in operators()
        if task in tasks
        for strength, changes in enumerate(one.levels, start=1)
    }


def operator_of(level: str) -> tuple[Operator, int]:
    """Return the operator and the strength that a level names."""
    name, _, strength = level.rpartition("-")
    return next(one for one, _ in operators() if one.name == name), int(strength)
