"""Every error of the API has one shape: {"error": {"code", "message", "detail"}}."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from sickbay.service.query.engine import QueryError
from sickbay.service.query.lookup import SweepError
from sickbay.service.query.pool import BusyError
from sickbay.trials.errors import SpecError
from sickbay.trials.execution.lease import AlreadyDrivenError
from sickbay.trials.registry import RegistryError
from sickbay.trials.store.files import StoreError

CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "timeout",
    409: "conflict",
    413: "too_large",
    415: "unsupported_media_type",
    422: "invalid",
    429: "busy",
    503: "store_unavailable",
}


class ErrorBody(BaseModel):
    """What went wrong: a code for programs, a message for people, and details."""

    code: str
    message: str
    detail: Any = None


class ErrorAnswer(BaseModel):
    """The body of every error response."""

    error: ErrorBody


class ApiError(Exception):
    """An error response with a status, a message and details."""

    def __init__(self, status: int, message: str, detail: Any = None) -> None:
        """Set the status, message and details."""
        super().__init__(message)
        self.status, self.message, self.detail = status, message, detail


def error_answer(
    status: int, message: str, detail: Any = None, headers: dict[str, str] | None = None
) -> JSONResponse:
    """An error response in the common shape."""
    code = CODES.get(status, "error")
    body = {"error": {"code": code, "message": message, "detail": detail}}
    return JSONResponse(body, status_code=status, headers=headers)


def add_error_answers(app: FastAPI) -> None:
    """Convert our errors and the framework's to responses of the common shape."""
    plain: dict[type[Exception], int] = {
        QueryError: 400,
        RegistryError: 422,
        SweepError: 404,
        AlreadyDrivenError: 409,
        BusyError: 429,
        StoreError: 503,
        ConnectionError: 503,  # the Ray cluster that sweeps run on
    }
    for kind, status in plain.items():
        app.add_exception_handler(kind, _answering(status))
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(SpecError, _spec_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _request_error)


def _answering(status: int) -> Any:
    def answer(request: Request, error: Exception) -> JSONResponse:
        del request
        headers = {"Retry-After": "5"} if status == 429 else None
        return error_answer(status, str(error), headers=headers)

    return answer


def _api_error(request: Request, error: Exception) -> JSONResponse:
    del request
    assert isinstance(error, ApiError)
    headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else None
    return error_answer(error.status, error.message, error.detail, headers)


def _spec_error(request: Request, error: Exception) -> JSONResponse:
    """An invalid spec: the messages of `sickbay validate`, one entry per problem."""
    del request
    assert isinstance(error, SpecError)
    return error_answer(422, str(error), [vars(problem) for problem in error.problems])


def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    message = str(error.detail)
    if error.status_code == 404 and message == "Not Found":
        message = f"there is nothing at {request.url.path}: see /docs for all paths"
    headers = dict(error.headers) if error.headers else None
    return error_answer(error.status_code, message, headers=headers)


def _request_error(request: Request, error: Exception) -> JSONResponse:
    """A parameter or body of the wrong kind; the values themselves are not echoed."""
    del request
    assert isinstance(error, RequestValidationError)
    detail = [
        {"key": ".".join(map(str, mistake["loc"])), "message": mistake["msg"]}
        for mistake in error.errors()
    ]
    mistakes = "; ".join(f"{mistake['key']}: {mistake['message']}" for mistake in detail)
    return error_answer(422, f"invalid request: {mistakes}", detail)
