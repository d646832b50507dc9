"""The figures of a sweep, for its page and as separate files: `write_figures`.

    write_figures(store, values, effects, Path("figures"), FigureFormat.PDF)

Every picture is a function of the store alone: the same store gives the same bytes.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sickbay.service.analysis.study import SweepEffects
from sickbay.service.charts.curves import Curves, curve_rows
from sickbay.service.charts.draw_curves import curves
from sickbay.service.charts.draw_forest import MOST_ROWS, forest
from sickbay.service.charts.draw_health import flow, health_map
from sickbay.service.charts.draw_parallel import MOST_LINES, parallel
from sickbay.service.charts.drawing import Drawing
from sickbay.service.charts.health import flows, health_maps
from sickbay.service.formats import FigureFormat
from sickbay.service.summary.questions import trials as trials_sql
from sickbay.service.summary.values import Values
from sickbay.trials.store import Store, StoreError


@dataclass(frozen=True)
class Picture:
    """One figure: its file name, title, the SQL of its numbers, and how to draw it.

    `draw` gives None where there is nothing to draw. `note` says what the picture leaves out.
    """

    name: str
    title: str
    sql: str
    draw: Callable[[], Drawing | None]
    note: str = ""


def wide_pictures(
    store: Store, values: Values, effects: SweepEffects | None
) -> dict[str, tuple[Picture, ...]]:
    """The figures of the whole sweep by kind: forest, map, flow, parallel."""
    pictures: dict[str, tuple[Picture, ...]] = {"forest": (), "parallel": ()}
    if effects is not None and effects.table.effects:
        pictures["forest"] = (_forest(effects),)
    pictures["map"] = tuple(
        Picture(
            f"health-map-{_file(grid.x.factor)}-{_file(grid.y.factor)}",
            grid.title,
            grid.sql,
            lambda grid=grid: health_map(grid),  # type: ignore[misc]
        )
        for grid in health_maps(store, values)
    )
    pictures["flow"] = tuple(
        Picture(
            f"cause-flow-{_file(level_flow.axis.factor)}",
            level_flow.axis.factor,
            level_flow.sql,
            lambda level_flow=level_flow: flow(level_flow),  # type: ignore[misc]
        )
        for level_flow in flows(store, values)
    )
    sql = trials_sql(values.record.sweep_id, values.factors)
    if values.trials:
        over = len(values.trials) - MOST_LINES
        few = f"A sample of {MOST_LINES} of {len(values.trials)} trials, every cause in proportion."
        pictures["parallel"] = (
            Picture(
                "parallel-coordinates",
                "Parallel coordinates",
                sql,
                lambda: parallel(values),
                few if over > 0 else "",
            ),
        )
    return pictures


def write_figures(
    store: Store,
    values: Values,
    effects: Sequence[SweepEffects | None],
    folder: Path,
    style: FigureFormat,
) -> tuple[Path, ...]:
    """Write every figure of a sweep as a separate file; returns their paths.

    The first of `effects` are the usual ones, others have forests of their own. Raises StoreError
    if a file cannot be written.
    """
    from sickbay.service.charts.figure_files import as_bytes  # noqa: PLC0415  matplotlib is slow

    kinds = wide_pictures(store, values, effects[0]).values()
    pictures = [wide_picture for some in kinds for wide_picture in some]
    pictures += [_forest(more, "forest-asked-for") for more in effects[1:] if more is not None]
    pictures += _curve_pictures(curve_rows(store, values))
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for picture in pictures:
            if (drawing := picture.draw()) is not None:
                written.append(folder / f"{picture.name}.{style.value}")
                written[-1].write_bytes(as_bytes(drawing, style))
    except OSError as error:
        raise StoreError(f"cannot write the figures to {folder}: {error}") from error
    return tuple(written)


def _forest(effects: SweepEffects, name: str = "forest") -> Picture:
    more = len(effects.table.effects) - MOST_ROWS
    return Picture(
        name,
        "Effects and health",
        effects.sql.get("pairs", ""),
        lambda: forest(effects.table, effects.signal),
        f"{more} more levels are in the table only." if more > 0 else "",
    )


def _curve_pictures(all_curves: Curves) -> Iterator[Picture]:
    for row in all_curves.rows:
        yield Picture(
            f"curves-{_file(row.shown.signal)}",
            row.shown.signal,
            row.sql,
            lambda row=row: curves(row),  # type: ignore[misc]
        )
    by_seed = all_curves.by_seed
    if by_seed is not None:
        yield Picture("seeds", "By seed", by_seed.sql, lambda: curves(by_seed))


def _file(name: str) -> str:
    """Make a factor's or signal's name safe for use in a file name."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", name)[:40].strip("-") or "unnamed"
