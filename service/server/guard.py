"""Authorisation: the tokens of a store as last read, and addresses of this machine.

Without any token the service is for one machine alone: it binds to a loopback address only, and
`middleware` refuses what does not come from this machine itself.
"""

import asyncio
import ipaddress
import logging
import time

from sickbay.service.server.errors import ApiError
from sickbay.service.server.tokens import Role, Token, find_token, list_tokens
from sickbay.service.server.workers import Work, in_pool
from sickbay.trials.store.files import Store

LOG = logging.getLogger("sickbay.service")
FRESH_SECONDS = 2.0  # after which a revoked token is refused
OLD_SECONDS = 15.0  # after which the tokens, and the store with them, count as out of reach
LOCAL = Token("local", Role.ADMIN, "", 0.0)  # the caller on this machine while no token is set


class Guard:
    """Holds the tokens of a store. Checks never block: `watch` reads the tokens.

    Tokens that were read stay valid while the store is out of reach or its tokens are damaged;
    a token that is revoked meanwhile is refused once they can be read again.
    """

    def __init__(self, store: Store) -> None:
        """Read the tokens once. Raises StoreError or ValueError if that fails."""
        self._store = store
        self._tokens = list_tokens(store)
        self._closed = bool(self._tokens)
        self._read = time.monotonic()
        self.trouble: str | None = None  # why the tokens could not be read last time

    @property
    def age(self) -> float:
        """Seconds since the tokens were last read."""
        return time.monotonic() - self._read

    def read(self) -> None:
        """Read the tokens now; if that fails, the last ones stay valid."""
        try:
            self._tokens = list_tokens(self._store)
        except (OSError, ValueError) as error:
            self._fail(str(error))
            return
        self._closed = self._closed or bool(self._tokens)
        if self.trouble is not None:
            LOG.warning("the tokens can be read again")
        self._read, self.trouble = time.monotonic(), None

    async def watch(self) -> None:
        """Read the tokens every other second while the service runs."""
        while True:
            await asyncio.sleep(FRESH_SECONDS)
            try:
                await in_pool(Work.TOKENS, self.read)
            except (OSError, RuntimeError) as error:
                self._fail(str(error))

    def _fail(self, trouble: str) -> None:
        if self.trouble is None:
            LOG.warning("the tokens cannot be read, those read last stay valid: %s", trouble)
        self.trouble = trouble

    def open(self) -> bool:
        """Whether every local user has full access, because no token was ever set.

        When the last token is revoked the service, which may listen to a whole network, stays
        closed.
        """
        return not self._tokens and not self._closed

    def caller(self, secret: str | None) -> Token:
        """The token of a secret. If any is set, raises ApiError 401 for a missing or wrong one."""
        if self.open():
            return LOCAL
        if not self._tokens:
            raise ApiError(401, "every token was revoked: make one with `sickbay token create`")
        if not secret:
            raise ApiError(
                401,
                "this service needs a bearer token: set SICKBAY_TOKEN, or send the header "
                "`Authorization: Bearer TOKEN`",
            )
        token = find_token(self._tokens, secret)
        if token is None:
            raise ApiError(401, "this token is unknown or was revoked")
        return token


def is_loopback(host: str) -> bool:
    """Whether an address or name means this machine alone."""
    if host in {"localhost", ""}:
        return host == "localhost"
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_binding(host: str, store: Store) -> None:
    """Refuse to listen on other than local addresses while no token is set.

    Raises ValueError saying how to make one.
    """
    if not is_loopback(host) and not list_tokens(store):
        raise ValueError(
            f"--host {host} would open the service to the network, and no token is set: create one "
            "first with `sickbay token create NAME --role admin`, or stay on 127.0.0.1"
        )
