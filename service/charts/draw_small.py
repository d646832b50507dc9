"""Small pictures of curves as SVG text, by matplotlib without its global figures.

Colours come out as CSS variables, so that one picture serves a light and a dark page. No word of a
user's enters a small picture: titles and keys stand in the page around it.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sickbay.service.charts.curves import Array, Band, CurveLine, CurveRow, Panel
from sickbay.service.charts.frame import Frame, bottom_of, row_frame
from sickbay.service.charts.style import STYLES, as_page, grid, ink, note, skin

_SIZE = (3.3, 2.15)  # inches at 72 dots


def row_pictures(row: CurveRow, start: int) -> Sequence[str]:
    """Draw the panels of a row that have a curve; `start` is the number of the first picture."""
    frame, marks = row_frame(row), letters(row)
    if frame is None:
        return [""] * len(row.panels)
    with skin(page=True):
        return [
            _draw(panel, frame, marks, start + k) if panel.lines or panel.bands else ""
            for k, panel in enumerate(row.panels)
        ]


def letters(row: CurveRow) -> dict[str, str]:
    """Assign every reference line of a row its letter in the pictures."""
    texts = dict.fromkeys(line.text for panel in row.panels for line in panel.references)
    return {text: chr(ord("A") + index % 26) for index, text in enumerate(texts)}


def _draw(panel: Panel, frame: Frame, marks: Mapping[str, str], number: int) -> str:
    """Draw one panel; `number` makes the picture's ids unique in the page."""
    figure = Figure(figsize=_SIZE)
    axes = figure.add_axes((0.15, 0.155, 0.78, 0.80))
    draw_panel(axes, panel, frame, marks)
    axes.set_xlabel("epoch", labelpad=1)
    return as_page(figure, number)


def draw_panel(axes: Axes, panel: Panel, frame: Frame, marks: Mapping[str, str]) -> None:
    """Draw one panel into axes, in the colours set by `skin`."""
    _dress(axes, frame)
    _draw_references(axes, panel, frame, marks)
    for band in panel.bands:
        _draw_band(axes, band, frame, onsets=not panel.lines)
    for line in panel.lines:
        _draw_line(axes, line, frame, thin=bool(panel.bands))


def _dress(axes: Axes, frame: Frame) -> None:
    axes.set_xlim(frame.first - 0.4, max(frame.last, frame.first + 1) + 0.4)
    if frame.log:
        axes.set_yscale("log")
        axes.minorticks_off()
    axes.set_ylim(frame.low, frame.high)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    places, names = _ticks(frame)
    axes.set_yticks(places, names)
    axes.tick_params(labelsize=8, labelcolor=ink(), color=grid(), length=3, pad=2)
    axes.grid(visible=True, color=grid(), linewidth=0.6)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(grid())


def _ticks(frame: Frame) -> tuple[list[float], list[str]]:
    if not frame.log:
        places = [
            float(tick)
            for tick in MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(frame.low, frame.high)
            if frame.low <= tick <= frame.high
        ]
        return places, [f"{place:.4g}" for place in places]
    bottom = frame.low if frame.zero is None else frame.zero * 9.9
    least, most = math.ceil(math.log10(bottom)), math.floor(math.log10(frame.high))
    step = max(1, math.ceil((most - least) / 4))
    powers = list(range(least, most + 1, step))
    places, names = [10.0**power for power in powers], [f"{10.0**power:g}" for power in powers]
    if len(places) < 2:
        places = [float(tick) for tick in np.geomspace(bottom, frame.high, 4)]
        names = [f"{place:.2g}" for place in places]
    return ([frame.zero, *places], ["0", *names]) if frame.zero is not None else (places, names)


def _draw_line(axes: Axes, line: CurveLine, frame: Frame, *, thin: bool) -> None:
    colour, dashes = STYLES.get(line.verdict, STYLES["failed"])
    shown = _placed(line.values, frame)
    single = "o" if np.isfinite(shown).sum() == 1 else None
    width, alpha = (0.7, 0.6) if thin else (1.4, 1.0)
    axes.plot(line.epochs, shown, dashes, color=colour, lw=width, alpha=alpha, marker=single, ms=3)
    _draw_beyond(axes, line, frame, colour)
    if line.onset_epoch is not None:
        there = np.flatnonzero((line.epochs <= line.onset_epoch) & np.isfinite(shown))
        height = float(shown[there[-1]]) if len(there) else frame.low
        height = min(max(height, frame.low), frame.high)
        axes.plot(
            [line.onset_epoch], [height], "v", color=colour, ms=7, mec=ink(), mew=0.8, clip_on=False
        )


def _draw_beyond(axes: Axes, line: CurveLine, frame: Frame, colour: str) -> None:
    """Mark at the edge where a curve becomes non-finite, and where it leaves the axes."""
    lost = ~np.isfinite(line.values)
    above = ~lost & (line.values > frame.high)
    below = ~lost & (line.values < bottom_of(frame))
    for where, marker, height in ((lost, "x", 0.975), (above, "^", 0.975), (below, "^", 0.025)):
        indices = np.flatnonzero(where)
        if len(indices):
            axes.plot(
                [line.epochs[indices[0]]],
                [height],
                marker,
                color=colour,
                ms=6,
                mew=1.6 if marker == "x" else 0.6,
                transform=axes.get_xaxis_transform(),
                clip_on=False,
            )


def _draw_band(axes: Axes, band: Band, frame: Frame, *, onsets: bool) -> None:
    colour, dashes = STYLES.get(band.verdict, STYLES["failed"])
    spread = band.spread
    low, middle, high = (_placed(part, frame) for part in (spread.low, spread.middle, spread.high))
    edge = 10 * frame.high if frame.log else frame.high + 10 * (frame.high - frame.low)
    low, high = (np.nan_to_num(part, nan=edge, posinf=edge, neginf=-edge) for part in (low, high))
    axes.fill_between(spread.epochs, low, high, color=colour, alpha=0.18, lw=0)
    axes.plot(spread.epochs, middle, dashes, color=colour, lw=1.8)
    if not onsets:  # the lines have theirs
        return
    height = [0.975] * len(band.onsets)
    where = axes.get_xaxis_transform()
    axes.plot(band.onsets, height, "v", color=colour, ms=4.5, alpha=0.8, transform=where, mew=0)


def _draw_references(axes: Axes, panel: Panel, frame: Frame, marks: Mapping[str, str]) -> None:
    taken: list[float] = []
    shown = [
        reference
        for reference in panel.references
        if frame.low <= reference.high and reference.low <= frame.high
    ]
    for line in sorted(shown, key=lambda reference: reference.low):
        middle = (line.low + line.high) / 2
        axes.axhspan(line.low, line.high, color=note(), alpha=0.2, lw=0)
        axes.axhline(middle, color=note(), lw=1.0, dashes=(1, 2))
        at = float(axes.transAxes.inverted().transform(axes.transData.transform((0, middle)))[1])
        at = max(at, taken[-1] + 0.085) if taken else at  # letters stand apart, lines need not
        taken.append(at)
        axes.text(
            1.015,
            at,
            marks[line.text],
            transform=axes.transAxes,
            fontsize=8,
            color=note(),
            va="center",
        )


def _placed(values: Array, frame: Frame) -> Array:
    """Values as drawn: no infinities, and zeros where a logarithmic axis shows them."""
    finite = np.where(np.isfinite(values), values, np.nan)
    return finite if frame.zero is None else np.where(finite == 0, frame.zero, finite)
