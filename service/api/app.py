"""The HTTP service: `sickbay serve`. Routes are thin; the work is done in the packages below.

routes_read     what there is: sweeps, trials, effects, reports, SQL, external logs
routes_write    submit, stop, cancel, resume
routes_events   server-sent events         routes_metrics   Prometheus
auth            roles of routes            cache            answers kept in memory

What stands around them (connections, tokens, errors, limits) is in `service/server`.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from sickbay.service.api import (
    routes_charts,
    routes_events,
    routes_metrics,
    routes_page,
    routes_read,
    routes_write,
)
from sickbay.service.api.cache import StoreCache
from sickbay.service.query.engine import answered_by
from sickbay.service.query.pool import QueryPool, own_queries
from sickbay.service.server.errors import ErrorAnswer, add_error_answers, error_answer
from sickbay.service.server.guard import OLD_SECONDS, Guard
from sickbay.service.server.middleware import Outer
from sickbay.service.server.tokens import Role
from sickbay.service.sweeps.launcher import Launcher, LocalLauncher
from sickbay.trials.store.files import Store

LOG = logging.getLogger("sickbay.service")
ERRORS = {
    status: {"model": ErrorAnswer} for status in (400, 401, 403, 404, 409, 413, 422, 429, 503)
}


def create_app(
    store: Store,
    launcher: Launcher | None = None,
    code_role: Role | None = None,
    data_roots: Sequence[Path] = (),
) -> FastAPI:
    """The application over a store. Nothing starts before it serves.

    `launcher` starts the drivers of submitted sweeps. `code_role` is the least role that may name a
    workload by its path ("module:ATTRIBUTE"): code of the submitter's choice. None: no role may.
    Below `data_roots` lie the datasets that a spec may name by their path.
    """
    cache = StoreCache(store)
    feed = routes_events.Feed(cache)
    queries, own = QueryPool(), own_queries()
    guard = Guard(store)

    @contextlib.asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        with answered_by(own.run):
            tasks = [asyncio.create_task(feed.run()), asyncio.create_task(guard.watch())]
        await asyncio.to_thread(own.open)
        await asyncio.to_thread(queries.open)
        try:
            yield
        finally:
            await asyncio.to_thread(queries.close)
            for task in (*tasks, *app.state.chores):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    app = FastAPI(
        title="Sickbay",
        version=version("sickbay"),
        summary="Ablation sweeps that say which trials to believe.",
        lifespan=life,
        docs_url=None,  # ours loads nothing from elsewhere
        redoc_url=None,
        responses=ERRORS,  # type: ignore[arg-type]  # FastAPI asks for str keys as well
    )
    app.state.cache, app.state.feed, app.state.queries = cache, feed, queries
    metrics = routes_metrics.Metrics(cache, lambda: feed.listening)
    app.state.guard, app.state.metrics = guard, metrics
    app.state.launcher = launcher or LocalLauncher()
    app.state.code_role, app.state.data_roots = code_role, tuple(data_roots)
    app.state.chores = set()
    for module in (
        routes_read,
        routes_charts,
        routes_write,
        routes_events,
        routes_metrics,
        routes_page,
    ):
        app.include_router(module.router)
    add_error_answers(app)
    app.add_middleware(Outer, guard=guard, timed=metrics.observe, runner=own.run)
    app.add_exception_handler(Exception, _unexpected)
    app.get("/healthz", tags=["service"])(healthz)
    app.get("/readyz", tags=["service"])(readyz)
    return app


async def healthz() -> dict[str, str]:
    """Whether the service is up; does not touch the store and needs no token."""
    return {"service": "sickbay", "status": "ok", "version": version("sickbay")}


async def readyz(request: Request) -> JSONResponse:
    """Whether the service can answer from its store: 200, or 503 with what is missing.

    It waits for nothing: it says how the last look at the store went. It needs no token, and so
    names no path.
    """
    guard: Guard = request.app.state.guard
    old = guard.age > OLD_SECONDS or guard.trouble is not None
    missing = ["the tokens in the store cannot be read: those read last stay valid"] if old else []
    body = {"ready": not missing, "missing": missing, "store_read_seconds_ago": round(guard.age, 1)}
    return JSONResponse(body, status_code=503 if missing else 200)


async def _unexpected(request: object, error: Exception) -> JSONResponse:
    """An internal error: the traceback goes to the log, not to the caller."""
    del request
    LOG.error("unexpected error", exc_info=error)
    return error_answer(500, "internal error: see the service's log")
