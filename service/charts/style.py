"""What all pictures share: colours, fonts, and how a figure becomes bytes or a part of a page.

A drawing function takes its colours from matplotlib's settings, which `skin` puts in place: so one
function draws for paper, with plain colours, and for a page, whose style sheet owns the colours.
"""

import contextlib
import io
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from sickbay.service.charts.svg import GRID, INK, NOTE, SURFACE, page_svg
from sickbay.service.formats import FigureFormat
from sickbay.service.summary.formatting import printable

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
    """Draw for a page, or for paper; a person's own style, TeX perhaps, is not meant for either."""
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
    """The colour of words."""
    return str(mpl.rcParams["text.color"])


def note() -> str:
    """The colour of what matters less."""
    return str(mpl.rcParams["xtick.color"])


def grid() -> str:
    """The colour of lines behind."""
    return str(mpl.rcParams["grid.color"])


def surface() -> str:
    """The colour that everything is drawn on."""
    return str(mpl.rcParams["legend.facecolor"])


def as_bytes(figure: Figure, style: FigureFormat) -> bytes:
    """Write a figure for paper; the same figure gives the same bytes. Call it inside `skin`."""
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
    """Write a figure as a part of a page, the `number`-th in it. Call it inside `skin`."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=nothing)
    return page_svg(buffer.getvalue(), number)


def short(words: str, most: int = 28) -> str:
    """Fit words into `most` letters: the middle goes, as both ends tell levels apart."""
    line = " ".join(printable(words).split())
    if len(line) <= most:
        return line
    tail = (most - 1) // 2
    return f"{line[: most - 1 - tail]}…{line[len(line) - tail :]}"
