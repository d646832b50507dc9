"""Options that several verbs share, and how verbs print."""

import json
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sickbay.service.cli.completion import complete_sweep

if TYPE_CHECKING:  # half a second that a verb should not wait before it needs it
    from rich.console import Console

    from sickbay.service.client import Client
    from sickbay.service.query.engine import QueryResult
    from sickbay.trials.store import Store

StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        help="Where results are stored: a path, or a URI that pyarrow opens (s3://, gs://). "
        "Default: SICKBAY_STORE, else ./sickbay-results.",
        show_default=False,
    ),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        help="Where sweeps run: a Ray cluster (auto, host:6379, ray://…, http://head:8265) or a "
        "Sickbay service (http://host:8080). Default: SICKBAY_ADDRESS, else a local Ray.",
        show_default=False,
    ),
]
AllPairsOption = Annotated[
    bool, typer.Option("--all-pairs", help="Compare every two levels of a factor.")
]
WithinOption = Annotated[
    list[str] | None,
    typer.Option(
        "--within",
        help="A factor: the others are compared within each of its levels; repeatable.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
SpecArgument = Annotated[
    Path, typer.Argument(help="A sweep spec, YAML or JSON; - reads standard input.")
]
SweepArgument = Annotated[
    str,
    typer.Argument(
        help="A sweep's id, its name, or the beginning of either.", autocompletion=complete_sweep
    ),
]


NARROWEST = 9  # columns of a terminal that a column of a table needs, to be read
_CHOSEN: dict[str, str | None] = {"address": None}  # what stands before the verb


class Format(StrEnum):
    """How rows are printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


def store_uri(option: str | None) -> str:
    """The store that a verb works on."""
    from sickbay.service.settings import settings

    return option or settings().store


def existing_store(option: str | None) -> "Store":
    """Open the store for reading: the service's, where one is chosen, else a StoreError if none."""
    service = None if option else chosen_service()
    if service is not None:
        from sickbay.service.query.remote_store import remote_store

        return remote_store(service, str(chosen_address()))
    from sickbay.trials.store import open_store

    return open_store(store_uri(option), create=False)


def choose_address(address: str | None) -> None:
    """Store the address given before the verb (`sickbay --address http://… list`)."""
    _CHOSEN["address"] = address


def chosen_address(option: str | None = None) -> str | None:
    """The address of a verb: its own option, the one before the verb, or the environment's."""
    from sickbay.service.settings import settings

    return option or _CHOSEN["address"] or settings().address


def chosen_service(option: str | None = None) -> "Client | None":
    """The client of the Sickbay service that a verb should talk to; None to work here."""
    from sickbay.service.settings import settings
    from sickbay.service.sweeps.remote import service_at

    return service_at(chosen_address(option), settings().token)


def console(*, stderr: bool = False) -> "Console":
    """A Rich console as wide as the terminal; in a pipe wide enough to cut nothing.

    What users write is text, never markup or a command to the terminal: a level may be called
    `[/b]`, or hold escape sequences, which are shown as pictures of their characters.
    """
    from sickbay.service.console import TextConsole

    made = TextConsole(stderr=stderr, markup=False, emoji=False)
    if not made.is_terminal:
        made.width = 160
    return made


def print_json(value: Any) -> None:
    """Print standard JSON: NaN and infinity as strings."""
    from sickbay.service.query.engine import plain

    print(json.dumps(plain(value), indent=2, allow_nan=False, default=str))


def print_result(result: "QueryResult", style: Format) -> None:
    """Print the answer to a query; names files that had to be left out on stderr."""
    warn_of(result.problems)
    if style is Format.JSON:
        print_json(result.records())
    elif style is Format.CSV:
        _print_csv(result)
    elif style is Format.PARQUET:
        _print_parquet(result)
    else:
        _print_table(result)


def warn_of(problems: Sequence[object]) -> None:
    """Name damaged files on stderr; the rest was read."""
    for problem in problems:
        typer.echo(f"sickbay: left out {problem}", err=True)


def warn_of_namesakes(store: "Store", word: str) -> None:
    """Say on stderr if a name matches several sweeps, and that the latest was chosen."""
    from sickbay.trials.store.reader import list_sweeps

    named = [sweep.sweep_id for sweep in list_sweeps(store) if sweep.name == word]
    if len(named) > 1:
        others = ", ".join(named[1:])
        typer.echo(
            f"sickbay: {len(named)} sweeps are called {word!r}: this is the latest, {named[0]}; "
            f"there are also {others}",
            err=True,
        )


def _print_table(result: "QueryResult") -> None:
    from rich import box
    from rich.table import Table

    from sickbay.service.summary.formatting import cell

    out = console()
    if out.is_terminal and len(result.columns) * NARROWEST > out.width:
        _print_records(out, result)
    else:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in result.columns:
            table.add_column(name, overflow="fold")
        for row in result.rows:
            table.add_row(*map(cell, row))
        out.print(table)
    cut = " (there are more)" if result.truncated else ""
    out.print(f"{len(result.rows)} rows{cut}", style="dim")


def _print_records(out: "Console", result: "QueryResult") -> None:
    """Print more columns than the terminal is wide for: a row after the other, a line a column."""
    from rich.table import Table
    from rich.text import Text

    from sickbay.service.summary.formatting import cell

    for number, row in enumerate(result.rows, 1):
        out.rule(f"row {number}", align="left", characters="─", style="dim")
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column(overflow="fold")
        for name, value in zip(result.columns, row, strict=True):
            grid.add_row(Text(name), Text(cell(value)))
        out.print(grid)


def _print_csv(result: "QueryResult") -> None:
    import csv
    import sys

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(result.columns)
    for row in result.rows:
        writer.writerow("" if value is None else value for value in row)


def _print_parquet(result: "QueryResult") -> None:
    import sys

    import pyarrow.parquet as pq

    if sys.stdout.isatty():
        raise typer.BadParameter("Parquet is binary: redirect it to a file with > rows.parquet")
    pq.write_table(result.table, sys.stdout.buffer)
