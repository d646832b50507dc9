"""DuckDB over a store, locked down: it gets Arrow tables and may open no files itself.

A query is planned against empty tables first, so that mistakes show before anything is read and
only the columns of the plan are read. DuckDB can end its process, so the service loads this module
only in processes of its own (see `pool`).
"""

import contextlib
import functools
import json
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from sickbay.service.query.outcomes import VIEWS
from sickbay.service.query.result import (
    Cancel,
    Limits,
    QueryError,
    QueryResult,
    left,
    out_of_memory,
    out_of_time,
)
from sickbay.trials.store.columns import conform
from sickbay.trials.store.files import Store
from sickbay.trials.store.schema import FIXED, TABLES, Problem
from sickbay.trials.store.tables import Scans, scan_tables

NOWHERE = "/nonexistent"
DESCRIPTORS = 16  # that must be free: DuckDB aborts the process where it gets none


def answer(
    store: Store,
    sql: str,
    parameters: Sequence[object],
    sweep_ids: Sequence[str] | None,
    limits: Limits,
    cancel: Cancel,
) -> QueryResult:
    """Answer one SELECT in this process, see `engine.query`."""
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
        if wanted and not wanted.issubset(
            name for table_schema in schemas.values() for name in table_schema.names
        ):
            wanted = None  # DuckDB calls it otherwise, as beside `lr` there is also `LR`
        problems = _hand_in(connection, scans, wanted)
        if wanted is not None and not wanted.issuperset(
            _scanned_columns(connection, sql, parameters) or schemas["trials"].names
        ):
            # With rows to count, the plan came out otherwise.
            problems = _hand_in(connection, scans, None)
        return _run(connection, sql, parameters, limits.rows, scans.problems + problems)


@contextlib.contextmanager
def _connection(limits: Limits, cancel: Cancel) -> Iterator[Any]:
    _check_process()
    connection = _database(limits.memory, limits.threads).cursor()
    watch = threading.Timer(limits.seconds, connection.interrupt)
    watch.daemon = True
    watch.start()
    try:
        cancel.watch(connection.interrupt)
        yield connection
    except (duckdb.FatalException, duckdb.InternalException):
        _database.cache_clear()  # such an error makes a database useless
        raise
    finally:
        watch.cancel()
        watch.join()
        cancel.watch(None)
        connection.close()


@functools.lru_cache(maxsize=2)
def _database(memory: str, threads: int) -> Any:
    """An empty database: one takes 16 ms, and its cursors see nothing of one another's tables."""
    database = duckdb.connect(
        ":memory:",
        config={
            "enable_external_access": "false",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "temp_directory": "",
            # Nothing is there; their defaults would tell where the home of the service's user is.
            "extension_directory": NOWHERE,
            "secret_directory": NOWHERE,
            "memory_limit": memory,
            "threads": str(threads),
        },
    )
    database.execute("SET GLOBAL TimeZone = 'UTC'")
    database.execute("SET lock_configuration = true")
    return database


def _check_process() -> None:
    """Raise where DuckDB would abort: without free file descriptors, or in a deleted folder."""
    try:
        os.getcwd()  # noqa: PTH109  pathlib asks the same
    except FileNotFoundError:
        os.chdir("/")  # nothing relative can be meant any more
    opened: list[int] = []
    try:
        for _ in range(DESCRIPTORS):
            opened.append(os.open(os.devnull, os.O_RDONLY))  # noqa: PERF401  what fails is closed
    except OSError as error:
        raise QueryError(
            f"no free file descriptors for a query ({error}): raise the limit (`ulimit -n`)"
        ) from error
    finally:
        for descriptor in opened:
            os.close(descriptor)


@contextlib.contextmanager
def _explained(limits: Limits, cancel: Cancel) -> Iterator[None]:
    """Convert DuckDB's errors, which name the place and similar names, to QueryError."""
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
    """Register the tables, reading these columns (None: all); the others exist, but are null."""
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
    """Find the columns that the plan scans; None (all) where the plan cannot be parsed."""
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
