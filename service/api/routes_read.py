"""Routes that read: sweeps, trials, epochs, findings, effects, reports, SQL, external logs."""

import asyncio
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import anyio
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import HTMLResponse

from sickbay.service.api.auth import need
from sickbay.service.api.cache import NotKeptError, StoreCache, TrialChoice, at_once, reading
from sickbay.service.api.models import (
    DiagnoseBody,
    Epochs,
    Findings,
    Judged,
    SqlAnswer,
    SqlBody,
    Sweep,
    Sweeps,
    Trial,
    Trials,
)
from sickbay.service.query import engine as asking
from sickbay.service.query.lookup import find_sweep, state_of, stored_spec
from sickbay.service.query.pool import QueryPool
from sickbay.service.query.status import describe, running
from sickbay.service.server.errors import ApiError
from sickbay.service.server.tokens import Role
from sickbay.service.server.workers import Work, in_pool
from sickbay.service.summary.trial_book import read_book
from sickbay.trials.contract import Health, TrialState
from sickbay.trials.store.tables import table_bytes

PAGE = 100
MOST_PER_PAGE = 1000
MANY_ARMS = 500  # a fix is looked for among all of them: of more, not while others wait
SQL_LIMITS = asking.Limits(memory="1GB", threads=2, seconds=30.0, rows=10_000)

Page = Annotated[int, Query(ge=0, le=10**9, description="rows to skip")]
PerPage = Annotated[int, Query(ge=1, le=MOST_PER_PAGE, description="rows of one page")]
TableName = Literal["sweeps", "trials", "epochs", "findings", "labels"]
SweepName = Annotated[str, "a sweep's id, its name, or the beginning of either"]

T = TypeVar("T")

router = APIRouter(prefix="/api", tags=["read"], dependencies=[Depends(need(Role.READ))])


def cache_of(request: Request) -> StoreCache:
    """The cache that this service answers from."""
    cache: StoreCache = request.app.state.cache
    return cache


@router.get("/sweeps", response_model=Sweeps)
async def sweeps(request: Request, offset: Page = 0, limit: PerPage = PAGE) -> Response:
    """Every sweep of the store with its counts, the latest first."""
    summaries = await soon(cache_of(request).sweeps)
    return json_answer(
        {"sweeps": summaries[offset : offset + limit], "total": len(summaries), "offset": offset}
    )


@router.get("/sweeps/{sweep}", response_model=Sweep)
async def sweep(request: Request, sweep: SweepName) -> Response:
    """One sweep: its state, counts by state, label and pathology, and its spec."""
    store = cache_of(request).store

    def work() -> dict[str, Any]:
        record = find_sweep(store, sweep)
        return describe(store, record.sweep_id) | {"spec": stored_spec(store, record.sweep_id)}

    return json_answer(await in_thread(work))


def trial_choice(
    label: Health | None = None,
    state: TrialState | None = None,
    pathology: str | None = None,
    verdict: Annotated[str | None, Query(description="a label, or a state without one")] = None,
    search: Annotated[
        str, Query(max_length=200, description="text in the id, arm, cause, reason or error")
    ] = "",
    sort: Annotated[str, Query(description="a column, `verdict` or `cause`")] = "",
    desc: Annotated[bool, Query(description="largest first")] = False,  # noqa: FBT002
) -> TrialChoice:
    """Filters and order of a list of trials."""
    return TrialChoice(label, state, pathology, verdict, search, sort, desc)


@router.get("/sweeps/{sweep}/trials", response_model=Trials)
async def trials(
    request: Request,
    sweep: SweepName,
    choice: Annotated[TrialChoice, Depends(trial_choice)],
    offset: Page = 0,
    limit: PerPage = PAGE,
) -> Response:
    """The ended trials of a sweep, each factor a field of its own; by seed and arm unless sorted.

    Sorting puts numbers before words, and NaN and nothing last, whichever way.
    """
    cache = cache_of(request)

    def work() -> tuple[list[bytes], int]:
        pages = cache.trials(find_known(cache, sweep))
        try:
            return pages.page(offset, limit, choice)
        except KeyError as error:
            names = ", ".join(sorted((*pages.found.columns, "verdict", "cause")))
            raise ApiError(422, f"sort: no column {choice.sort!r}: there are {names}") from error

    rows, total = await soon(work)
    head = b'{"total": %d, "offset": %d, "trials": [' % (total, offset)
    return Response(head + b", ".join(rows) + b"]}", media_type="application/json")


