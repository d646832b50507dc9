"""Tiny runs of the built-in systems."""

from dataclasses import dataclass
from typing import Any

from sickbay.trials.contract import Context, Workload
from sickbay.trials.history import History
from sickbay.trials.workloads.declarations import (
    crossmodal,
    longtail,
    orientation,
    pointwise,
    reweighting,
)


@dataclass(frozen=True)
class Runs:
    """A workload and the settings that make it tiny."""

    workload: Workload
    small: dict[str, Any]

    def settings(self, **changes):
        return {**self.workload.defaults, **self.small, "epochs": 3, **changes}

    def context(self, seed=0, epochs=3, restored=None, kept=None):
        def save(make):
            if kept is not None:
                kept.append(make())

        return Context(seed, epochs, "cpu", ".", lambda: restored, save)

    def run(self, seed=0, epochs=3, **changes):
        return list(self.workload.train(self.settings(**changes), self.context(seed, epochs)))

    def facts(self, **changes):
        return self.workload.facts(self.settings(**changes), self.context())

    def same(self, left, right):
        """Bit for bit, NaN equal to NaN."""
        known = self.facts()
        return History(left, known, 3).digest() == History(right, known, 3).digest()


SYSTEMS = {
    "orientation": Runs(
        orientation.WORKLOAD,
        {"train_shapes": 4, "val_shapes": 3, "points": 48, "batch_size": 16, "val_rotations": 4},
    ),
    "crossmodal": Runs(
        crossmodal.WORKLOAD,
        {
            "train_scenes": 40,
            "val_scenes": 30,
            "points": 24,
            "height": 16,
            "width": 32,
            "batch_size": 8,
        },
    ),
    "pointwise": Runs(
        pointwise.WORKLOAD, {"train_scenes": 10, "val_scenes": 5, "points": 64, "batch_size": 3}
    ),
    "reweighting": Runs(
        reweighting.WORKLOAD,
        {
            "train_samples": 24,
            "val_samples": 8,
            "grid": 16,
            "pretrain_steps": 2,
            "pretrain_batch": 4,
            "pretrain_samples": 8,
            "batch_size": 3,
            "steps": 2,
            # a narrow kernel makes the pile-up high enough for every clamp to matter
            "gaussian_sigma": 1.0,
        },
    ),
    "longtail": Runs(
        longtail.WORKLOAD,
        {
            "n_max": 40,
            "imbalance": 20.0,
            "classes": 4,
            "val_images": 8,
            "pretrain_images": 8,
            "pretrain_steps": 4,
            "batch_size": 16,
            "width": 8,
        },
    ),
}
