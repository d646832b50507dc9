"""Routes that start and end work: submit, validate, plan, stop, cancel, resume; and the logs."""

import asyncio
import hashlib
import json
import threading
from collections import defaultdict
from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from sickbay.service.api.auth import need
from sickbay.service.api.models import Asked, Submitted
from sickbay.service.api.routes_read import (
    MOST_PER_PAGE,
    Page,
    PerPage,
    SweepName,
    cache_of,
    find_known,
)
from sickbay.service.query.engine import plain
from sickbay.service.query.lookup import stored_spec
from sickbay.service.query.pool import BusyError
from sickbay.service.server.data_roots import check_data
from sickbay.service.server.errors import ApiError
from sickbay.service.server.tokens import Role, Token
from sickbay.service.server.workers import Work, in_pool
from sickbay.service.sweeps import launcher as launching
from sickbay.service.sweeps.prepare import Prepared, prepare, spec_text
from sickbay.service.sweeps.runner import ask
from sickbay.trials import registry
from sickbay.trials.execution.lease import driven
from sickbay.trials.spec import parse_spec
from sickbay.trials.spec.check import load_spec
from sickbay.trials.spec.command import COMMAND
from sickbay.trials.spec.model import SEARCHES
from sickbay.trials.spec.plan import trial_count
from sickbay.trials.store.files import Store, read_file, write_file
from sickbay.trials.store.reader import read_sweep

FOLLOW_SECONDS = 0.5
MOST_SPEC = 256 * 1024  # bytes: reading more as YAML takes minutes; a spec has a few thousand
MOST_TRIALS = 50_000  # of one sweep that is planned here; planning keeps others waiting
MOST_CONSTRAINTS = 8_000  # characters of all: each is asked of every combination
_submitting: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)  # by sweep
SPEC = {
    "requestBody": {
        "required": True,
        "description": "A sweep spec as YAML or JSON.",
        "content": {
            "application/yaml": {"schema": {"type": "string"}},
            "application/json": {"schema": {"type": "object"}},
        },
    }
}

Submitter = Annotated[Token, Depends(need(Role.SUBMIT))]
Reader = Annotated[Token, Depends(need(Role.READ))]

router = APIRouter(prefix="/api", tags=["write"])


@router.post("/sweeps", status_code=201, response_model=Submitted, openapi_extra=SPEC)
async def submit(
    request: Request,
    response: Response,
    token: Submitter,
    idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
) -> dict[str, Any]:
    """Accept a sweep and start it: 201, or 200 if it exists already.

    The same spec again runs only what is missing, and nothing twice. A key that was used for
    another spec is a 409.
    """
    text = await _spec_text(request)
    store = cache_of(request).store
    prepared = await in_pool(Work.PLAN, lambda: _prepared(request, token, text))

    def work() -> dict[str, Any]:
        with _submitting[prepared.sweep_id]:
            _remember(store, idempotency_key, prepared.sweep_id)
            known = read_sweep(store, prepared.sweep_id)
            running = driven(store, prepared.sweep_id)
            state = launching.submit(prepared, request.app.state.launcher)
        same = known is not None and known.spec == spec_text(prepared)
        response.status_code = 200 if same or running or prepared.left == 0 else 201
        return _taken_in(prepared, state)

    return await in_pool(Work.WRITE, work)


@router.post("/plan", openapi_extra=SPEC)
async def plan(
    request: Request, token: Reader, offset: Page = 0, limit: PerPage = MOST_PER_PAGE
) -> Response:
    """What a spec would run, one page of its trials; runs nothing. An invalid spec is a 422.

    `total` and every count are those of the whole plan.
    """
    text = await _spec_text(request)

    def work() -> str:
        from sickbay.service.sweeps.plan_view import describe_plan  # noqa: PLC0415  Rich is not needed before

        described = describe_plan(_prepared(request, token, text))
        described |= {"offset": offset, "trials": described["trials"][offset : offset + limit]}
        return json.dumps(plain(described), default=str)

    return Response(await in_pool(Work.PLAN, work), media_type="application/json")


