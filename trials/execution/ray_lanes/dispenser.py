"""The queue of planned jobs that lanes take from: an actor beside the driver, and its parts.

It keeps texts and ids only, so that its process stays small, and nothing that the driver could not
make anew from the store.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sickbay.trials.events import StormWatch, TrialEnded


@dataclass(frozen=True)
class News:
    """What happened since the driver asked last, in its order, and what there is to be done.

    An event is a lane and the id of the trial that it began, or a `TrialEnded` as a dict. `storm`
    is the error that ended several trials in a row, after which nothing is handed out any more.
    """

    events: tuple[tuple[str, str] | dict[str, Any], ...]
    waiting: int
    held: int
    storm: str | None


class Dispenser:
    """Hands out jobs in their order and knows which lane holds which."""

    def __init__(self, jobs: Iterable[tuple[str, str]], most: int) -> None:
        """Queue jobs, each the id of its trial and its text, for at most so many lanes at once."""
        self._waiting = deque(jobs)
        self._held: dict[str, tuple[str, str]] = {}  # by lane
        self._leaving: set[str] = set()
        self._events: list[tuple[str, str] | dict[str, Any]] = []
        self._storms = StormWatch()
        self._storm: str | None = None
        self._most = most

    def take(self, lane: str, ended: dict[str, Any] | None) -> str | None:
        """Report how the lane's last trial ended and get its next job; None: the lane may end."""
        if ended is not None:
            self._end(lane, ended)
        if self._storm or not self._waiting or len(self._held) >= self._most:
            return None
        job = self._waiting.popleft()
        self._held[lane] = job
        self._events.append((lane, job[0]))
        return job[1]

    def end(self, lane: str, ended: dict[str, Any], *, leaves: bool = False) -> None:
        """Report how the lane's last trial ended, without a next; its process may be leaving."""
        self._end(lane, ended)
        if leaves:
            self._leaving.add(lane)

    def lost(self, lane: str) -> str | None:
        """Which trial a lane took with it when its process died; None if it left of itself.

        A process that died before it took any job counts against the job that is next.
        """
        left = lane in self._leaving
        self._leaving.discard(lane)
        if lane in self._held:
            return self._held[lane][0]
        if left or not self._waiting:
            return None
        self._held[lane] = self._waiting.popleft()
        return self._held[lane][0]

    def put_back(self, lane: str) -> None:
        """Queue the job of a lost lane again, before all others."""
        self._waiting.appendleft(self._held.pop(lane))

    def drop(self, lane: str) -> None:
        """Forget the job of a lost lane: its trial has ended."""
        del self._held[lane]

    def news(self, most: int) -> News:
        """What happened; from now on at most so many lanes hold a job at once, and 0 is the end."""
        self._most = most
        events, self._events = tuple(self._events), []
        return News(events, len(self._waiting), len(self._held), self._storm)

    def _end(self, lane: str, ended: dict[str, Any]) -> None:
        self._held.pop(lane, None)
        self._events.append(ended)
        storm = self._storms.see(TrialEnded(**ended))
        if storm is not None:
            self._storm = storm.traceback