@router.get("/sweeps/{sweep}/running")
async def running_now(request: Request, sweep: SweepName) -> Response:
    """The running trials: their factors, seed and last stored epoch."""
    cache = cache_of(request)

    def work() -> dict[str, Any]:
        record = find_sweep(cache.store, find_known(cache, sweep))
        live = state_of(cache.store, record) == "running"
        found = cache.live(record.sweep_id, "running", lambda: running(cache.store, record))
        return {"trials": found if live else [], "total": len(found) if live else 0}

    return json_answer(await in_thread(work))


@router.get("/sweeps/{sweep}/trials/{trial}", response_model=Trial)
async def trial(request: Request, sweep: SweepName, trial: str) -> Response:
    """One trial with its findings, every label it had, and the smallest known fixes."""
    cache = cache_of(request)

    def work() -> dict[str, Any]:
        sweep_id = find_known(cache, sweep)
        trial_id = _trial_id(cache, sweep_id, trial)
        if cache.trials(sweep_id).arms > MANY_ARMS:
            reading()
        book = cache.book(sweep_id)
        if not book.has(trial_id):  # it has ended since
            reading()
            book = read_book(cache.store, sweep_id, only=trial_id)
        return book.explained(trial_id, cache.fixes(sweep_id, trial_id))

    return json_answer(await soon(work))


@router.get("/sweeps/{sweep}/trials/{trial}/epochs", response_model=Epochs)
async def epochs(
    request: Request, sweep: SweepName, trial: str, offset: Page = 0, limit: PerPage = MOST_PER_PAGE
) -> Response:
    """The evaluations of a trial, even a running one; NaN and infinity are strings."""
    cache = cache_of(request)

    def work() -> list[dict[str, Any]]:
        sweep_id = find_known(cache, sweep)
        ended = _ended(cache, sweep_id, trial)
        known = cache.epochs(sweep_id) if len(ended) == 1 else None
        evaluations = known.records(ended[0]) if known is not None else []
        if not evaluations:  # it runs, or has ended since
            evaluations = asking.epochs(cache.store, sweep_id, trial).whole().records()
        if not evaluations:
            trial_id = _trial_id(cache, sweep_id, trial)
            evaluations = asking.epochs(cache.store, sweep_id, trial_id).whole().records()
        return evaluations

    rows = await in_thread(work)
    body = {"epochs": rows[offset : offset + limit], "total": len(rows), "offset": offset}
    return json_answer(body)


@router.get("/sweeps/{sweep}/trials/{trial}/findings", response_model=Findings)
async def findings(request: Request, sweep: SweepName, trial: str) -> Response:
    """What each detector says of a trial: fired first."""
    cache = cache_of(request)

    def work() -> list[dict[str, Any]]:
        sweep_id = find_known(cache, sweep)
        trial_id = _trial_id(cache, sweep_id, trial)
        records = cache.book(sweep_id).findings.records(trial_id)
        return records or asking.findings(cache.store, sweep_id, trial_id).whole().records()

    rows = await in_thread(work)
    return json_answer({"findings": rows, "total": len(rows), "offset": 0})


@router.get("/sweeps/{sweep}/effects")
async def effects(
    request: Request,
    sweep: SweepName,
    within: Annotated[
        list[str] | None, Query(description="factors whose levels are strata")
    ] = None,
    all_pairs: Annotated[bool, Query(description="compare every two levels")] = False,  # noqa: FBT002
) -> Response:
    """What each level of each factor does, with intervals and health: as `effects --json`."""
    cache = cache_of(request)

    def work() -> Any:
        from sickbay.service.analysis.study import EffectOptions, load_effects  # noqa: PLC0415  scipy is slow

        sweep_id = find_known(cache, sweep)
        if within or all_pairs:  # rarely asked for, so it is not kept
            options = EffectOptions(all_pairs=all_pairs, within=tuple(within or ()))
            return load_effects(cache.store, sweep_id, options).as_data()
        return cache.derived(
            sweep_id, "effects", lambda: load_effects(cache.store, sweep_id).as_data()
        )

    return json_answer(await in_pool(Work.REPORT, work))


