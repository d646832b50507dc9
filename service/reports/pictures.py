"""The pictures of a report's page."""

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from sickbay.service.analysis.study import SweepEffects
from sickbay.service.charts.curves import MOST_ARMS, CurveRow, curve_rows, verdicts_of
from sickbay.service.charts.draw_curves import letters_of, panel_drawing, references_in_words
from sickbay.service.charts.drawing import DASHES, Drawing
from sickbay.service.charts.figures import wide_pictures
from sickbay.service.charts.frame import row_frame
from sickbay.service.charts.svg import as_svg
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
    by_seed = all_curves.by_seed
    verdicts = verdicts_of([panel for row in all_curves.rows for panel in row.panels])
    return {
        "curves": [_row(row) for row in all_curves.rows],
        "by_seed": _row(by_seed) if by_seed else None,
        "by_level": len(values.arms) > MOST_ARMS,
        "drawn": [verdict for verdict in DASHES if verdict in verdicts],
        "wide": {
            kind: [
                Drawn(picture.title, _svg(drawing), picture.sql, picture.note)
                for picture in some
                if (drawing := picture.draw()) is not None
            ]
            for kind, some in wide_pictures(store, values, effects).items()
        },
    }


def _svg(drawing: Drawing) -> Markup:
    return Markup(as_svg(drawing))  # noqa: S704 - its texts are escaped


def _row(row: CurveRow) -> dict[str, Any]:
    frame, letters = row_frame(row), letters_of(row)
    drawn = [
        _svg(panel_drawing(panel, frame, letters)) if frame and (panel.lines or panel.bands) else ""
        for panel in row.panels
    ]
    return {
        "shown": row.shown,
        "frame": frame,
        "left_out": row.left_out,
        "sql": row.sql,
        "as_bands": any(panel.bands and not panel.lines for panel in row.panels),
        "with_bands": any(panel.bands for panel in row.panels),
        "references": references_in_words(row),
        "pictures": list(zip(row.panels, drawn, strict=True)),
    }
