"""System 2, declared. Its training, which loads torch, is `trials/workloads/crossmodal.py`."""

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
    from sickbay.trials.workloads import crossmodal  # noqa: PLC0415  loads torch

    return crossmodal.train(config, context)


def _facts(config: Config, context: Context) -> TaskFacts:
    from sickbay.trials.workloads import crossmodal  # noqa: PLC0415  loads torch

    return crossmodal.facts(config, context)


WORKLOAD = Workload(
    name="crossmodal_anomaly",
    version="1",
    doc="Camera and lidar joined by attention: is there an anomaly in the scene?",
    defaults={
        "batch_size": 8,
        "compile": False,
        "data": "device",
        "dataset": SYNTHETIC,
        "decision_threshold": 0.5,
        "dropout": 0.3,
        "epochs": 14,
        "fusion": "full",
        "height": 32,
        "inputs": "as_is",
        "label_source": "true",
        "loss": "bce",
        "lr": 1e-3,
        "patience": 0,
        "point_select": "random",
        "points": 256,
        "pos_weight": 1.0,
        "precision": "float32",
        "sampling": "shuffled",
        "size": "small",
        "staged": 0.0,
        "train_scenes": 600,
        "val_scenes": 400,
        "width": 48,
    },
    factors=(
        Factor(
            "fusion",
            ("full", "none", "image", "points", "full_residual", "full_residual_pos"),
            "how the two sensors are combined for the head",
        ),
        Factor(
            "label_source",
            ("true", "random10", "random_fixed", "all_one", "voxel"),
            "source of the labels; random10 draws new ones in each epoch",
        ),
        Factor("loss", ("bce", "mean_std", "focal"), "the training loss; mean_std uses no labels"),
        Factor("pos_weight", (1.0, 9.0), "weight of the positives", 0.01, 1000.0, log=True),
        Factor("point_select", ("random", "first"), "which lidar returns are used"),
        Factor("sampling", ("shuffled", "balanced"), "each scene once, or both classes as often"),
        Factor(
            "decision_threshold",
            (0.5, 0.1),
            "probability above which a scene is called",
            1e-6,
            0.999999,
        ),
        Factor("staged", (0.0, 0.5), "share of the run before attention is let in", 0.0, 1.0),
        Factor("lr", (1e-3, 1e-4, 1e-2), "Adam's learning rate", 1e-6, 1e-1, log=True),
        Factor("batch_size", (8, 32), "scenes per step", 1, 4096, log=True),
        Factor("dropout", (0.3, 0.0), "dropout of the head", 0.0, 0.9),
        Factor("inputs", ("as_is", "blank"), "blank: zeros, the input-independent baseline"),
    ),
    objective=Objective("val_auroc", Goal.MAXIMIZE),
    train=_train,
    facts=_facts,
    data_identity=data_identity,
    sizes={
        "full": {"epochs": 30, "height": 224, "points": 1000, "width": 224}
        | {"train_scenes": 4200, "val_scenes": 4200}
    },
)
