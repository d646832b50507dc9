"""Parallel coordinates: every trial is a line through its levels to its objective."""

import math
import sys
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sickbay.service.charts.axes import FactorAxis, axis_of
from sickbay.service.charts.style import STYLES, ink, note, short, surface
from sickbay.service.summary.formatting import SIGNS, number
from sickbay.service.summary.values import TrialLine, Values, sample

MOST_AXES = 9
MOST_LINES = 600  # more trials are sampled
_ORDER = (
    "cancelled",
    "pruned",
    "failed",
    "inconclusive",
    "healthy",
    "pathological",
)  # the last on top
_LETTERS = 14
_NOT_FINITE = 1.13  # above the axis of the objective
_FAR = 1e3  # times the largest healthy value: what lies beyond stands there as well
_SPREAD = 0.32  # of the room between two levels


def parallel(values: Values) -> Figure | None:
    """Draw about MOST_LINES trials at most; None if no factor varies or nothing has ended."""
    varying = [axis for factor in values.factors if (axis := axis_of(values, factor)) is not None]
    drawn = sample([trial for trial in values.trials if trial.verdict in _ORDER], MOST_LINES)
    if not varying or not drawn:
        return None
    axes_shown = varying[: MOST_AXES - 1]
    signal = values.objective.signal if values.objective else "objective"
    figure = Figure(figsize=(max(5.0, 1.25 * (len(axes_shown) + 1) + 1.2), 3.4))
    axes = figure.add_axes((0.05, 0.12, 0.9, 0.78))
    scale = _scale(drawn)
    heights = np.array([_heights(values, trial, axes_shown, scale) for trial in drawn])
    _lines(axes, drawn, heights)
    for k, axis in enumerate(axes_shown):
        _vertical(axes, k, axis)
    _objective(axes, len(axes_shown), signal, scale)
    axes.set_xlim(-0.45, len(axes_shown) + 0.55)
    axes.set_ylim(-0.02, 1.17 if scale.odd else 1.03)
    axes.axis("off")
    _key(figure, drawn)
    return figure


class _Scale:
    """Position of an objective from 0 to 1: logarithmic where it spans over two decades."""

    def __init__(self, objectives: Sequence[float | None], limit: float) -> None:
        values = np.array(
            [
                objective
                for objective in objectives
                if objective is not None and abs(objective) <= limit
            ]
        )
        self.odd = len(values) < len(objectives)
        self.empty = not len(values)
        self.limit = limit
        low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
        self.log = low > 0 and high / low > 100
        self.ends = (low, high)

    def at(self, value: float | None) -> float:
        """Position of a value; missing, non-finite and far values share a tick at the top."""
        if value is None or not abs(value) <= self.limit:
            return _NOT_FINITE
        low, high = self.ends
        if high == low:
            return 0.5
        if self.log:
            return math.log(value / low) / math.log(high / low)
        return (value / 2 - low / 2) / (high / 2 - low / 2)  # halves, as a span may overflow

    def ticks(self) -> list[float]:
        """Tick labels for both ends and the middle."""
        low, high = self.ends
        if high == low:
            return [low]
        return [low, math.sqrt(low * high) if self.log else low / 2 + high / 2, high]


def _scale(drawn: Sequence[TrialLine]) -> _Scale:
    """The range of the finite values, without those far beyond every healthy one."""
    objectives = [trial.objective for trial in drawn]
    sound = [
        abs(trial.objective)
        for trial in drawn
        if trial.verdict == "healthy"
        and trial.objective is not None
        and math.isfinite(trial.objective)
    ]
    largest = max(sound, default=0.0)
    return _Scale(objectives, _FAR * largest if 0.0 < largest < 1e300 else sys.float_info.max)


def _heights(
    values: Values, trial: TrialLine, axes: Sequence[FactorAxis], scale: _Scale
) -> list[float]:
    """Position of a trial on every axis; equal levels are jittered by the seed."""
    shake = (trial.seed * 0.618034 + 0.31) % 1.0 - 0.5
    heights = []
    for axis in axes:
        value = trial.key[1 + values.factors.index(axis.factor)]
        room = 1.0 / len(axis.names)
        offset = 0.5 + _SPREAD * shake
        if axis.edges:
            offset = _within(axis, float(value)) if value is not None else 0.5
        heights.append((axis.find(value) + offset) * room)
    return [*heights, scale.at(trial.objective)]


def _within(axis: FactorAxis, value: float) -> float:
    """How far into its bin a value lies, from 0 to 1."""
    place = axis.find(value)
    low, high = axis.edges[place : place + 2]
    if axis.log:
        low, high, value = math.log(low), math.log(high), math.log(value)
    return min(1.0, max(0.0, (value - low) / (high - low)))


def _lines(axes: Axes, drawn: Sequence[TrialLine], heights: np.ndarray[tuple[int, int]]) -> None:
    alpha = min(0.85, max(0.12, 12.0 / math.sqrt(len(drawn)) / 3))
    places = np.arange(heights.shape[1])
    for verdict in _ORDER:
        chosen = [k for k, trial in enumerate(drawn) if trial.verdict == verdict]
        if chosen:
            colour, dashes = STYLES[verdict]
            lines = [np.column_stack([places, heights[k]]) for k in chosen]
            made = LineCollection(
                lines, colors=colour, linestyles=dashes, linewidths=0.9, alpha=alpha
            )
            axes.add_collection(made)


def _vertical(axes: Axes, k: int, axis: FactorAxis) -> None:
    axes.plot([k, k], [0, 1], color=note(), lw=1.0)
    axes.text(k, -0.07, short(axis.factor, 18), ha="center", va="top", fontsize=8, weight="bold")
    if axis.edges:
        marks = [(0.0, axis.edges[0]), (1.0, axis.edges[-1])]
        named = [(at, number(value)) for at, value in marks]
    else:
        room = 1.0 / len(axis.names)
        every = max(1, math.ceil(len(axis.names) / 12))
        named = [
            ((place + 0.5) * room, short(name, _LETTERS))
            for place, name in enumerate(axis.names)
            if place % every == 0
        ]
    for at, text in named:
        _mark(axes, k, at, text)


def _mark(axes: Axes, k: int, at: float, text: str) -> None:
    axes.plot([k - 0.025, k + 0.025], [at, at], color=note(), lw=1.0)
    axes.text(
        k + 0.05,
        at,
        text,
        va="center",
        fontsize=7,
        color=ink(),
        bbox={"facecolor": surface(), "alpha": 0.75, "lw": 0, "pad": 0.6},
    )


def _objective(axes: Axes, k: int, signal: str, scale: _Scale) -> None:
    axes.plot([k, k], [0, 1], color=ink(), lw=1.4)
    axes.text(k, -0.07, short(signal, 18), ha="center", va="top", fontsize=8, weight="bold")
    if not scale.empty:
        for value in scale.ticks():
            _mark(axes, k, scale.at(value), number(value))
    if scale.odd:
        _mark(axes, k, _NOT_FINITE, "NaN, missing, far")


def _key(figure: Figure, drawn: Sequence[TrialLine]) -> None:
    counts = {
        verdict: sum(trial.verdict == verdict for trial in drawn) for verdict in reversed(_ORDER)
    }
    handles = [
        Line2D(
            [],
            [],
            color=STYLES[verdict][0],
            ls=STYLES[verdict][1],
            label=f"{SIGNS[verdict]} {verdict} ({n})",
        )
        for verdict, n in counts.items()
        if n
    ]
    figure.legend(handles=handles, loc="upper center", ncols=len(handles), fontsize=7.5)
