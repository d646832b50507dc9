"""System 3, declared. Its training, which loads torch, is `trials/workloads/pointwise.py`."""

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
from sickbay.trials.workloads.declarations.dataset import SYNTHETIC, data_identity, file_identity


def _train(config: Config, context: Context) -> Iterator[Row]:
    from sickbay.trials.workloads import pointwise  # noqa: PLC0415  loads torch

    return pointwise.train(config, context)


def _facts(config: Config, context: Context) -> TaskFacts:
    from sickbay.trials.workloads import pointwise  # noqa: PLC0415  loads torch

    return pointwise.facts(config, context)


def _data_identity(config: Config) -> str:
    """Join the identities of the scenes and of the image net's weights, where there are any."""
    weights = file_identity(str(config.get("image_weights", "")))
    return data_identity(config) + (f" weights {weights}" if weights else "")


WORKLOAD = Workload(
    name="pointwise_anomaly",
    version="2",
    doc="A detector that scores each lidar point, under labels that may be noise.",
    defaults={
        "batch_size": 8,
        "compile": False,
        "data": "device",
        "dataset": SYNTHETIC,
        "epochs": 14,
        "focal_alpha": 0.1,
        "focal_gamma": 3.0,
        "fusion": "full",
        "image_weights": "",
        "inputs": "as_is",
        "label_source": "random15",
        "loss": "focal",
        "lr": 3e-3,
        "plan": "A",
        "points": 256,
        "pos_weight": 1.0,
        "precision": "float32",
        "size": "small",
        "train_scenes": 300,
        "transform": "anovox",
        "val_scenes": 160,
    },
    factors=(
        Factor(
            "label_source",
            ("random15", "random_fixed", "transform", "sem"),
            "where labels come from",
        ),
        Factor(
            "transform",
            ("anovox", "muvo_v2", "muvo_v3", "no_shift", "wrong_res"),
            "how a point finds its voxel (source: transform)",
        ),
        Factor("loss", ("focal", "bce"), "the training loss"),
        Factor("pos_weight", (1.0, 3.0, 10.0, 100.0, 1000.0), "of positives", 1e-3, 1e5, log=True),
        Factor("plan", ("A", "B", "C", "Ctop5"), "learn from points (A), or from whole scenes"),
        Factor(
            "fusion",
            ("full", "full_residual", "points"),
            "attention without and with a residual; no image",
        ),
        Factor("focal_alpha", (0.1, 0.25, 0.9), "the focal loss's weight of positives", 0.0, 1.0),
        Factor("focal_gamma", (3.0, 2.0), "the focal loss's exponent", 0.0, 10.0),
        Factor("lr", (3e-3, 1e-3, 1e-2), "where the rate's cosine begins", 1e-5, 1e-1, log=True),
        Factor("points", (256, 128), "points per scene", 8, 65536, log=True),
        Factor("batch_size", (8, 4), "scenes per step", 2, 4096, log=True),
        Factor("inputs", ("as_is", "blank"), "blank: zeros, the input-independent baseline"),
    ),
    objective=Objective("val_truth_auroc", Goal.MAXIMIZE),
    train=_train,
    facts=_facts,
    data_identity=_data_identity,
    sizes={
        "full": {"batch_size": 4, "epochs": 30, "lr": 1e-3, "points": 2048, "train_scenes": 4200}
    },
)
