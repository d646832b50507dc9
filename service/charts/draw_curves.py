"""Learning curves for print: the panels of a row with their titles and a legend."""

import math
import textwrap

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sickbay.service.charts.curves import Array, CurveRow, Panel, verdicts_of
from sickbay.service.charts.draw_small import draw_panel, letters
from sickbay.service.charts.frame import Frame, bottom_of, row_frame
from sickbay.service.charts.style import STYLES, note, short
from sickbay.service.summary.formatting import SIGNS, number, printable

COLUMNS = 4
MOST_PANELS = 24
_WIDE, _HIGH, _LINE = 2.55, 1.6, 0.14  # inches: a panel, and a line of the words above it
_KEY = 1.75  # inches that an entry of the key takes
_WRAP = 36


def curves(row: CurveRow) -> Figure | None:
    """Draw the panels on shared axes; None if no trial recorded the signal."""
    frame = row_frame(row)
    panels = [plot for plot in row.panels if plot.lines or plot.bands][:MOST_PANELS]
    if frame is None or not panels:
        return None
    marks = letters(row)
    columns = min(COLUMNS, len(panels))
    lines = math.ceil(len(panels) / columns)
    key, titles = _key(panels, frame), [_title(plot) for plot in panels]
    width = max(columns * _WIDE + 0.35, 5.4)
    columns_of_key = min(len(key), int(width / _KEY))
    lines_of_key = math.ceil(len(key) / columns_of_key)
    below = 0.42 + 0.16 * (lines_of_key + math.ceil(len(marks) / 2))
    above = 0.1 + _LINE * max(map(len, titles))
    height = lines * (_HIGH + above) + below + 0.1
    figure = Figure(figsize=(width, height))
    for k, panel in enumerate(panels):
        column, line = k % columns, k // columns
        left = 0.55 + column * (width - 0.35) / columns
        bottom = below + (lines - 1 - line) * (_HIGH + above)
        wide = (width - 0.35) / columns - 0.55
        axes = figure.add_axes(
            (left / width, bottom / height, wide / width, (_HIGH - 0.2) / height)
        )
        draw_panel(axes, panel, frame, marks)
        axes.tick_params(labelsize=7)
        if k + columns >= len(panels):
            axes.set_xlabel("epoch", labelpad=1, fontsize=7.5)
        top = (bottom + _HIGH - 0.14) / height
        title = "\n".join(titles[k])
        figure.text(left / width, top, title, fontsize=7.5, va="bottom", linespacing=1.15)
    log = ", logarithmic" if frame.log else ""
    zero = " with 0 at the bottom" if frame.zero is not None else ""
    heading = f"{row.shown.signal}{log}{zero}"
    figure.text(0.008, 1 - 0.06 / height, heading, fontsize=8, weight="bold", va="top")
    _references(figure, row, marks, (height, 0.06 + 0.16 * lines_of_key))
    figure.legend(
        handles=key,
        loc="lower center",
        bbox_to_anchor=(0.5, 0.02 / height),
        ncols=columns_of_key,
        fontsize=7,
        handlelength=2.4,
        columnspacing=1.2,
        borderaxespad=0.1,
    )
    return figure


def _title(panel: Panel) -> list[str]:
    """Wrap a panel's title into two lines, and its verdicts into one below."""
    title = textwrap.wrap(" ".join(printable(panel.title).split()), _WRAP)
    if len(title) > 2:
        title = [title[0], short(" ".join(title[1:]), _WRAP)]
    return [*(title or [""]), short(panel.note, _WRAP + 6)]


def _key(panels: list[Panel], frame: Frame) -> list[Line2D]:
    drawn = verdicts_of(panels)
    key = [
        Line2D(
            [],
            [],
            color=STYLES[verdict][0],
            ls=STYLES[verdict][1],
            lw=1.6,
            label=f"{SIGNS[verdict]} {verdict}",
        )
        for verdict in STYLES
        if verdict in drawn
    ]
    lines = [line for panel in panels for line in panel.lines]
    lost = any(not np.isfinite(line.values).all() for line in lines)
    out = any(_leaves(line.values, frame) for line in lines)
    for marker, caption, shown in (
        ("v", "onset of the cause", True),
        ("x", "not finite from here", lost),
        ("^", "outside the axes", out),
    ):
        if shown:
            key.append(Line2D([], [], color=note(), marker=marker, ls="none", ms=5, label=caption))
    if any(panel.bands for panel in panels):
        label = "thick: median, area: 10 – 90 %"
        key.append(Line2D([], [], color=note(), lw=5, alpha=0.35, label=label))
    return key


def _leaves(values: Array, frame: Frame) -> bool:
    finite = values[np.isfinite(values)]
    return bool(((finite > frame.high) | (finite < bottom_of(frame))).any())


def _references(
    figure: Figure, row: CurveRow, marks: dict[str, str], place: tuple[float, float]
) -> None:
    height, bottom = place
    for k, (text, letter) in enumerate(marks.items()):
        references = [
            reference
            for panel in row.panels
            for reference in panel.references
            if reference.text == text
        ]
        low, high = (
            min(reference.low for reference in references),
            max(reference.high for reference in references),
        )
        span = number(low) if number(low) == number(high) else f"{number(low)} – {number(high)}"
        figure.text(
            0.03 + 0.5 * (k % 2),
            (bottom + 0.16 * (k // 2)) / height,
            f"{letter} = {short(text, 48)}: {span}",
            fontsize=7,
            va="bottom",
        )
