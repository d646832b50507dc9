"""Parallel coordinates: every trial is a line through its levels to its objective."""

import math
import sys
from collections.abc import Iterator, Sequence

import numpy as np

from sickbay.service.charts.axes import FactorAxis, axis_of
from sickbay.service.charts.drawing import (
    DASHES,
    INK,
    NOTE,
    Array,
    Drawing,
    Line,
    Mark,
    Scale,
    Text,
    short,
)
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
_WIDE, _HIGH, _TOP = 560.0, 245.0, 22.0  # the least width, the height, and what is above the axes
_LEFT, _RIGHT, _APART = 50.0, 86.0, 90.0  # outside the first and last axis; least between two


def parallel(values: Values) -> Drawing | None:
    """Draw about MOST_LINES trials at most; None if no factor varies or nothing has ended."""
    varying = [axis for factor in values.factors if (axis := axis_of(values, factor)) is not None]
    drawn = sample([trial for trial in values.trials if trial.verdict in _ORDER], MOST_LINES)
    if not varying or not drawn:
        return None
    axes_shown = varying[: MOST_AXES - 1]
    signal = values.objective.signal if values.objective else "objective"
    scale = _scale(drawn)
    height = Scale(-0.02, 1.17 if scale.odd else 1.03, _HIGH - 30, _TOP)
    heights = np.array([_heights(values, trial, axes_shown, scale) for trial in drawn])
    apart = max(_APART, (_WIDE - _LEFT - _RIGHT) / len(axes_shown))
    xs = [_LEFT + apart * k for k in range(len(axes_shown) + 1)]
    marks = [*_key(drawn), *_lines(drawn, xs, height.each(heights))]
    for x, axis in zip(xs, axes_shown, strict=False):
        marks += _axis(height, x, short(axis.factor, 18), _named(axis))
    named = [] if scale.empty else [(scale.at(value), number(value)) for value in scale.ticks()]
    named += [(_NOT_FINITE, "NaN, missing, far")] if scale.odd else []
    marks += _axis(height, xs[-1], short(signal, 18), named, INK)
    return Drawing(xs[-1] + _RIGHT, _HIGH, tuple(marks))


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


def _lines(drawn: Sequence[TrialLine], xs: Sequence[float], heights: Array) -> Iterator[Mark]:
    opacity = min(0.85, max(0.12, 12.0 / math.sqrt(len(drawn)) / 3))
    for verdict in _ORDER:
        for trial, ys in zip(drawn, heights.tolist(), strict=True):
            if trial.verdict == verdict:
                points = list(zip(xs, ys, strict=True))
                yield Line(points, verdict, 0.9, DASHES[verdict], opacity)


def _named(axis: FactorAxis) -> list[tuple[float, str]]:
    """The places of an axis that bear a name, from 0 to 1."""
    if axis.edges:
        return [(0.0, number(axis.edges[0])), (1.0, number(axis.edges[-1]))]
    room = 1.0 / len(axis.names)
    every = max(1, math.ceil(len(axis.names) / 12))
    shown = [*enumerate(axis.names)][::every]
    return [((place + 0.5) * room, short(name, _LETTERS)) for place, name in shown]


def _axis(
    height: Scale, x: float, title: str, named: Sequence[tuple[float, str]], colour: str = NOTE
) -> Iterator[Mark]:
    foot = height.at(0.0)
    yield Line(((x, foot), (x, height.at(1.0))), colour, 1.4 if colour == INK else 1.0)
    yield Text(x, foot + 17, title, 8, anchor="middle", bold=True)
    for at, name in named:
        y = height.at(at)
        yield Line(((x - 2.5, y), (x + 2.5, y)), NOTE)
        yield Text(x + 5, y, name, 7, halo=True)


def _key(drawn: Sequence[TrialLine]) -> Iterator[Mark]:
    x = _LEFT
    for verdict in reversed(_ORDER):
        n = sum(trial.verdict == verdict for trial in drawn)
        if n:
            words = f"{SIGNS[verdict]} {verdict} ({n})"
            yield Line(((x, 8), (x + 24, 8)), verdict, 1.5, DASHES[verdict])
            yield Text(x + 28, 8, words)
            x += 40 + 4.6 * len(words)