@router.post("/sweeps/{sweep}/stop", response_model=Asked)
async def stop(request: Request, sweep: SweepName, token: Submitter) -> dict[str, str]:
    """Start no further trial; running ones finish. A queued sweep ends at once."""
    del token
    sweep_id, _ = await _ask(request, sweep, "stop", "stopped")
    return {"sweep_id": sweep_id, "asked": "stop"}


@router.post("/sweeps/{sweep}/cancel", response_model=Asked)
async def cancel(request: Request, sweep: SweepName, token: Submitter) -> dict[str, str]:
    """End a sweep: running trials after their current evaluation, its driver within 30 seconds.

    A sweep that waits for its driver is over at once, and never begins.
    """
    del token
    sweep_id, running = await _ask(request, sweep, "cancel", "cancelled")
    if running:
        state = request.app.state
        arguments = (state.cache.store, sweep_id, state.launcher)
        waiting = anyio.to_thread.run_sync(launching.insist, *arguments, abandon_on_cancel=True)
        chore = asyncio.ensure_future(waiting)
        state.chores.add(chore)
        chore.add_done_callback(state.chores.discard)
    return {"sweep_id": sweep_id, "asked": "cancel"}


@router.post("/sweeps/{sweep}/resume", response_model=Submitted)
async def resume(request: Request, sweep: SweepName, token: Submitter) -> dict[str, Any]:
    """Run what is missing, failed or was cancelled; a running sweep is a 409."""
    cache = cache_of(request)

    def plan_again() -> Prepared:
        sweep_id = find_known(cache, sweep)
        if driven(cache.store, sweep_id):
            raise ApiError(409, f"the sweep {sweep_id} is running already")
        spec = stored_spec(cache.store, sweep_id)
        _check_code(request, token, str(spec["workload"]))
        check_data(parse_spec(spec), request.app.state.data_roots)
        return prepare(spec, cache.store.uri, resumed=True, trust_code=True)

    prepared = await in_pool(Work.PLAN, plan_again)

    def work() -> dict[str, Any]:
        return _taken_in(prepared, launching.submit(prepared, request.app.state.launcher))

    return await in_pool(Work.WRITE, work)


@router.post("/sweeps/{sweep}/relabel")
async def relabel(
    request: Request,
    sweep: SweepName,
    token: Submitter,
    *,
    dry_run: Annotated[bool, Query(description="only say what would change")] = False,
) -> Response:
    """Judge a sweep's stored histories with today's detectors; old labels are kept."""
    del token
    cache = cache_of(request)

    def work() -> str:
        from sickbay.trials.execution.relabel import relabel as judge_again  # noqa: PLC0415
        from sickbay.trials.registry import all_detectors  # noqa: PLC0415  scipy is slow

        sweep_id = find_known(cache, sweep)
        report = judge_again(cache.store, sweep_id, all_detectors(), write=not dry_run)
        return json.dumps(plain({**vars(report), "changes": [vars(c) for c in report.changes]}))

    return Response(await in_pool(Work.REPORT, work), media_type="application/json")


@router.get("/sweeps/{sweep}/logs", response_class=StreamingResponse)
async def logs(
    request: Request,
    sweep: SweepName,
    token: Reader,
    *,
    follow: Annotated[bool, Query(description="keep streaming until the sweep is over")] = False,
) -> StreamingResponse:
    """The log of the sweep's driver, as plain text; `follow` streams it."""
    del token
    cache, launcher = cache_of(request), request.app.state.launcher
    sweep_id = await in_pool(Work.LOGS, lambda: find_known(cache, sweep))

    def look(offset: int) -> tuple[bool, bytes]:
        over = not driven(cache.store, sweep_id)  # before the log, whose end is then the last word
        return over, launcher.log(cache.store, sweep_id, offset)

    over, piece = await in_pool(Work.LOGS, lambda: look(0))  # an unreachable cluster is an answer

    async def lines() -> AsyncIterator[bytes]:
        ended, said, offset = over, piece, 0
        while True:
            offset += len(said)
            yield said
            if ended or not follow:
                return
            await asyncio.sleep(FOLLOW_SECONDS)
            try:
                ended, said = await in_pool(Work.LOGS, partial(look, offset))
            except (OSError, BusyError) as error:
                yield f"sickbay: {error}\n".encode()
                return

    return StreamingResponse(lines(), media_type="text/plain; charset=utf-8")


