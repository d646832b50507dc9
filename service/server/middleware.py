"""Middleware: checks size, host and origin of requests, and adds headers to responses.

One plain ASGI layer, as the framework's own middleware would buffer event streams and hide whether
the caller has left.
"""

import asyncio
import re
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sickbay.service.query.engine import Runner, answered_by
from sickbay.service.server.errors import error_answer
from sickbay.service.server.guard import Guard, is_loopback

MOST_BODY = 4 * 2**20  # bytes; a sweep spec has a few thousand
MOST_DRAINED = 64 * 2**20  # bytes of a body that is too large, read so that the caller learns why
BODY_SECONDS = 60.0  # in which a request's body has to arrive
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Headers that proxies and content networks add to the requests that they pass on.
FORWARDED = re.compile(
    r"via|cdn-loop|.*forwarded.*|x-original-.*|(.*-)?(client|connecting|real)-ip"
)

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; font-src 'self'; frame-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

# method, route, status, seconds
Timed = Callable[[str, str, str, float], None]


class Outer:
    """Refuses invalid requests, adds the security headers, and times the rest."""

    def __init__(
        self, app: ASGIApp, guard: Guard, timed: Timed, runner: Runner, most: int = MOST_BODY
    ) -> None:
        """Wrap an application whose queries `runner` answers."""
        self._app, self._guard, self._timed = app, guard, timed
        self._runner, self._most = runner, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            with answered_by(self._runner):
                await self._pass(scope, receive, sent)
        finally:
            # By its route, not by its path, which would be a series for each trial; and callers
            # may invent methods.
            route = getattr(scope.get("route"), "path", "none")
            method = scope["method"] if scope["method"] in METHODS else "other"
            self._timed(method, route, str(status), time.perf_counter() - began)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await error_answer(403, refusal)(scope, receive, send)
            return
        too_large = error_answer(413, f"a body may have {self._most} bytes")
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > self._most:
            await _drain(receive)
            await too_large(scope, receive, send)
            return
        seen, complete, answered = 0, False, False
        ends = time.monotonic() + BODY_SECONDS

        async def counted() -> Message:
            """Enforce the limit on a chunked body, which declares no length."""
            nonlocal seen, complete, answered
            if complete:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(0.0, ends - time.monotonic()))
            except TimeoutError:
                answered = True
                slow = error_answer(408, f"the body did not arrive within {BODY_SECONDS:g} s")
                await slow(scope, receive, send)
                return {"type": "http.disconnect"}
            complete = not message.get("more_body", False)
            seen += len(message.get("body", b""))
            if seen > self._most and not answered:
                answered = True
                await _drain(receive, complete=complete)
                await too_large(scope, receive, send)
            return {"type": "http.disconnect"} if answered else message

        async def unless_answered(message: Message) -> None:
            if not answered:
                await send(message)

        await self._app(scope, counted, unless_answered)

    def _refusal(self, scope: Scope, headers: Headers) -> str | None:
        """Why a request is refused while no token is set, or None.

        A web page elsewhere could resolve its own name to 127.0.0.1, or post to it; a proxy on this
        machine would pass on callers from anywhere as if they were local.
        """
        if not self._guard.open():
            return None
        host, origin = headers.get("host", ""), headers.get("origin")
        name = _host_name(host)
        forwarded = [header for header in headers if FORWARDED.fullmatch(header)]
        address = (scope.get("client") or ("",))[0]
        remote = _is_address(address) and not is_loopback(address)
        if forwarded or remote:
            why = f"the header {forwarded[0]}" if forwarded else f"the address {address}"
            return (
                f"while no token is set only this machine is served, and {why} says that "
                "the caller is elsewhere: make a token with `sickbay token create NAME`"
            )
        if not is_loopback(name):
            return f"while no token is set, only this machine is served, not {name!r}"
        if origin is not None and origin.partition("://")[2] != host:
            return "requests from other web pages are refused"
        return None


async def _drain(receive: Receive, *, complete: bool = False) -> None:
    """Read the rest of a body, within limits: a client that is cut off reads no response."""
    seen, ends = 0, time.monotonic() + BODY_SECONDS
    while not complete and seen < MOST_DRAINED and time.monotonic() < ends:
        try:
            message = await asyncio.wait_for(receive(), BODY_SECONDS)
        except TimeoutError:
            return
        seen += len(message.get("body", b""))
        complete = not message.get("more_body", False)


def _host_name(host: str) -> str:
    """The name in a Host header without its port; "" if it is invalid."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_address(text: str) -> bool:
    """Whether a peer has a network address; a Unix socket or a test client has none."""
    return "." in text or ":" in text
