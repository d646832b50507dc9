"""What runs in a process of its own: answers SQL for the service, one query at a time.

It is told over stdin and answers on stdout, in frames: a head (`HEAD`: what it is, whether this
process is worn, how many bytes follow) and JSON or text. Nothing is ever unpickled. It ends when
its stdin does, so it outlives no service, however that ended. See docs/decisions/0022.
"""

import contextlib
import json
import os
import queue
import resource
import signal
import struct
import sys
import threading
import traceback
from collections.abc import Iterator
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from sickbay.service.query.engine import (
    NOWHERE,
    Limits,
    QueryError,
    QueryResult,
    out_of_memory,
    plain,
    query,
)
from sickbay.trials.store.files import Store, StoreError, locate_store

MAIN = "from sickbay.service.query.worker import main; main()"
HEAD = struct.Struct("<c?Q")
MOST_WORDS = 10_000  # characters of an error: DuckDB's may quote a value of any size
WORN = 4  # a process is replaced when it keeps this part of its room after an answer


class Kind(Enum):
    """What a frame is."""

    READY = b"r"  # this process waits for its first query
    QUERY = b"q"
    ANSWER = b"a"
    WRONG = b"w"  # the text of a QueryError
    STORE = b"s"  # the text of a StoreError
    BROKEN = b"b"  # our own mistake: a traceback


def frame(kind: Kind, payload: bytes, *, worn: bool = False) -> bytes:
    """The bytes of one frame."""
    return HEAD.pack(kind.value, worn, len(payload)) + payload


def main() -> None:
    """Answer until stdin ends. `room` bytes, the only argument, are what queries may take."""
    room = int(sys.argv[1])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the service's to answer
    answers = os.fdopen(os.dup(1), "wb")
    with contextlib.suppress(QueryError):
        query(locate_store(NOWHERE), "SELECT count(*) FROM trials")  # loads what is lazy
    idle = _limit_process(room)
    # What a library says as it dies may hold values: no log should have them.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    asked: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    arguments = (asked, answers, idle + room // WORN)
    threading.Thread(target=_answer_all, args=arguments, daemon=True).start()
    for payload in _payloads(sys.stdin.buffer):
        asked.put(payload)
    os._exit(0)  # also out of a query that runs and that nobody waits for any more


def answer_bytes(found: QueryResult, most: int) -> bytes:
    """The answer as the JSON that the API gives. QueryError if it is larger than `most` bytes."""
    too_large = QueryError(
        f"the answer is larger than {most // 2**20} MiB: ask for fewer rows or columns"
    )
    if found.table.nbytes > most:
        raise too_large
    try:
        rows = [[plain(value) for value in row] for row in found.rows]
    except (ValueError, OverflowError) as error:  # a year beyond 9999, text that is no UTF-8
        raise QueryError(f"a value of the answer has no form in JSON: {error}") from error
    body = {
        "columns": list(found.columns),
        "types": list(found.types),
        "rows": rows,
        "truncated": found.truncated,
        "problems": [str(one) for one in found.problems],
    }
    text = json.dumps(body, allow_nan=False, default=str).encode()
    if len(text) > most:
        raise too_large
    return text


def _answer_all(asked: "queue.SimpleQueue[bytes]", answers: BinaryIO, worn_from: int) -> None:
    _send(answers, frame(Kind.READY, b""))
    while True:
        kind, payload = _answer(json.loads(asked.get()))
        _send(answers, frame(kind, payload, worn=_private_bytes() > worn_from))


def _answer(asked: dict[str, Any]) -> tuple[Kind, bytes]:
    try:
        return Kind.ANSWER, _answered(asked)
    except QueryError as error:
        return Kind.WRONG, _words(error)
    except StoreError as error:
        return Kind.STORE, _words(error)
    except Exception:  # noqa: BLE001  the service logs it
        return Kind.BROKEN, traceback.format_exc()[-MOST_WORDS:].encode(errors="replace")


def _answered(asked: dict[str, Any]) -> bytes:
    limits = Limits(**asked["limits"])
    try:
        asked["sql"].encode()  # half a character is told here, before DuckDB trips over it
        _limit_work(limits)
        found = query(_store(asked["store"]), asked["sql"], limits=limits)
        return answer_bytes(found, asked["most"])
    except MemoryError as error:
        raise out_of_memory(limits) from error
    except RecursionError as error:
        raise QueryError("the SQL, or a value of the answer, is nested too deeply") from error
    except UnicodeError as error:
        raise QueryError("the SQL is no text: half a character is in it") from error


def _words(error: Exception) -> bytes:
    text = str(error)
    cut = text if len(text) <= MOST_WORDS else f"{text[:MOST_WORDS]} … (cut)"
    return cut.encode(errors="replace")


@lru_cache(maxsize=1)
def _store(uri: str) -> Store:
    return locate_store(uri)


def _limit_process(room: int) -> int:
    """Let this process take `room` bytes more than it has, and write no file; gives what it has."""
    with contextlib.suppress(OSError):
        # When the machine itself runs out of memory, a query goes first.
        Path("/proc/self/oom_score_adj").write_text("1000")
    sys.dont_write_bytecode = True
    has = _private_bytes()
    for kind, most in (
        (resource.RLIMIT_DATA, has + room),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        with contextlib.suppress(OSError, ValueError):  # a stricter limit of the system stands
            resource.setrlimit(kind, (most, most))
    return has


def _limit_work(limits: Limits) -> None:
    """Have the kernel end this process should nobody be there to kill it."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = used.ru_utime + used.ru_stime + (limits.seconds + 10.0) * (limits.threads + 1)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, hard))


def _private_bytes() -> int:
    """Memory that counts against RLIMIT_DATA; 0 where the system does not say."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmData:"):
                return int(line.split()[1]) * 1024
    return 0


def _payloads(stream: BinaryIO) -> Iterator[bytes]:
    while len(head := stream.read(HEAD.size)) == HEAD.size:
        _, _, length = HEAD.unpack(head)
        yield stream.read(length)


def _send(stream: BinaryIO, data: bytes) -> None:
    stream.write(data)
    stream.flush()
