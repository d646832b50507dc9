"""QueryPool: runs the service's queries in processes that are killed if they exceed limits.

DuckDB checks for an interrupt between two vectors only, and counts only its buffers' memory, so a
single function call may exceed every limit; the kernel's limits on a process hold.
"""

import json
import logging
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache

from sickbay.service.query.frames import Kind, read_arrow
from sickbay.service.query.process import Process
from sickbay.service.query.result import Cancel, Limits, QueryError, QueryResult, left, out_of_time
from sickbay.trials.store.files import Store, StoreError


class BusyError(RuntimeError):
    """Too many queries are waiting, or one has waited too long: try again later."""


class AdmissionQueue:
    """Admits `places` callers at once; `waiting` more may wait, each up to `seconds`."""

    def __init__(self, places: int, waiting: int, seconds: float) -> None:
        """Begin with every place free."""
        self._lock = threading.Lock()
        self._free, self._most, self._seconds = places, waiting, seconds
        self._waiting: deque[threading.Event] = deque()

    def enter(self, cancel: Cancel) -> None:
        """Take a place; `leave` must follow. Raises BusyError, or QueryError when cancelled."""
        turn = threading.Event()
        with self._lock:
            if self._free > 0:
                self._free -= 1
                return
            if len(self._waiting) >= self._most:
                raise BusyError(f"{self._most} queries are already waiting: try again later")
            self._waiting.append(turn)
        try:
            cancel.watch(turn.set)
            turn.wait(self._seconds)
        finally:
            cancel.watch(None)
            mine = self._leave_line(turn)
            if mine and cancel.asked:
                self.leave()
        if cancel.asked:
            raise left()
        if not mine:
            raise BusyError(f"the query waited {self._seconds:g} s behind others: try again later")

    def leave(self) -> None:
        """Pass the place to the first in the queue."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._free += 1

    def _leave_line(self, turn: threading.Event) -> bool:
        """Leave the queue; whether the caller got a place."""
        with self._lock:
            if turn not in self._waiting:
                return True
            self._waiting.remove(turn)
            return False


LOG = logging.getLogger("sickbay.service")


@dataclass(frozen=True)
class PoolRules:
    """How many queries run and wait at once, and what a process may use.

    A query is interrupted at its time limit and killed `grace` seconds later. `room` is the bytes
    that a process may use beyond its idle size.
    """

    processes: int = 4
    waiting: int = 16
    wait_seconds: float = 20.0
    grace: float = 1.0
    room: int = 3 * 2**29
    answer: int = 64 * 2**20
    seconds: float = 60.0  # at most, of one of our own


# For what the pages of the service ask; a caller's SQL never takes one of their places.
OWN = PoolRules(processes=2, waiting=64, room=2**32, answer=2**30, seconds=20.0)


class QueryPool:
    """Processes that answer queries: started when needed, kept warm, replaced if killed."""

    def __init__(self, rules: PoolRules | None = None) -> None:
        """Begin without a process."""
        self.rules = rules or PoolRules()
        self._line = AdmissionQueue(
            self.rules.processes, self.rules.waiting, self.rules.wait_seconds
        )
        self._lock = threading.Lock()
        self._idle: list[Process] = []
        self._living: set[Process] = set()
        self._closed = False
        # A service that is not shut down in order leaves none behind either.
        weakref.finalize(self, _end_all, self._living)

    def open(self) -> None:
        """Start serving, with one process ready for the first query."""
        self._closed = False
        try:
            self._give_back(self._take())
        except OSError as error:  # the first query tries again, and says so
            LOG.warning("cannot start a query process: %s", error)

    def close(self) -> None:
        """End every process, even busy ones; waiting callers get a QueryError."""
        with self._lock:
            self._closed = True
            idle, busy = list(self._idle), self._living.difference(self._idle)
            self._idle.clear()
        for process in idle:
            self._end(process)
        for process in busy:
            process.kill()  # the thread that waits for it lets go of the rest
            process.why()

    def ask(self, store: Store, sql: str, limits: Limits, cancel: Cancel | None = None) -> bytes:
        """The answer to one SELECT as JSON: columns, types, rows, truncated, problems.

        Raises QueryError and StoreError as `query.query` does, BusyError if it gets no turn, and
        RuntimeError if the process broke by our own mistake.
        """
        return self._exchange("json", store, sql, (), None, limits, cancel or Cancel())

    def run(
        self,
        store: Store,
        sql: str,
        parameters: Sequence[object],
        sweep_ids: Sequence[str] | None,
        limits: Limits,
        cancel: Cancel,
    ) -> QueryResult:
        """The answer to one SELECT of our own, as `engine.query` gives it; raises as `ask` does."""
        limits = replace(limits, seconds=min(limits.seconds, self.rules.seconds))
        return read_arrow(
            self._exchange("arrow", store, sql, parameters, sweep_ids, limits, cancel)
        )

    def _exchange(
        self,
        form: str,
        store: Store,
        sql: str,
        parameters: Sequence[object],
        sweep_ids: Sequence[str] | None,
        limits: Limits,
        cancel: Cancel,
    ) -> bytes:
        request = {
            "form": form,
            "store": store.absolute,
            "sql": sql,
            "parameters": list(parameters),
            "sweep_ids": None if sweep_ids is None else list(sweep_ids),
            "limits": asdict(limits),
            "most": self.rules.answer,
        }
        self._line.enter(cancel)
        try:
            process = self._take()
            try:
                process.ready()
                return self._answer(process, json.dumps(request).encode(), limits, cancel)
            finally:
                self._give_back(process)
        finally:
            self._line.leave()

    def _answer(self, process: Process, request: bytes, limits: Limits, cancel: Cancel) -> bytes:
        late = threading.Event()

        def end_late() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(limits.seconds + self.rules.grace, end_late)
        timer.daemon = True
        try:
            cancel.watch(process.kill)
            timer.start()
            kind, payload = process.exchange(request, self.rules.answer)
        except EOFError as error:
            if cancel.asked:
                raise left() from error
            if late.is_set():
                raise out_of_time(limits) from error
            if self._closed:
                raise QueryError("the service is shutting down: the query was cancelled") from error
            raise _broken(process, limits) from error
        finally:
            timer.cancel()
            cancel.watch(None)
        return _understood(kind, payload)

    def _take(self) -> Process:
        with self._lock:
            if self._closed:
                raise QueryError("the service is shutting down: no new queries")
            while self._idle:
                process = self._idle.pop()
                if process.fit():
                    return process
                self._living.discard(process)
                process.end()
        return self._started()

    def _started(self) -> Process:
        process = Process(self.rules.room)
        with self._lock:
            self._living.add(process)
        return process

    def _give_back(self, process: Process) -> None:
        """Keep a process for the next query, or replace it by a new one if it is unfit."""
        if not process.fit():
            self._end(process)
            if self._closed:
                return
            try:
                process = self._started()
            except OSError as error:  # the next query tries again, and says so
                LOG.warning("cannot start a query process: %s", error)
                return
        with self._lock:
            if not self._closed:
                self._idle.append(process)
                return
        self._end(process)

    def _end(self, process: Process) -> None:
        with self._lock:
            self._living.discard(process)
        process.end()


@cache
def own_queries() -> QueryPool:
    """The processes for the pages' own queries, shared by all applications of this process."""
    return QueryPool(OWN)


def _understood(kind: Kind, payload: bytes) -> bytes:
    if kind is Kind.WRONG:
        raise QueryError(payload.decode())
    if kind is Kind.STORE:
        raise StoreError(payload.decode())
    if kind is Kind.BROKEN:
        raise RuntimeError(f"a query process broke:\n{payload.decode()}")
    assert kind is Kind.ANSWER, kind
    return payload


def _broken(process: Process, limits: Limits) -> QueryError:
    why = process.why()
    LOG.warning("a query killed its process: %s", why)
    return QueryError(
        f"the query broke its process ({why}), most likely because it needs more "
        f"memory than {limits.memory}: ask for fewer rows or columns"
    )


def _end_all(living: set[Process]) -> None:
    for process in list(living):
        process.end()
