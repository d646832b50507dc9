"""System 5, declared. Its training, which loads torch, is `trials/workloads/longtail.py`."""

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
    from sickbay.trials.workloads import longtail  # noqa: PLC0415  loads torch

    return longtail.train(config, context)


def _facts(config: Config, context: Context) -> TaskFacts:
    from sickbay.trials.workloads import longtail  # noqa: PLC0415  loads torch

    return longtail.facts(config, context)


WORKLOAD = Workload(
    name="longtail_diffusion",
    version="4",
    doc="Strategy A: encoder, feature diffusion and classifier at once, on long-tailed classes.",
    defaults={
        "augment": False,
        "batch_size": 64,
        "bn_mode": "train",
        "classes": 10,
        "classifier": "ce",
        "compile": False,
        "data": "device",
        "dataset": SYNTHETIC,
        "ddim_steps": 10,
        "encoder_lr": 1e-3,
        "epochs": 20,
        "eta_p": 0.05,
        "eta_r": 0.05,
        "grad_mode": "joint",
        "head_lr": 1e-2,
        "imbalance": 100.0,
        "inputs": "as_is",
        "lambda_sem": 0.01,
        "loss_cap": "none",
        "lr": 1e-3,
        "n_max": 400,
        "precision": "float32",
        "pretrain_batch": 64,
        "pretrain_images": 500,
        "pretrain_split": "balanced",
        "pretrain_steps": 600,
        "radius": "mse",
        "size": "small",
        "val_images": 100,
        "val_imbalance": 1.0,
        "warmup": 0.25,
        "warmup_until": "share",
        "wcdas_g": 0.0,
        "wcdas_s_init": 0.0,
        "weight_decay": 0.0,
        "width": 16,
    },
    # Where WCDAS is the head, `wcdas_s_init` (0, 30) and `wcdas_g` (0, -1, 1) may be swept, too;
    # with the baseline's head they would be factors that do nothing.
    factors=(
        Factor("encoder_lr", (1e-3, 1e-5, 1e-4, 0.0, 1e-2), "Adam's rate of the encoder", 0.0, 1.0),
        Factor(
            "warmup", (0.25, 0.0, 0.5), "share of the run in which the encoder is frozen", 0.0, 1.0
        ),
        Factor(
            "grad_mode",
            ("joint", "detach_features", "decoupled"),
            "how the diffusion model's loss reaches the encoder",
        ),
        Factor("classifier", ("ce", "wcdas"), "linear head, or angles and wrapped Cauchy"),
        Factor("pretrain_split", ("balanced", "lt"), "what the encoder was pretrained on"),
        Factor("lambda_sem", (0.01, 0.0, 1.0, 10.0), "weight of the semantic loss", 0.0, 1e3),
        Factor("loss_cap", ("none", 5.0), "where the semantic loss is clamped"),
        Factor("eta_p", (0.05, 0.0), "weight of the prototype loss", 0.0, 100.0),
        Factor("eta_r", (0.05, 0.0, 0.1), "weight of the radius loss", 0.0, 100.0),
        Factor("radius", ("mse", "hinge.5"), "form of the radius loss"),
        Factor("bn_mode", ("train", "eval"), "batch normalisation once the encoder is unfrozen"),
        Factor("head_lr", (1e-2, 1e-3), "Adam's rate of the classifier", 1e-6, 1.0, log=True),
        Factor("imbalance", (100.0, 10.0), "largest class over smallest", 1.0, 1000.0, log=True),
        Factor("lr", (1e-3, 1e-4), "Adam's rate of the diffusion model", 1e-6, 1.0, log=True),
        Factor("batch_size", (64, 32), "images per step", 2, 4096, log=True),
        Factor("inputs", ("as_is", "blank"), "blank: zeros, the input-independent baseline"),
    ),
    objective=Objective("val_accuracy", Goal.MAXIMIZE),
    train=_train,
    facts=_facts,
    data_identity=data_identity,
    sizes={
        "full": {"augment": True, "batch_size": 256, "ddim_steps": 50, "epochs": 400}
        | {"n_max": 5000, "pretrain_batch": 128, "pretrain_images": 5000, "pretrain_steps": 20_000}
        | {"head_lr": 1e-3, "val_images": 1000, "weight_decay": 1e-5, "width": 32}
    },
)
