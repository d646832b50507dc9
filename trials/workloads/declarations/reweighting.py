"""System 4, declared. Its training, which loads torch, is `trials/workloads/reweighting.py`."""

from collections.abc import Iterator

from sickbay.trials.contract import (
    Config,
    Context,
    Factor,
    Goal,
    Objective,
    Row,
    TaskFacts,
    Workload,
)
from sickbay.trials.workloads.declarations.dataset import SYNTHETIC, data_identity


def _train(config: Config, context: Context) -> Iterator[Row]:
    from sickbay.trials.workloads import reweighting  # noqa: PLC0415  loads torch

    return reweighting.train(config, context)


def _facts(config: Config, context: Context) -> TaskFacts:
    from sickbay.trials.workloads import reweighting  # noqa: PLC0415  loads torch

    return reweighting.facts(config, context)


WORKLOAD = Workload(
    name="query_reweighting",
    version="3",
    doc="A detector of boxes from lidar and cameras whose queries weight what they look at.",
    defaults={
        "batch_size": 8,
        "compile": False,
        "data": "device",
        "dataset": SYNTHETIC,
        "detach_weight": "grad",
        "dn_pad": 60,
        "encoder_lr": 0.0,
        "epochs": 10,
        "extent": 16.0,
        "gaussian_sigma": 2.0,
        "grid": 32,
        "height": 6,
        "inputs": "as_is",
        "invalid_query": "pile_to_origin",
        "kernel_norm": "sum",
        "lr": 5e-4,
        "lr_mult": 0.3,
        "map_norm": "max_global",
        "modulator_minmax": False,
        "perspective_norm": "present",
        "precision": "float32",
        "pretrain_batch": 16,
        "pretrain_lr": 4e-3,
        "pretrain_samples": 2048,
        "pretrain_steps": 700,
        "queries": 36,
        "reference_mult": 0.3,
        "residual_form": "mix",
        "residual_schedule": "constant",
        "residual_weight": 0.5,
        "reweighting": "on",
        "size": "small",
        "steps": 8,
        "sweeps": 9,
        "train_samples": 256,
        "val_samples": 64,
        "views": 4,
        "weight_bias": 2.0,
        "width": 12,
    },
    factors=(
        Factor("reweighting", ("on", "off"), "whether features are weighted at all"),
        Factor(
            "kernel_norm",
            ("sum", "peak"),
            "what is normalised to one: a Gaussian's sum or its peak",
        ),
        Factor("gaussian_sigma", (2.0, 1.0, 0.5), "a Gaussian's width, pixels", 0.2, 16.0),
        Factor(
            "map_norm",
            ("max_global", "none", "max_view", "clamp1.5", "clamp2.5"),
            "what is done to a map: divided by its largest value, of all or of a view, or clamped",
        ),
        Factor("perspective_norm", ("present", "missing"), "whether the views' maps are, too"),
        Factor("modulator_minmax", (False, True), "stretch maps to [0, 1] before they are used"),
        Factor(
            "invalid_query",
            ("pile_to_origin", "drop"),
            "what becomes of queries in no camera's view, and of padding",
        ),
        Factor("dn_pad", (60, 0), "padding that stands at the origin", 0, 10_000),
        Factor(
            "residual_weight", (0.5, 0.1, 0.7, 0.8, 0.0), "how much passes unweighted", 0.0, 1.0
        ),
        Factor("residual_form", ("mix", "add"), "(1 - r) W F + r F, or W F + r F"),
        Factor(
            "residual_schedule",
            ("constant", "falling"),
            "falling: all passes unweighted at first, `residual_weight` of it from half-time on",
        ),
        Factor("detach_weight", ("grad", "item"), "item: no gradient reaches the generator"),
        Factor("weight_bias", (2.0, 1.5, 0.0), "what the weights start from, as a logit", -9, 9),
        Factor("lr_mult", (0.3, 0.8), "learning rate of decoder and heads, of `lr`", 0.0, 10.0),
        Factor("reference_mult", (0.3, 0.5), "that of the reference points", 0.0, 10.0),
        Factor("encoder_lr", (0.0, 1e-5, 1e-2), "that of the encoders, absolute", 0.0, 1.0),
        Factor("lr", (5e-4, 1e-4, 2e-3), "AdamW's learning rate", 1e-7, 1e-1, log=True),
        Factor("batch_size", (8, 16), "samples per step", 1, 4096, log=True),
        Factor("inputs", ("as_is", "blank"), "blank: zeros, the input-independent baseline"),
    ),
    objective=Objective("val_map", Goal.MAXIMIZE),
    train=_train,
    facts=_facts,
    data_identity=data_identity,
    sizes={
        "medium": {"grid": 96, "views": 6, "height": 20, "width": 50, "dn_pad": 160, "queries": 196}
        | {"extent": 54.0, "pretrain_samples": 1024, "train_samples": 256, "val_samples": 128},
        "full": {"grid": 180, "views": 6, "height": 40, "width": 100, "dn_pad": 430, "queries": 900}
        | {"extent": 54.0, "train_samples": 256, "val_samples": 64, "batch_size": 2}
        | {
            "pretrain_batch": 2,
            "pretrain_lr": 1e-4,
            "pretrain_samples": 512,
            "pretrain_steps": 20_000,
            "steps": 128,
        }
        | {"epochs": 20},
    },
)
