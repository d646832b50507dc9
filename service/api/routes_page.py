"""The page and its files: nothing is loaded from elsewhere, nothing needs a build step."""

import hashlib
from functools import lru_cache
from importlib import resources
from typing import Any

from fastapi import APIRouter, Depends, Request, Response

from sickbay.service.api.auth import need
from sickbay.service.api.routes_read import cache_of, in_thread, json_answer
from sickbay.service.server.errors import ApiError
from sickbay.service.server.tokens import Role
from sickbay.service.server.workers import Work, in_pool

TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
}

router = APIRouter(tags=["page"])


@router.get("/", include_in_schema=False)
async def page(request: Request) -> Response:
    """The page: one document for every path within it."""
    return await _file(request, "index.html")


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> Response:
    """The API's interactive documentation; its library needs inline styles."""
    answer = await _file(request, "docs.html")
    answer.headers["Content-Security-Policy"] = (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'"
    )
    return answer


@router.get("/web/{path:path}", include_in_schema=False)
async def file(request: Request, path: str) -> Response:
    """A static file of the page."""
    return await _file(request, path)


@router.get("/api/workloads", dependencies=[Depends(need(Role.READ))])
async def workloads(request: Request) -> Response:
    """The registered workloads: names, packages, and errors of those that cannot be loaded."""

    def work() -> dict[str, Any]:
        from sickbay.trials import registry  # noqa: PLC0415  reads the installed packages

        return {"workloads": [vars(entry) for entry in registry.workload_entries()]}

    cache = cache_of(request)
    return json_answer(await in_thread(lambda: cache.once("workloads", work)))


@router.get("/api/workloads/{name}", dependencies=[Depends(need(Role.READ))])
async def workload(name: str) -> Response:
    """One registered workload: its factors, levels, settings and objective."""

    def work() -> dict[str, Any]:
        from sickbay.service.summary.catalogue import describe_workload  # noqa: PLC0415
        from sickbay.trials import registry  # noqa: PLC0415

        if name not in {entry.name for entry in registry.workload_entries()}:
            raise ApiError(404, f"no workload {name!r} is registered: see /api/workloads")
        return describe_workload(registry.workload(name))

    return json_answer(await in_thread(work))


@router.get("/api/detectors", dependencies=[Depends(need(Role.READ))])
async def detectors(request: Request) -> Response:
    """The detectors: rule, formula, thresholds, source and remedy of each."""

    def work() -> dict[str, Any]:
        from sickbay.service.summary.catalogue import describe_detector  # noqa: PLC0415
        from sickbay.trials.registry import all_detectors  # noqa: PLC0415

        return {"detectors": [describe_detector(detector) for detector in all_detectors()]}

    cache = cache_of(request)
    return json_answer(await in_thread(lambda: cache.once("detectors", work)))


async def _file(request: Request, path: str) -> Response:
    """A file with its ETag, so that a browser that has it gets a 304."""
    content = await in_pool(Work.FILES, lambda: _read(path))
    if content is None:
        raise ApiError(404, f"the page has no file {path!r}")
    data, tag = content
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type=TYPES[path.rpartition(".")[2]], headers=headers)


@lru_cache(maxsize=64)  # names that are not there are asked for as well
def _read(path: str) -> tuple[bytes, str] | None:
    """A file of the page by its name; a path that leads elsewhere is not found."""
    names = {"index.html", "docs.html", "app.css", "icon.svg"}
    folder = resources.files("sickbay.service") / "web"
    names |= {entry.name for entry in folder.iterdir() if entry.name.endswith(".js")}
    names |= {f"vendor/{entry.name}" for entry in (folder / "vendor").iterdir()}
    if path not in names or path.rpartition(".")[2] not in TYPES:
        return None
    data = folder.joinpath(path).read_bytes()
    return data, f'"{hashlib.sha256(data).hexdigest()[:20]}"'
