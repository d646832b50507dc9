"""Places that are given out in the order of asking, and a line before them that is not too long."""

import threading
from collections import deque

from sickbay.service.query.result import Cancel, left


class BusyError(RuntimeError):
    """Too many wait already, or one has waited too long: ask again in a while."""


class AdmissionQueue:
    """So many may be inside at once, so many may wait, each at most so many seconds."""

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
                raise BusyError(
                    f"{self._most} queries wait for their turn already: ask again in a while"
                )
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
            raise BusyError(
                f"the query waited {self._seconds:g} s for its turn behind others: ask again in a"
                " while"
            )

    def leave(self) -> None:
        """Give the place to the first in the line."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._free += 1

    def _leave_line(self, turn: threading.Event) -> bool:
        """Whether it has a place, having stood in the line."""
        with self._lock:
            if turn not in self._waiting:
                return True
            self._waiting.remove(turn)
            return False
