"""One trial's facts and columns, read-only: the only thing that a detector sees.

A history knows no configuration. Scalars are columns of shape (n,), vectors of shape (n, d), where
n is the number of evaluations. A value that was never recorded reads as NaN; `recorded` tells such
a gap from a NaN that was measured.
"""

import hashlib
import json
import math
import struct
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sickbay.trials.contract import ReferenceLine, Row, SignalValue, TaskFacts, TaskKind

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
Number = TypeVar("Number", np.float64, np.int64)
T = TypeVar("T")

SCHEMA_VERSION = 1  # of what a history holds; enters every label's hash


class History:
    """The evaluations of one trial, ascending by epoch.

    `finished` is true when the workload came to its own end, so that no further row can come: only
    then may a detector judge what "the end" looks like.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        facts: TaskFacts,
        epochs_planned: int,
        *,
        finished: bool = False,
    ) -> None:
        """Build from rows in any order; of two rows with one epoch the later one counts."""
        by_epoch = {row.epoch: row for row in rows}
        self._rows = tuple(by_epoch[epoch] for epoch in sorted(by_epoch))
        self._columns: dict[str, FloatArray] = {}
        self._known: dict[Hashable, Any] = {}
        self.facts = facts
        self.epochs_planned = epochs_planned
        self.finished = finished
        self.epochs: IntArray = _frozen(np.array([row.epoch for row in self._rows], dtype=np.int64))
        self.steps: IntArray = _frozen(np.array([row.step for row in self._rows], dtype=np.int64))

    def __len__(self) -> int:
        """Count the evaluations."""
        return len(self._rows)

    @property
    def names(self) -> tuple[str, ...]:
        """The recorded signals, sorted."""
        return tuple(sorted({name for row in self._rows for name in row.signals}))

    def has(self, *names: str) -> bool:
        """Whether every one of these signals was recorded at least once."""
        return all(any(name in row.signals for row in self._rows) for name in names)

    def recorded(self, name: str) -> BoolArray:
        """Where a signal was recorded at all, shape (n,)."""
        return np.array([name in row.signals for row in self._rows], dtype=np.bool_)

    def column(self, name: str) -> FloatArray:
        """A scalar signal, shape (n,), NaN where it was not recorded; ValueError for a vector."""
        values = self._array(name)
        if values.ndim != 1:
            raise ValueError(
                f"the signal {name!r} is a vector of {values.shape[1]}: read it with `vectors`"
            )
        return values

    def vectors(self, name: str) -> FloatArray:
        """A vector signal, shape (n, d), short vectors filled up with NaN; a scalar has d = 1."""
        values = self._array(name)
        return values if values.ndim == 2 else values[:, None]

    def once(self, key: Hashable, work: Callable[[], T]) -> T:
        """The result of `work`, done once for this history: several detectors ask the same thing.

        `work` must be a pure function of the history, and `key` must name it and its arguments.
        """
        if key not in self._known:
            self._known[key] = work()
        found: T = self._known[key]
        return found

    def prefix(self, n: int) -> "History":
        """The first n evaluations, as they looked while the trial still ran."""
        return History(self._rows[:n], self.facts, self.epochs_planned, finished=False)

    def rows(self) -> tuple[Row, ...]:
        """The rows themselves, ascending by epoch."""
        return self._rows

    def digest(self) -> str:
        """SHA-256 over everything a detector can see; equal histories have equal digests."""
        head = {
            "schema": SCHEMA_VERSION,
            "facts": facts_to_json(self.facts),
            "planned": self.epochs_planned,
            "finished": self.finished,
        }
        sha = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
        for row in self._rows:
            sha.update(struct.pack("<qq", row.epoch, row.step))
            for name in sorted(row.signals):
                values = _as_tuple(row.signals[name])
                sha.update(name.encode())
                if math.isnan(sum(values)):  # cheaper than to ask each value
                    values = tuple(map(_one_nan, values))
                sha.update(struct.pack(f"<{len(values)}d", *values))
        return sha.hexdigest()

    def _array(self, name: str) -> FloatArray:
        if name not in self._columns:
            self._columns[name] = _column([row.signals.get(name) for row in self._rows])
        return self._columns[name]


def facts_to_json(facts: TaskFacts) -> str:
    """Facts as JSON text with sorted keys; NaN and infinity as Python's json writes them."""
    return json.dumps(asdict(facts), sort_keys=True)


def facts_from_json(text: str) -> TaskFacts:
    """Read what `facts_to_json` wrote."""
    values: dict[str, Any] = json.loads(text)
    values["kind"] = TaskKind(values["kind"])
    values["class_counts"] = tuple(values["class_counts"])
    values["groups"] = tuple(values["groups"])
    values["bounds"] = {name: (low, high) for name, (low, high) in values["bounds"].items()}
    values["reference_lines"] = tuple(ReferenceLine(**line) for line in values["reference_lines"])
    return TaskFacts(**values)


def _column(values: Iterable[SignalValue | None]) -> FloatArray:
    tuples = [None if value is None else _as_tuple(value) for value in values]
    width = max((len(entry) for entry in tuples if entry is not None), default=1)
    array = np.full((len(tuples), width), np.nan)
    for index, entry in enumerate(tuples):
        if entry is not None:
            array[index, : len(entry)] = entry
    return _frozen(array[:, 0].copy() if width == 1 else array)


def _as_tuple(value: SignalValue) -> tuple[float, ...]:
    if isinstance(value, list | tuple):  # the usual ones; asking for any Sequence is slow
        return tuple(map(float, value))
    if isinstance(value, float | int):
        return (float(value),)
    if isinstance(value, Sequence):
        return tuple(float(entry) for entry in value)
    return (float(value),)


def _one_nan(value: float) -> float:
    """All NaNs are one NaN, whatever their bits, so that digests survive a trip through a file."""
    return float("nan") if value != value else value  # noqa: PLR0124


def _frozen(array: NDArray[Number]) -> NDArray[Number]:
    array.setflags(write=False)
    return array
