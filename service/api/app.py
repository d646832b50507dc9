"""The HTTP service: `sickbay serve`. Routes are thin; what they answer is in the rooms below.

api_read      what there is: sweeps, trials, effects, reports, SQL, external logs
api_write     submit, stop, cancel, resume
api_live      server-sent events         api_metrics   Prometheus
api_guard     tokens, roles, hosts       api_errors    the one shape of errors
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.responses import JSONResponse

from sickbay.service.api import (
    routes_charts,
    routes_events,
    routes_metrics,
    routes_page,
    routes_read,
    routes_write,
)
from sickbay.service.api.auth import Guard
from sickbay.service.api.cache import Shelf
from sickbay.service.api.errors import ErrorAnswer, add_error_answers, error_answer
from sickbay.service.api.middleware import Outer
from sickbay.service.api.tokens import Role
from sickbay.service.query.pool import QueryPool
from sickbay.service.sweeps.launcher import Launcher, LocalLauncher
from sickbay.trials.store.files import Store

LOG = logging.getLogger("sickbay.service")
ERRORS = {
    status: {"model": ErrorAnswer} for status in (400, 401, 403, 404, 409, 413, 422, 429, 503)
}


def create_app(
    store: Store, launcher: Launcher | None = None, code_role: Role | None = None
) -> FastAPI:
    """The application over a store. Nothing is started before it serves.

    `launcher` starts the drivers of submitted sweeps. `code_role` is the least role that may name a
    workload by its path ("module:ATTRIBUTE"): code of the submitter's choice. None: nobody may.
    """
    shelf = Shelf(store)
    feed = routes_events.Feed(shelf)
    queries = QueryPool()

    @contextlib.asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        looking = asyncio.create_task(feed.run())
        await asyncio.to_thread(queries.open)
        try:
            yield
        finally:
            await asyncio.to_thread(queries.close)
            for task in (looking, *app.state.chores):
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
    app.state.shelf, app.state.feed, app.state.queries = shelf, feed, queries
    guard, metrics = Guard(store), routes_metrics.Metrics(shelf, lambda: feed.listening)
    app.state.guard, app.state.metrics = guard, metrics
    app.state.launcher = launcher or LocalLauncher()
    app.state.code_role = code_role
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
    app.add_middleware(Outer, guard=guard, metrics=metrics)
    app.add_exception_handler(Exception, _unexpected)
    app.get("/healthz", tags=["service"])(healthz)
    return app


async def healthz() -> dict[str, str]:
    """Whether the service is up; asks nothing of the store, and needs no token."""
    return {"service": "sickbay", "status": "ok", "version": version("sickbay")}


async def _unexpected(request: object, error: Exception) -> JSONResponse:
    """Our own mistake: the traceback is for the log, not for the caller."""
    del request
    LOG.error("unexpected error", exc_info=error)
    return error_answer(500, "an error of Sickbay's own: the service's log has it")
