"""System 1, declared. Its training, which loads torch, is `trials/workloads/orientation.py`."""

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
    from sickbay.trials.workloads import orientation  # noqa: PLC0415  loads torch

    return orientation.train(config, context)


def _facts(config: Config, context: Context) -> TaskFacts:
    from sickbay.trials.workloads import orientation  # noqa: PLC0415  loads torch

    return orientation.facts(config, context)


_FULL: Config = {
    "batch_size": 8,
    "epochs": 50,
    "lr": 5e-4,
    "lr_schedule": "step",
    "points": 10_000,
    "test_shapes": 271,
    "train_shapes": 217,
    "val_shapes": 54,
}

WORKLOAD = Workload(
    name="mvm_orientation",
    version="2",
    doc="PointNet++ with a von Mises mixture head: the ways in which an object may face.",
    defaults={
        "atan2_guard": "where",
        "batch_size": 32,
        "classes": "",
        "compile": False,
        "data": "device",
        "dataset": SYNTHETIC,
        "dropout": 0.4,
        "epochs": 20,
        "initial_angles": "learned",
        "initialization": "zeros",
        "initialization_offset": 0.0,
        "inputs": "as_is",
        "kappa_gt": 8.0,
        "kfold": 4,
        "loss": "pred_w",
        "lr": 1e-3,
        "lr_schedule": "cosine",
        "pi_temp": 0.7,
        "points": 128,
        "precision": "float32",
        "rotations": 12,
        "size": "small",
        "test_shapes": 0,
        "train_shapes": 64,
        "val_rotations": 12,
        "val_shapes": 16,
    },
    factors=(
        Factor("initialization", ("zeros", "preset", "random", "tiny", "same"), "how μ starts"),
        Factor("loss", ("pred_w", "uniform", "pred_w+wl", "dense"), "how peaks are weighted"),
        Factor("atan2_guard", ("where", "none", "eps-shift"), "what guards atan2 at (0, 0)"),
        Factor("pi_temp", (0.7, 2.0), "temperature of the mixture weights"),
        Factor("rotations", (12, 1, 6), "turned copies of each training shape", 1, 360),
        Factor("kappa_gt", (8.0,), "concentration of the true peaks", 0.5, 80.0, log=True),
        Factor("lr", (1e-3, 2e-3, 5e-4), "Adam's learning rate", 1e-5, 1e-1, log=True),
        Factor("dropout", (0.4, 0.0), "dropout of the trunk", 0.0, 0.9),
        Factor("kfold", (4, 1, 2, 3, 5, 6, 0), "peaks of the shapes, and components of the head"),
        Factor("batch_size", (32, 8), "samples per step", 1, 4096, log=True),
        Factor("inputs", ("as_is", "blank"), "blank: zeros, the input-independent baseline"),
    ),
    objective=Objective("val_loss", Goal.MINIMIZE),
    train=_train,
    facts=_facts,
    data_identity=data_identity,
    sizes={"full": _FULL},
)