async def _ask(request: Request, sweep: str, what: str, left: str) -> tuple[str, bool]:
    """Ask a sweep's driver to end, or prevent it from starting, which sets the sweep's state.

    Gives the sweep's id, and whether a driver was there to be asked.
    """
    cache, launcher = cache_of(request), request.app.state.launcher

    def work() -> tuple[str, bool]:
        sweep_id = find_known(cache, sweep)
        record = read_sweep(cache.store, sweep_id)
        if record is not None and launching.withdraw(cache.store, record, launcher, left):
            return sweep_id, False
        if not driven(cache.store, sweep_id):
            raise ApiError(409, f"the sweep {sweep_id} is not running: there is nothing to {what}")
        ask(cache.store, sweep_id, what)
        return sweep_id, True

    return await in_pool(Work.WRITE, work)


async def _spec_text(request: Request) -> str:
    body = await request.body()
    if len(body) > MOST_SPEC:
        raise ApiError(413, f"a spec may have {MOST_SPEC} bytes, and this has {len(body)}")
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise ApiError(422, "a spec is text: YAML or JSON in UTF-8") from error


def _prepared(request: Request, token: Token, text: str) -> Prepared:
    """Read and plan a spec. Raises ApiError for one that this token may not run, or is too large.

    Code is asked about before the workload is looked up, as looking it up imports the code.
    """
    if "\n" not in text:
        text += "\n"  # one line that ends in .yaml is a text here, never a path
    spec = parse_spec(text)
    _check_code(request, token, spec.workload)
    check_data(spec, request.app.state.data_roots)
    length = sum(map(len, spec.constraints))
    if length > MOST_CONSTRAINTS:
        raise ApiError(
            422,
            f"constraints: {length:,} characters, and a service takes at most "
            f"{MOST_CONSTRAINTS:,}: leave the combinations out by `design` or `factors`",
        )
    if spec.design not in SEARCHES:
        count = trial_count(*load_spec(text, registry.workload))
        if count > MOST_TRIALS:
            raise ApiError(
                422,
                f"the sweep has {count:,} trials, and a service takes at most {MOST_TRIALS:,}: "
                "make several sweeps of it, or run it with `sickbay run`",
            )
    return prepare(text, cache_of(request).store.uri)


def _check_code(request: Request, token: Token, workload: str) -> None:
    """Raise ApiError 403 for code named by its path, unless this token's role may run it."""
    code: Role | None = request.app.state.code_role
    if (":" in workload or workload == COMMAND) and (code is None or not token.allows(code)):
        named = "a `command`" if workload == COMMAND else f"workload: {workload!r}"
        raise ApiError(
            403,
            f"{named} names code by its path, and this service runs registered workloads only "
            "(`sickbay workloads`); `sickbay serve --allow-code ROLE` opens it",
        )


def _taken_in(prepared: Prepared, state: str) -> dict[str, Any]:
    """The response about a sweep whose driver was started, or was not needed."""
    return {
        "sweep_id": prepared.sweep_id,
        "state": state,
        "planned": prepared.planned,
        "missing": prepared.left,
    }


def _remember(store: Store, key: str | None, sweep_id: str) -> None:
    """Remember the sweep that a key was used for. Raises ApiError 409 for another sweep's."""
    if key is None:
        return
    path = f"{store.root}/_service/keys/{hashlib.sha256(key.encode()).hexdigest()}"
    known = read_file(store, path)
    if known is not None and known.decode() != sweep_id:
        raise ApiError(409, f"this Idempotency-Key was used for the sweep {known.decode()}")
    if known is None:
        write_file(store, path, sweep_id.encode())
