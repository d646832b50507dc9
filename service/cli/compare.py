"""The verb that lays two sweeps or two stores side by side: compare."""

from functools import cache
from typing import Annotated

import typer

from sickbay.service.cli.completion import complete_sweep
from sickbay.service.cli.options import (
    JsonOption,
    StoreOption,
    console,
    existing_store,
    print_json,
    warn_of,
)

HalfArgument = Annotated[
    str,
    typer.Argument(
        help="A sweep of the store, STORE#SWEEP, or a whole store by its path.",
        autocompletion=complete_sweep,
    ),
]


def add_verbs(app: typer.Typer) -> None:
    """Add this file's verbs to the command line."""
    app.command()(compare)


def compare(
    a: HalfArgument,
    b: HalfArgument,
    store: StoreOption = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option("--ignore", help="A setting that may differ in matched arms; repeatable."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Two sweeps or two stores side by side: drift, arms by configuration, labels that changed."""
    from sickbay.service.analysis.comparison import compare as side_by_side
    from sickbay.service.analysis.comparison_sides import open_half
    from sickbay.service.reports.compare_printed import print_comparison

    opened = cache(lambda: existing_store(store))  # once, also over HTTP
    before, after = open_half(opened, a), open_half(opened, b)
    warn_of([*before.problems, *after.problems])
    found = side_by_side(before, after, ignore or [])
    if as_json:
        print_json(found.as_data())
    else:
        print_comparison(console(), found)
