"""One trial's facts and columns, read-only: the only thing that a detector sees.

A history knows no configuration. Scalars are columns of shape (n,), vectors of shape (n, d), where
n is the number of evaluations. A value that was never recorded reads as NaN; `recorded` tells such
a gap from a NaN that was measured.
"""

import hashlib
import json
import math
import struct
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sickbay.trials.contract import (
    MACHINE_SIGNALS,
    ReferenceLine,
    Row,
    SignalValue,
    TaskFacts,
    TaskKind,
)

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
Number = TypeVar("Number", np.float64, np.int64)
T = TypeVar("T")

_KEYS, _NUMBER = struct.Struct("<qq"), struct.Struct("<d")
_NAN = _NUMBER.pack(float("nan"))
SCHEMA_VERSION = 1  # of what a history holds; enters every label's hash


class History:
    """The evaluations of one trial, ascending by epoch.

    `finished` is true when the workload came to its own end, so that no further row can come: only
    then may a detector judge what "the end" looks like.
    """

    def __init__(
        self, rows: Sequence[Row], facts: TaskFacts, epochs_planned: int, *, finished: bool = False
    ) -> None:
        """Build from rows in any order; of two rows with one epoch the later one counts."""
        by_epoch = {row.epoch: row for row in rows}
        self._rows = tuple(by_epoch[epoch] for epoch in sorted(by_epoch))
        self._columns: dict[str, FloatArray] = {}
        self._known: dict[Hashable, Any] = {}
        self._names: frozenset[str] | None = None
        self._even: set[str] = set()  # columns with a number, or as many numbers, in every row
        self.facts = facts
        self.epochs_planned = epochs_planned
        self.finished = finished
        self.epochs: IntArray = _frozen(np.array([row.epoch for row in self._rows], dtype=np.int64))
        self.steps: IntArray = _frozen(np.array([row.step for row in self._rows], dtype=np.int64))
        self._absent: FloatArray = _frozen(np.full(len(self._rows), np.nan))

    def __len__(self) -> int:
        """Count the evaluations."""
        return len(self._rows)

    @property
    def names(self) -> tuple[str, ...]:
        """The recorded signals, sorted."""
        return tuple(sorted(self._all_names()))

    def has(self, *names: str) -> bool:
        """Whether every one of these signals was recorded at least once."""
        return self._all_names().issuperset(names)

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
        """The result of `work`, cached for this history, as several detectors need it.

        `work` must be a pure function of the history, and `key` must name it and its arguments.
        """
        if key not in self._known:
            self._known[key] = work()
        answer: T = self._known[key]
        return answer

    def prefix(self, n: int) -> "History":
        """The first n evaluations, as they looked while the trial still ran."""
        return History(self._rows[:n], self.facts, self.epochs_planned, finished=False)

    def rows(self) -> tuple[Row, ...]:
        """The rows themselves, ascending by epoch."""
        return self._rows

    def digest(self) -> str:
        """SHA-256 over all rows and facts; equal histories have equal digests.

        The machine's signals do not count: no two runs of one trial agree in them.
        """
        if not self._all_names().isdisjoint(MACHINE_SIGNALS):
            return self._without_machine().digest()
        head = {
            "schema": SCHEMA_VERSION,
            "facts": facts_to_json(self.facts),
            "planned": self.epochs_planned,
            "finished": self.finished,
        }
        parts = [json.dumps(head, sort_keys=True).encode()]
        table = self._table()
        if table is not None:
            return hashlib.sha256(parts[0] + table).hexdigest()
        orders: dict[tuple[str, ...], list[tuple[str, bytes]]] = {}
        for row in self._rows:
            signals = row.signals
            names = tuple(signals)
            if names not in orders:  # rows have the same signals as a rule
                orders[names] = [(name, name.encode()) for name in sorted(names)]
            parts.append(_KEYS.pack(row.epoch, row.step))
            for name, code in orders[names]:
                value = signals[name]
                parts += (code, _bytes(value))
        return hashlib.sha256(b"".join(parts)).hexdigest()

    def _without_machine(self) -> "History":
        def kept(row: Row) -> Row:
            names = row.signals.keys() - set(MACHINE_SIGNALS)
            return replace(row, signals={name: row.signals[name] for name in names})

        rows = [kept(row) for row in self._rows]
        return History(rows, self.facts, self.epochs_planned, finished=self.finished)

    def _table(self) -> bytes | None:
        """The bytes for `digest`, built column by column; None if rows have different keys."""
        names = self.names
        if not names or any(len(row.signals) != len(names) for row in self._rows):
            return None
        columns = [self._array(name) for name in names]
        if not self._even.issuperset(names):
            return None
        n = len(self._rows)
        if any(len(values) != n for values in (self.epochs, *columns)):
            return None  # they were changed: the rows decide
        parts = [np.stack([self.epochs, self.steps], axis=1).astype("<i8").view(np.uint8)]
        for name, values in zip(names, columns, strict=True):
            code = np.frombuffer(name.encode(), dtype=np.uint8)
            parts.append(np.broadcast_to(code, (n, len(code))))
            one_nan = np.where(np.isnan(values), np.nan, values).astype("<f8").reshape(n, -1)
            parts.append(one_nan.view(np.uint8))
        return np.concatenate(parts, axis=1).tobytes()

    def _all_names(self) -> frozenset[str]:
        if self._names is None:
            self._names = frozenset().union(*(row.signals for row in self._rows))
        return self._names

    def _array(self, name: str) -> FloatArray:
        if name not in self._all_names():
            return self._absent
        if name not in self._columns:
            self._columns[name], even = _column([row.signals.get(name) for row in self._rows])
            if even:
                self._even.add(name)
        return self._columns[name]


