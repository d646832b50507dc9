"""Shared by all figures: colours, fonts, and conversion to bytes or to a part of a page.

A drawing function takes its colours from matplotlib's settings, which `skin` puts in place: so one
function draws for paper, with plain colours, and for a page, whose style sheet owns the colours.
"""

import contextlib
import io
import re
import threading
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from sickbay.service.formats import FigureFormat
from sickbay.service.summary.formatting import printable

# Okabe and Ito's colours, told apart by the colour-blind; each has dashes of its own besides.
STYLES: Mapping[str, tuple[str, str]] = {
    "healthy": ("#009e73", "-"),
    "pathological": ("#d55e00", "--"),
    "inconclusive": ("#0072b2", "-."),
    "failed": ("#595959", ":"),
    "cancelled": ("#595959", ":"),
    "pruned": ("#595959", ":"),
}
INK, GRID, NOTE, SURFACE = "#000001", "#000002", "#000003", "#000004"
_VARIABLES = {
    **{
        colour: f"var(--{verdict})"
        for verdict, (colour, _) in STYLES.items()
        if verdict not in ("cancelled", "pruned")
    },
    INK: "currentColor",
    GRID: "var(--grid)",
    NOTE: "var(--note)",
    SURFACE: "var(--page)",
}
_SVG, _XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"


def page_svg(text: str, number: int) -> str:
    """Make an SVG fit for a page: scalable, with unique ids, and variables as colours.

    `number` is the picture's in the page.
    """
    root = ET.fromstring(text)  # noqa: S314 - matplotlib wrote it, from numbers alone
    used = dict.fromkeys(re.findall(r"(?:url\(|href=\")#([^\")]+)", text))
    names = {name: f"p{number}-{index}" for index, name in enumerate(used)}
    for element in root.iter():
        element.attrib = dict(_attributes(element.attrib, names))
        element.tag = element.tag.removeprefix(_SVG)
    for child in list(root):
        # A style in a picture would be the whole page's: it stands in report.css.
        if child.tag == "metadata" or (len(child) and child[0].tag == "style"):
            root.remove(child)
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.set("aria-hidden", "true")  # the tables say the same in words
    root.set("focusable", "false")
    written = ET.tostring(root, encoding="unicode")
    return re.sub(r"\s*\n\s*", " ", written).replace("> <", "><")


def _attributes(given: Mapping[str, str], names: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for key, value in given.items():
        if key == "id":
            if value in names:
                yield key, names[value]
        elif key == f"{_XLINK}href":
            yield "href", f"#{names[value[1:]]}"
        elif key == "clip-path":
            yield key, f"url(#{names[value[5:-1]]})"
        elif key == "style":
            yield key, _restyled(value)
        elif not value.startswith("rotate(-0 "):
            yield key, value


def _restyled(style: str) -> str:
    for colour, variable in _VARIABLES.items():
        style = style.replace(colour, variable)
    return re.sub(r"font-family: [^;]*; ", "", style)  # the page's own


_LOCK = threading.Lock()  # the settings of matplotlib are the process's
_PAPER: dict[Any, Any] = {
    "text.color": "#1a1a1a",
    "grid.color": "#d4d4d0",
    "xtick.color": "#5c5c58",
    "legend.facecolor": "#ffffff",
}
_PAGE: dict[Any, Any] = {
    "text.color": INK,
    "grid.color": GRID,
    "xtick.color": NOTE,
    "legend.facecolor": SURFACE,
}
_DPI = 200


@contextlib.contextmanager
def skin(*, page: bool) -> Iterator[None]:
    """Style for a page or for print; ignores the user's own matplotlib settings."""
    with _LOCK, mpl.rc_context(), warnings.catch_warnings():
        # A level may bear signs that the font lacks: a box stands for them, and no warning.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        mpl.rcdefaults()
        mpl.rcParams.update(_PAGE if page else _PAPER)
        mpl.rcParams.update(
            {
                "svg.fonttype": "none" if page else "path",
                "svg.hashsalt": "sickbay",
                "pdf.fonttype": 42,
                "text.parse_math": False,  # a level may be called $x$
                "font.size": 8.0,
                "axes.edgecolor": mpl.rcParams["grid.color"],
                "axes.labelcolor": mpl.rcParams["text.color"],
                "xtick.labelcolor": mpl.rcParams["text.color"],
                "ytick.labelcolor": mpl.rcParams["text.color"],
                "ytick.color": mpl.rcParams["xtick.color"],
                "axes.facecolor": "none",
                "figure.facecolor": "none" if page else "#ffffff",
                "legend.frameon": False,
            }
        )
        yield


def ink() -> str:
    """The colour of text."""
    return str(mpl.rcParams["text.color"])


def note() -> str:
    """The colour of secondary elements."""
    return str(mpl.rcParams["xtick.color"])


def grid() -> str:
    """The colour of grid lines."""
    return str(mpl.rcParams["grid.color"])


def surface() -> str:
    """The background colour."""
    return str(mpl.rcParams["legend.facecolor"])


def as_bytes(figure: Figure, style: FigureFormat) -> bytes:
    """Render a figure for print; equal figures give equal bytes. Call it inside `skin`."""
    absent = {
        "png": ("Software",),
        "pdf": ("CreationDate", "Producer", "Creator"),
        "svg": ("Date",),
    }
    buffer = io.BytesIO()
    metadata = dict.fromkeys(absent[style])
    figure.savefig(buffer, format=style.value, dpi=_DPI, metadata=metadata)
    return buffer.getvalue()


def as_page(figure: Figure, number: int) -> str:
    """Render a figure as part of a page, the `number`-th in it. Call it inside `skin`."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=nothing)
    return page_svg(buffer.getvalue(), number)


def short(text: str, most: int = 28) -> str:
    """Shorten text to `most` characters, cutting the middle: both ends distinguish levels."""
    line = " ".join(printable(text).split())
    if len(line) <= most:
        return line
    tail = (most - 1) // 2
    return f"{line[: most - 1 - tail]}…{line[len(line) - tail :]}"
