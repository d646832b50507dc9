"""Learning curves: a panel for the page, or the panels of a row with titles and a key for print."""

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sickbay.service.charts.curves import Band, CurveLine, CurveRow, Panel, Reference, verdicts_of
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
    Scale,
    Text,
    inside,
    marker,
    short,
    ticks,
)
from sickbay.service.charts.frame import Frame, bottom_of, row_frame
from sickbay.service.summary.formatting import SIGNS, number, printable

COLUMNS = 4
MOST_PANELS = 24  # of a file; the page has them all
_PANEL, _PANEL_BOX = (238.0, 155.0), Box(36, 7, 221, 131)
_WIDE, _HIGH, _LINE = 184.0, 115.0, 10.0  # of a panel in a file, and of a line of words above it
_ENTRY, _ENTRY_LINE = 126.0, 11.5  # of the key
_WRAP = 36
_EDGE = 3.0  # from the edge of a panel to the marks of what lies beyond


@dataclass(frozen=True)
class _Axes:
    """Where a panel's epochs and values are drawn."""

    frame: Frame
    box: Box
    x: Scale
    y: Scale

    def heights(self, values: Array) -> Array:
        """Where values lie: NaN for what is not finite, a zero where a log axis shows it."""
        finite = np.where(np.isfinite(values), values, np.nan)
        zero = self.frame.zero
        return self.y.each(finite if zero is None else np.where(finite == 0, zero, finite))

    def line(self, epochs: Array, values: Array) -> list[list[tuple[float, float]]]:
        """The parts of a curve that lie inside the panel."""
        return inside(self.x.each(epochs), self.heights(values), self.box)


def panel_drawing(panel: Panel, frame: Frame, letters: Mapping[str, str]) -> Drawing:
    """Draw one panel as a picture of its own; its title stands in the page."""
    (width, height), box = _PANEL, _PANEL_BOX
    label = Text((box.left + box.right) / 2, height - 5, "epoch", 8, anchor="middle")
    marks = [*_panel(panel, frame, letters, box), label]
    return Drawing(width, height, tuple(marks))


def letters_of(row: CurveRow) -> dict[str, str]:
    """Assign every reference line of a row its letter in the pictures."""
    texts = dict.fromkeys(line.text for panel in row.panels for line in panel.references)
    return {text: chr(ord("A") + index % 26) for index, text in enumerate(texts)}


def references_in_words(row: CurveRow) -> list[tuple[str, str, str]]:
    """The legend of the letters: letter, text, and value or range over the panels of a row."""
    listed = []
    for text, letter in letters_of(row).items():
        lines = [line for panel in row.panels for line in panel.references if line.text == text]
        low, high = (number(end(lines)) for end in (_lowest, _highest))
        listed.append((letter, text, low if low == high else f"{low} – {high}"))
    return listed


def _lowest(lines: Sequence[Reference]) -> float:
    return min(line.low for line in lines)


def _highest(lines: Sequence[Reference]) -> float:
    return max(line.high for line in lines)


