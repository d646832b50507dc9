"""The command line: `sickbay VERB`. Verbs are thin; what they need is imported when they run.

Exit codes: 0 all is well, 1 a run failed, 2 wrong usage or a bad spec, 130 ended by Ctrl-C.
"""

import sys
from importlib import metadata
from typing import Annotated

import typer

from sickbay.service.cli import analysis, catalogue, diagnose, reports, results, serve, submit
from sickbay.service.cli import sweeps as cli_run
from sickbay.service.cli.options import AddressOption, choose_address

app = typer.Typer(
    name="sickbay",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # the help is read in pipes as well
)
for module in (cli_run, results, reports, analysis, diagnose, submit, serve, catalogue):
    module.add_verbs(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sickbay {metadata.version('sickbay')}")
        raise typer.Exit


VersionOption = Annotated[
    bool,
    typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version."),
]


@app.callback()
def root(address: AddressOption = None, version: VersionOption = False) -> None:  # noqa: ARG001
    """Ablation sweeps on Ray that say which trials to believe."""
    choose_address(address)


def main() -> None:
    """Run the command line; errors that a user can fix are printed as sentences on stderr."""
    # A workload "module:ATTRIBUTE" may lie in the present folder, as with `python -m`.
    if "" not in sys.path:
        sys.path.insert(0, "")
    sys.argv[1:] = _address_first(sys.argv[1:])
    try:
        app(prog_name="sickbay")
    except Exception as error:
        code = exit_code(error)
        if code is None:
            raise
        print(f"sickbay: {error}", file=sys.stderr)
        sys.exit(code)


def _address_first(arguments: list[str]) -> list[str]:
    """Allow `--address` after any verb, with the same meaning as before it."""
    for place, word in enumerate(arguments):
        if word == "--":
            return arguments
        if word == "--address" and place + 1 < len(arguments):
            return [*arguments[place : place + 2], *arguments[:place], *arguments[place + 2 :]]
        if word.startswith("--address="):
            return [word, *arguments[:place], *arguments[place + 1 :]]
    return arguments


def exit_code(error: Exception) -> int | None:
    """Exit code: 2 for a user's mistake, 1 for trouble with the machine; None for a bug."""
    if type(error).__name__ == "ServiceError":  # its module is a wait for nothing otherwise
        return 2 if getattr(error, "status", 500) < 500 else 1
    from sickbay.service.query.engine import QueryError
    from sickbay.service.query.lookup import SweepError
    from sickbay.trials.errors import SpecError
    from sickbay.trials.events import ResourceError
    from sickbay.trials.execution.lease import AlreadyDrivenError
    from sickbay.trials.registry import RegistryError
    from sickbay.trials.store import StoreError

    if isinstance(error, SpecError | QueryError | SweepError | RegistryError | ResourceError):
        return 2
    if isinstance(error, StoreError | AlreadyDrivenError | ConnectionError):
        return 1
    return None


if __name__ == "__main__":
    main()
