"""Runs that look pathological and are healthy: where other detectors raise false alarms.

Each variant replaces settings of a task; its outcome on the hidden split is measured like any
other's, and only those that prove skill there count as healthy.
"""

from collections.abc import Mapping
from typing import Any

VARIANTS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "tabular_20": {"loss_scaler_skips": {"loss_scaler_skips": 4}, "tiny_val": {"n_val": 84}},
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
    "mixture": {"unimodal": {"modes": 1}, "warmup": {"schedule": "warmup"}},
    "vae": {"cyclic_rate": {"schedule": "cyclic", "lr": 1e-2}},
    "shared": {"frozen_on_purpose": {"frozen_on_purpose": 2}, "warmup": {"schedule": "warmup"}},
    "weight_map": {"heavy_dropout": {"dropout": 0.4}},
    "language": {
        "cyclic_rate": {"schedule": "cyclic", "lr": 1e-2},
        "label_smoothing": {"smoothing": 0.1},
        "late_bloomer": {"schedule": "late"},
    },
    "tagging": {"tiny_val": {"n_val": 30}, "heavy_dropout": {"dropout": 0.3}},
    "text": {
        "label_smoothing": {"smoothing": 0.2},
        "tiny_val": {"n_val": 60},
        "overconfident": {"n_train": 400, "batch": 20, "lr": 1e-2, "signal": 0.6},
    },
    "multilabel": {"warmup": {"schedule": "warmup"}, "tiny_val": {"n_val": 60}},
    "digits": {
        "heavy_dropout": {"dropout": 0.5},
        "label_smoothing": {"smoothing": 0.3},
        "overconfident": {"n_train": 300, "batch": 20, "lr": 1e-2, "optimizer": "adam"},
    },
    "segmentation": {"low_signal": {"signal": 0.6}, "tiny_val": {"n_val": 20}},
    "pairs": {"late_bloomer": {"schedule": "late"}, "heavy_dropout": {"dropout": 0.3}},
    "series": {"late_bloomer": {"schedule": "late"}, "low_snr": {"noise": 1.0, "width": 8}},
    "likelihood": {
        "cyclic_rate": {"schedule": "cyclic", "lr": 5e-3},
        "low_signal": {"signal": 0.4},
    },
    "missing": {
        "low_signal": {"signal": 0.3},
        "label_smoothing": {"smoothing": 0.2},
        "few_val": {"n_val": 100},
    },
    "parity": {"late_jump": {"lr": 1.5e-3}, "label_smoothing": {"smoothing": 0.1}},
    "faint": {"fainter": {"signal": 0.17}, "tiny_val": {"n_val": 300}},
    "graphs": {"tiny_val": {"n_val": 50}, "heavy_dropout": {"dropout": 0.3}},
    "counts": {"low_signal": {"signal": 0.4}, "late_bloomer": {"schedule": "late"}},
    "heavy_tails": {"low_signal": {"signal": 0.5}, "tiny_val": {"n_val": 60}},
    "hinge": {"tiny_val": {"n_val": 60}, "heavy_dropout": {"dropout": 0.3}},
    "distilled": {"warmup": {"schedule": "warmup"}, "heavy_dropout": {"dropout": 0.3}},
    "long_tail": {"tiny_val": {"n_val": 80}, "label_smoothing": {"smoothing": 0.2}},
    "denoising": {
        "late_bloomer": {"schedule": "late"},
        "cyclic_rate": {"schedule": "cyclic", "lr": 5e-3},
    },
    "fine_tuned": {
        "frozen_on_purpose": {"frozen_on_purpose": 1},
        "warmup": {"schedule": "warmup"},
        "tiny_val": {"n_val": 60},
    },
    "point_sets": {"tiny_val": {"n_val": 50}, "label_smoothing": {"smoothing": 0.2}},
    "choices": {"late_bloomer": {"schedule": "late"}, "low_signal": {"signal": 0.6}},
    "ratings": {"tiny_val": {"n_val": 60}, "warmup": {"schedule": "warmup"}},
    "events": {"tiny_val": {"n_val": 30}, "rarer": {"positive_rate": 0.02}},
    "grades": {"low_signal": {"signal": 0.5}, "heavy_dropout": {"dropout": 0.3}},
    "quantiles": {"low_signal": {"signal": 0.4}, "cyclic_rate": {"schedule": "cyclic", "lr": 5e-3}},
    "duels": {"tiny_val": {"n_val": 50}, "low_signal": {"signal": 0.4}},
    "field": {"cyclic_rate": {"schedule": "cyclic", "lr": 1e-2}, "low_snr": {"noise": 0.6}},
    "many_classes": {"tiny_val": {"n_val": 50}, "heavy_dropout": {"dropout": 0.4}},
    "poses": {"warmup": {"schedule": "warmup"}, "late_bloomer": {"schedule": "late"}},
    "claims": {"low_signal": {"signal": 0.6}, "tiny_val": {"n_val": 200}},
    "bandit": {"low_signal": {"signal": 0.6}, "cyclic_rate": {"schedule": "cyclic"}},
    "forecast": {"heavy_dropout": {"dropout": 0.3}, "low_snr": {"noise": 1.0}},
    "triplets": {"tiny_val": {"n_val": 50}, "heavy_dropout": {"dropout": 0.3}},
    "links": {"tiny_val": {"n_val": 80}, "sparser": {"positive_rate": 0.08}},
    "alignments": {"late_bloomer": {"schedule": "late"}, "low_signal": {"signal": 0.8}},
    "diffusion": {"faint_noise": {"noise": 0.15}, "cyclic_rate": {"schedule": "cyclic"}},
    "copying": {"slow_start": {"lr": 1e-3}, "label_smoothing": {"smoothing": 0.2}},
    "frames": {"low_snr": {"noise": 0.6}, "tiny_val": {"n_val": 20}},
    "lifetimes": {"late_bloomer": {"schedule": "late"}, "tiny_val": {"n_val": 100}},
}
