"""What every request passes first: its size, its host and origin; and what every answer carries.

One plain ASGI layer, as the framework's own middleware would buffer event streams and hide whether
the caller has left.
"""

import time
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sickbay.service.api.auth import Guard, is_loopback
from sickbay.service.api.errors import error_answer
from sickbay.service.api.routes_metrics import Metrics

MOST_BODY = 4 * 2**20  # bytes; a sweep spec has a few thousand

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


class Outer:
    """Refuses what should not come in, adds the security headers, times the rest."""

    def __init__(self, app: ASGIApp, guard: Guard, metrics: Metrics, most: int = MOST_BODY) -> None:
        """Wrap an application."""
        self._app, self._guard, self._metrics, self._most = app, guard, metrics, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it here."""
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
            await self._pass(scope, receive, sent)
        finally:
            # by its route, not by its path, which would be a series for each trial
            route = getattr(scope.get("route"), "path", "none")
            seconds = time.perf_counter() - began
            self._metrics.times.labels(scope["method"], route, str(status)).observe(seconds)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        refusal = self._foreign(headers)
        if refusal is not None:
            await error_answer(403, refusal)(scope, receive, send)
            return
        length = headers.get("content-length", "0")
        too_large = error_answer(413, f"a body may have {self._most} bytes")
        if not length.isdigit() or int(length) > self._most:
            await too_large(scope, receive, send)
            return
        seen, answered = 0, False

        async def counted() -> Message:
            """A body that comes in chunks need not say how long it is."""
            nonlocal seen, answered
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._most and not answered:
                answered = True
                await too_large(scope, receive, send)
            return {"type": "http.disconnect"} if answered else message

        async def unless_answered(message: Message) -> None:
            if not answered:
                await send(message)

        await self._app(scope, counted, unless_answered)

    def _foreign(self, headers: Headers) -> str | None:
        """Why a request is refused while no token is set, or None.

        A web page elsewhere could resolve its own name to 127.0.0.1, or post to it.
        """
        if not self._guard.open():
            return None
        host, origin = headers.get("host", ""), headers.get("origin")
        name = urlsplit(f"//{host}").hostname or ""
        if not is_loopback(name):
            return f"while no token is set, only this machine is served, not {name!r}"
        if origin is not None and urlsplit(origin).netloc != host:
            return "requests from other web pages are refused"
        return None
