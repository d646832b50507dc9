"""Cause flow: for a factor, ribbons from every level to how its trials ended."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path

from sickbay.service.charts.data import Flow
from sickbay.service.charts.style import ink, note, short
from sickbay.service.charts.svg import STYLES

# The causes share one colour with the pathological trials; shades tell neighbours apart.
_CAUSES = ("#d55e00", "#e69f00", "#cc79a7", "#a6451a", "#b3811f", "#8c4f72")
_BAR = 0.022
_ROOM = 0.17  # inches that a label takes, whatever its node


def flow(data: Flow) -> Figure:
    """Draw the levels at the left, the outcomes at the right, widths by the number of trials."""
    places = range(len(data.axis.names))
    starts = [sum(data.counts.get((place, one), 0) for one in data.outcomes) for place in places]
    ends = [sum(data.counts.get((place, one), 0) for place in places) for one in data.outcomes]
    nodes = max(len(starts), len(ends))
    height = max(1.4, 0.4 * nodes + 0.4)
    figure = Figure(figsize=(6.5, height))
    axes = figure.add_axes((0.305, 0.02, 0.32, 0.98 - 0.27 / height))
    room = _ROOM / (0.98 * height - 0.27)
    scale = (1.0 - room * nodes) / max(1, sum(starts))
    left, right = _stack(starts, scale, room), _stack(ends, scale, room)
    colours = outcome_colours(data.outcomes)
    _ribbons(axes, data, (left, right), scale, colours)
    for top, n, words in zip(left, starts, data.axis.names, strict=True):
        _node(axes, -_BAR, top, n * scale, note())
        _words(axes, -0.05, top - n * scale / 2, f"{short(words, 22)}  {n}", "right")
    for top, n, words in zip(right, ends, data.outcomes, strict=True):
        _node(axes, 1.0, top, n * scale, colours[words])
        _words(axes, 1.05, top - n * scale / 2, f"{short(words, 28)}  {n}", "left")
    _words(axes, -0.05, 1.03, short(data.axis.factor, 24), "right", weight="bold")
    _words(axes, 1.05, 1.03, "how its trials ended", "left", colour=note())
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(0, 1)
    axes.axis("off")
    return figure


def outcome_colours(outcomes: Sequence[str]) -> dict[str, str]:
    """Give every outcome its colour: a verdict its own, every cause one of warm shades."""
    causes = [one for one in outcomes if one not in STYLES]
    named = {one: _CAUSES[k % len(_CAUSES)] for k, one in enumerate(causes)}
    return {one: named.get(one) or STYLES[one][0] for one in outcomes}


def _stack(sizes: Sequence[int], scale: float, room: float) -> list[float]:
    """Place nodes from the top down, in the middle of the height: the top of each."""
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
    words: str,
    side: str,
    *,
    colour: str = "",
    weight: str = "normal",
) -> None:
    axes.text(x, y, words, ha=side, va="center", fontsize=7.5, color=colour or ink(), weight=weight)
