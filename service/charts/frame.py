"""The axes of a row of curves: shared by its panels, wide enough for what matters."""

import math
from dataclasses import dataclass

import numpy as np

from sickbay.service.charts.curves import Array, CurveRow, Panel

_FAR = 1e6  # times the ordinary: what lies beyond is marked at the edge, not drawn
_DECADES = 2.0  # values over more than this are drawn on a logarithmic axis


@dataclass(frozen=True)
class Frame:
    """The axes that all panels of a row share. `zero` is where a logarithmic axis draws a zero."""

    first: float
    last: float
    low: float
    high: float
    log: bool
    zero: float | None


def frame_of(row: CurveRow) -> Frame | None:
    """Choose the axes: logarithmic where positive values span over 2 decades; None without values.

    Values over a million times the ordinary (the references and the first values) are cut off.
    """
    values = np.concatenate(
        [np.empty(0), *(part for panel in row.panels for part in _values(panel))]
    )
    epochs = np.concatenate(
        [np.empty(0), *(part for panel in row.panels for part in _epochs(panel))]
    )
    finite = values[np.isfinite(values)]
    if not len(epochs):
        return None
    first, last = float(epochs.min()), float(epochs.max())
    if not len(finite):
        return Frame(first, last, 0.0, 1.0, log=False, zero=None)
    finite = np.concatenate([finite, _near_references(row, finite)])
    positive = finite[finite > 0]
    limit = _FAR * _ordinary(row, finite)
    low, high = float(finite.min()), float(min(finite.max(), limit))
    least = float(positive.min()) if len(positive) else 0.0
    if low >= 0 and len(positive) and high > least * 10**_DECADES:
        zero = 10.0 ** (math.floor(math.log10(least)) - 1) if low == 0 else None
        return Frame(first, last, zero or least / 1.5, high * 1.5, log=True, zero=zero)
    room = 0.06 * (high - low or abs(high) or 1.0)
    return Frame(first, last, max(low, -limit) - room, high + room, log=False, zero=None)


def _values(panel: Panel) -> list[Array]:
    bands = [part for band in panel.bands for part in (band.low, band.middle, band.high)]
    return [line.values for line in panel.lines] + bands


def _epochs(panel: Panel) -> list[Array]:
    return [one.epochs for one in panel.lines] + [one.epochs for one in panel.bands]


def _near_references(row: CurveRow, finite: Array) -> Array:
    """Reference values that the axis is stretched to: not those far above every curve."""
    values = [v for panel in row.panels for one in panel.references for v in (one.low, one.high)]
    top = float(finite.max())
    return np.array([value for value in values if value <= 2 * top], dtype=np.float64)


def _ordinary(row: CurveRow, finite: Array) -> float:
    """Size of the ordinary: of the references, and the middle one of the panels' first values."""
    references = [abs(one.high) for panel in row.panels for one in panel.references]
    starts = [part[0] for panel in row.panels for part in _values(panel) if len(part)]
    sizes = np.abs([one for one in starts if math.isfinite(one)])
    return max([*references, float(np.median(sizes)) if len(sizes) else 0.0]) or float(
        np.abs(finite).max() or 1.0
    )
