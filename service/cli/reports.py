"""The verbs that take results out of a store: report, export."""

from pathlib import Path
from typing import Annotated

import typer

from sickbay.service.cli.options import (
    AllPairsOption,
    JsonOption,
    StoreOption,
    SweepArgument,
    WithinOption,
    existing_store,
    print_json,
    warn_of,
)
from sickbay.service.formats import ExportFormat, FigureFormat, ReportFormat, Tracker


def add_verbs(app: typer.Typer) -> None:
    """Add this file's verbs to the command line."""
    for verb in (report, export):
        app.command()(verb)


def report(  # noqa: PLR0913, PLR0917  each is an option of the verb
    sweep: SweepArgument,
    store: StoreOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to write the report.")
    ] = None,
    style: Annotated[
        ReportFormat,
        typer.Option("--format", help="One HTML page, Markdown, or LaTeX for a paper."),
    ] = ReportFormat.HTML,
    figures: Annotated[
        Path | None,
        typer.Option("--figures", help="Also write every picture as a file into this folder."),
    ] = None,
    figure_style: Annotated[
        FigureFormat, typer.Option("--figure-format", help="Format of those pictures.")
    ] = FigureFormat.PNG,
    all_pairs: AllPairsOption = False,
    within: WithinOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write one self-contained file: verdicts, effects, causes, health, curves, findings."""
    from sickbay.service.analysis.study import EffectOptions
    from sickbay.service.query.lookup import find_sweep
    from sickbay.service.reports.file import write_pictures, write_report
    from sickbay.trials.store.tables import damage

    opened = existing_store(store)
    sweep_id = find_sweep(opened, sweep).sweep_id
    asked = EffectOptions(all_pairs=all_pairs, within=tuple(within or ()))
    warn_of(damage(opened, [sweep_id]))
    written = []
    if output is not None or not as_json:
        written.append(write_report(opened, sweep_id, output, style, asked))
    if figures is not None:
        written += write_pictures(opened, sweep_id, figures, figure_style, asked)
    if as_json:
        from sickbay.service.reports.html import report_data

        data = report_data(opened, sweep_id, asked)
        print_json({**data, "written": [str(path) for path in written]})
        return
    for path in written:
        print(path)


def export(
    sweep: SweepArgument,
    store: StoreOption = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            help="A folder, made if missing; for --to mlflow a tracking URI too. "
            "Default: ./SWEEP-export.",
            show_default=False,
        ),
    ] = None,
    style: Annotated[
        ExportFormat | None,
        typer.Option("--format", help="Tables as files. Default: csv.", show_default=False),
    ] = None,
    tracker: Annotated[
        Tracker | None,
        typer.Option("--to", help="Export trials as runs of a tracker, not as tables."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a sweep for other programs: tables as CSV, Parquet, LaTeX, or runs of a tracker."""
    from sickbay.service.export.tables import export_tables
    from sickbay.service.export.trackers import export_to
    from sickbay.service.query.lookup import find_sweep

    if style is not None and tracker is not None:
        raise typer.BadParameter("give --format for tables or --to for a tracker, not both")
    opened = existing_store(store)
    sweep_id = find_sweep(opened, sweep).sweep_id
    target = out or f"{sweep_id}-export"
    if tracker is not None:
        number = export_to(opened, sweep_id, tracker, target)
        if as_json:
            print_json({"sweep_id": sweep_id, "to": tracker, "out": target, "trials": number})
        else:
            print(f"{number} trials to {tracker} in {target}")
        return
    if "://" in target:
        raise typer.BadParameter(f"--out {target}: tables are written into a local folder")
    if style is ExportFormat.LATEX:
        from sickbay.service.reports.file import write_latex_tables

        written = write_latex_tables(opened, sweep_id, Path(target))
    else:
        written = export_tables(opened, sweep_id, Path(target), style or ExportFormat.CSV)
    if as_json:
        print_json({"sweep_id": sweep_id, "written": [str(path) for path in written]})
        return
    for path in written:
        print(path)
