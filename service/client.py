"""The Python client of a Sickbay service.

client = Client("http://127.0.0.1:8080", token="sickbay_…")
sweep_id = client.submit("sweep.yaml")
client.wait(sweep_id)
client.trials(sweep_id).groupby("label").size()
"""

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

import httpx2

if TYPE_CHECKING:  # a second that `submit` should not wait
    import pandas as pd

WORDS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
OVER = ("finished", "stopped", "cancelled", "failed", "interrupted")
PAGE = 1000


class ServiceError(RuntimeError):
    """The service refused a request: its message, with the status and details."""

    def __init__(self, status: int, message: str, detail: Any = None) -> None:
        """Store the service's message, status and details."""
        super().__init__(message)
        self.status, self.detail = status, detail


class Client:
    """A client of a service; can be used for many calls, and as a context manager."""

    def __init__(self, url: str, token: str | None = None, *, timeout: float = 60.0) -> None:
        """`url` is the service's, `token` one of `sickbay token create`; seconds per request."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx2.Client(base_url=url.rstrip("/"), headers=headers, timeout=timeout)

    def __enter__(self) -> Self:
        """Use the client in a `with`."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def submit(self, spec: "str | Path | Mapping[str, Any]", key: str | None = None) -> str:
        """Submit a spec (a file, YAML or JSON text, or a mapping); returns the sweep's id.

        `key` makes a repeated call with the same spec harmless across retries. Submitting the same
        spec again runs only what is missing in any case. Raises ServiceError with every problem of
        a bad spec.
        """
        headers = {"Content-Type": "application/yaml"} | ({"Idempotency-Key": key} if key else {})
        answer = self.call("POST", "/api/sweeps", content=_spec_text(spec), headers=headers)
        return str(answer["sweep_id"])

    def sweeps(self) -> list[dict[str, Any]]:
        """Every sweep with its counts, the latest first."""
        return list(self._pages("/api/sweeps", "sweeps"))

    def sweep(self, sweep: str) -> dict[str, Any]:
        """One sweep with its counts and its spec."""
        answer: dict[str, Any] = self.call("GET", f"/api/sweeps/{_quoted(sweep)}")
        return answer

    def wait(
        self, sweep: str, *, poll: float = 1.0, timeout: float | None = None
    ) -> dict[str, Any]:
        """Wait until a sweep is over and return it; TimeoutError after `timeout` seconds."""
        ends = None if timeout is None else time.monotonic() + timeout
        while True:
            record = self.sweep(sweep)
            if record["state"] in OVER:
                return record
            if ends is not None and time.monotonic() > ends:
                raise TimeoutError(f"{sweep} is still {record['state']} after {timeout:g} s")
            time.sleep(poll)

    def trials(self, sweep: str, **filters: str) -> "pd.DataFrame":
        """The ended trials of a sweep, one row each; `label`, `state` and `pathology` filter."""
        return _frame(list(self._pages(f"/api/sweeps/{_quoted(sweep)}/trials", "trials", filters)))

    def epochs(self, sweep: str, trial: str) -> "pd.DataFrame":
        """The evaluations of one trial."""
        path = f"/api/sweeps/{_quoted(sweep)}/trials/{_quoted(trial)}/epochs"
        return _frame(list(self._pages(path, "epochs")))

    def trial(self, sweep: str, trial: str) -> dict[str, Any]:
        """One trial with findings, labels and known fixes."""
        answer: dict[str, Any] = _numbers(
            self.call("GET", f"/api/sweeps/{_quoted(sweep)}/trials/{_quoted(trial)}")
        )
        return answer

    def effects(self, sweep: str) -> dict[str, Any]:
        """The effects of the factors, as `sickbay effects --json`."""
        answer: dict[str, Any] = _numbers(self.call("GET", f"/api/sweeps/{_quoted(sweep)}/effects"))
        return answer

    def query(self, sql: str) -> "pd.DataFrame":
        """The answer to one SELECT; raises ServiceError for a mistake in it."""
        answer = self.call("POST", "/api/query", json={"sql": sql})
        rows = [dict(zip(answer["columns"], row, strict=True)) for row in answer["rows"]]
        return _frame(rows, answer["columns"])

    def table(self, sweep: str, table: str) -> bytes:
        """One table of a sweep as a Parquet file: trials, epochs, findings, labels or sweeps."""
        return self._send("GET", f"/api/sweeps/{_quoted(sweep)}/tables/{_quoted(table)}").content

    def plan(self, spec: "str | Path | Mapping[str, Any]") -> dict[str, Any]:
        """What a spec would run, trial by trial; raises ServiceError with every problem."""
        text, trials = _spec_text(spec), list[dict[str, Any]]()
        while True:
            page = {"offset": str(len(trials)), "limit": str(PAGE)}
            answer: dict[str, Any] = self.call("POST", "/api/plan", content=text, params=page)
            trials += answer["trials"]
            if len(answer["trials"]) < PAGE:
                return answer | {"trials": trials}

    def relabel(self, sweep: str, *, dry_run: bool = False) -> dict[str, Any]:
        """Judge a sweep's stored histories with the service's detectors; returns what changed."""
        path = f"/api/sweeps/{_quoted(sweep)}/relabel"
        answer: dict[str, Any] = self.call("POST", path, params={"dry_run": str(dry_run).lower()})
        return answer

    def diagnose(self, log: "str | Path", **options: Any) -> dict[str, Any]:
        """Label an external training log: a path, or its text; `options` as on the command line."""
        text = log.read_text() if isinstance(log, Path) else log
        answer: dict[str, Any] = self.call("POST", "/api/diagnose", json={"log": text, **options})
        return answer

    def stop(self, sweep: str) -> None:
        """Start no further trials; running ones finish."""
        self.call("POST", f"/api/sweeps/{_quoted(sweep)}/stop")

    def cancel(self, sweep: str) -> None:
        """End a sweep and its running trials."""
        self.call("POST", f"/api/sweeps/{_quoted(sweep)}/cancel")

    def resume(self, sweep: str) -> None:
        """Run what is missing of a sweep."""
        self.call("POST", f"/api/sweeps/{_quoted(sweep)}/resume")

    def report(self, sweep: str) -> str:
        """The sweep's self-contained HTML report."""
        return self._send("GET", f"/api/sweeps/{_quoted(sweep)}/report").text

    def logs(self, sweep: str, *, follow: bool = False) -> Iterator[str]:
        """The log of the sweep's driver, in chunks; `follow` streams it until the end."""
        path, parameters = f"/api/sweeps/{_quoted(sweep)}/logs", {"follow": str(follow).lower()}
        with self._http.stream("GET", path, params=parameters, timeout=None) as answer:
            if answer.is_error:
                answer.read()
                _check(answer)
            yield from answer.iter_text()

    def call(self, method: str, path: str, **more: Any) -> Any:
        """One request whose answer is JSON; raises ServiceError, or ConnectionError."""
        return self._send(method, path, **more).json()

    def _send(self, method: str, path: str, **more: Any) -> httpx2.Response:
        try:
            answer = self._http.request(method, path, **more)
        except httpx2.TransportError as error:
            where = f"{self._http.base_url}"
            raise ConnectionError(f"cannot reach a Sickbay service at {where}: {error}") from error
        _check(answer)
        return answer

    def _pages(
        self, path: str, name: str, filters: Mapping[str, str] | None = None
    ) -> Iterator[dict[str, Any]]:
        offset, total = 0, 1
        while offset < total:
            parameters = {**(filters or {}), "offset": str(offset), "limit": str(PAGE)}
            page = self.call("GET", path, params=parameters)
            yield from page[name]
            offset, total = offset + PAGE, page["total"]


