"""Runs that look ill and are healthy: where other detectors raise false alarms.

Each variant replaces settings of a task; its outcome on the hidden split is measured like any
other's, and only those that prove skill there count as healthy.
"""

from collections.abc import Mapping
from typing import Any

VARIANTS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "tabular_20": {
        "loss_scaler_skips": {"loss_scaler_skips": 4},
        "tiny_val": {"n_val": 84},
    },
    "tabular_200": {
        "rarer_1000": {
            "n_train": 24_024,
            "n_val": 40_040,
            "n_test": 40_040,
            "batch": 6006,
            "positive_rate": 1 / 1001,
            "signal": 0.5,
            "lr": 1e-3,
        },
        "loss_scaler_skips": {"loss_scaler_skips": 4},
    },
    "cnn": {
        "cyclic_rate": {"schedule": "cyclic", "lr": 1e-2},
        "heavy_dropout": {"dropout": 0.5},
        "label_smoothing": {"smoothing": 0.2},
        "frozen_on_purpose": {"frozen_on_purpose": 1},
    },
    "sequence": {
        "cyclic_rate": {"schedule": "cyclic", "lr": 1e-2},
        "heavy_dropout": {"dropout": 0.4},
        "late_bloomer": {"schedule": "late"},
        "tiny_val": {"n_val": 60},
    },
    "regression": {
        "deep_narrow": {"depth": 6, "width": 8, "lr": 2e-3},
        "low_snr": {
            "signal": 0.3,
            "noise": 1.5,
            "n_train": 2400,
            "n_val": 4000,
            "batch": 400,
            "lr": 1e-3,
            "width": 8,
            "depth": 2,
        },
        "late_bloomer": {"schedule": "late"},
    },
    "mixture": {
        "unimodal": {"modes": 1},
        "warmup": {"schedule": "warmup"},
    },
    "vae": {"cyclic_rate": {"schedule": "cyclic", "lr": 1e-2}},
    "shared": {"frozen_on_purpose": {"frozen_on_purpose": 2}, "warmup": {"schedule": "warmup"}},
    "weight_map": {"heavy_dropout": {"dropout": 0.4}},
}
