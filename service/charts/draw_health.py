"""The health map: the share of healthy trials for every pair of levels of two factors."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path

from sickbay.service.charts.axes import FactorAxis
from sickbay.service.charts.health import Flow, HealthMap
from sickbay.service.charts.style import STYLES, grid, ink, note, short

_SHADES = LinearSegmentedColormap.from_list(
    "health",
    ["#d45f00", "#f3e9d8", "#019e74"],  # nearly the labels': those change in the dark
)
_DARK, _LIGHT = "#101010", "#ffffff"
_MOST_LETTERS = 22
_STEPS = 25


def health_map(data: HealthMap) -> Figure:
    """Draw a cell for every pair, with its count; a pair without trials stays empty."""
    columns, rows = len(data.x.names), len(data.y.names)
    names, side = _names(data.x), _names(data.y)
    counted = [f"{healthy}/{trials}" for healthy, trials in data.cells.values()]
    letters = max((len(fraction) for fraction in counted), default=3)
    cell = max(0.5, 0.075 * letters + 0.12)
    turned = not data.x.edges and max(map(len, names)) * 0.068 > cell
    below = 0.5 + (max(map(len, names)) * 0.068 * 0.75 if turned else 0.12)
    left = 0.42 + 0.068 * max(map(len, side))
    wide, high = max(cell * columns, 2.6), max(0.36 * rows, 0.95)
    width, height = left + wide + 1.05, below + high + 0.25
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((left / width, below / height, wide / width, high / height))
    for (x, y), (healthy, trials) in data.cells.items():
        _cell(axes, (x, y), healthy, trials)
    _ticks(axes, data, turned=turned)
    _frontier(axes, data)
    scale = figure.add_axes(
        ((left + wide + 0.22) / width, below / height, 0.13 / width, high / height)
    )
    _scale(scale)
    return figure


def _scale(axes: Axes) -> None:
    """Draw the legend of shades in steps: a smooth one would be an image in a vector drawing."""
    for step in range(_STEPS):
        low = step / _STEPS
        shade = _SHADES((step + 0.5) / _STEPS)
        axes.add_patch(Rectangle((0, low), 1, 1 / _STEPS, facecolor=shade, edgecolor=shade, lw=0.3))
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xticks([])
    axes.yaxis.tick_right()
    axes.yaxis.set_label_position("right")
    axes.set_yticks([0, 0.5, 1], ["0", "50", "100"])
    axes.tick_params(labelsize=7, length=2)
    axes.set_ylabel("healthy, %", fontsize=7.5)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _cell(axes: Axes, where: tuple[int, int], healthy: int, trials: int) -> None:
    share = healthy / trials
    red, green, blue, _ = _SHADES(share)
    x, y = where
    axes.add_patch(
        Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=_SHADES(share), edgecolor=grid(), lw=0.6)
    )
    dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
    axes.text(
        x,
        y,
        f"{healthy}/{trials}",
        ha="center",
        va="center",
        fontsize=7.5,
        color=_LIGHT if dark else _DARK,
        zorder=5,
    )


def _names(axis: FactorAxis) -> list[str]:
    """The tick labels of an axis: its levels, or the edges of its bins."""
    if axis.edges:
        return [f"{edge:.2g}" for edge in axis.edges]
    return [short(name, _MOST_LETTERS) for name in axis.names]


def _ticks(axes: Axes, data: HealthMap, *, turned: bool) -> None:
    axes.set_xlim(-0.5, len(data.x.names) - 0.5)
    axes.set_ylim(-0.5, len(data.y.names) - 0.5)
    for side in (axes.xaxis, axes.yaxis):
        side.set_tick_params(length=2, labelsize=7.5)
    for axis, set_ticks in ((data.x, axes.set_xticks), (data.y, axes.set_yticks)):
        if axis.edges:
            places = np.arange(len(axis.edges)) - 0.5
            every = 2 if len(axis.edges) > 7 else 1
            set_ticks(places[::every], _names(axis)[::every])
        else:
            set_ticks(range(len(axis.names)), _names(axis))
    if turned and not data.x.edges:
        axes.tick_params(axis="x", labelrotation=45)
        for tick_label in axes.get_xticklabels():
            tick_label.set(ha="right", rotation_mode="anchor")
    axes.set_xlabel(short(data.x.factor, 50))
    axes.set_ylabel(short(data.y.factor, 24))
    for spine in axes.spines.values():
        spine.set_visible(False)


def _frontier(axes: Axes, data: HealthMap) -> None:
    """Draw where an estimated half of the trials are pathological, and its 95 % band."""
    frontier = data.frontier
    if frontier is None:
        return
    x = [_at(data.x, float(value)) for value in frontier.axes[0]]
    y = [_at(data.y, float(value)) for value in frontier.axes[1]]
    for surface, width, dashes in (
        (frontier.probability, 1.8, "dashed"),
        (frontier.lower, 1.0, "dotted"),
        (frontier.upper, 1.0, "dotted"),
    ):
        if surface.min() < 0.5 < surface.max():
            below = [("#ffffff", width + 1.8, "solid")] if dashes == "dashed" else []
            for colour, lw, style in (*below, (_DARK, width, dashes)):
                axes.contour(
                    x, y, surface.T, [0.5], colors=[colour], linewidths=lw, linestyles=style
                )
    axes.set_title(
        "dashed: half of the trials pathological, as estimated; dotted: its 95 % band",
        fontsize=6.5,
        color=note(),
        loc="left",
        pad=4,
    )


def _at(axis: FactorAxis, value: float) -> float:
    """Where a value lies on an axis of bins, in units of bins."""
    edges = np.log10(axis.edges) if axis.log else np.asarray(axis.edges)
    number = np.log10(value) if axis.log else value
    return float((number - edges[0]) / (edges[1] - edges[0]) - 0.5)


# The causes share one colour with the pathological trials; shades tell neighbours apart.
_CAUSES = ("#d55e00", "#e69f00", "#cc79a7", "#a6451a", "#b3811f", "#8c4f72")
_BAR = 0.022
_ROOM = 0.17  # inches that a label takes, whatever its node


def flow(data: Flow) -> Figure:
    """Draw a Sankey diagram from levels to outcomes, widths by the number of trials."""
    places = range(len(data.axis.names))
    starts = [
        sum(data.counts.get((place, outcome), 0) for outcome in data.outcomes) for place in places
    ]
    ends = [
        sum(data.counts.get((place, outcome), 0) for place in places) for outcome in data.outcomes
    ]
    nodes = max(len(starts), len(ends))
    height = max(1.4, 0.4 * nodes + 0.4)
    figure = Figure(figsize=(6.5, height))
    axes = figure.add_axes((0.305, 0.02, 0.32, 0.98 - 0.27 / height))
    room = _ROOM / (0.98 * height - 0.27)
    scale = (1.0 - room * nodes) / max(1, sum(starts))
    left, right = _stack(starts, scale, room), _stack(ends, scale, room)
    colours = outcome_colours(data.outcomes)
    _ribbons(axes, data, (left, right), scale, colours)
    for top, n, label in zip(left, starts, data.axis.names, strict=True):
        _node(axes, -_BAR, top, n * scale, note())
        _words(axes, -0.05, top - n * scale / 2, f"{short(label, 22)}  {n}", "right")
    for top, n, label in zip(right, ends, data.outcomes, strict=True):
        _node(axes, 1.0, top, n * scale, colours[label])
        _words(axes, 1.05, top - n * scale / 2, f"{short(label, 28)}  {n}", "left")
    _words(axes, -0.05, 1.03, short(data.axis.factor, 24), "right", weight="bold")
    _words(axes, 1.05, 1.03, "how its trials ended", "left", colour=note())
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(0, 1)
    axes.axis("off")
    return figure


def outcome_colours(outcomes: Sequence[str]) -> dict[str, str]:
    """Assign colours: each verdict has its own, causes take warm shades."""
    causes = [outcome for outcome in outcomes if outcome not in STYLES]
    named = {cause: _CAUSES[k % len(_CAUSES)] for k, cause in enumerate(causes)}
    return {outcome: named.get(outcome) or STYLES[outcome][0] for outcome in outcomes}


def _stack(sizes: Sequence[int], scale: float, room: float) -> list[float]:
    """Stack nodes from the top down, centred vertically: the top of each."""
    whole = sum(sizes) * scale + room * len(sizes)
    tops, top = [], 0.5 + whole / 2
    for size in sizes:
        tops.append(top - room / 2)
        top -= size * scale + room
    return tops


def _ribbons(
    axes: Axes,
    data: Flow,
    tops: tuple[Sequence[float], Sequence[float]],
    scale: float,
    colours: Mapping[str, str],
) -> None:
    left, right = list(tops[0]), list(tops[1])  # each goes down by what has been drawn
    for place in range(len(left)):
        for k, outcome in enumerate(data.outcomes):
            n = data.counts.get((place, outcome), 0)
            if not n:
                continue
            a, b = left[place], right[k]
            c, d = a - n * scale, b - n * scale
            left[place], right[k] = c, d
            path = Path(
                [(0, a), (0.5, a), (0.5, b), (1, b), (1, d), (0.5, d), (0.5, c), (0, c), (0, a)],
                [1, 4, 4, 4, 2, 4, 4, 4, 79],
            )
            axes.add_patch(PathPatch(path, facecolor=colours[outcome], alpha=0.45, lw=0))


def _node(axes: Axes, x: float, top: float, size: float, colour: str) -> None:
    axes.add_patch(Rectangle((x, top - size), _BAR, size, facecolor=colour, lw=0))


def _words(
    axes: Axes,
    x: float,
    y: float,
    text: str,
    side: str,
    *,
    colour: str = "",
    weight: str = "normal",
) -> None:
    axes.text(x, y, text, ha=side, va="center", fontsize=7.5, color=colour or ink(), weight=weight)
