"""The values of an external log: raw rows, records of numbers, and the error of a bad log."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Raw = Mapping[str, Any]  # a row as it stands in the file: numbers, text, lists, mappings
Number = float | tuple[float, ...]
Record = Mapping[str, Number]


class LogError(ValueError):
    """The log cannot be read; the message names the file and says what can be."""


@dataclass(frozen=True)
class RawLog:
    """A reader's result: the format, the rows in the order of the log, and remarks.

    `facts` is what the log itself says about the task, `run` the run's name where the file or
    folder holds several.
    """

    kind: str
    rows: tuple[Raw, ...]
    remarks: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    run: str | None = None


@dataclass(frozen=True)
class ExternalLog:
    """A log as records of numbers; a record holds what was logged at one moment.

    A value that was not logged is absent; NaN and infinity are values.
    """

    kind: str
    records: tuple[Record, ...]
    remarks: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    run: str | None = None
    path: str = ""
