"""Drawings as a part of a page: SVG text with CSS variables as colours, without scripts and ids."""

from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape

from sickbay.service.charts.drawing import (
    BASELINE,
    INK,
    Area,
    Dot,
    Drawing,
    Line,
    Mark,
    Point,
    Text,
)


def as_svg(drawing: Drawing) -> str:
    """Write a drawing as an SVG element that fills the width of its parent.

    It is hidden from screen readers: the tables of the page say the same in words.
    """
    box = f"0 0 {_number(drawing.width)} {_number(drawing.height)}"
    marks = "".join(text for mark in drawing.marks for text in _written(mark))
    return f'<svg viewBox="{box}" aria-hidden="true" focusable="false">{marks}</svg>'


def _written(mark: Mark) -> Iterator[str]:
    match mark:
        case Line():
            dashes = " ".join(map(_number, mark.dashes))
            yield f'<polyline points="{_points(mark.points)}" fill="none"'
            yield f' stroke="{_colour(mark.colour)}" stroke-width="{_number(mark.width)}"'
            yield f' stroke-dasharray="{dashes}"' if dashes else ""
            yield f' stroke-opacity="{_number(mark.opacity)}"/>' if mark.opacity < 1 else "/>"
        case Area():
            yield f'<polygon points="{_points(mark.points)}" fill="{_colour(mark.colour)}"'
            yield f' fill-opacity="{mark.opacity:.2g}"' if mark.opacity < 1 else ""
            yield f' stroke="{_colour(mark.edge)}" stroke-width=".6"/>' if mark.edge else "/>"
        case Dot():
            x, y, radius = _number(mark.x), _number(mark.y), _number(mark.radius)
            yield f'<circle cx="{x}" cy="{y}" r="{radius}" fill="{_colour(mark.colour)}"'
            yield f' stroke="{_colour(mark.edge)}"/>' if mark.edge else "/>"
        case Text():
            yield from _text(mark)


def _text(mark: Text) -> Iterator[str]:
    x, y = _number(mark.x), _number(mark.y)
    yield f'<text x="{x}" y="{y}" dy="{BASELINE}em" font-size="{_number(mark.size)}"'
    yield f' fill="{_colour(mark.colour)}"'
    yield f' text-anchor="{mark.anchor}"' if mark.anchor != "start" else ""
    yield ' font-weight="bold"' if mark.bold else ""
    yield f' transform="rotate({_number(-mark.turn)} {x} {y})"' if mark.turn else ""
    yield ' paint-order="stroke" stroke="var(--page)" stroke-width="2.5"' if mark.halo else ""
    yield f">{escape(mark.text)}</text>"


def _colour(name: str) -> str:
    if name == INK:
        return "currentColor"
    return name if name.startswith("#") or name == "none" else f"var(--{name})"


def _points(points: Sequence[Point]) -> str:
    return " ".join(f"{_number(x)},{_number(y)}" for x, y in points)


def _number(value: float) -> str:
    """Format to a tenth of a point, as short as it goes."""
    return f"{value:.1f}".removesuffix(".0")