@router.get("/sweeps/{sweep}/report", response_class=HTMLResponse)
async def report(request: Request, sweep: SweepName) -> Response:
    """The sweep's self-contained report. Its inline scripts need a policy of their own."""
    cache = cache_of(request)

    def work() -> bytes:
        from sickbay.service.reports.html import render_report  # noqa: PLC0415  pictures are slow

        sweep_id = find_known(cache, sweep)
        return cache.derived(
            sweep_id, "report", lambda: render_report(cache.store, sweep_id).encode()
        )

    headers = {
        "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline'; "
        "style-src 'unsafe-inline'; img-src data:; sandbox allow-scripts"
    }
    return HTMLResponse(await in_pool(Work.REPORT, work), headers=headers)


@router.get("/sweeps/{sweep}/tables/{table}", response_class=Response)
async def table(request: Request, sweep: SweepName, table: TableName) -> Response:
    """One table of a sweep as a Parquet file, rows of running trials included."""
    cache = cache_of(request)

    def work() -> bytes:
        return table_bytes(cache.store, table, find_known(cache, sweep))

    return Response(await in_thread(work), media_type="application/vnd.apache.parquet")


@router.post("/query", response_model=SqlAnswer)
async def sql(request: Request, body: SqlBody) -> Response:
    """One read-only SELECT over trials, epochs, findings, labels, sweeps; at most 10,000 rows.

    DuckDB may open no file, no network, no extension and change no setting. A query has a process
    of its own, which is killed when it takes more than its time or memory, and when the caller
    leaves. Four run at once, sixteen wait for their turn; who finds more waiting, or waits for
    more than 20 s, gets a 429.
    """
    pool: QueryPool = request.app.state.queries
    cancel = asking.Cancel()

    async def watch() -> None:
        while not await request.is_disconnected():  # noqa: ASYNC110  there is no event to wait for
            await anyio.sleep(0.25)
        cancel.now()

    watching = asyncio.ensure_future(watch())
    store = cache_of(request).store
    try:
        answer = await in_pool(Work.SQL, lambda: pool.ask(store, body.sql, SQL_LIMITS, cancel))
    finally:
        watching.cancel()
        cancel.now()  # also where this request is ended before its query
    return Response(answer, media_type="application/json")


@router.post("/diagnose", response_model=Judged)
async def diagnose(request: Request, body: DiagnoseBody) -> Response:
    """Label a training log handed in as text: as `sickbay diagnose FILE`; nothing is stored."""
    del request

    def work() -> dict[str, Any]:
        from sickbay.service.external_logs.judge import as_plain, judge_log  # noqa: PLC0415  scipy is slow
        from sickbay.trials.registry import all_detectors  # noqa: PLC0415

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "log"
            path.write_text(body.log)
            try:
                return as_plain(judge_log(path, body.options(), all_detectors()))
            except ValueError as error:
                raise ApiError(422, str(error).replace(str(path), "the log")) from error

    return json_answer(await in_pool(Work.DIAGNOSE, work))


def find_known(cache: StoreCache, word: str) -> str:
    """The id of the named sweep; raises SweepError (404) if there is none."""
    for summary in cache.sweeps():
        if summary["sweep_id"] == word:
            return word
    reading()
    return find_sweep(cache.store, word).sweep_id


def _ended(cache: StoreCache, sweep_id: str, word: str) -> Sequence[str]:
    """The named ended trials: one by its id, or all whose id has this prefix."""
    ids = cache.trials(sweep_id).ids
    if word in ids:
        return [word]
    return [trial_id for trial_id in ids if trial_id.startswith(word)] if word else []


def _trial_id(cache: StoreCache, sweep_id: str, word: str) -> str:
    trial_ids = _ended(cache, sweep_id, word)
    if len(trial_ids) == 1:
        return trial_ids[0]
    what = f"{len(trial_ids)} ended trials begin" if trial_ids else "no ended trial begins"
    raise ApiError(404, f"{what} with {word!r} in the sweep {sweep_id}")


async def soon(work: Callable[[], T]) -> T:
    """Answer from the cache at once if possible; else do the work in a thread."""
    try:
        return at_once(work)
    except NotKeptError:
        return await in_pool(Work.READ, work)


async def in_thread(work: Callable[[], T]) -> T:
    """Run blocking work in one of the threads for reading."""
    return await in_pool(Work.READ, work)


def json_answer(body: Any) -> Response:
    """A response of plain data, NaN and infinity as strings."""
    try:
        text = json.dumps(body, allow_nan=False, default=asking.plain)
    except ValueError:  # a number without a word in JSON, which hardly any answer has
        text = json.dumps(asking.plain(body), allow_nan=False, default=str)
    return Response(text, media_type="application/json")
