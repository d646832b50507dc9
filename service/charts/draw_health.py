"""The health map, healthy trials for every pair of levels, and the flow from levels to outcomes."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sickbay.service.charts.axes import FactorAxis
from sickbay.service.charts.drawing import (
    DASHES,
    GRID,
    NOTE,
    Area,
    Array,
    Box,
    Drawing,
    Line,
    Mark,
    Point,
    Text,
    short,
)
from sickbay.service.charts.health import Flow, HealthMap

# From no healthy trial to all: nearly the verdicts' colours, but the same on a dark page.
_SHADES = np.array([(0xD4, 0x5F, 0x00), (0xF3, 0xE9, 0xD8), (0x01, 0x9E, 0x74)], dtype=np.float64)
_LUMA = np.array([0.299, 0.587, 0.114])
_DARK, _LIGHT = "#101010", "#ffffff"
_MOST_LETTERS = 22
_LETTER = 4.9  # points that a letter of the smallest text takes at most
_STEPS = 25  # of the legend


@dataclass(frozen=True)
class _Cells:
    """The cells of a map in points: the box of them all, and the size of each."""

    box: Box
    wide: float
    high: float

    def x(self, place: float) -> float:
        """The middle of a column."""
        return self.box.left + (place + 0.5) * self.wide

    def y(self, place: float) -> float:
        """The middle of a row; they are counted from the bottom."""
        return self.box.bottom - (place + 0.5) * self.high


def health_map(data: HealthMap) -> Drawing:
    """Draw a cell for every pair, with its count; a pair without trials stays empty."""
    columns, rows = len(data.x.names), len(data.y.names)
    names, side = _names(data.x), _names(data.y)
    counts = [f"{healthy}/{trials}" for healthy, trials in data.cells.values()]
    wide = max(5.4 * max(map(len, counts), default=3) + 9, 36.0, 187.0 / columns)
    high = max(26.0, 68.0 / rows)
    longest = _LETTER * max(map(len, names))
    turned = not data.x.edges and longest > wide
    left, top = 24 + _LETTER * max(map(len, side)), 8.0 if data.frontier is None else 20.0
    box = Box(left, top, left + wide * columns, top + high * rows)
    cells = _Cells(box, wide, high)
    below = box.bottom + (0.72 * longest + 8 if turned else 16)
    middle = (box.left + box.right) / 2, (box.top + box.bottom) / 2
    marks = (
        *(mark for place, (k, n) in data.cells.items() for mark in _cell(cells, place, k / n, n)),
        *_columns(cells, data.x, turned=turned),
        *_rows(cells, data.y),
        Text(middle[0], below + 8, short(data.x.factor, 50), 8, anchor="middle"),
        Text(8, middle[1], short(data.y.factor, 24), 8, anchor="middle", turn=90),
        *_frontier(cells, data),
        *_legend(Box(box.right + 16, box.top, box.right + 25, box.bottom)),
    )
    return Drawing(box.right + 74, below + 18, marks)


def _shade(share: float) -> tuple[str, bool]:
    """The colour of a healthy share from 0 to 1, and whether it is dark."""
    place = min(int(2 * share), 1)
    part = 2 * share - place
    colour = (1 - part) * _SHADES[place] + part * _SHADES[place + 1]
    red, green, blue = (round(value) for value in colour)
    return f"#{red:02x}{green:02x}{blue:02x}", bool(_LUMA @ colour < 0.5 * 255)


def _cell(cells: _Cells, place: tuple[int, int], share: float, trials: int) -> Iterator[Mark]:
    x, y = cells.x(place[0]), cells.y(place[1])
    wide, high = cells.wide / 2, cells.high / 2
    colour, dark = _shade(share)
    yield Area(Box(x - wide, y - high, x + wide, y + high).corners, colour, edge=GRID)
    words = f"{round(share * trials)}/{trials}"
    yield Text(x, y, words, colour=_LIGHT if dark else _DARK, anchor="middle")


def _legend(box: Box) -> Iterator[Mark]:
    """Draw the shades in steps, as a picture has no gradients."""
    step = (box.bottom - box.top) / _STEPS
    for k in range(_STEPS):
        y = box.bottom - k * step
        colour, _ = _shade((k + 0.5) / _STEPS)
        yield Area(Box(box.left, y - step, box.right, y).corners, colour, edge=colour)
    for share in (0.0, 0.5, 1.0):
        y = box.bottom - share * (box.bottom - box.top)
        yield Text(box.right + 4, y, f"{100 * share:.0f}", 7)
    middle = (box.top + box.bottom) / 2
    yield Text(box.right + 26, middle, "healthy, %", anchor="middle", turn=90)


def _names(axis: FactorAxis) -> list[str]:
    """The tick labels of an axis: its levels, or the edges of its bins."""
    if axis.edges:
        return [f"{edge:.2g}" for edge in axis.edges]
    return [short(name, _MOST_LETTERS) for name in axis.names]


def _named(axis: FactorAxis) -> list[tuple[float, str]]:
    """Places and names of the ticks; of many edges every second."""
    names = _names(axis)
    if not axis.edges:
        return list(enumerate(names))
    return [(k - 0.5, name) for k, name in enumerate(names)][:: 2 if len(names) > 7 else 1]


def _columns(cells: _Cells, axis: FactorAxis, *, turned: bool) -> Iterator[Mark]:
    y = cells.box.bottom + (6 if turned else 8)
    for place, name in _named(axis):
        if turned:
            yield Text(cells.x(place) + 3, y, name, anchor="end", turn=45)
        else:
            yield Text(cells.x(place), y, name, anchor="middle")


def _rows(cells: _Cells, axis: FactorAxis) -> Iterator[Mark]:
    for place, name in _named(axis):
        yield Text(cells.box.left - 4, cells.y(place), name, anchor="end")


def _frontier(cells: _Cells, data: HealthMap) -> Iterator[Mark]:
    """Draw where an estimated half of the trials are pathological, and its 95 % band."""
    frontier = data.frontier
    if frontier is None:
        return
    from contourpy import contour_generator  # noqa: PLC0415  few sweeps have a frontier

    xs = [cells.x(_place(data.x, float(value))) for value in frontier.axes[0]]
    ys = [cells.y(_place(data.y, float(value))) for value in frontier.axes[1]]
    for surface, width, dashes in (
        (frontier.probability, 1.8, (6.0, 3.0)),
        (frontier.lower, 1.0, (1.5, 2.0)),
        (frontier.upper, 1.0, (1.5, 2.0)),
    ):
        for line in contour_generator(xs, ys, surface.T).lines(0.5):
            points = [(float(x), float(y)) for x, y in np.asarray(line)]
            if width > 1:
                yield Line(points, _LIGHT, width + 1.8)
            yield Line(points, _DARK, width, dashes)
    words = "dashed: half of the trials pathological, as estimated; dotted: its 95 % band"
    yield Text(cells.box.left, 8, words, 6.5, NOTE)


def _place(axis: FactorAxis, value: float) -> float:
    """Where a value lies on an axis of bins, in units of bins."""
    edges: Array = np.log10(axis.edges) if axis.log else np.asarray(axis.edges)
    number = math.log10(value) if axis.log else value
    return float((number - edges[0]) / (edges[1] - edges[0]) - 0.5)


# The causes share one colour with the pathological trials; shades tell neighbours apart.
_CAUSES = ("pathological", "#e69f00", "#cc79a7", "#a6451a", "#b3811f", "#8c4f72")
_LEFT, _RIGHT, _FLOW_WIDTH = 145.0, 300.0, 468.0  # where the ribbons begin and end
_BAR = 4.0
_ROOM = 12.2  # that a label takes, whatever its node
_CURVE = 16  # pieces of a ribbon's edge


def flow(data: Flow) -> Drawing:
    """Draw a Sankey diagram from levels to outcomes, widths by the number of trials."""
    places = range(len(data.axis.names))
    starts = [sum(data.counts.get((place, end), 0) for end in data.outcomes) for place in places]
    ends = [sum(data.counts.get((place, end), 0) for place in places) for end in data.outcomes]
    nodes = max(len(starts), len(ends))
    top, high = 20.0, max(82.0, 28.8 * nodes + 9)
    scale = (high - _ROOM * nodes) / max(1, sum(starts))
    left, right = (_stack(sizes, scale, top + high / 2) for sizes in (starts, ends))
    colours = outcome_colours(data.outcomes)
    marks = [
        Text(_LEFT - 8, 9, short(data.axis.factor, 24), anchor="end", bold=True),
        Text(_RIGHT + 8, 9, "how its trials ended", colour=NOTE),
        *_ribbons(data, left, right, scale, colours),
    ]
    for y, n, name in zip(left, starts, data.axis.names, strict=True):
        marks.append(Area(Box(_LEFT - _BAR, y, _LEFT, y + n * scale).corners, NOTE))
        words = f"{short(name, _MOST_LETTERS)}  {n}"
        marks.append(Text(_LEFT - 8, y + n * scale / 2, words, anchor="end"))
    for y, n, name in zip(right, ends, data.outcomes, strict=True):
        marks.append(Area(Box(_RIGHT, y, _RIGHT + _BAR, y + n * scale).corners, colours[name]))
        marks.append(Text(_RIGHT + 8, y + n * scale / 2, f"{short(name, 28)}  {n}"))
    return Drawing(_FLOW_WIDTH, top + high + 4, tuple(marks))


def outcome_colours(outcomes: Sequence[str]) -> dict[str, str]:
    """Assign colours: each verdict has its own, causes take warm shades."""
    causes = [outcome for outcome in outcomes if outcome not in DASHES]
    named = {cause: _CAUSES[k % len(_CAUSES)] for k, cause in enumerate(causes)}
    return {outcome: named.get(outcome) or outcome for outcome in outcomes}


def _stack(sizes: Sequence[int], scale: float, middle: float) -> list[float]:
    """Stack nodes from the top down about the middle: the top of each."""
    tops, top = [], middle - (sum(sizes) * scale + _ROOM * len(sizes)) / 2
    for size in sizes:
        tops.append(top + _ROOM / 2)
        top += size * scale + _ROOM
    return tops


def _ribbons(
    data: Flow,
    left: Sequence[float],
    right: Sequence[float],
    scale: float,
    colours: Mapping[str, str],
) -> Iterator[Mark]:
    starts, ends = list(left), list(right)  # each goes down by what has been drawn
    for place in range(len(starts)):
        for k, outcome in enumerate(data.outcomes):
            high = data.counts.get((place, outcome), 0) * scale
            if high:
                upper = _edge(starts[place], ends[k])
                lower = _edge(starts[place] + high, ends[k] + high)
                yield Area([*upper, *reversed(lower)], colours[outcome], 0.45)
                starts[place] += high
                ends[k] += high


def _edge(start: float, end: float) -> list[Point]:
    """An S-shaped line from the left to the right, by the smoothstep 3t² − 2t³."""
    shares = [k / _CURVE for k in range(_CURVE + 1)]
    smooth = [share * share * (3 - 2 * share) for share in shares]
    return [
        (_LEFT + share * (_RIGHT - _LEFT), start + part * (end - start))
        for share, part in zip(shares, smooth, strict=True)
    ]
