"""The verbs of the service: serve, and `token create`, `token list`, `token revoke`."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from sickbay.service.cli.options import (
    AddressOption,
    JsonOption,
    StoreOption,
    existing_store,
    print_json,
    store_uri,
)

if TYPE_CHECKING:
    from sickbay.service.server.tokens import Role

T = TypeVar("T")

RoleOption = Annotated[
    str, typer.Option("--role", help="read, submit or admin; each may do what those before may.")
]
CodeOption = Annotated[
    str | None,
    typer.Option(
        "--allow-code",
        help="The least role that may submit workloads as module:ATTRIBUTE, which runs code of the "
        "submitter's choice. Default: none, only registered workloads run.",
        show_default=False,
    ),
]

DataOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--data-root",
        help="A folder below which specs may name a dataset by its path; may be given again. "
        "Default: none, only generated datasets.",
        show_default=False,
    ),
]

tokens = typer.Typer(
    name="token", help="Tokens of the HTTP service: names, roles.", no_args_is_help=True
)


def add_verbs(app: typer.Typer) -> None:
    """Add this file's verbs to the command line."""
    app.command()(serve)
    for verb in (create, listing, revoke):
        tokens.command(name="list" if verb is listing else None)(verb)
    app.add_typer(tokens)


def serve(
    store: StoreOption = None,
    address: AddressOption = None,
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on.", min=0, max=65535)] = 8080,
    cpus: Annotated[
        int | None, typer.Option("--cpus", min=1, help="Cores of each local Ray. Default: all.")
    ] = None,
    allow_code: CodeOption = None,
    data_root: DataOption = None,
) -> None:
    """Serve the HTTP API and the page; on other addresses than this machine's own with tokens."""
    from sickbay.service.api.serving import Service, serve
    from sickbay.service.settings import settings
    from sickbay.trials.store import open_store

    code_role = None if allow_code is None else _role(allow_code)
    roots = tuple(data_root or ())
    service = Service(host, port, address or settings().address, cpus, code_role, roots)
    opened = open_store(store_uri(store))
    _check_port(host, port)
    try:
        serve(opened, service)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--host") from error


def _check_port(host: str, port: int) -> None:
    """Fail early if another program listens on the port."""
    import errno
    import socket

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            return  # the server says what else is wrong with it
        raise typer.BadParameter(
            f"{port} of {host} is in use by another program: stop it (`ss -ltnp 'sport = :{port}'` "
            "names it), or choose another port; 0 takes any that is free",
            param_hint="--port",
        ) from error


def create(
    name: Annotated[str, typer.Argument(help="The holder's name: a-z, 0-9, '.', '_', '-'.")],
    role: RoleOption = "read",
    store: StoreOption = None,
) -> None:
    """Make a token and print its secret, once."""
    from sickbay.service.server.tokens import create_token
    from sickbay.trials.store import open_store

    print(_explained(lambda: create_token(open_store(store_uri(store)), name, _role(role))))


def listing(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """The tokens: names, roles, ages; never a secret."""
    import time

    from sickbay.service.server.tokens import list_tokens

    stored = list_tokens(existing_store(store))
    if as_json:
        print_json([{"name": t.name, "role": t.role, "created_at": t.created_at} for t in stored])
        return
    for token in stored:
        days = (time.time() - token.created_at) / 86400
        print(f"{token.name:<24} {token.role:<8} made {days:.0f} days ago")
    if not stored:
        print(
            "no token is set: the service is open to every user of this machine, and only to them"
        )


def revoke(
    name: Annotated[str, typer.Argument(help="The token's name.")], store: StoreOption = None
) -> None:
    """End a token; a running service refuses it within seconds."""
    from sickbay.service.server.tokens import revoke_token

    _explained(lambda: revoke_token(existing_store(store), name))
    print(f"the token {name} is revoked")


def _role(word: str) -> "Role":
    from sickbay.service.server.tokens import Role

    if word not in list(Role):
        raise typer.BadParameter(f"{word!r} is not a role; choose one of {', '.join(Role)}")
    return Role(word)


def _explained(work: Callable[[], T]) -> T:
    try:
        return work()
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="NAME") from error
