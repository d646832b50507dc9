"""Evidence about weight maps and the features they weight, shared by detectors."""

import numpy as np

from sickbay.trials.evidence.skill import alpha_quantiles, lasting
from sickbay.trials.evidence.statistics import FloatArray, persistent
from sickbay.trials.evidence.thresholds import margin, whole
from sickbay.trials.history import History

MAP_SIGNALS = (
    "map_mean_before",
    "map_mean_after",
    "map_max",
    "map_min",
    "map_overlap_sum",
    "map_effective_support",
    "feature_energy_ratio",
)


def no_weight_map(history: History) -> str | None:
    """`not_applicable` for a task without weight maps; None if a bound or a signal implies one."""
    declared = any(name.startswith("map_") for name in history.facts.bounds)
    if declared or any(history.has(name) for name in MAP_SIGNALS):
        return None
    return "Neither the task's facts nor its signals mention a weight map."


def energy_kept(history: History) -> tuple[FloatArray, FloatArray]:
    """Share of the features' energy that the worst map keeps, and its upper bound, each (n,)."""
    ratio = smallest(history.vectors("feature_energy_ratio"))
    error = np.nan_to_num(history.column("feature_energy_ratio_se"), nan=0.0)
    return ratio, ratio + alpha_quantiles(history) * error


def energy_lost_since(history: History) -> int | None:
    """Index since which a map removes more than half of the features' energy, or None."""
    return history.once("energy lost", lambda: _energy_lost_since(history))


def _energy_lost_since(history: History) -> int | None:
    _, upper = energy_kept(history)
    limit = margin("energy_loss")
    leave = upper >= limit * margin("hysteresis")
    return persistent(upper < limit, leave, np.isnan(upper), whole("persistence"))


def smallest(vectors: FloatArray) -> FloatArray:
    """Least value of each row, (n, d) to (n,); NaN where a row has no value."""
    return np.asarray(np.fmin.reduce(vectors, axis=1), dtype=np.float64)


def largest(vectors: FloatArray) -> FloatArray:
    """Greatest value of each row, (n, d) to (n,); NaN where a row has no value."""
    return -smallest(-vectors)


def modulation_gap(history: History) -> tuple[float, float]:
    """Gain lost by the modulation, and its standard error; NaN where unknown."""
    loss, plain = history.column("val_loss"), history.column("val_loss_unmodulated")
    floor = history.facts.floor_loss
    scale = abs(floor) if floor else 1.0
    paired = history.column("val_modulation_gap_se")
    apart = np.hypot(history.column("val_loss_se"), history.column("val_loss_unmodulated_se"))
    error = lasting(np.where(np.isnan(paired), apart, paired))
    return lasting(loss - plain) / scale, float(np.nan_to_num(error, nan=np.inf)) / scale
