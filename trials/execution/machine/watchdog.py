"""Time limits of one trial: how long it may run, and how long it may be silent.

Over its limit, an exception is raised in the thread that trains, and a signal ends a blocking
system call. Only training code is interrupted, never the code that stores rows. What does not react
(a library that hangs in C) has to be killed from outside: on Ray by the driver.
"""

import ctypes
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from time import monotonic  # by its name: training code may patch the module
from types import FrameType
from typing import Self, TypeVar

T = TypeVar("T")
Handler = Callable[[int, FrameType | None], object] | int | signal.Handlers
GRACE = 10.0  # seconds until training code that swallowed the exception is interrupted again
WAKE = signal.SIGURG  # ends a blocking call; ignored by default, so that a late one does no harm


class TrialTimeout(BaseException):
    """A trial ran, or was silent, for too long. No Exception: `except Exception` lets it pass."""


@dataclass(frozen=True)
class Limits:
    """Seconds that a trial may run, and be silent (no row, no output); None is no limit."""

    trial: float | None = None
    silence: float | None = None

    def broken(self, running: float, silent: float) -> str | None:
        """The error of a trial that has run or been silent for too long; None if it has not."""
        if self.trial is not None and running >= self.trial:
            return f"the trial ran for {_time(self.trial)}, all that resources.trial_hours allows"
        if self.silence is not None and silent >= self.silence:
            return (
                f"the trial was silent for {_time(self.silence)}, all that "
                "resources.silence_minutes allows: no evaluation, no output"
            )
        return None


@dataclass
class Watchdog:
    """Watches one trial while it is used in a `with`, in the thread that enters it.

    `reason` is why it was interrupted, or None.
    """

    limits: Limits
    _began: float = field(default_factory=monotonic)
    _heard: float = field(default_factory=monotonic)
    _training: bool = False
    _handler: Handler | None = None  # of the signal that wakes, as it was before
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: int = field(default_factory=threading.get_ident)
    reason: str | None = None

    def __enter__(self) -> Self:
        """Begin to watch; nothing is started where nothing is limited."""
        if self.limits != Limits():
            threading.Thread(target=self._watch, name="sickbay-watchdog", daemon=True).start()
        return self

    def __exit__(self, *args: object) -> None:
        """Watch no longer; what the training left of an interruption is put back."""
        self._over.set()
        self._leave()

    def watched(self, rows: Iterator[T]) -> Iterator[T]:
        """Yield what training yields; raises TrialTimeout in the middle of it when time is up.

        Whatever comes is a sign of life, but for None.
        """
        if self.limits == Limits():
            yield from rows
            return
        while True:
            if self.reason is not None:  # time was up between two rows, or training swallowed it
                raise TrialTimeout(self.reason)
            try:
                row = self._next(rows)
            except StopIteration:
                return
            except TrialTimeout as error:
                raise TrialTimeout(self.reason or "") from error
            if row is not None:
                self._heard = monotonic()
            yield row

    def _next(self, rows: Iterator[T]) -> T:
        if threading.current_thread() is threading.main_thread():  # others may set no handler
            self._handler = signal.signal(WAKE, _wake)
        self._training = True
        try:
            return next(rows)
        finally:
            self._leave()

    def _leave(self) -> None:
        """Let nothing be interrupted any more.

        An exception that was sent before comes out here at the latest, as the interpreter looks for
        one after every call. To take it back would leave its request pending for ever, and CPython
        3.11 then never gets past the next call that coverage or a debugger traces.
        """
        with self._lock:
            self._training = False
        handler, self._handler = self._handler, None
        if handler is not None:
            signal.signal(WAKE, handler)

    def _watch(self) -> None:
        while not self._over.wait(self._pause()):
            now = monotonic()
            reason = self.limits.broken(now - self._began, now - self._heard)
            if reason is None:
                continue
            with self._lock:
                if self._over.is_set():
                    return
                self.reason = reason
                if self._training:
                    self._interrupt()
            self._over.wait(GRACE)

    def _interrupt(self) -> None:
        """Raise TrialTimeout in the training thread at one of its next bytecodes, and wake it.

        Between the two no Python code may be called: until the exception has come out, CPython 3.11
        gets past no call that coverage or a debugger traces, in any thread.
        """
        thread, error = ctypes.c_ulong(self._thread), ctypes.py_object(TrialTimeout)
        wakes = self._thread == threading.main_thread().ident
        ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, error)
        if wakes:
            signal.pthread_kill(self._thread, WAKE)

    def _pause(self) -> float:
        """Seconds until the next limit could be broken."""
        now = monotonic()
        left = [
            limit - (now - since)
            for limit, since in (
                (self.limits.trial, self._began),
                (self.limits.silence, self._heard),
            )
            if limit is not None
        ]
        return max(0.01, min(left))


def _wake(number: int, frame: object) -> None:
    """Do nothing: that a handler runs is what lets the pending exception out."""
    del number, frame


def _time(seconds: float) -> str:
    """Format seconds: `90 s`, `30 min`, `2 h`."""
    if seconds >= 3600:
        return f"{seconds / 3600:.3g} h"
    return f"{seconds / 60:.3g} min" if seconds >= 120 else f"{seconds:.3g} s"
