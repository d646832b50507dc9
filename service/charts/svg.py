"""Colours of a report's pictures, and what turns matplotlib's SVG into a part of a page."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping

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
    """Make a picture fit for a page: scalable, its ids unique, its colours variables.

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
