"""Limits of the HTTP server's connections: their number, and how long one may stay silent.

A connection costs a file descriptor before its request is known, so anyone can take one. There are
never more than `limit`: when they are all taken, those that have not sent a whole request make
room, the oldest first, and each is closed after `HEADER_SECONDS` in any case.
"""

import asyncio
import resource
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_SECONDS = 10.0
MOST_CONNECTIONS = 4096
RESERVE = 256  # descriptors for the store, for queries' processes and for logs
LEAST_CONNECTIONS = 32


def connection_limit() -> int:
    """Raise this process's limit of file descriptors as far as allowed, and divide it up.

    Gives the number of connections that leave a reserve of descriptors for all the rest.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_CONNECTIONS + RESERVE
    if soft != resource.RLIM_INFINITY and soft < wanted:
        more = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return max(LEAST_CONNECTIONS, min(MOST_CONNECTIONS, soft - RESERVE))


class BoundedProtocol(H11Protocol):
    """uvicorn's protocol, with a limit on connections and on the time that headers may take."""

    limit = MOST_CONNECTIONS
    header_seconds = HEADER_SECONDS

    def __init__(self, *arguments: Any, **more: Any) -> None:
        """Begin without a deadline."""
        super().__init__(*arguments, **more)
        self._deadline: asyncio.TimerHandle | None = None
        self._since = self.loop.time()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a connection; at the limit, a silent one is closed for it."""
        super().connection_made(transport)
        if len(self.connections) > self.limit:
            silent = _oldest_silent(self.connections, other_than=self)
            (silent or self).drop()
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Receive data; the deadline holds until the request's head is complete."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the deadline with the connection."""
        self._forget()
        super().connection_lost(exc)

    @property
    def silent(self) -> bool:
        """Whether no request is being answered here."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def since(self) -> float:
        """When it was opened, by the event loop's clock."""
        return self._since

    def drop(self) -> None:
        """Close it at once, without an answer."""
        self.connections.discard(self)  # so that its place is free before the loop's next turn
        self.transport.abort()

    def _watch(self) -> None:
        if not self.silent:
            self._forget()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self.header_seconds, self._expire)

    def _expire(self) -> None:
        self._deadline = None
        if self.silent and not self.transport.is_closing():
            self.drop()

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _oldest_silent(connections: Iterable[Any], other_than: Any) -> "BoundedProtocol | None":
    silent = [
        connection
        for connection in connections
        if isinstance(connection, BoundedProtocol)
        and connection is not other_than
        and connection.silent
    ]
    return min(silent, key=lambda connection: connection.since, default=None)
