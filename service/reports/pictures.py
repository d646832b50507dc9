"""The pictures of a report's page. Loads matplotlib, so the report imports it late."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from sickbay.service.analysis.study import SweepEffects
from sickbay.service.charts.curves import MOST_ARMS, CurveRow, curve_rows, verdicts_of
from sickbay.service.charts.draw_small import letters, row_pictures
from sickbay.service.charts.figures import on_page, wide_pictures
from sickbay.service.charts.frame import row_frame
from sickbay.service.charts.style import STYLES
from sickbay.service.summary.formatting import number
from sickbay.service.summary.values import Values
from sickbay.trials.store import Store


@dataclass(frozen=True)
class Drawn:
    """One picture in the page, its title, its note and the SQL of its numbers."""

    title: str
    svg: Markup
    sql: str
    note: str


def pictures(store: Store, values: Values, effects: SweepEffects | None) -> dict[str, Any]:
    """Draw everything: `curves` and `by_seed` are rows of panels, the others lists of pictures."""
    all_curves = curve_rows(store, values)
    rows, count = [], 0
    for row in (*all_curves.rows, *([all_curves.by_seed] if all_curves.by_seed else [])):
        rows.append(_row(row, count))
        count += len(row.panels)
    verdicts = verdicts_of([panel for row in all_curves.rows for panel in row.panels])
    wide: dict[str, list[Drawn]] = {}
    for kind, some in wide_pictures(store, values, effects).items():
        wide[kind] = []
        for picture in some:
            svg = Markup(on_page(picture, count))  # noqa: S704 - matplotlib escapes its words
            count += 1
            wide[kind] += [Drawn(picture.title, svg, picture.sql, picture.note)] if svg else []
    return {
        "curves": rows[: len(all_curves.rows)],
        "by_seed": rows[-1] if all_curves.by_seed else None,
        "by_level": len(values.arms) > MOST_ARMS,
        "drawn": [verdict for verdict in STYLES if verdict in verdicts],
        "wide": wide,
    }


def _row(row: CurveRow, start: int) -> dict[str, Any]:
    drawn = [Markup(svg) for svg in row_pictures(row, start)]  # noqa: S704 - numbers only
    return {
        "shown": row.shown,
        "frame": row_frame(row),
        "left_out": row.left_out,
        "sql": row.sql,
        "as_bands": any(panel.bands and not panel.lines for panel in row.panels),
        "with_bands": any(panel.bands for panel in row.panels),
        "references": _references(row.panels, letters(row)),
        "pictures": list(zip(row.panels, drawn, strict=True)),
    }


def _references(panels: Sequence[Any], marks: Mapping[str, str]) -> list[dict[str, str]]:
    """The legend of the letters: each reference line with its value or range over the panels."""
    listed = []
    for text, letter in marks.items():
        references = [
            reference
            for panel in panels
            for reference in panel.references
            if reference.text == text
        ]
        low, high = (
            min(reference.low for reference in references),
            max(reference.high for reference in references),
        )
        span = number(low) if number(low) == number(high) else f"{number(low)} – {number(high)}"
        listed.append({"letter": letter, "text": text, "span": span})
    return listed
