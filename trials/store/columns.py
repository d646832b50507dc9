"""Bringing tables with different columns together. Pure: no files here."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sickbay.trials.store.schema import FIXED, VECTOR

_NUMBERS = (pa.int64(), pa.float64())


def labels_of(trials: pa.Table) -> pa.Table:
    """Take the present labels of a table of trials, as rows of `labels`."""
    labelled = trials.filter(pc.is_valid(trials["label"]))
    return labelled.select(FIXED["labels"].names).cast(FIXED["labels"])


def unify(name: str, schemas: Iterable[pa.Schema]) -> pa.Schema:
    """Join schemas: the fixed columns, then all others, each of a type that holds its values."""
    fixed = FIXED[name]
    others: dict[str, pa.DataType] = {}
    for entry in (entry for schema in schemas for entry in schema if entry.name not in fixed.names):
        others[entry.name] = _common(others.get(entry.name, entry.type), entry.type)
    return pa.schema([*fixed, *sorted(others.items())])


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a table exactly these columns: missing ones are null, others are converted."""
    names = set(table.column_names)
    columns = [
        _cast(table[entry.name], entry.type)
        if entry.name in names
        else pa.chunked_array([pa.nulls(table.num_rows, entry.type)])
        for entry in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def distinct(table: pa.Table, keys: Sequence[str]) -> pa.Table:
    """Keep the first row of every key."""
    columns = [table[key].to_pylist() for key in keys]
    first: dict[tuple[object, ...], int] = {}
    for index, key in enumerate(zip(*columns, strict=True)):
        first.setdefault(key, index)
    if len(first) == table.num_rows:
        return table
    return table.take(pa.array(list(first.values()), pa.int64()))


def values_of(column: pa.ChunkedArray) -> list[Any]:
    """Return a column as Python values; times are aware UTC, or naive where the column is.

    Arrow's own conversion of times imports pandas, which takes longer than most queries.
    """
    if not pa.types.is_timestamp(column.type):
        return list(column.to_pylist())
    start = datetime(1970, 1, 1, tzinfo=UTC if column.type.tz else None)
    micros = column.cast(pa.timestamp("us", column.type.tz), safe=False).cast(pa.int64())
    return [
        None if value is None else start + timedelta(microseconds=value)
        for value in micros.to_pylist()
    ]


def rows_of_table(table: pa.Table) -> list[dict[str, Any]]:
    """Return a table as one dictionary a row."""
    columns = [values_of(column) for column in table.columns]
    return [dict(zip(table.column_names, row, strict=True)) for row in zip(*columns, strict=True)]


def _common(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    if first == second:
        return first
    if first in _NUMBERS and second in _NUMBERS:
        return pa.float64()
    if VECTOR in (first, second) and (first in _NUMBERS or second in _NUMBERS):
        return VECTOR
    return pa.string()


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if column.type == kind:
        return column
    if kind == VECTOR:
        values = [None if value is None else [value] for value in column.to_pylist()]
        return pa.chunked_array([pa.array(values, VECTOR)])
    # An integer beyond 2**53 may lose digits as a float: `config` keeps the exact level.
    return column.cast(kind, safe=False)
