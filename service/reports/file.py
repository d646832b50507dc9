"""Where a report is written, and in which format."""

from pathlib import Path

from sickbay.service.analysis.study import DEFAULT_OPTIONS, EffectOptions, sweep_effects
from sickbay.service.formats import FigureFormat, ReportFormat
from sickbay.service.reports.html import (
    effects_asked_for,
    render_latex,
    render_markdown,
    render_report,
)
from sickbay.service.reports.latex import latex_tables
from sickbay.service.reports.tables import effect_section
from sickbay.service.summary.collect import report_values
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
    asked: EffectOptions = DEFAULT_OPTIONS,
) -> Path:
    """Render a sweep and write it to `path`; default: a local store's `reports`, else here.

    Comparisons `asked` for follow the usual ones. Raises StoreError if the file cannot be written.
    """
    target = path or default_path(store, sweep_id, style)
    content = _RENDERERS[style](store, sweep_id, asked)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content, encoding="utf-8")
    except OSError as error:
        raise StoreError(f"cannot write the report to {target}: {error}") from error
    return target


def write_pictures(
    store: Store,
    sweep_id: str,
    folder: Path,
    style: FigureFormat,
    asked: EffectOptions = DEFAULT_OPTIONS,
) -> tuple[Path, ...]:
    """Write every picture of a sweep to its own file, and one of the comparisons `asked` for.

    Raises StoreError if a file cannot be written.
    """
    from sickbay.service.charts.figures import write_figures  # noqa: PLC0415  matplotlib is slow

    effects, _ = sweep_effects(store, sweep_id)
    also = effects_asked_for(store, sweep_id, asked)
    return write_figures(store, report_values(store, sweep_id), (effects, *also), folder, style)


def write_latex_tables(store: Store, sweep_id: str, folder: Path) -> tuple[Path, ...]:
    """Write trials, findings (except clear ones) and effects of a sweep as LaTeX tables.

    Raises StoreError if a file of the store is damaged, or if a table cannot be written.
    """
    values = report_values(store, sweep_id)
    if values.problems:
        raise StoreError(f"nothing was exported, because {'; '.join(values.problems)}")
    effects = effect_section(*sweep_effects(store, sweep_id))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return latex_tables(store, values, effects, folder)
    except OSError as error:
        raise StoreError(f"cannot export to {folder}: {error}") from error


def default_path(store: Store, sweep_id: str, style: ReportFormat = ReportFormat.HTML) -> Path:
    """`<store>/reports/<sweep>.html` for a local store, else `./<sweep>.html`."""
    name = f"{sweep_id}.{_ENDINGS[style]}"
    return Path(store.root) / "reports" / name if store.is_local else Path(name)
