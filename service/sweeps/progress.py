"""Live progress of a sweep: a Rich display on a terminal, plain lines anywhere else.

A thread writes the plain lines at its own pace, as one on each event would come too early.
"""

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from sickbay.trials.contract import Health, TrialState
from sickbay.trials.events import Event, Retried, Started, TrialEnded

PLAIN_SECONDS = 5.0  # between two lines where there is no terminal


@dataclass
class Tally:
    """The state of a run, from its events."""

    planned: int
    stored: int  # ended before this run began
    slots: int = 1
    running: set[str] = field(default_factory=set)
    health: Counter[str] = field(default_factory=Counter)
    causes: Counter[str] = field(default_factory=Counter)
    ended: int = 0
    failed: int = 0
    stopped: int = 0
    cancelled: int = 0
    retried: int = 0
    began: float = field(default_factory=time.monotonic)

    def see(self, event: Event) -> None:
        """Take in one event."""
        if isinstance(event, Started):
            self.running.add(event.trial_id)
        elif isinstance(event, Retried):
            self.running.discard(event.trial_id)
            self.retried += 1
        else:
            self._end(event)

    def _end(self, event: TrialEnded) -> None:
        self.running.discard(event.trial_id)
        if event.state == TrialState.CANCELLED:
            self.cancelled += 1
            return
        self.ended += 1
        self.failed += event.state == TrialState.FAILED
        self.stopped += event.state in (TrialState.STOPPED, TrialState.PRUNED)
        if event.health is not None:
            self.health[event.health] += 1
        if event.pathology is not None:
            self.causes[event.pathology] += 1

    @property
    def done(self) -> int:
        """Trials that are stored by now, those of earlier runs included."""
        return self.stored + self.ended

    def eta(self) -> timedelta | None:
        """Estimated time left at the pace so far; None before the first trial has ended."""
        left = self.planned - self.done
        if self.ended == 0 or left == 0:
            return None
        seconds = (time.monotonic() - self.began) / self.ended * left
        return timedelta(seconds=round(seconds))

    def counts(self) -> str:
        """Progress in one line of plain text; empty parts are left out."""
        counts = {
            "running": len(self.running),
            **{str(health): self.health[health] for health in Health},
            "failed": self.failed,
            "stopped early": self.stopped,
            "retried": self.retried,
            "cancelled": self.cancelled,
        }
        parts = [f"{self.done}/{self.planned} done"]
        parts += [f"{n} {what}" for what, n in counts.items() if n]
        return " · ".join(parts)

    def line(self) -> str:
        """The counts and the estimated time left."""
        eta = self.eta()
        return self.counts() + (f" · ETA {eta}" if eta is not None else "")

    def why(self) -> str:
        """The pathologies so far, the most common first; empty while there are none."""
        return ", ".join(f"{name} {n}" for name, n in self.causes.most_common())


class ProgressView:
    """Follow a run: a context manager; pass `see` to the run as its `watch`."""

    def __init__(self, console: Console, planned: int, stored: int) -> None:
        """Prepare to follow a run of `planned` trials, `stored` of which have already ended."""
        self.tally = Tally(planned, stored)
        self._console = console
        self._live: Live | None = None
        self._said = ""
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._lines = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Self:
        """Begin to display."""
        if self._console.is_terminal:
            self._live = Live(
                get_renderable=self._render, console=self._console, refresh_per_second=4
            )
            self._live.start()
        else:
            self._lines.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Show the last state and leave it on the screen."""
        if self._live is not None:
            self._live.stop()
        else:
            self._over.set()
            self._lines.join()
            self._say()

    def see(self, event: Event) -> None:
        """Take in one event."""
        with self._lock:
            self.tally.see(event)

    def _follow(self) -> None:
        """Without a terminal, print a line every few seconds if anything has changed."""
        while not self._over.wait(PLAIN_SECONDS):
            self._say()

    def _say(self) -> None:
        with self._lock:
            counts, line, why = self.tally.counts(), self.tally.line(), self.tally.why()
        if f"{counts} {why}" != self._said:  # that the rest takes less by now is no news
            self._said = f"{counts} {why}"
            text = line + (f" ({why})" if why else "")
            self._console.print(text, highlight=False, soft_wrap=True)

    def _render(self) -> RenderableType:
        bar = ProgressBar(total=max(1, self.tally.planned), completed=self.tally.done, width=60)
        why = self.tally.why()
        lines = [self.tally.line(), *([f"pathological: {why}"] if why else [])]
        return Group(bar, *map(Text, lines))