def _check(answer: httpx2.Response) -> None:
    if not answer.is_error:
        return
    try:
        error = answer.json()["error"]
        message, detail = str(error["message"]), error.get("detail")
    except (ValueError, KeyError, TypeError):
        message, detail = f"{answer.status_code} from {answer.url}: {answer.text[:200]}", None
    raise ServiceError(answer.status_code, message, detail)


def _spec_text(spec: "str | Path | Mapping[str, Any]") -> str:
    """The spec as text: a mapping becomes JSON, which is YAML."""
    if isinstance(spec, Mapping):
        return json.dumps(spec)
    text = str(spec)
    one_line = "\n" not in text
    if isinstance(spec, Path) or (one_line and text.endswith((".yaml", ".yml", ".json"))):
        return Path(text).read_text()
    return text


def _quoted(name: str) -> str:
    return quote(name, safe="")


def _numbers(value: Any) -> Any:
    """Convert NaN and infinity from strings to floats."""
    if isinstance(value, str):
        return WORDS.get(value, value)
    if isinstance(value, list):
        return [_numbers(entry) for entry in value]
    if isinstance(value, dict):
        return {key: _numbers(entry) for key, entry in value.items()}
    return value


def _frame(rows: list[dict[str, Any]], columns: list[str] | None = None) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(_numbers(rows), columns=columns)
