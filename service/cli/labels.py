"""The verbs about verdicts: explain, relabel."""

from typing import Annotated, Any

import typer

from sickbay.service.cli.completion import complete_sweep
from sickbay.service.cli.options import (
    JsonOption,
    StoreOption,
    console,
    existing_store,
    print_json,
)


def add_verbs(app: typer.Typer) -> None:
    """Add this file's verbs to the command line."""
    for verb in (explain, relabel):
        app.command()(verb)


def explain(
    trial: Annotated[str, typer.Argument(help="A trial's id, or the beginning of it.")],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Why a trial got its label: its findings with evidence, and what would make it healthy."""
    from sickbay.service.reports.explain import explanation, print_explanation

    found = explanation(existing_store(store), trial)
    if as_json:
        print_json(found)
    else:
        print_explanation(console(), found)


def relabel(
    sweep: Annotated[
        str | None,
        typer.Argument(
            help="A sweep; without one, the whole store.", autocompletion=complete_sweep
        ),
    ] = None,
    store: StoreOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Judge stored histories with today's detectors; prints what changed, trains nothing."""
    from sickbay.service.query.lookup import find_sweep
    from sickbay.trials.execution.relabel import counted
    from sickbay.trials.execution.relabel import relabel as judge_again
    from sickbay.trials.registry import all_detectors
    from sickbay.trials.store.reader import list_sweeps

    opened = existing_store(store)
    chosen = [find_sweep(opened, sweep)] if sweep else list(list_sweeps(opened))
    detectors = all_detectors()
    reports = [judge_again(opened, one.sweep_id, detectors, write=not dry_run) for one in chosen]
    if as_json:
        print_json(
            [
                {**vars(one), "counts": counted([one]), "changes": [vars(c) for c in one.changes]}
                for one in reports
            ]
        )
        return
    for report in reports:
        _print_report(report)
    for words, count in counted(reports).items():
        print(f"{count:>6}  {words}")


def _print_report(report: Any) -> None:
    print(
        f"{report.sweep_id}: {report.trials} trials judged by {report.labeller_version}: "
        f"{report.same} as before, {len(report.changes)} changed, {report.written} labels written"
    )
    for change in report.changes:
        print(
            f"  {change.trial_id} ({change.arm}, seed {change.seed}): "
            f"{change.old} -> {change.new}: {change.reason}"
        )
