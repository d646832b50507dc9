"""Routes that begin and end work: submit, validate, plan, stop, cancel, resume; and the logs."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from sickbay.service import launching
from sickbay.service.api_errors import ApiError
from sickbay.service.api_guard import need
from sickbay.service.api_read import SweepName, find_known, shelf_of
from sickbay.service.api_words import Asked, Submitted
from sickbay.service.prepared import Prepared, prepare
from sickbay.service.query import plain
from sickbay.service.stored import stored_spec
from sickbay.service.sweeps import ask
from sickbay.service.tokens import Role, Token
from sickbay.trials.driving import driven
from sickbay.trials.spec import parse_spec
from sickbay.trials.store_files import Store, read_file, write_file

FOLLOW_SECONDS = 0.5
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
    """Take a sweep in and start it: 201, or 200 if it was here already.

    The same spec again runs only what is missing, and nothing twice. A key that was used for
    another spec is a 409.
    """
    text = await _spec_text(request)
    store = shelf_of(request).store

    def work() -> dict[str, Any]:
        prepared = _prepared(request, token, text)
        known = _remember(store, idempotency_key, prepared.sweep_id)
        running = driven(store, prepared.sweep_id)
        state = launching.submit(prepared, request.app.state.launcher)
        response.status_code = 200 if known or running or prepared.left == 0 else 201
        return _taken_in(prepared, state)

    found: dict[str, Any] = await anyio.to_thread.run_sync(work)
    return found


@router.post("/plan", openapi_extra=SPEC)
async def plan(request: Request, token: Reader) -> Response:
    """What a spec would run, trial by trial; runs nothing. A bad one is a 422 with all problems."""
    text = await _spec_text(request)

    def work() -> str:
        from sickbay.service.plans import describe_plan  # noqa: PLC0415  Rich is not needed before

        return json.dumps(plain(describe_plan(_prepared(request, token, text))), default=str)

    return Response(await anyio.to_thread.run_sync(work), media_type="application/json")


@router.post("/sweeps/{sweep}/stop", response_model=Asked)
async def stop(request: Request, sweep: SweepName, token: Submitter) -> dict[str, str]:
    """Begin no further trial; those that run come to their end."""
    del token
    return await _ask(request, sweep, "stop")


@router.post("/sweeps/{sweep}/cancel", response_model=Asked)
async def cancel(request: Request, sweep: SweepName, token: Submitter) -> dict[str, str]:
    """End a sweep: running trials after their present evaluation, its driver in half a minute."""
    del token
    asked = await _ask(request, sweep, "cancel")
    state = request.app.state
    words = (state.shelf.store, asked["sweep_id"], state.launcher)
    waiting = anyio.to_thread.run_sync(launching.insist, *words, abandon_on_cancel=True)
    chore = asyncio.ensure_future(waiting)
    state.chores.add(chore)
    chore.add_done_callback(state.chores.discard)
    return asked


@router.post("/sweeps/{sweep}/resume", response_model=Submitted)
async def resume(request: Request, sweep: SweepName, token: Submitter) -> dict[str, Any]:
    """Run what is missing, failed or was cancelled; a sweep that runs is a 409."""
    del token
    shelf = shelf_of(request)

    def work() -> dict[str, Any]:
        sweep_id = find_known(shelf, sweep)
        if driven(shelf.store, sweep_id):
            raise ApiError(409, f"the sweep {sweep_id} is running already")
        prepared = prepare(stored_spec(shelf.store, sweep_id), shelf.store.uri)
        return _taken_in(prepared, launching.submit(prepared, request.app.state.launcher))

    found: dict[str, Any] = await anyio.to_thread.run_sync(work)
    return found


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
    shelf = shelf_of(request)

    def work() -> str:
        from sickbay.trials.registry import all_detectors  # noqa: PLC0415  scipy is slow
        from sickbay.trials.relabel import relabel as judge_again  # noqa: PLC0415

        sweep_id = find_known(shelf, sweep)
        found = judge_again(shelf.store, sweep_id, all_detectors(), write=not dry_run)
        return json.dumps(plain({**vars(found), "changes": [vars(c) for c in found.changes]}))

    return Response(await anyio.to_thread.run_sync(work), media_type="application/json")


@router.get("/sweeps/{sweep}/logs", response_class=StreamingResponse)
async def logs(
    request: Request,
    sweep: SweepName,
    token: Reader,
    *,
    follow: Annotated[bool, Query(description="go on until the sweep is over")] = False,
) -> StreamingResponse:
    """What the sweep's driver said, as plain text; with `follow` as it says it."""
    del token
    shelf, launcher = shelf_of(request), request.app.state.launcher
    sweep_id = await anyio.to_thread.run_sync(find_known, shelf, sweep)

    async def lines() -> AsyncIterator[bytes]:
        offset = 0
        while True:
            over = not await anyio.to_thread.run_sync(driven, shelf.store, sweep_id)
            piece = await anyio.to_thread.run_sync(launcher.log, shelf.store, sweep_id, offset)
            offset += len(piece)
            yield piece
            if over or not follow:
                return
            await asyncio.sleep(FOLLOW_SECONDS)

    return StreamingResponse(lines(), media_type="text/plain; charset=utf-8")


async def _ask(request: Request, sweep: str, what: str) -> dict[str, str]:
    shelf = shelf_of(request)

    def work() -> dict[str, str]:
        sweep_id = find_known(shelf, sweep)
        if not driven(shelf.store, sweep_id):
            raise ApiError(409, f"the sweep {sweep_id} is not running: there is nothing to {what}")
        ask(shelf.store, sweep_id, what)
        return {"sweep_id": sweep_id, "asked": what}

    return await anyio.to_thread.run_sync(work)


async def _spec_text(request: Request) -> str:
    try:
        return (await request.body()).decode()
    except UnicodeDecodeError as error:
        raise ApiError(422, "a spec is text: YAML or JSON in UTF-8") from error


def _prepared(request: Request, token: Token, text: str) -> Prepared:
    """Read and plan a spec; one that names code by its path needs a role that code is open to.

    That is asked before the workload is looked up, as looking it up imports the code.
    """
    if "\n" not in text:
        text += "\n"  # one line that ends in .yaml is a text here, never a path
    workload = parse_spec(text).workload
    code: Role | None = request.app.state.code_role
    if ":" in workload and (code is None or not token.allows(code)):
        raise ApiError(
            403,
            f"workload: {workload!r} names code by its path, and this service runs registered "
            "workloads only (`sickbay workloads`); `sickbay serve --allow-code ROLE` opens it",
        )
    return prepare(text, shelf_of(request).store.uri)


def _taken_in(prepared: Prepared, state: str) -> dict[str, Any]:
    """The answer about a sweep whose driver was started, or was not needed."""
    return {
        "sweep_id": prepared.sweep_id,
        "state": state,
        "planned": prepared.planned,
        "missing": prepared.left,
    }


def _remember(store: Store, key: str | None, sweep_id: str) -> bool:
    """Keep which sweep a key was used for; whether it was known. Another sweep's key is a 409."""
    if key is None:
        return False
    path = f"{store.root}/_service/keys/{hashlib.sha256(key.encode()).hexdigest()}"
    known = read_file(store, path)
    if known is not None and known.decode() != sweep_id:
        raise ApiError(409, f"this Idempotency-Key was used for the sweep {known.decode()}")
    if known is None:
        write_file(store, path, sweep_id.encode())
    return known is not None
