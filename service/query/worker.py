"""The query process: answers SQL for the service, one query at a time.

Queries come on stdin, answers go to stdout (see `frames`). It ends when its stdin does, so it never
outlives the service. See docs/decisions/0022.
"""

import contextlib
import json
import os
import queue
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from sickbay.service.query.duck import NOWHERE, answer
from sickbay.service.query.frames import HEAD, Kind, answer_bytes, arrow_bytes, frame
from sickbay.service.query.result import Cancel, Limits, QueryError, out_of_memory
from sickbay.trials.store.files import Store, StoreError, locate_store

MOST_WORDS = 10_000  # characters of an error: DuckDB's may quote a value of any size
WORN = 4  # a process is replaced when it keeps this part of its room after an answer


def main() -> None:
    """Answer until stdin ends. The only argument is `room`, the bytes that queries may use."""
    room = int(sys.argv[1])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the service's to answer
    answers = os.fdopen(os.dup(1), "wb")
    with contextlib.suppress(QueryError):
        sql = "SELECT count(*) FROM trials"
        answer(locate_store(NOWHERE), sql, (), None, Limits(), Cancel())  # loads what is lazy
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
    os._exit(0)  # also out of a running query whose caller is gone


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
    limits, sql = Limits(**asked["limits"]), asked["sql"]
    write = answer_bytes if asked["form"] == "json" else arrow_bytes
    try:
        sql.encode()  # a lone surrogate is reported here: DuckDB cannot handle it
        _limit_work(limits)
        store, parameters, sweep_ids = asked["store"], asked["parameters"], asked["sweep_ids"]
        result = answer(_store(store), sql, parameters, sweep_ids, limits, Cancel())
        return write(result, asked["most"])
    except MemoryError as error:
        raise out_of_memory(limits) from error
    except RecursionError as error:
        raise QueryError("the SQL, or a value of the answer, is nested too deeply") from error
    except UnicodeError as error:
        raise QueryError(
            "the SQL is not valid text: it holds half a character (a lone surrogate)"
        ) from error


def _words(error: Exception) -> bytes:
    text = str(error)
    cut = text if len(text) <= MOST_WORDS else f"{text[:MOST_WORDS]} … (cut)"
    return cut.encode(errors="replace")


@lru_cache(maxsize=1)
def _store(uri: str) -> Store:
    return locate_store(uri)


def _limit_process(room: int) -> int:
    """Limit this process to `room` more bytes and no files; returns its present bytes."""
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
    """Limit CPU time, so that the kernel ends this process even without its parent."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = used.ru_utime + used.ru_stime + (limits.seconds + 10.0) * (limits.threads + 1)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, hard))


def _private_bytes() -> int:
    """Memory that counts against RLIMIT_DATA; 0 where the system does not tell."""
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
