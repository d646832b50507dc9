"""Limits of a query, its cancellation and its result; no DuckDB in here."""

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa

from sickbay.trials.store.columns import values_of
from sickbay.trials.store.files import StoreError
from sickbay.trials.store.schema import Problem


class QueryError(ValueError):
    """The SQL is wrong, not allowed, or exceeds a limit; the message says what and where."""


@dataclass(frozen=True)
class Limits:
    """Limits of one query: memory in DuckDB's notation, threads, seconds, rows returned."""

    memory: str = "2GB"
    threads: int = 2
    seconds: float = 60.0
    rows: int | None = None


class Cancel:
    """Lets another thread end a query, before it begins or while it runs."""

    def __init__(self) -> None:
        """Begin without a request to cancel."""
        self._lock = threading.Lock()
        self._interrupt: Callable[[], None] | None = None
        self.asked = False

    def now(self) -> None:
        """Cancel the running query, or the one about to start."""
        with self._lock:
            self.asked = True
            if self._interrupt is not None:
                self._interrupt()

    def watch(self, interrupt: Callable[[], None] | None) -> None:
        """Set how the running query is interrupted; None when it is over."""
        with self._lock:
            self._interrupt = interrupt
        if self.asked and interrupt is not None:
            raise QueryError("the query was cancelled before it began")


@dataclass(frozen=True)
class QueryResult:
    """The answer as Arrow; `problems` are files of the store that had to be left out.

    `types` are DuckDB's names. `truncated` says that there were more rows than the limit.
    """

    table: pa.Table
    types: tuple[str, ...]
    problems: tuple[Problem, ...]
    truncated: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns; a second `n` is called `n_1`."""
        return tuple(self.table.column_names)

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        """The rows as Python values: NaN and infinity are floats, null is None."""
        return list(zip(*map(values_of, self.table.columns), strict=True))

    def whole(self) -> "QueryResult":
        """This result. Raises StoreError if a damaged file hid a table."""
        damaged = [
            str(problem) for problem in self.problems if problem.path.endswith("/data.parquet")
        ]
        if damaged:
            raise StoreError("; ".join(damaged))
        return self

    def part(self, begin: int, end: int) -> "QueryResult":
        """The rows from `begin` up to `end`, without a copy."""
        return replace(self, table=self.table.slice(begin, end - begin))

    def records(self) -> list[dict[str, Any]]:
        """Return the rows as dictionaries of JSON values, see `plain`."""
        columns = [
            values if _is_plain(values) else list(map(plain, values))
            for values in map(values_of, self.table.columns)
        ]
        names = self.columns
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


_PLAIN = {bool, int, str, type(None)}  # what `plain` leaves as it is


def _is_plain(values: Sequence[Any]) -> bool:
    """Whether `plain` would leave every value of a column as it is."""
    others = set(map(type, values)) - _PLAIN
    return not others or (others == {float} and all(map(math.isfinite, filter(None, values))))


def plain(value: Any) -> Any:  # noqa: PLR0911 (one line a kind of value)
    """Convert a value of a query to a JSON value, entry by entry.

    NaN and the infinities become "NaN", "Infinity" and "-Infinity", times ISO text, durations
    seconds, decimals int or float, bytes hexadecimal.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        whole = value.is_finite() and value == value.to_integral_value()
        return int(value) if whole else plain(math.nan if value.is_nan() else float(value))
    return value.hex() if isinstance(value, bytes) else str(value)


def out_of_time(limits: Limits) -> QueryError:
    """The error of a query that took too long."""
    return QueryError(
        f"the query took longer than {limits.seconds:g} s and was stopped: ask for less, for"
        " instance one sweep"
    )


def out_of_memory(limits: Limits) -> QueryError:
    """The error of a query that needs too much memory."""
    return QueryError(
        f"the query needs more memory than {limits.memory}: ask for fewer rows or columns"
    )


def left() -> QueryError:
    """The error of a query whose caller has disconnected: it only reaches the log."""
    return QueryError("the query was cancelled: its caller disconnected")