def curves(row: CurveRow) -> Drawing | None:
    """Draw the panels on shared axes; None if no trial recorded the signal."""
    frame = row_frame(row)
    panels = [panel for panel in row.panels if panel.lines or panel.bands][:MOST_PANELS]
    if frame is None or not panels:
        return None
    letters, columns = letters_of(row), min(COLUMNS, len(panels))
    width = max(columns * _WIDE + 25, 390.0)
    titles = [_title(panel) for panel in panels]
    high = _HIGH + 7 + _LINE * max(map(len, titles))
    marks: list[Mark] = [Text(4, 9, _heading(row, frame), 8, bold=True)]
    for k, (panel, title) in enumerate(zip(panels, titles, strict=True)):
        left, bottom = 40 + k % columns * (width - 25) / columns, (k // columns + 1) * high - 2
        box = Box(left, bottom - _HIGH + 16, left + (width - 25) / columns - 40, bottom)
        for line, words in enumerate(reversed(title)):
            marks.append(Text(left, box.top - 8 - _LINE * line, words))
        marks += _panel(panel, frame, letters, box, size=7)
        if k + columns >= len(panels):
            marks.append(Text((left + box.right) / 2, bottom + 17, "epoch", anchor="middle"))
    bottom = math.ceil(len(panels) / columns) * high + 28
    references = [
        f"{letter} = {short(text, 48)}: {value}" for letter, text, value in references_in_words(row)
    ]
    for k, words in enumerate(references):
        x, y = 0.03 * width + k % 2 * width / 2, bottom + _ENTRY_LINE * (k // 2)
        marks.append(Text(x, y, words, 7))
    bottom += _ENTRY_LINE * math.ceil(len(references) / 2)
    key = list(_key(panels, frame))
    in_a_line = min(len(key), int(width / _ENTRY))
    start = (width - in_a_line * _ENTRY) / 2
    for k, (symbol, words) in enumerate(key):
        x, y = start + k % in_a_line * _ENTRY, bottom + _ENTRY_LINE * (k // in_a_line)
        marks += [*_symbol(symbol, x, y), Text(x + 28, y, words, 7)]
    bottom += _ENTRY_LINE * math.ceil(len(key) / in_a_line)
    return Drawing(width, bottom, tuple(marks))


def _heading(row: CurveRow, frame: Frame) -> str:
    log = ", logarithmic" if frame.log else ""
    zero = " with 0 at the bottom" if frame.zero is not None else ""
    return f"{row.shown.signal}{log}{zero}"


def _title(panel: Panel) -> list[str]:
    """Wrap a panel's title into two lines, and its verdicts into one below."""
    title = textwrap.wrap(" ".join(printable(panel.title).split()), _WRAP)
    if len(title) > 2:
        title = [title[0], short(" ".join(title[1:]), _WRAP)]
    return [*(title or [""]), short(panel.note, _WRAP + 6)]


def _key(panels: Sequence[Panel], frame: Frame) -> Iterator[tuple[str, str]]:
    """The entries of the key: a verdict, a marker's shape or "band", and what it stands for."""
    drawn = verdicts_of(panels)
    for verdict in DASHES:
        if verdict in drawn:
            yield verdict, f"{SIGNS[verdict]} {verdict}"
    lines = [line for panel in panels for line in panel.lines]
    yield "down", "onset of the cause"
    if any(not np.isfinite(line.values).all() for line in lines):
        yield "cross", "not finite from here"
    if any(_leaves(line.values, frame) for line in lines):
        yield "up", "outside the axes"
    if any(panel.bands for panel in panels):
        yield "band", "median, 10 – 90 %"


def _symbol(symbol: str, x: float, y: float) -> Iterator[Mark]:
    if symbol in DASHES:
        yield Line(((x, y), (x + 24, y)), symbol, 1.6, DASHES[symbol])
    elif symbol == "band":
        yield Area(Box(x, y - 3, x + 24, y + 3).corners, NOTE, 0.3)
        yield Line(((x, y), (x + 24, y)), NOTE, 1.8)
    else:
        yield from marker(symbol, x + 12, y, NOTE, 2.8)


def _leaves(values: Array, frame: Frame) -> bool:
    finite = values[np.isfinite(values)]
    return bool(((finite > frame.high) | (finite < bottom_of(frame))).any())


def _panel(
    panel: Panel, frame: Frame, letters: Mapping[str, str], box: Box, *, size: float = 8
) -> Iterator[Mark]:
    """Draw a panel's axes, reference lines, bands and lines into a box."""
    first, last = frame.first - 0.4, max(frame.last, frame.first + 1) + 0.4
    axes = _Axes(
        frame,
        box,
        Scale(first, last, box.left, box.right),
        Scale(frame.low, frame.high, box.bottom, box.top, log=frame.log),
    )
    yield from _grid(axes, size)
    yield from _references(axes, panel.references, letters, size)
    for band in panel.bands:
        yield from _band(axes, band, onsets=not panel.lines)
    for line in panel.lines:
        yield from _line(axes, line, thin=bool(panel.bands))


def _grid(axes: _Axes, size: float) -> Iterator[Mark]:
    box, frame = axes.box, axes.frame
    for epoch in ticks(axes.x.low, axes.x.high, whole=True):
        x = axes.x.at(epoch)
        yield Line(((x, box.top), (x, box.bottom + 3)), GRID, 0.6)
        yield Text(x, box.bottom + 3 + size * 0.8, f"{epoch:.6g}", size, anchor="middle")
    for value, name in _value_ticks(frame):
        y = axes.y.at(value)
        yield Line(((box.left - 3, y), (box.right, y)), GRID, 0.6)
        yield Text(box.left - 5, y, name, size, anchor="end")
    ends = ((box.left, box.top), (box.left, box.bottom), (box.right, box.bottom))
    yield Line(ends, GRID, 0.8)


def _value_ticks(frame: Frame) -> list[tuple[float, str]]:
    if not frame.log:
        return [(place, f"{place:.4g}") for place in ticks(frame.low, frame.high)]
    bottom = frame.low if frame.zero is None else frame.zero * 9.9
    least, most = math.ceil(math.log10(bottom)), math.floor(math.log10(frame.high))
    powers = range(least, most + 1, max(1, math.ceil((most - least) / 4)))
    places = [(10.0**power, f"{10.0**power:g}") for power in powers]
    if len(places) < 2:
        places = [(float(at), f"{at:.2g}") for at in np.geomspace(bottom, frame.high, 4)]
    return [(frame.zero, "0"), *places] if frame.zero is not None else places


def _line(axes: _Axes, line: CurveLine, *, thin: bool) -> Iterator[Mark]:
    colour = line.verdict if line.verdict in DASHES else "failed"
    width, opacity = (0.7, 0.6) if thin else (1.4, 1.0)
    for part in axes.line(line.epochs, line.values):
        yield Line(part, colour, width, DASHES[colour], opacity)
    finite = np.flatnonzero(np.isfinite(line.values))
    heights = axes.heights(line.values)
    if len(finite) == 1:
        x, y = axes.x.at(line.epochs[finite[0]]), float(heights[finite[0]])
        yield from marker("circle", x, y, colour, 1.5)
    yield from _beyond(axes, line, colour)
    if line.onset_epoch is not None:
        seen = finite[line.epochs[finite] <= line.onset_epoch]
        y = float(heights[seen[-1]]) if len(seen) else axes.box.bottom
        y = min(max(y, axes.box.top), axes.box.bottom)
        yield from marker("down", axes.x.at(line.onset_epoch), y, colour, 3.5)


def _beyond(axes: _Axes, line: CurveLine, colour: str) -> Iterator[Mark]:
    """Mark at the edge where a curve becomes non-finite, and where it leaves the axes."""
    lost = ~np.isfinite(line.values)
    above = ~lost & (line.values > axes.frame.high)
    below = ~lost & (line.values < bottom_of(axes.frame))
    top, bottom = axes.box.top + _EDGE, axes.box.bottom - _EDGE
    for where, shape, y in ((lost, "cross", top), (above, "up", top), (below, "up", bottom)):
        if where.any():
            yield from marker(shape, axes.x.at(line.epochs[np.argmax(where)]), y, colour, 3)


def _band(axes: _Axes, band: Band, *, onsets: bool) -> Iterator[Mark]:
    colour = band.verdict if band.verdict in DASHES else "failed"
    spread, box = band.spread, axes.box
    xs = axes.x.each(spread.epochs).tolist()
    low, high = (_edge(axes, ends) for ends in (spread.low, spread.high))
    outline = [*zip(xs, low, strict=True), *reversed([*zip(xs, high, strict=True)])]
    yield Area(outline, colour, 0.18)
    for part in axes.line(spread.epochs, spread.middle):
        yield Line(part, colour, 1.8, DASHES[colour])
    for onset in band.onsets if onsets else ():  # the lines have theirs
        yield from marker("down", axes.x.at(onset), box.top + _EDGE, colour, 2.3)


def _edge(axes: _Axes, values: Array) -> list[float]:
    """Heights of an edge of a band; what lies outside the picture, at infinity too, at its edge."""
    box = axes.box
    far = np.where(values > 0, box.top, box.bottom)
    heights: list[float] = np.where(
        np.isinf(values), far, np.clip(axes.heights(values), box.top, box.bottom)
    ).tolist()
    return heights


def _references(
    axes: _Axes, references: Sequence[Reference], letters: Mapping[str, str], size: float
) -> Iterator[Mark]:
    """Draw the reference values inside the panel, each with its letter at the right."""
    frame, box, free = axes.frame, axes.box, axes.box.bottom + size
    for line in sorted(references, key=lambda reference: reference.low):
        if line.low > frame.high or line.high < frame.low:
            continue
        low, high = max(line.low, frame.low), min(line.high, frame.high)
        bottom, top, y = axes.y.at(low), axes.y.at(high), axes.y.at((low + high) / 2)
        if line.low < line.high:
            yield Area(Box(box.left, top, box.right, bottom).corners, NOTE, 0.2)
        yield Line(((box.left, y), (box.right, y)), NOTE, 1.0, (1.0, 2.0))
        free = min(y, free - size * 1.1)  # letters stand apart, lines need not
        yield Text(box.right + 4, free, letters[line.text], size, NOTE)
