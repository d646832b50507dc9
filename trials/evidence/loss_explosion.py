"""When a loss has blown up: the rules that `divergence` and `exploding_gradient` share.

Three rules over a loss curve, each by the loss's own scale:

    floor   L >= 2 x its running minimum and L > H0 + 3 SE, three in a row
    window  L >= 10 x the largest of the first three evaluations, three in a row
    cap     L > 2 x H0 and rising over ten evaluations (Mann-Kendall p < 0.01), three in a row

A loss that can be negative has no ratios: there, L - running minimum >= 10 robust deviations and
L > H0 + 3 SE.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sickbay.trials.evidence.skill import floor_of, least_loss, may_recover
from sickbay.trials.evidence.statistics import (
    BoolArray,
    FloatArray,
    mann_kendall_windows,
    noise,
    persistent,
)
from sickbay.trials.evidence.thresholds import margin, whole
from sickbay.trials.history import History

LOSSES = {"val_loss": "validation loss", "train_loss": "training loss"}


@dataclass(frozen=True)
class Blowup:
    """A lasting blow-up: its onset, signal, rule and size.

    `statistic` and `threshold` are in the rule's unit (a ratio or robust deviations). `slow` marks
    the rules that a running trial could recover from.
    """

    index: int
    signal: str
    text: str
    statistic: float
    threshold: float
    slow: bool


@dataclass(frozen=True)
class _Curve:
    signal: str
    loss: FloatArray  # over its least value, where it has one
    gap: BoolArray  # recorded as NaN
    lowest: FloatArray  # running minimum
    start: float  # largest of the first window
    floor: FloatArray  # H0 + 3 SE, or the start where H0 is unknown
    base: float | None  # H0 over the least value
    proportional: bool


@dataclass(frozen=True)
class _Rule:
    enter: BoolArray
    leave: BoolArray
    ratio: FloatArray
    threshold: float
    text: str
    slow: bool


def blowup(history: History, k: int = 3) -> Blowup | None:
    """Find a blow-up of the validation or training loss that lasts to the end, or None.

    It must last for k evaluations. Of several rules that hold it tells the one least likely to
    recover, since the first began.
    """
    return history.once(("blowup", k), lambda: _blowup(history, k))


def _blowup(history: History, k: int) -> Blowup | None:
    rules_of_curves = history.once(
        "blowup rules", lambda: [(curve, tuple(_rules(curve))) for curve in _curves(history)]
    )
    hits = [hit for curve, rules in rules_of_curves for hit in _hits(curve, rules, k)]
    if not hits:
        return None
    surest = min(hits, key=lambda hit: (hit.slow, hit.index))
    return replace(surest, index=min(hit.index for hit in hits))


def _hits(curve: _Curve, rules: Sequence[_Rule], k: int) -> Iterator[Blowup]:
    for rule in rules:
        index = persistent(rule.enter, rule.leave, curve.gap, k)
        if index is not None:
            last = rule.ratio[~np.isnan(rule.ratio)][-1]
            yield Blowup(index, curve.signal, rule.text, float(last), rule.threshold, rule.slow)


def _curves(history: History) -> Iterator[_Curve]:
    for signal in LOSSES:
        loss = history.column(signal)
        kept = loss[~np.isnan(loss)]
        if len(kept) == 0:
            continue
        floor = floor_of(history.facts, signal)
        least = least_loss(history.facts, signal, loss, 0.0 if floor is None else floor)
        loss = loss - (least or 0.0)
        start = float(np.max(kept[: whole("first_window")])) - (least or 0.0)
        base = None if floor is None else floor - (least or 0.0)
        error = np.nan_to_num(history.column(f"{signal}_se"), nan=0.0)
        bar = error * margin("divergence_floor_se") + (start if base is None else base)
        gap = history.recorded(signal) & np.isnan(loss)
        lowest = np.fmin.accumulate(loss)
        yield _Curve(signal, loss, gap, lowest, start, bar, base, least is not None)


def _rules(curve: _Curve) -> Iterator[_Rule]:
    slack = margin("hysteresis")
    loss, above = curve.loss, curve.loss > curve.floor
    under = loss <= curve.floor
    if not curve.proportional:
        unit = noise(loss)
        if unit > 0.0:
            rise, limit = (loss - curve.lowest) / unit, margin("divergence_mad")
            enter, leave = (rise >= limit) & above, (rise < limit / slack) | under
            yield _Rule(enter, leave, rise, limit, "robust deviations above its minimum", slow=True)
        return
    limit = margin("divergence_ratio")
    ratio = _over(loss, curve.lowest)
    enter, leave = (ratio >= limit) & above, (ratio < limit / slack) | under
    yield _Rule(
        enter,
        leave,
        ratio,
        limit,
        "times its minimum and worse than the best constant predictor",
        slow=True,
    )
    limit = margin("blowup_ratio")
    ratio = _over(loss, np.full(len(loss), curve.start))
    enter = (ratio >= limit) & (np.arange(len(loss)) >= whole("first_window"))
    text = "times the largest loss of the first evaluations"
    yield _Rule(enter, ratio < limit / slack, ratio, limit, text, slow=False)
    if curve.base is not None and curve.base > 0.0:
        limit = margin("cap_over_floor")
        ratio = loss / curve.base
        rising = np.zeros(len(loss), dtype=np.bool_)
        if (ratio > limit).any():  # else the trend does not matter
            p_values = mann_kendall_windows(loss, whole("trend_window"), rising=True)
            rising = p_values < margin("rising_p")
        text = "times the best constant predictor's loss, and rising"
        yield _Rule((ratio > limit) & rising, ratio < limit / slack, ratio, limit, text, slow=True)


def may_pass(history: History, explosion: Blowup) -> str | None:
    """Why a running trial may recover from a blow-up, as the end of a sentence; else None.

    Ten times the loss of the start is final. The other rules wait while the loss falls.
    """
    if history.finished or not explosion.slow:
        return None
    return may_recover(history, history.column(explosion.signal), recovery_rises=False)


def _over(loss: FloatArray, base: FloatArray) -> FloatArray:
    """Divide by a base that may be zero: then a loss of zero is once the base, others infinite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(base > 0.0, loss / base, np.where(loss > 0.0, np.inf, 1.0))
