"""The values of a foreign log: its records as they were logged, and the error of a bad log."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Number = float | tuple[float, ...]
Record = Mapping[str, Number]


class LogError(ValueError):
    """The log cannot be read; the message names the file and says what would be."""


@dataclass(frozen=True)
class ForeignLog:
    """The records of a log, what kind of log it was taken for, and remarks about the reading.

    `facts` is what the log itself says about the task (only Sickbay's own adapters write that).
    """

    kind: str
    records: tuple[Record, ...]
    remarks: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
