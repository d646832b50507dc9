"""Who may do what over HTTP: tokens and roles.

Without any token the service is for one machine alone: it binds to a loopback address only, and
`api_outer` refuses what does not come from this machine.
"""

import ipaddress
import threading
import time
from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from sickbay.service.api.errors import ApiError
from sickbay.service.api.tokens import Role, Token, find_token, list_tokens
from sickbay.trials.store.files import Store

FRESH_SECONDS = 2.0  # after which a revoked token is refused
LOCAL = Token("local", Role.ADMIN, "", 0.0)  # who asks on this machine while no token is set

_bearer = HTTPBearer(auto_error=False, description="a token made by `sickbay token create`")


class Guard:
    """Knows the tokens of a store; asks again every other second."""

    def __init__(self, store: Store) -> None:
        """Begin with the tokens as they are."""
        self._store = store
        self._lock = threading.Lock()
        self._tokens = list_tokens(store)
        self._asked = time.monotonic()
        self._closed = bool(self._tokens)

    def tokens(self) -> tuple[Token, ...]:
        """The tokens that are valid now."""
        with self._lock:
            if time.monotonic() - self._asked > FRESH_SECONDS:
                self._tokens = list_tokens(self._store)
                self._asked = time.monotonic()
                self._closed = self._closed or bool(self._tokens)
            return self._tokens

    def open(self) -> bool:
        """Whether everybody on this machine may do everything: no token was set as yet.

        When the last token is revoked the service, which may listen to a whole network, stays
        closed.
        """
        return not self.tokens() and not self._closed

    def who(self, secret: str | None) -> Token:
        """Whose secret this is. Raises ApiError 401 for none or a wrong one, where any is set."""
        if self.open():
            return LOCAL
        tokens = self.tokens()
        if not tokens:
            raise ApiError(401, "every token was revoked: make one with `sickbay token create`")
        if not secret:
            raise ApiError(
                401, "a token is needed: set SICKBAY_TOKEN, or send `Authorization: Bearer TOKEN`"
            )
        found = find_token(tokens, secret)
        if found is None:
            raise ApiError(401, "this token is not known, or was revoked")
        return found


def need(role: Role) -> Callable[..., Token]:
    """A dependency of a route: the caller's token, if its role allows this one."""

    def check(
        request: Request,
        given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    ) -> Token:
        token: Token = request.app.state.guard.who(given.credentials if given else None)
        if not token.allows(role):
            raise ApiError(403, f"the token {token.name!r} may {token.role}, and this needs {role}")
        return token

    return check


def is_loopback(host: str) -> bool:
    """Whether an address or name means this machine alone."""
    if host in {"localhost", ""}:
        return host == "localhost"
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_binding(host: str, store: Store) -> None:
    """Refuse to listen on another address than this machine's own while no token is set.

    Raises ValueError saying how to make one.
    """
    if not is_loopback(host) and not list_tokens(store):
        raise ValueError(
            f"--host {host} would let anybody on the network in, and no token is set: make one "
            "first with `sickbay token create NAME --role admin`, or stay on 127.0.0.1"
        )
