"""Server-sent events: changes in the store, pushed to connected clients.

One task looks at the store once a second, whatever the number of listeners, and hands each change
to all of them. A listener that does not read falls behind and is disconnected; it reconnects with
the id of the last event it saw, and is sent what it missed.
"""

import asyncio
import contextlib
import json
import random
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import StreamingResponse

from sickbay.service.api.auth import need
from sickbay.service.api.cache import StoreCache
from sickbay.service.server.tokens import Role
from sickbay.service.server.workers import Work, in_pool

LOOK_SECONDS = 1.0
PING_SECONDS = 15.0
REMEMBERED = 1000  # events that a listener who comes back may have missed
BEHIND = 256  # events that a listener may leave unread
AT_ONCE = 50  # listeners that are served before requests have their turn again
WATCHED = ("state", "ended", "states", "labels", "pathologies")

router = APIRouter(prefix="/api", tags=["live"], dependencies=[Depends(need(Role.READ))])


@dataclass(frozen=True)
class StoreChange:
    """One event: its number, its sweep, and its text."""

    number: int
    sweep_id: str
    data: str

    def text(self) -> str:
        """The event in the wire format of server-sent events."""
        return f"id: {self.number}\nevent: sweep\ndata: {self.data}\n\n"


class Feed:
    """Polls a store and sends changes to listeners."""

    def __init__(self, cache: StoreCache) -> None:
        """Begin with nothing seen, without listeners."""
        self._shelf = cache
        self._seen: dict[str, dict[str, Any]] = {}
        self._listeners: set[asyncio.Queue[StoreChange | None]] = set()
        self._recent: deque[StoreChange] = deque(maxlen=REMEMBERED)
        self._number = 0

    async def run(self) -> None:
        """Poll the store for ever; a temporary failure is retried."""
        first = True
        while True:
            with contextlib.suppress(OSError, ValueError, RuntimeError):
                await self._look(silently=first)
                first = False
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self, *, silently: bool) -> None:
        for sweep in await in_pool(Work.WATCH, self._shelf.sweeps):
            known = self._seen.get(sweep["sweep_id"])
            if known is None or any(known[name] != sweep[name] for name in WATCHED):
                self._seen[sweep["sweep_id"]] = sweep
                if not silently:
                    await self._tell(sweep)

    async def _tell(self, sweep: dict[str, Any]) -> None:
        self._number += 1
        change = StoreChange(self._number, sweep["sweep_id"], json.dumps(sweep, default=str))
        self._recent.append(change)
        for place, queue in enumerate(list(self._listeners)):
            if place % AT_ONCE == AT_ONCE - 1:
                await asyncio.sleep(0)  # requests come in between a thousand who listen
            try:
                queue.put_nowait(change)
            except asyncio.QueueFull:
                self._listeners.discard(queue)
                queue.get_nowait()
                queue.put_nowait(None)  # the end of this listener; it may come back

    async def listen(self, sweep_id: str | None, last: int | None) -> AsyncIterator[str]:
        """Events as text: those missed since `last`, then each new one, with pings in between."""
        queue: asyncio.Queue[StoreChange | None] = asyncio.Queue(BEHIND)
        self._listeners.add(queue)
        try:
            yield "retry: 2000\n\n"
            for change in list(self._recent):
                if (
                    last is not None
                    and change.number > last
                    and sweep_id in {None, change.sweep_id}
                ):
                    yield change.text()
            while True:
                try:
                    # not all at the same moment, though all may have come at one
                    patience = PING_SECONDS * random.uniform(0.6, 1.0)  # noqa: S311  no secret
                    event = await asyncio.wait_for(queue.get(), patience)
                except TimeoutError:
                    yield ": still here\n\n"
                    continue
                if event is None:
                    return
                if sweep_id in {None, event.sweep_id}:
                    yield event.text()
        finally:
            self._listeners.discard(queue)

    @property
    def listening(self) -> int:
        """How many listeners are connected."""
        return len(self._listeners)


@router.get("/events", response_class=StreamingResponse)
async def events(
    request: Request,
    sweep: Annotated[
        str | None, Query(description="one sweep's whole id; default: all sweeps")
    ] = None,
    last_event_id: Annotated[int | None, Header(description="the last event seen")] = None,
) -> StreamingResponse:
    """Changes of sweeps as server-sent events: the sweep as `GET /api/sweeps/{id}` counts it."""
    feed: Feed = request.app.state.feed
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(
        feed.listen(sweep, last_event_id), media_type="text/event-stream", headers=headers
    )
