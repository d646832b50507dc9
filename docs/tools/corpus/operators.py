"""The table of fault operators: what each changes, and which causes are right to name.

Written before any result was read. `WRITTEN` holds the bugs that people really write, by name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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
    further: tuple[str, ...] = ()  # of the further tasks; none: three, by its place in the list
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

GENERIC = (
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
        ("accumulated_gradient", *BLOWUP, *DEAD[:2], "no_skill"),
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
        "dead_relu",
        _of("hidden_bias", -2.0, -10.0, -100.0),
        (*DEAD, *STUCK),
        but=(
            "regression",
            "language",
            "tagging",
            "series",
            "choices",
            "ratings",
            "lifetimes",
            "field",
            "poses",
            "diffusion",
            "copying",
        ),
    ),
    Operator(
        "deep_sigmoid",
        tuple({"activation": "sigmoid", "depth": d} for d in (4, 8, 12)),
        (*STUCK, *DEAD),
        tasks=("tabular_20", "tabular_200", "regression", "mixture", "shared"),
        further=("missing", "likelihood"),
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
        "redrawn_labels",
        _of("redrawn", 0.5, 0.9, 1.0),
        ("label_instability",),
        pathology="e",
        but=("pairs",),
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
SINGLE = (
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
        further=("fine_tuned",),
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
WRITTEN = (
    Operator(
        "double_activation",
        _of("activated", 1, 2),
        ("double_activation", "underfitting", *STUCK[:2]),
        further=(
            "digits",
            "text",
            "graphs",
            "missing",
            "language",
            "hinge",
            "long_tail",
            "point_sets",
            "events",
            "choices",
            "many_classes",
            "duels",
            "copying",
            "links",
        ),
    ),
    Operator(
        "one_label",
        _of("one_label", 0.9, 1.0),
        ("constant_output", "majority_class_collapse", "no_skill", *MEMORISED, "divergence"),
        further=(
            "text",
            "tagging",
            "multilabel",
            "series",
            "counts",
            "long_tail",
            "distilled",
            "point_sets",
            "events",
            "quantiles",
            "lifetimes",
            "many_classes",
            "claims",
            "forecast",
            "links",
            "diffusion",
        ),
    ),
    Operator(
        "off_by_one",
        _of("off_by_one", "class", "step"),
        (*RANKLESS, *MEMORISED, "metric_inconsistency", "divergence"),
        further=(
            "language",
            "tagging",
            "digits",
            "graphs",
            "long_tail",
            "point_sets",
            "choices",
            "events",
            "many_classes",
            "copying",
        ),
    ),
    Operator(
        "swapped_splits",
        ({"swapped_splits": "both"}, {"swapped_splits": "val", "kept_samples": 0.05}),
        (*MEMORISED, *RANKLESS),
        further=(
            "series",
            "tagging",
            "segmentation",
            "parity",
            "heavy_tails",
            "denoising",
            "ratings",
            "grades",
            "poses",
            "forecast",
            "triplets",
        ),
    ),
    Operator(
        "summed_loss",
        ({"summed": True}, {"summed": True, "optimizer": "sgd", "lr": 0.05}),
        (*BLOWUP, *DEAD, "no_skill", "constant_output"),
        further=(
            "text",
            "series",
            "faint",
            "likelihood",
            "hinge",
            "distilled",
            "quantiles",
            "lifetimes",
            "grades",
            "field",
            "claims",
            "bandit",
            "alignments",
        ),
    ),
    Operator(
        "evaluated_in_training_mode",
        _of("dropout", 0.3, 0.7, evaluated_in_training_mode=True),
        ("underfitting", "no_skill", "metric_inconsistency", "loss_plateau"),
        further=(
            "digits",
            "missing",
            "graphs",
            "pairs",
            "denoising",
            "fine_tuned",
            "point_sets",
            "ratings",
            "field",
            "duels",
            "frames",
        ),
    ),
    Operator(
        "frozen_by_mistake",
        _of("frozen_by_mistake", 2, 9),
        ("no_parameter_update", "underfitting", "no_skill", "vanishing_gradient"),
        further=(
            "digits",
            "language",
            "pairs",
            "multilabel",
            "distilled",
            "fine_tuned",
            "choices",
            "quantiles",
            "events",
            "many_classes",
            "bandit",
            "poses",
            "alignments",
        ),
    ),
    Operator(
        "augmented_val",
        _of("augmented_val", 1.0, 3.0),
        (*MEMORISED, *RANKLESS, "metric_inconsistency"),
        further=(
            "digits",
            "faint",
            "segmentation",
            "missing",
            "heavy_tails",
            "quantiles",
            "lifetimes",
            "duels",
            "forecast",
            "triplets",
            "frames",
        ),
    ),
    Operator(
        "negated_loss",
        ({"loss_form": "negated"}, {"loss_form": "negated", "lr_factor": 0.03}),
        ("impossible_loss", *BLOWUP),
        further=(
            "text",
            "series",
            "parity",
            "graphs",
            "hinge",
            "denoising",
            "grades",
            "ratings",
            "choices",
            "many_classes",
            "poses",
            "claims",
            "triplets",
            "diffusion",
        ),
    ),
    Operator(
        "forgotten_logarithm",
        _of("loss_form", "probability"),
        ("impossible_loss",),
        further=("digits", "text", "point_sets", "choices", "many_classes"),
    ),
    Operator(
        "forgotten_square",
        _of("loss_form", "unsquared"),
        ("impossible_loss", *BLOWUP),
        further=("series", "faint", "denoising", "ratings", "field", "forecast", "frames"),
    ),
    Operator(
        "dead_labels",
        _of("dead_labels", 1, 3),
        ("dead_part", "no_skill", "gradient_conflict"),
        further=("multilabel",),
    ),
)
