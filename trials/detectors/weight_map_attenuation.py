"""Detector 25, `weight_map_attenuation`: a map operation removes almost all of the weight."""

import numpy as np

from sickbay.trials.contract import Severity
from sickbay.trials.detector import RuleResult, clear, detector, fired, more_evaluations
from sickbay.trials.evidence.features import (
    energy_kept,
    energy_lost_since,
    largest,
    modulation_gap,
    no_weight_map,
    smallest,
)
from sickbay.trials.evidence.skill import epoch_at, lasting, may_recover, no_skill_since
from sickbay.trials.evidence.statistics import FloatArray, persistent
from sickbay.trials.evidence.thresholds import margin, whole
from sickbay.trials.history import History

DIVIDED_REMEDY = (
    "The largest weight is 1, as after a division by the global maximum: normalise per object or "
    "by a percentile, or clamp instead; keep a residual path, F (1 + W)."
)
CLAMPED_REMEDY = (
    "Raise the bound of the clamp, or the share of the map in the mix, or scale the map after the "
    "operation to its mean before; keep a residual path, F (1 + W)."
)
NARROW_REMEDY = "Widen the weighted regions (a larger sigma), or add a base weight everywhere."


@detector(
    name="weight_map_attenuation",
    version="3.0",
    title="Weight map attenuated",
    severity=Severity.FATAL,
    online=True,
    subject=no_weight_map,
    signals="map_mean_after|map_effective_support",
    optional_signals="map_mean_before feature_energy_ratio feature_energy_ratio_se train_loss "
    "val_loss val_loss_se val_floor_gap_se val_n group_update_ratio val_loss_unmodulated "
    "val_loss_unmodulated_se val_modulation_gap_se map_max val_map val_map_pretrained",
    rule="The mean of a weight map after an operation is under a fifth of what it was before, or "
    "its effective support is under 1 % of the pixels, twice in a row. A warning, because the "
    "ratio alone may be due to scale; fatal if the features' energy is lost too, or the "
    "model has no skill, unless the model is measured to be no worse without the map; fatal, too, "
    "if the model ranks worse than the pretrained one did before the map.",
    formula="mean_after / mean_before < 0.2 or (sum w)^2 / sum w^2 < 0.01 pixels, k = 2; fatal "
    "with |F W|^2 / |F|^2 < 0.5 or G <= 0.02",
    source="Dividing by the largest of all values M multiplies the mean by 1 / M: 94 to 98 % lost "
    "means M of 17 to 50.",
    remedy="Look at the operation that removes the weight, and keep a residual path, F (1 + W).",
    false_alarms="Attention that is sparse on purpose: then neither energy nor skill is lost.",
    margins="map_attenuation map_support map_evaluations map_top forgotten_points harm_se "
    "hysteresis",
)
def detect(history: History) -> RuleResult:
    """Fire when a map loses its weight; fatal when that costs features or skill."""
    ratio, support = _ratio(history), smallest(history.vectors("map_effective_support"))
    limit, least, slack = margin("map_attenuation"), margin("map_support"), margin("hysteresis")
    k = whole("map_evaluations")
    faint, narrow = ratio < limit, support < least
    leave = ~(ratio < slack * limit) & ~(support < slack * least)
    index = persistent(faint | narrow, leave, np.isnan(ratio) & np.isnan(support), k)
    kept, seen = lasting(ratio), lasting(support)
    claim = _words(kept, seen)
    if index is None:
        return more_evaluations(history, k) or clear(
            f"{claim}.", statistic=kept if np.isfinite(kept) else seen, threshold=limit
        )
    since = epoch_at(history, index)
    harm = _harm(history)
    by_mean = bool(faint[index:].any())
    return fired(
        f"{claim} (limits {limit:g} and {least:.0%}), since epoch {since}"
        + (f"; {harm}." if harm else "; no harm is shown."),
        onset=since,
        severity=Severity.FATAL if harm else Severity.WARNING,
        statistic=kept if by_mean else seen,
        threshold=limit if by_mean else least,
        remedy=_remedy(history) if by_mean else NARROW_REMEDY,
    )


def _remedy(history: History) -> str:
    """The remedy for a division by the largest value, or for a clamp or a mix."""
    top = lasting(largest(history.vectors("map_max")))
    return DIVIDED_REMEDY if abs(top - 1.0) < margin("map_top") else CLAMPED_REMEDY


def _ratio(history: History) -> FloatArray:
    """Least mean_after / mean_before over the maps, shape (n,); NaN where the latter is zero."""
    after, before = history.vectors("map_mean_after"), history.vectors("map_mean_before")
    if after.shape != before.shape:
        return np.full(len(history), np.nan)
    sound = np.isfinite(after) & np.isfinite(before) & (before > 0.0)
    return smallest(np.where(sound, after, np.nan) / np.where(sound, before, np.nan))


def _words(kept: float, seen: float) -> str:
    parts = []
    if np.isfinite(kept):
        parts.append(f"The weight map keeps {kept:.3g} of its mean")
    if np.isfinite(seen):
        parts.append(f"its effective support is {seen:.3g} of the pixels")
    text = " and ".join(parts) or "The weight map's mean is zero before the operation"
    return text[0].upper() + text[1:]


def _harm(history: History) -> str | None:
    """The lasting harm of the lost weight; None if none is shown.

    A model that was tuned under the map has learned to live with it, so that it is no worse with
    the map than without. What it lost shows against the model before the map, where that is known.
    """
    lost = lasting(history.column("val_map_pretrained") - history.column("val_map"))
    if lost > margin("forgotten_points"):
        if may_recover(history, history.column("val_map"), recovery_rises=True):
            return None
        return f"the average precision is {lost:.3f} under the pretrained model's"
    energy, _ = energy_kept(history)
    gap, error = modulation_gap(history)
    harmless = gap <= margin("harm_se") * error  # measured: no worse than without the map
    if energy_lost_since(history) is not None and not harmless:
        again = may_recover(history, energy, recovery_rises=True)
        return None if again else f"the features keep {lasting(energy):.2g} of their energy"
    loss = history.column("train_loss" if history.has("train_loss") else "val_loss")
    if no_skill_since(history) is None or may_recover(history, loss, recovery_rises=False):
        return None
    return "the model has no skill"
