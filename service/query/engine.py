"""SQL over a store: `trials`, `epochs`, `findings`, `labels`, `sweeps`, read-only and locked down.

The views `outcomes` (`trials` with the word for how each came out) and `latest_outcomes` (each
trial once, over all sweeps) stand beside the tables: see `outcomes`.

DuckDB is handed Arrow tables and may open no file, no network and no extension, and change no
setting. A query is planned against empty tables first: so mistakes show before anything is read,
and only the columns that the plan scans are read from the store.
"""

import contextlib
import json
import math
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa

from sickbay.service.query.outcomes import VIEWS
from sickbay.trials.contract import Health
from sickbay.trials.store.columns import conform, values_of
from sickbay.trials.store.files import Store
from sickbay.trials.store.schema import FIXED, TABLES, Problem
from sickbay.trials.store.tables import Scans, scan_tables

NOWHERE = "/nonexistent"


class QueryError(ValueError):
    """The SQL is wrong, is not allowed, or takes too much; the message says what and where."""


@dataclass(frozen=True)
class Limits:
    """What one query may take: memory as DuckDB writes it, threads, seconds, rows given back."""

    memory: str = "2GB"
    threads: int = 2
    seconds: float = 60.0
    rows: int | None = None


class Cancel:
    """Lets another thread end a query, before it begins or while it runs."""

    def __init__(self) -> None:
        """Begin with nobody having asked."""
        self._lock = threading.Lock()
        self._interrupt: Callable[[], None] | None = None
        self.asked = False

    def now(self) -> None:
        """End the query that runs, or the one that is about to."""
        with self._lock:
            self.asked = True
            if self._interrupt is not None:
                self._interrupt()

    def watch(self, interrupt: Callable[[], None] | None) -> None:
        """Say how the running query is interrupted; None when it is over."""
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

    def part(self, begin: int, end: int) -> "QueryResult":
        """The rows from `begin` up to `end`, without a copy."""
        return replace(self, table=self.table.slice(begin, end - begin))

    def records(self) -> list[dict[str, Any]]:
        """Give the rows as dictionaries that every JSON writer takes, see `plain`."""
        names = self.columns
        return [
            {name: plain(value) for name, value in zip(names, row, strict=True)}
            for row in self.rows
        ]


def query(
    store: Store,
    sql: str,
    parameters: Sequence[object] = (),
    *,
    sweep_ids: Sequence[str] | None = None,
    limits: Limits | None = None,
    cancel: Cancel | None = None,
) -> QueryResult:
    """Answer one SELECT over the tables of a store; `?` in it stands for a parameter.

    `sweep_ids` narrows what the tables hold; `cancel` lets another thread end it. QueryError is
    raised for a mistake in the SQL, for a statement that is no SELECT, and for one that takes more
    than the limits; StoreError if the store cannot be read at all. A damaged file is left out and
    named in `problems`.
    """
    limits = limits or Limits()
    cancel = cancel or Cancel()
    with _connection(limits, cancel) as connection, _explained(limits, cancel):
        _check_statement(connection, sql)
        # What is not mentioned is not read, but SHOW TABLES and did-you-mean know of it.
        mentioned = [name for name in (*TABLES, *VIEWS) if _mentions(sql, name)]
        names = dict.fromkeys("trials" if name in VIEWS else name for name in mentioned)
        scans = scan_tables(store, list(names), sweep_ids)
        schemas = {**FIXED, **{name: scan.schema for name, scan in scans.tables.items()}}
        for name, schema in schemas.items():
            connection.register(name, pa.Table.from_batches([], schema))
        if not mentioned or not VIEWS.keys().isdisjoint(mentioned):  # they take milliseconds
            for name, view in VIEWS.items():
                connection.execute(f"CREATE TEMP VIEW {name} AS {view}")
        _relation(connection, sql, parameters)  # mistakes show here
        wanted = _scanned_columns(connection, sql, parameters)
        if wanted and not wanted.issubset(name for one in schemas.values() for name in one.names):
            wanted = None  # DuckDB calls it otherwise, as beside `lr` there is also `LR`
        problems = _hand_in(connection, scans, wanted)
        if wanted is not None and not wanted.issuperset(
            _scanned_columns(connection, sql, parameters) or schemas["trials"].names
        ):
            # With rows to count, the plan came out otherwise.
            problems = _hand_in(connection, scans, None)
        return _run(connection, sql, parameters, limits.rows, scans.problems + problems)


