"""The axes of curves and forest plots, shared by the report and the page.

Ordinary curves choose the scale, so that one divergence does not flatten all others. What lies
further out than the picture reaches is marked at its edge, never left out in silence.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from sickbay.service.analysis.effects import LevelEffect
from sickbay.service.charts.curves import Array, CurveRow, Panel, Reference

DECADES = 2.0  # values over more than this are drawn on a logarithmic axis
BEYOND = 1.0  # heights of the ordinary curves by which other values may extend the picture
REACH = 4.0  # the same for reference lines, which are of no use out of sight
FENCE = 3.0  # Tukey's far-out fence, in interquartile ranges
FEWEST_FENCED = 4  # curves: fewer have no quartiles to speak of
FAR_EFFECT = 100.0  # times the third largest effect and the median interval: beyond is cut
_EXTREME = ("pathological", "failed")  # verdicts whose curves do not choose the scale

DrawnCurve = tuple[str, Array, Array]  # verdict, epochs and values, both of shape (n,)


@dataclass(frozen=True)
class Frame:
    """The axes of a chart. `zero` is where a logarithmic axis draws a zero."""

    first: float
    last: float
    low: float
    high: float
    log: bool
    zero: float | None


def frame_of(
    curves: Sequence[DrawnCurve], references: Sequence[Reference], *, log: bool | None = None
) -> Frame | None:
    """Choose the axes of some curves; None without an evaluation.

    A logarithmic axis is taken where no value is negative and the positive ones span more than two
    decades; `log` asks for one or the other, and a negative value makes any axis linear. The
    picture holds all ordinary curves (those neither pathological nor failed; of many, those inside
    Tukey's fence), other values up to the ordinary height beyond them, and references up to four
    times as far. Values that are NaN or infinite choose nothing.
    """
    epochs = np.concatenate([np.empty(0), *(curve[1] for curve in curves)])
    if not len(epochs):
        return None
    first, last = float(epochs.min()), float(epochs.max())
    finite = [(verdict, values[np.isfinite(values)]) for verdict, _, values in curves]
    finite = [(verdict, values) for verdict, values in finite if len(values)]
    if not finite:
        return Frame(first, last, 0.0, 1.0, log=False, zero=None)
    every = np.concatenate([values for _, values in finite])
    positive = every[every > 0]
    able = bool(every.min() >= 0 and len(positive))
    wide = able and float(every.max()) > float(positive.min()) * 10**DECADES
    if able and (wide if log is None else log):
        return _log_frame(first, last, finite, references)
    low, high = _span(finite, references, least_height=0.0)
    room = 0.06 * (high - low or abs(high) or 1.0)
    return Frame(first, last, low - room, high + room, log=False, zero=None)


def bottom_of(frame: Frame) -> float:
    """The least value inside the axes; a zero with its own place is inside."""
    return 0.0 if frame.zero is not None else frame.low


def row_frame(row: CurveRow) -> Frame | None:
    """Choose the axes that all panels of a row share."""
    curves = [curve for panel in row.panels for curve in _drawn(panel)]
    return frame_of(curves, [reference for panel in row.panels for reference in panel.references])


def _drawn(panel: Panel) -> Iterable[DrawnCurve]:
    for line in panel.lines:
        yield line.verdict, line.epochs, line.values
    for band in panel.bands:
        for part in (band.spread.low, band.spread.middle, band.spread.high):
            yield band.verdict, band.spread.epochs, part


def _log_frame(
    first: float, last: float, finite: Sequence[tuple[str, Array]], references: Sequence[Reference]
) -> Frame:
    powers = [(verdict, np.log10(values[values > 0])) for verdict, values in finite]
    powers = [(verdict, values) for verdict, values in powers if len(values)]
    known = [
        Reference(reference.text, math.log10(reference.low), math.log10(reference.high))
        for reference in references
        if reference.low > 0
    ]
    low, high = _span(powers, known, least_height=1.0)
    has_zero = any((values == 0).any() for _, values in finite)
    zero = 10.0 ** (math.floor(low) - 1) if has_zero else None
    margin = max(0.06 * (high - low), math.log10(1.5))
    bottom = zero or 10 ** (low - margin)
    return Frame(first, last, bottom, 10 ** (high + margin), log=True, zero=zero)


def _span(
    curves: Sequence[tuple[str, Array]], references: Sequence[Reference], *, least_height: float
) -> tuple[float, float]:
    """The limits of the axis, in its units."""
    ordinary = [values for verdict, values in curves if verdict not in _EXTREME]
    ends = np.array(
        [(values.min(), values.max()) for values in ordinary or [values for _, values in curves]]
    )
    low, high = _inside_fence(ends[:, 0], ends[:, 1])
    height = max(high - low, least_height)
    every = np.concatenate([values for _, values in curves])
    shown = every[(every >= low - BEYOND * height) & (every <= high + BEYOND * height)]
    bottom, top = float(shown.min()), float(shown.max())
    far = REACH * height
    near = [
        end
        for reference in references
        for end in (reference.low, reference.high)
        if low - far <= end <= high + far
    ]
    return min([bottom, *near]), max([top, *near])


def _inside_fence(lows: Array, highs: Array) -> tuple[float, float]:
    """The lowest and the highest value of the curves that do not end far outside."""
    if len(lows) < FEWEST_FENCED:
        return float(lows.min()), float(highs.max())
    usual = float(np.median(highs - lows))
    bottom, least = np.quantile(lows, [0.25, 0.75])
    most, top = np.quantile(highs, [0.25, 0.75])
    lowest = bottom - FENCE * max(least - bottom, usual)
    highest = top + FENCE * max(top - most, usual)
    return float(lows[lows >= lowest].min()), float(highs[highs <= highest].max())


def effect_span(effects: Sequence[LevelEffect]) -> tuple[float, float]:
    """The range of ordinary effects around zero; those far beyond are drawn as arrows."""
    known = [effect.difference for effect in effects if math.isfinite(effect.difference.mean)]
    sizes = sorted((abs(difference.mean) for difference in known if difference.mean), reverse=True)
    widths = sorted(
        difference.high - difference.low
        for difference in known
        if math.isfinite(difference.high - difference.low)
    )
    usual = max([*sizes[2:3], *widths[len(widths) // 2 :][:1]], default=max(sizes, default=1.0))
    limit = FAR_EFFECT * usual
    ends = [0.0]
    for effect in effects:
        some = (effect.difference.low, effect.difference.mean, effect.difference.high)
        ends += [value for value in some if math.isfinite(value) and abs(value) <= limit]
    low, high = min(ends), max(ends)
    room = 0.08 * ((high - low) or 1.0)
    return low - room, high + room
