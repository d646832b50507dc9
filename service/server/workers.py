"""Threads for blocking work, one pool per kind, so that no kind starves another.

A pool has few threads, a queue that is not too long and a time limit: a store that stops answering
costs those threads and nothing else. The event loop, and routes that need no store, go on.
"""

import asyncio
import contextvars
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum
from functools import cache, partial
from typing import Any, TypeVar

from sickbay.service.query.pool import BusyError
from sickbay.trials.store.files import StoreError

T = TypeVar("T")


@dataclass(frozen=True)
class PoolLimits:
    """How many jobs run and wait at once, and how long one may take, queueing included.

    Seconds; None for work that has a limit of its own.
    """

    threads: int
    waiting: int
    seconds: float | None


class Work(Enum):
    """The kinds of work, each with its own pool."""

    READ = PoolLimits(threads=16, waiting=512, seconds=20.0)
    WRITE = PoolLimits(threads=4, waiting=64, seconds=60.0)
    PLAN = PoolLimits(threads=1, waiting=16, seconds=45.0)
    REPORT = PoolLimits(threads=2, waiting=64, seconds=120.0)
    DIAGNOSE = PoolLimits(threads=1, waiting=32, seconds=60.0)
    FILES = PoolLimits(threads=2, waiting=512, seconds=20.0)  # the page's own
    SQL = PoolLimits(threads=24, waiting=64, seconds=None)  # as many as wait for a process
    WATCH = PoolLimits(threads=1, waiting=1, seconds=30.0)  # what has changed in the store
    TOKENS = PoolLimits(threads=1, waiting=1, seconds=10.0)
    LOGS = PoolLimits(threads=8, waiting=256, seconds=20.0)


class WorkPool:
    """Runs blocking work in a few daemon threads, which never delay the end of the process."""

    def __init__(self, limits: PoolLimits) -> None:
        """Begin without a thread."""
        self.limits = limits
        self._queue: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = self._pending = 0

    async def run(self, work: Callable[[], T]) -> T:
        """Do the work in a thread, with this task's context.

        Raises BusyError if too much waits, StoreError if the work takes longer than its limit: what
        is waited for is the store. A thread cannot be ended: it goes on, and keeps its place.
        """
        future: Future[T] = Future()
        context = contextvars.copy_context()
        self._enter()
        self._queue.put((future, lambda: context.run(work)))
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self.limits.seconds)
        except TimeoutError as error:
            if future.done() and not future.cancelled():
                raise  # the work's own
            raise StoreError(
                f"no answer within {self.limits.seconds:g} s: the store is slow or out of reach"
            ) from error

    def _enter(self) -> None:
        with self._lock:
            if self._pending >= self.limits.threads + self.limits.waiting:
                raise BusyError(
                    f"{self._pending} requests of this kind are already waiting: try again later"
                )
            if self._pending >= self._threads and self._threads < self.limits.threads:
                self._threads += 1
                threading.Thread(target=self._serve, daemon=True).start()
            self._pending += 1

    def _serve(self) -> None:
        while True:
            future, work = self._queue.get()
            finish = _done(future, work)
            with self._lock:
                self._pending -= 1
            finish()
            del future, work, finish


def _done(future: Future[Any], work: Callable[[], Any]) -> Callable[[], None]:
    """Run a job unless its caller has given up; returns the callback that delivers the result."""
    if not future.set_running_or_notify_cancel():
        return lambda: None
    try:
        return partial(future.set_result, work())
    except BaseException as error:  # noqa: BLE001  passed on to the caller
        return partial(future.set_exception, error)


@cache
def pool_for(kind: Work) -> WorkPool:
    """The pool of a kind of work, one per process."""
    return WorkPool(kind.value)


async def in_pool(kind: Work, work: Callable[[], T]) -> T:
    """Run blocking work in the pool of its kind; raises as `WorkPool.run` does."""
    return await pool_for(kind).run(work)
