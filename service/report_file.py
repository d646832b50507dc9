"""Where a report is written."""

from pathlib import Path

from sickbay.service.report import render_report
from sickbay.trials.store import Store, StoreError


def write_report(store: Store, sweep_id: str, path: Path | None = None) -> Path:
    """Render a sweep and write it to `path`; by default beside a local store's tables, else here.

    Raises StoreError if the file cannot be written.
    """
    target = path or default_path(store, sweep_id)
    html = render_report(store, sweep_id)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(html, encoding="utf-8")
    except OSError as error:
        raise StoreError(f"cannot write the report to {target}: {error}") from error
    return target


def default_path(store: Store, sweep_id: str) -> Path:
    """`<store>/reports/<sweep>.html` for a local store, else `./<sweep>.html`."""
    if store.is_local:
        return Path(store.root) / "reports" / f"{sweep_id}.html"
    return Path(f"{sweep_id}.html")
