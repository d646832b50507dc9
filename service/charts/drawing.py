"""A picture as marks in points, drawn once and written twice.

`svg.as_svg` writes it into a page, whose style sheet owns the colours; `figure_files.as_bytes`
writes a PNG, PDF or SVG by matplotlib, which takes a second to load. The origin is the upper left
corner. A colour is a verdict, one of INK, GRID, NOTE and PAGE, or `#rrggbb`.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sickbay.service.summary.formatting import printable

Array = NDArray[np.float64]
Point = tuple[float, float]
Anchor = Literal["start", "middle", "end"]

BASELINE = 0.36  # of a font's size, below the middle of its small letters
INK, GRID, NOTE, PAGE = "ink", "grid", "note", "page"
# Each verdict has dashes of its own besides its colour: lengths of strokes and gaps in points.
DASHES: Mapping[str, tuple[float, ...]] = {
    "healthy": (),
    "pathological": (5.2, 2.2),
    "inconclusive": (7.0, 2.2, 1.5, 2.2),
    "failed": (1.5, 2.2),
    "cancelled": (1.5, 2.2),
    "pruned": (1.5, 2.2),
}
_FARTHEST = 1e5  # points; a line that goes further is cut at the edge of its picture anyway
_SHAPES: Mapping[str, tuple[Point, ...]] = {
    "square": ((-1, -1), (1, -1), (1, 1), (-1, 1)),
    "diamond": ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)),
    "up": ((-1, 1), (0, -1), (1, 1)),
    "down": ((-1, -1), (1, -1), (0, 1)),
    "right": ((-1, -1), (1, 0), (-1, 1)),
    "left": ((1, -1), (-1, 0), (1, 1)),
    "plus": tuple(
        (x / 3, y / 3)
        for x, y in (
            *((-1, -3), (1, -3), (1, -1), (3, -1), (3, 1), (1, 1)),
            *((1, 3), (-1, 3), (-1, 1), (-3, 1), (-3, -1), (-1, -1)),
        )
    ),
}


@dataclass(frozen=True)
class Line:
    """A polyline; `dashes` are lengths of strokes and gaps in points."""

    points: Sequence[Point]
    colour: str
    width: float = 1.0
    dashes: tuple[float, ...] = ()
    opacity: float = 1.0


@dataclass(frozen=True)
class Area:
    """A filled polygon, with an outline if `edge` names its colour."""

    points: Sequence[Point]
    colour: str
    opacity: float = 1.0
    edge: str = ""


@dataclass(frozen=True)
class Dot:
    """A circle; `colour` may be "none"."""

    x: float
    y: float
    radius: float
    colour: str
    edge: str = ""


@dataclass(frozen=True)
class Text:
    """A line of text whose `anchor` is at `x`; `y` is the middle of its small letters.

    `turn` is anticlockwise, in degrees about the anchor. `halo` puts it on a ground of the page's
    colour.
    """

    x: float
    y: float
    text: str
    size: float = 7.5
    colour: str = INK
    anchor: Anchor = "start"
    bold: bool = False
    turn: float = 0.0
    halo: bool = False


Mark = Line | Area | Dot | Text


@dataclass(frozen=True)
class Drawing:
    """A picture of a width and a height in points; later marks lie over earlier ones."""

    width: float
    height: float
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Box:
    """A rectangle in points."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def corners(self) -> tuple[Point, ...]:
        """The corners in order, as an area wants them."""
        return (
            (self.left, self.top),
            (self.right, self.top),
            (self.right, self.bottom),
            (self.left, self.bottom),
        )


@dataclass(frozen=True)
class Scale:
    """Map `low` to the point `start` and `high` to `end`, by the logarithm where `log`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """Where a value lies, in points."""
        return float(self.each(np.array([value]))[0])

    def each(self, values: Array) -> Array:
        """Where values lie, in points; NaN stays NaN, and what is far outside stays outside."""
        with np.errstate(all="ignore"):
            low, high = self.low, self.high
            if self.log:
                low, high, values = math.log(low), math.log(high), np.log(values)
            share = (values - low) / (high - low)
            return np.clip(self.start + (self.end - self.start) * share, -_FARTHEST, _FARTHEST)


def marker(shape: str, x: float, y: float, colour: str, radius: float) -> Iterator[Mark]:
    """Draw a sign about a point: a "circle", a "cross", or one of the polygons."""
    if shape == "circle":
        yield Dot(x, y, radius, colour)
    elif shape == "cross":
        for up in (radius, -radius):
            yield Line(((x - radius, y + up), (x + radius, y - up)), colour, 1.5)
    else:
        yield Area([(x + radius * a, y + radius * b) for a, b in _SHAPES[shape]], colour)


def inside(xs: Array, ys: Array, box: Box) -> list[list[Point]]:
    """Cut a line where it leaves a box at the top or the bottom, or is NaN: the parts inside."""
    points: list[Point] = list(zip(xs.tolist(), ys.tolist(), strict=True))
    if bool(((ys >= box.top) & (ys <= box.bottom)).all()):
        return [points]
    parts: list[list[Point]] = []
    for start, end in itertools.pairwise(points):
        if (segment := _segment_inside(start, end, box)) is None:
            continue
        if parts and parts[-1][-1] == segment[0]:
            parts[-1].append(segment[1])
        else:
            parts.append(list(segment))
    return parts


def _segment_inside(start: Point, end: Point, box: Box) -> tuple[Point, Point] | None:
    """Clip a segment at the top and bottom of a box by Liang and Barsky's parameters."""
    (x, y), rise = start, end[1] - start[1]
    if not math.isfinite(rise):
        return None
    first, last = 0.0, 1.0
    if rise:
        crossings = sorted(((box.top - y) / rise, (box.bottom - y) / rise))
        first, last = max(first, crossings[0]), min(last, crossings[1])
    elif not box.top <= y <= box.bottom:
        return None
    if first >= last:
        return None

    def at(share: float) -> Point:
        return x + share * (end[0] - x), y + share * rise

    return (start if first == 0.0 else at(first)), (end if last == 1.0 else at(last))


def ticks(low: float, high: float, most: int = 5, *, whole: bool = False) -> list[float]:
    """Round numbers from `low` to `high`, about `most` of them; whole numbers if asked for."""
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return [low]
    power = 10.0 ** math.floor(math.log10(span / most))
    steps = (1.0, 2.0, 5.0, 10.0) if whole else (1.0, 2.0, 2.5, 5.0, 10.0)
    step = next(step * power for step in steps if step * power >= span / most * (1 - 1e-9))
    step = max(step, 1.0) if whole else step
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def short(text: str, most: int = 28) -> str:
    """Shorten text to `most` characters, cutting the middle: both ends distinguish levels."""
    line = " ".join(printable(text).split())
    if len(line) <= most:
        return line
    tail = (most - 1) // 2
    return f"{line[: most - 1 - tail]}…{line[len(line) - tail :]}"