def plain(value: Any) -> Any:  # noqa: PLR0911 (one line a kind of value)
    """Turn a value out of a query into what every JSON writer takes.

    NaN and the infinities become "NaN", "Infinity" and "-Infinity", times ISO text, durations
    seconds, decimals int or float, bytes hexadecimal; lists and mappings are turned entry by entry.
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


def trials(
    store: Store, sweep_id: str, *, label: str | None = None, where: str | None = None
) -> QueryResult:
    """List the trials of a sweep that have ended, by seed and arm.

    `label` is a health; `where` is any SQL condition over the columns of `outcomes`. Raises
    QueryError for a wrong one of either.
    """
    if label is not None and label not in list(Health):
        raise QueryError(f"label: {label!r} is none. Allowed are {', '.join(Health)}")
    sql, parameters = "SELECT * FROM outcomes WHERE true", []
    if label is not None:
        sql, parameters = f"{sql} AND label = ?", [label]
    if where is not None:
        sql = f"{sql} AND (\n{where}\n)"  # lines of their own, in case it ends in a comment
    return query(store, f"{sql}\nORDER BY seed, arm, trial_id", parameters, sweep_ids=[sweep_id])


def counts(store: Store, sweep_id: str) -> QueryResult:
    """Count the ended trials of a sweep by state, label and pathology."""
    sql = "SELECT state, label, pathology, count(*) AS n FROM trials GROUP BY ALL ORDER BY ALL"
    return query(store, sql, sweep_ids=[sweep_id])


def findings(store: Store, sweep_id: str, trial_id: str | None = None) -> QueryResult:
    """List the findings on a trial by its present labeller: fired first, then by detector.

    Without a trial those on every one, trial by trial; so do `epochs` and `labels`.
    """
    sql = """
        SELECT f.* FROM findings f JOIN trials t USING (sweep_id, trial_id)
        WHERE trial_id = coalesce(?, trial_id)
          AND f.labeller_version IS NOT DISTINCT FROM t.labeller_version
        ORDER BY trial_id, f.state <> 'fired', f.state <> 'suspect', f.detector
    """
    return query(store, sql, [trial_id], sweep_ids=[sweep_id])


def epochs(store: Store, sweep_id: str, trial_id: str | None = None) -> QueryResult:
    """List the evaluations of a trial, also of one that still runs."""
    sql = "SELECT * FROM epochs WHERE trial_id = coalesce(?, trial_id) ORDER BY trial_id, epoch"
    return query(store, sql, [trial_id], sweep_ids=[sweep_id])


def labels(store: Store, sweep_id: str, trial_id: str | None = None) -> QueryResult:
    """List every label that a trial ever had, by labeller version."""
    sql = """
        SELECT * FROM labels WHERE trial_id = coalesce(?, trial_id)
        ORDER BY trial_id, labeller_version, label_hash
    """
    return query(store, sql, [trial_id], sweep_ids=[sweep_id])


def find_trial(store: Store, prefix: str) -> tuple[str, str]:
    """Find an ended trial by the beginning of its id: its sweep and its whole id.

    A trial that is part of several sweeps is taken from the one that ended it last. Raises
    QueryError if no trial, or more than one, has an id that begins like this.
    """
    sql = """
        SELECT trial_id, sweep_id FROM latest_outcomes
        WHERE starts_with(trial_id, ?) ORDER BY trial_id
    """
    rows = query(store, sql, [prefix]).rows
    if len(rows) == 1:
        trial_id, sweep_id = rows[0]
        return sweep_id, trial_id
    if not rows:
        raise QueryError(
            f"no trial that has ended has an id that begins with {prefix!r}: `sickbay results"
            " SWEEP` lists them"
        )
    some = ", ".join(trial_id for trial_id, _ in rows[:5])
    raise QueryError(f"{len(rows)} trials begin with {prefix!r} ({some}, …): give more of the id")


@contextlib.contextmanager
def _connection(limits: Limits, cancel: Cancel) -> Iterator[Any]:
    connection = duckdb.connect(
        ":memory:",
        config={
            "enable_external_access": "false",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "temp_directory": "",
            # Nothing is there; their defaults would tell where the home of the service's user is.
            "extension_directory": NOWHERE,
            "secret_directory": NOWHERE,
            "memory_limit": limits.memory,
            "threads": str(limits.threads),
        },
    )
    watch = threading.Timer(limits.seconds, connection.interrupt)
    watch.daemon = True
    try:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET lock_configuration = true")
        watch.start()
        cancel.watch(connection.interrupt)
        yield connection
    finally:
        watch.cancel()
        cancel.watch(None)
        connection.close()


@contextlib.contextmanager
def _explained(limits: Limits, cancel: Cancel) -> Iterator[None]:
    """DuckDB's errors name the place and near-by names: they are passed on, as ours."""
    try:
        yield
    except duckdb.InterruptException as error:
        raise (left() if cancel.asked else out_of_time(limits)) from error
    except (duckdb.OutOfMemoryException, MemoryError) as error:
        raise out_of_memory(limits) from error
    except duckdb.Error as error:
        if "memory allocation failed" in str(error):  # of a plan that is written as JSON
            raise out_of_memory(limits) from error
        raise QueryError(str(error)) from error


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
    """The error of a query whose caller has left: nobody reads it but a log."""
    return QueryError("the query was cancelled: whoever asked has left")


