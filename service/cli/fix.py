"""The verb that writes the next sweep for a sick trial: fix."""

from pathlib import Path
from typing import Annotated

import typer

from sickbay.service.cli.options import StoreOption, existing_store, print_json


def add_verbs(app: typer.Typer) -> None:
    """Add this file's verbs to the command line."""
    app.command()(fix)


def fix(
    trial: Annotated[str, typer.Argument(help="A trial's id, or the beginning of it.")],
    store: StoreOption = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Where to write the spec; - prints it. [fix-TRIAL.yaml]"),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Replace a file that is there already.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the fixes and the spec as JSON besides.")
    ] = False,
) -> None:
    """Write the spec of the sweep that confirms a trial's smallest fix, or looks for one."""
    from dataclasses import asdict

    from sickbay.service.analysis.fixes import fixes_for
    from sickbay.service.analysis.follow_up import follow_up, spec_text, workload_levels, write_spec
    from sickbay.service.reports.fix_printed import fix_lines

    opened = existing_store(store)
    found = fixes_for(opened, trial)
    if not found.known and not found.healthy:
        found = fixes_for(opened, trial, workload_levels(found.workload))
    made = follow_up(opened, found)
    path = out or Path(f"fix-{found.trial_id[:8]}.yaml")
    if str(path) != "-":
        write_spec(made, path, replace=yes)
    if as_json:
        print_json(
            {**asdict(found), "path": str(path), "planned": made.trials, "spec": dict(made.spec)}
        )
        return
    if str(path) == "-":
        print(spec_text(made), end="")
        return
    for line in fix_lines(found):
        print(line)
    print(f"wrote {path}: {made.trials} trials. Run it with: sickbay run {path}")
    if not made.has_trial:
        print("its baseline is no stored trial: the installed workload has another version")