def facts_to_json(facts: TaskFacts) -> str:
    """Facts as JSON text with sorted keys; NaN and infinity as Python's json writes them.

    A reference line without a name or a formula is written as it was before lines had them, so that
    the text and the digest of older facts stay what they were.
    """
    lines = [
        {key: value for key, value in vars(line).items() if value or key not in ("name", "formula")}
        for line in facts.reference_lines
    ]
    return json.dumps({**vars(facts), "reference_lines": lines}, sort_keys=True)


def facts_from_json(text: str) -> TaskFacts:
    """Read what `facts_to_json` wrote."""
    values: dict[str, Any] = json.loads(text)
    values["kind"] = TaskKind(values["kind"])
    values["class_counts"] = tuple(values["class_counts"])
    values["groups"] = tuple(values["groups"])
    values["bounds"] = {name: (low, high) for name, (low, high) in values["bounds"].items()}
    values["reference_lines"] = tuple(ReferenceLine(**line) for line in values["reference_lines"])
    return TaskFacts(**values)


def _column(values: Sequence[SignalValue | None]) -> tuple[FloatArray, bool]:
    """Values as a column, (n,) or (n, d), and whether every row has the same length."""
    kinds = set(map(type, values))
    if kinds <= {float, type(None)}:  # nearly all are: the quick way
        return _frozen(np.array(values, dtype=np.float64)), kinds == {float}  # None becomes NaN
    if kinds == {list} and len({len(value) for value in values}) == 1:  # type: ignore[arg-type]
        array = np.array(values, dtype=np.float64)
        return _frozen(array[:, 0].copy() if array.shape[1] == 1 else array), array.shape[1] > 0
    tuples = [None if value is None else _as_tuple(value) for value in values]
    width = max((len(entry) for entry in tuples if entry is not None), default=1)
    array = np.full((len(tuples), width), np.nan)
    for index, entry in enumerate(tuples):
        if entry is not None:
            array[index, : len(entry)] = entry
    return _frozen(array[:, 0].copy() if width == 1 else array), False


def _as_tuple(value: SignalValue) -> tuple[float, ...]:
    if isinstance(value, list | tuple):  # the usual ones; asking for any Sequence is slow
        return tuple(map(float, value))
    if isinstance(value, float | int):
        return (float(value),)
    if isinstance(value, Sequence):
        return tuple(float(entry) for entry in value)
    return (float(value),)


def _bytes(value: SignalValue) -> bytes:
    if type(value) is float:  # nearly all are: the quick way
        return _NUMBER.pack(value) if value == value else _NAN  # noqa: PLR0124
    values = _as_tuple(value)
    if math.isnan(sum(values)):  # cheaper than to ask each value
        values = tuple(map(_one_nan, values))
    return struct.pack(f"<{len(values)}d", *values)


def _one_nan(value: float) -> float:
    """All NaNs are one NaN, whatever their bits, so that digests survive a trip through a file."""
    return float("nan") if value != value else value  # noqa: PLR0124


def _frozen(array: NDArray[Number]) -> NDArray[Number]:
    array.setflags(write=False)
    return array