def _check_statement(connection: Any, sql: str) -> None:
    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        raise QueryError(f"a query is one SELECT statement: this has {len(statements)} statements")
    if statements[0].type != duckdb.StatementType.SELECT:
        kind = statements[0].type.name.replace("MULTI", "several statements (PIVOT without IN?)")
        raise QueryError(
            f"only SELECT is allowed, and this is {kind}: the store is read-only here. The tables"
            f" are {', '.join((*TABLES, *VIEWS))}"
        )


def _hand_in(connection: Any, scans: Scans, wanted: frozenset[str] | None) -> tuple[Problem, ...]:
    """Register the tables with these columns read, all if None; the others are there, but null."""
    problems: tuple[Problem, ...] = ()
    for name, scan in scans.tables.items():
        table, more = scan.read([*wanted, scan.schema.names[0]] if wanted else None)
        connection.register(name, conform(table, scan.schema))
        problems += more
    return problems


def _mentions(sql: str, name: str) -> bool:
    return re.search(rf"\b{name}\b", sql, re.IGNORECASE) is not None


def _scanned_columns(
    connection: Any, sql: str, parameters: Sequence[object]
) -> frozenset[str] | None:
    """Find the columns that the plan scans; None, that is all, where it cannot be understood."""
    explained = connection.execute(f"EXPLAIN (FORMAT json) {sql}", list(parameters)).fetchall()
    try:
        plan = json.loads(explained[0][1])
        return frozenset(name for node in _nodes(plan) for name in _projections(node)) or None
    except (KeyError, TypeError, ValueError):
        return None


def _nodes(plan: list[Any]) -> Iterator[Mapping[str, Any]]:
    for node in plan:
        yield node
        yield from _nodes(node["children"])


def _projections(node: Mapping[str, Any]) -> list[str]:
    if "ARROW_SCAN" not in node["name"]:
        return []
    names = node["extra_info"]["Projections"]
    return [names] if isinstance(names, str) else list(names)


def _run(
    connection: Any,
    sql: str,
    parameters: Sequence[object],
    limit: int | None,
    problems: tuple[Problem, ...],
) -> QueryResult:
    relation = _relation(connection, sql, parameters)
    types = tuple(str(kind) for kind in relation.types)
    table = (relation if limit is None else relation.limit(limit + 1)).to_arrow_table()
    truncated = limit is not None and table.num_rows > limit
    table = (table.slice(0, limit) if truncated else table).rename_columns(_unique(table))
    return QueryResult(table, types, problems, truncated)


def _relation(connection: Any, sql: str, parameters: Sequence[object]) -> Any:
    # Handing in empty parameters would make every query a prepared one, which refuses some.
    return connection.sql(sql, params=list(parameters)) if parameters else connection.sql(sql)


def _unique(table: pa.Table) -> list[str]:
    names: list[str] = []
    for name in table.column_names:
        number, unique = 0, name
        while unique in names:
            number += 1
            unique = f"{name}_{number}"
        names.append(unique)
    return names
