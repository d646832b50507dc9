"""Drawings as files for print, by matplotlib, which takes a second to load."""

import io
import math
import threading
import warnings
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Polygon

from sickbay.service.charts.drawing import (
    BASELINE,
    GRID,
    INK,
    NOTE,
    PAGE,
    Area,
    Dot,
    Drawing,
    Line,
    Mark,
    Text,
)
from sickbay.service.formats import FigureFormat

# Okabe and Ito's colours, told apart by the colour-blind.
_COLOURS = {
    "healthy": "#009e73",
    "pathological": "#d55e00",
    "inconclusive": "#0072b2",
    "failed": "#595959",
    "cancelled": "#595959",
    "pruned": "#595959",
    INK: "#1a1a1a",
    GRID: "#d4d4d0",
    NOTE: "#5c5c58",
    PAGE: "#ffffff",
}
_ANCHORS = {"start": "left", "middle": "center", "end": "right"}
_DPI = 200
_LOCK = threading.Lock()  # the settings of matplotlib are the process's
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "path",
    "svg.hashsalt": "sickbay",
    "pdf.fonttype": 42,
    "text.parse_math": False,  # a level may be called $x$
}
# What would make the bytes of two equal figures differ.
_ABSENT = {
    FigureFormat.PNG: ("Software",),
    FigureFormat.PDF: ("CreationDate", "Producer", "Creator"),
    FigureFormat.SVG: ("Date",),
}


def as_bytes(drawing: Drawing, style: FigureFormat) -> bytes:
    """Write a drawing as a file's content; equal drawings give equal bytes.

    The user's own settings of matplotlib play no part.
    """
    with _LOCK, mpl.rc_context(), warnings.catch_warnings():
        # A level may bear signs that the font lacks: a box stands for them, and no warning.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS)
        buffer = io.BytesIO()
        metadata = dict.fromkeys(_ABSENT[style])
        as_figure(drawing).savefig(buffer, format=style.value, dpi=_DPI, metadata=metadata)
    return buffer.getvalue()


def as_figure(drawing: Drawing) -> Figure:
    """Draw every mark in axes that are the whole figure, one unit a point."""
    figure = Figure(figsize=(drawing.width / 72, drawing.height / 72), facecolor=_COLOURS[PAGE])
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_xlim(0, drawing.width)
    axes.set_ylim(drawing.height, 0)
    axes.set_axis_off()
    for order, mark in enumerate(drawing.marks):
        _draw(axes, mark, order)
    return figure


def _draw(axes: Axes, mark: Mark, order: int) -> None:
    match mark:
        case Line():
            xs, ys = zip(*mark.points, strict=True)
            line = Line2D(xs, ys, color=_colour(mark.colour), lw=mark.width, alpha=mark.opacity)
            line.set(zorder=order, clip_on=False, linestyle=_dashes(mark), solid_capstyle="butt")
            axes.add_line(line)
        case Area():
            edge = _colour(mark.edge) if mark.edge else "none"
            shape = Polygon(list(mark.points), facecolor=_colour(mark.colour), edgecolor=edge)
            shape.set(zorder=order, clip_on=False, alpha=mark.opacity, lw=0.6)
            axes.add_patch(shape)
        case Dot():
            edge = _colour(mark.edge) if mark.edge else "none"
            dot = Circle((mark.x, mark.y), mark.radius, fc=_colour(mark.colour), ec=edge)
            dot.set(zorder=order, clip_on=False, lw=1.0)
            axes.add_patch(dot)
        case Text():
            _write(axes, mark, order)


def _write(axes: Axes, mark: Text, order: int) -> None:
    down, turn = BASELINE * mark.size, math.radians(mark.turn)
    x, y = mark.x + down * math.sin(turn), mark.y + down * math.cos(turn)
    text = axes.text(x, y, mark.text, fontsize=mark.size)
    text.set(color=_colour(mark.colour), ha=_ANCHORS[mark.anchor], zorder=order)
    text.set(rotation=mark.turn, rotation_mode="anchor", weight="bold" if mark.bold else "normal")
    if mark.halo:
        text.set_bbox({"facecolor": _COLOURS[PAGE], "alpha": 0.75, "lw": 0, "pad": 0.6})


def _dashes(mark: Line) -> str | tuple[float, Sequence[float]]:
    """Dashes in points: matplotlib counts them in widths of the line."""
    return (0.0, [length / mark.width for length in mark.dashes]) if mark.dashes else "solid"


def _colour(name: str) -> str:
    return _COLOURS.get(name, name)
