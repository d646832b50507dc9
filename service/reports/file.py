"""Where a report is written, and in which format."""

import importlib
from pathlib import Path

from sickbay.service.formats import FigureFormat, ReportFormat
from sickbay.service.reports.html import (
    render_latex,
    render_markdown,
    render_report,
    report_values,
    sweep_effects,
)
from sickbay.trials.store import Store, StoreError

_ENDINGS = {ReportFormat.HTML: "html", ReportFormat.MARKDOWN: "md", ReportFormat.LATEX: "tex"}
_RENDERERS = {
    ReportFormat.HTML: render_report,
    ReportFormat.MARKDOWN: render_markdown,
    ReportFormat.LATEX: render_latex,
}


def write_report(
    store: Store,
    sweep_id: str,
    path: Path | None = None,
    style: ReportFormat = ReportFormat.HTML,
) -> Path:
    """Render a sweep and write it to `path`; by default beside a local store's tables, else here.

    Raises StoreError if the file cannot be written.
    """
    target = path or default_path(store, sweep_id, style)
    content = _RENDERERS[style](store, sweep_id)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content, encoding="utf-8")
    except OSError as error:
        raise StoreError(f"cannot write the report to {target}: {error}") from error
    return target


def write_pictures(
    store: Store, sweep_id: str, folder: Path, style: FigureFormat
) -> tuple[Path, ...]:
    """Write every picture of a sweep as a file of its own.

    Raises StoreError if a file cannot be written.
    """
    figures = importlib.import_module("sickbay.service.charts.figures")  # matplotlib takes a second
    effects, _ = sweep_effects(store, sweep_id)
    written: tuple[Path, ...] = figures.write_figures(
        store, report_values(store, sweep_id), effects, folder, style
    )
    return written


def default_path(store: Store, sweep_id: str, style: ReportFormat = ReportFormat.HTML) -> Path:
    """`<store>/reports/<sweep>.html` for a local store, else `./<sweep>.html`."""
    name = f"{sweep_id}.{_ENDINGS[style]}"
    return Path(store.root) / "reports" / name if store.is_local else Path(name)
