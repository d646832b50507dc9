"""Events of running trials for the driver, and errors that end a sweep early."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sickbay.trials.contract import Health, TrialState

if TYPE_CHECKING:  # pyarrow comes with it, which a process that passes events on does not need
    from sickbay.trials.store import TrialRecord


@dataclass(frozen=True)
class Started:
    """A trial began."""

    trial_id: str


@dataclass(frozen=True)
class Retried:
    """A trial's worker died; the trial will start again; `deaths` counts the deaths."""

    trial_id: str
    deaths: int


@dataclass(frozen=True)
class TrialEnded:
    """A trial ended and is stored. `error_key` is equal for equal mistakes of the user's code."""

    trial_id: str
    state: str
    health: str | None = None
    pathology: str | None = None
    epochs_run: int = 0
    wall_seconds: float = 0.0
    error: str | None = None
    error_key: str | None = None

    @classmethod
    def of(cls, record: "TrialRecord") -> "TrialEnded":
        """The parts of a trial's record that a progress display shows."""
        label = record.label
        return cls(
            trial_id=record.trial.trial_id,
            state=str(record.state),
            health=None if label is None else str(label.health),
            pathology=None if label is None else label.pathology,
            epochs_run=record.epochs_run,
            wall_seconds=record.wall_seconds,
            error=record.error,
            error_key=error_key(record.error) if _by_its_code(record) else None,
        )

    @property
    def healthy(self) -> bool:
        """Whether the trial was called healthy."""
        return self.health == Health.HEALTHY


def _by_its_code(record: "TrialRecord") -> bool:
    """Whether a trial failed by an error of its code, rather than by being too slow."""
    return record.state is TrialState.FAILED and record.failure != "timeout"


Event = Started | Retried | TrialEnded
Watch = Callable[[Event], None]


class ResourceError(ValueError):
    """A trial needs more resources than there are, so it would wait for ever."""


class ErrorStorm(RuntimeError):  # noqa: N818  a storm is what it is called everywhere else
    """The same exception ended several trials in a row: the code is broken, not the trials."""

    TRIALS: ClassVar[int] = 3

    def __init__(self, traceback: str, trials: int) -> None:
        """Keep the traceback of the last of them."""
        super().__init__(
            f"{trials} trials in a row failed with the same exception, so the sweep was stopped:\n"
            f"{traceback}"
        )
        self.traceback = traceback


class StormWatch:
    """Counts consecutive trials that failed with the same exception of the user's code."""

    def __init__(self) -> None:
        """Start with nothing seen."""
        self._key: str | None = None
        self._count = 0

    def see(self, ended: TrialEnded) -> ErrorStorm | None:
        """Count an ended trial; returns the error that should end the sweep, if any."""
        self._count = self._count + 1 if ended.error_key == self._key else 1
        self._key = ended.error_key
        if self._key is None or self._count < ErrorStorm.TRIALS:
            return None
        return ErrorStorm(ended.error or "", self._count)


def error_key(error: str | None) -> str | None:
    """Key of a traceback: its frames and the exception's class.

    The message is left out, as it may hold numbers that change from trial to trial.
    """
    if not error:
        return None
    frames = re.findall(r'^  File "[^"]+", line \d+, in \S+', error, flags=re.MULTILINE)
    return "\n".join([*frames, error_line(error).partition(":")[0]])


def error_line(error: str | None) -> str:
    """The line of an error that says what happened; empty without an error.

    Of a traceback it is the first one after the frames, however long the message. Of a process that
    ended without one it is how it ended, and the last line of its output.
    """
    lines = [line for line in (error or "").splitlines() if line.strip()]
    frames = [place for place, line in enumerate(lines) if line.startswith("  File ")]
    after = [line for line in lines[frames[-1] + 1 :] if line[0] != " "] if frames else []
    if after or not lines:
        return "".join(after[:1])
    return f"{lines[0]} {lines[-1].strip()}" if lines[0].endswith(":") else lines[0].strip()
