"""The protocol between the service and a query process: frames on stdin and stdout.

A frame is a head (`HEAD`: its kind, whether the process is worn out, the number of bytes) and JSON,
text or Arrow. Nothing is ever unpickled.
"""

import json
import struct
from enum import Enum

import pyarrow as pa

from sickbay.service.query.result import QueryError, QueryResult, plain
from sickbay.trials.store.schema import Problem

MAIN = "from sickbay.service.query.worker import main; main()"
HEAD = struct.Struct("<c?Q")
LENGTH = struct.Struct("<Q")


class Kind(Enum):
    """Type of a frame."""

    READY = b"r"  # this process waits for its first query
    QUERY = b"q"
    ANSWER = b"a"
    WRONG = b"w"  # the text of a QueryError
    STORE = b"s"  # the text of a StoreError
    BROKEN = b"b"  # our own mistake: a traceback


def frame(kind: Kind, payload: bytes, *, worn: bool = False) -> bytes:
    """The bytes of one frame."""
    return HEAD.pack(kind.value, worn, len(payload)) + payload


def answer_bytes(result: QueryResult, most: int) -> bytes:
    """The answer as the API's JSON. QueryError if it is larger than `most` bytes."""
    _check_size(result.table.nbytes, most)
    try:
        rows = [[plain(value) for value in row] for row in result.rows]
    except (ValueError, OverflowError) as error:  # a year beyond 9999, text that is no UTF-8
        raise QueryError(f"a value of the answer cannot be written as JSON: {error}") from error
    body = {
        "columns": list(result.columns),
        "types": list(result.types),
        "rows": rows,
        "truncated": result.truncated,
        "problems": [str(problem) for problem in result.problems],
    }
    text = json.dumps(body, allow_nan=False, default=str).encode()
    _check_size(len(text), most)
    return text


def arrow_bytes(result: QueryResult, most: int) -> bytes:
    """The answer as `read_arrow` reads it. QueryError if it is larger than `most` bytes."""
    _check_size(result.table.nbytes, most)
    about = {
        "types": result.types,
        "problems": [[problem.path, problem.message] for problem in result.problems],
        "truncated": result.truncated,
    }
    head, sink = json.dumps(about).encode(), pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, result.table.schema) as stream:
        stream.write_table(result.table)
    data: bytes = LENGTH.pack(len(head)) + head + sink.getvalue().to_pybytes()
    _check_size(len(data), most)
    return data


def read_arrow(data: bytes) -> QueryResult:
    """Read what `arrow_bytes` wrote."""
    begin = LENGTH.size + LENGTH.unpack_from(data)[0]
    about = json.loads(data[LENGTH.size : begin])
    table = pa.ipc.open_stream(pa.py_buffer(data)[begin:]).read_all()
    problems = tuple(Problem(path, message) for path, message in about["problems"])
    return QueryResult(table, tuple(about["types"]), problems, about["truncated"])


def _check_size(size: int, most: int) -> None:
    if size > most:
        raise QueryError(
            f"the answer is larger than {most // 2**20} MiB: ask for fewer rows or columns"
        )
