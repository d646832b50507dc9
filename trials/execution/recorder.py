"""Records a running trial: checks rows and writes them to the store in time.

Rows are flushed every few seconds, not after each: a crash costs that much work at most, and a fast
trial is not slowed by the disk.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from numbers import Real
from time import monotonic  # by its name: training code may patch the module
from typing import Any, cast

from sickbay.trials.contract import MACHINE_SIGNALS, Row, SignalValue, TaskFacts
from sickbay.trials.execution.machine.meter import Meter
from sickbay.trials.history import History
from sickbay.trials.store import EpochRecord, Store, read_checkpoint, write_checkpoint, write_epochs
from sickbay.trials.store.reader import read_epoch_records

# Beside the clock, a flush waits until this many times its own duration has gone by, so that a slow
# store costs a few percent and no more.
FLUSH_PATIENCE = 20.0
EPOCH_COLUMNS = ("sweep_id", "trial_id", "attempt", "epoch", "step", "seconds")


class RowError(ValueError):
    """A workload yielded an invalid row; the message says what to change."""


@dataclass
class TrialLog:
    """The rows of one trial, in memory and in the store. Durations in seconds."""

    store: Store
    sweep_id: str
    trial_id: str
    attempt: int
    flush_seconds: float
    checkpoint_seconds: float
    records: list[EpochRecord] = field(default_factory=list)
    meter: Meter = field(default_factory=Meter)
    resumed: bytes | None = None  # the checkpoint's bytes, if this attempt goes on from one
    _started: float = field(default_factory=monotonic)
    _measured: Mapping[int, Mapping[str, float]] = field(default_factory=dict)  # by epoch
    _next_flush: float = 0.0
    _next_checkpoint: float = 0.0
    _offered: Callable[[], bytes] | None = None  # for the row that comes next
    _latest: Callable[[], bytes] | None = None  # of the row that came last; valid until the next
    _unwritten: bool = False

    def begin(self) -> None:
        """Take up an earlier attempt's checkpoint and the rows up to it, if there are any."""
        now = monotonic()
        self._next_flush = now + self.flush_seconds
        self._next_checkpoint = now + self.checkpoint_seconds
        self.meter.begin()
        if self.attempt == 1:
            return
        checkpoint = read_checkpoint(self.store, self.sweep_id, self.trial_id)
        if checkpoint is None:
            return
        earlier = read_epoch_records(self.store, self.sweep_id, self.trial_id)
        self.resumed = checkpoint.payload
        self.records = [record for record in earlier if record.row.epoch <= checkpoint.epoch]
        self.meter.begin(self.records[-1].row.step if self.records else 0)

    def forget(self, *, read_again: bool = False) -> None:
        """Drop the rows of this attempt, as it restarts in the same process.

        With `read_again` the same rows come again from a script's logs, and their measurements
        stay.
        """
        self._measured = {record.row.epoch: record.machine for record in self.records if read_again}
        self.records = [record for record in self.records if record.attempt < self.attempt]
        self._offered = self._latest = None
        self.meter.begin(self.records[-1].row.step if self.records else 0)

    def restore(self) -> bytes | None:
        """`Context.restore`."""
        return self.resumed

    def save(self, make: Callable[[], bytes]) -> None:
        """`Context.save`: remember how to make a checkpoint, should one be due after this row."""
        self._offered = make

    def take(self, row: object) -> Row:
        """Check a row and take it in; flush and keep a checkpoint where they are due.

        Raises RowError for anything but a sound row of a later epoch.
        """
        checked = check_row(row, self.last_epoch)
        seconds = monotonic() - self._started
        row, given = _apart(checked)
        machine = self._measured.get(row.epoch) or self.meter.read(row.step)
        self.records.append(EpochRecord(self.attempt, seconds, row, {**machine, **given}))
        self._unwritten = True
        now = monotonic()
        self._latest, self._offered = self._offered, None
        if self._latest is not None and now >= self._next_checkpoint:
            self.keep_checkpoint()
        elif now >= self._next_flush:
            self.flush()
        return checked

    def flush(self) -> None:
        """Write every row so far to the store, unless it is there already."""
        if not self._unwritten:
            return
        before = monotonic()
        write_epochs(self.store, self.sweep_id, self.trial_id, self.records)
        self._unwritten = False
        after = monotonic()
        self._next_flush = after + max(self.flush_seconds, FLUSH_PATIENCE * (after - before))

    def history(self, facts: TaskFacts, epochs_planned: int, *, finished: bool) -> History:
        """The rows so far, as a detector sees them."""
        return History(self.rows, facts, epochs_planned, finished=finished)

    @property
    def rows(self) -> Sequence[Row]:
        """The rows so far, those before a restored checkpoint included; with what was measured."""
        return [record.observed for record in self.records]

    @property
    def last_epoch(self) -> int | None:
        """The epoch of the latest row; None before the first."""
        return self.records[-1].row.epoch if self.records else None

    def keep_checkpoint(self) -> None:
        """Keep a checkpoint of the latest row, if the workload offered one, and all rows."""
        # Rows first: a checkpoint must never be ahead of the rows that it continues.
        self.flush()
        if self._latest is None or self.last_epoch is None:
            return
        before = monotonic()
        payload, self._latest = self._latest(), None
        write_checkpoint(
            self.store, self.sweep_id, self.trial_id, epoch=self.last_epoch, payload=payload
        )
        after = monotonic()
        pause = max(self.checkpoint_seconds, FLUSH_PATIENCE * (after - before))
        self._next_checkpoint = after + pause


def _apart(row: Row) -> tuple[Row, dict[str, float]]:
    """A row without the machine's signals that its workload measured itself, and these."""
    given = {name: row.signals[name] for name in MACHINE_SIGNALS if name in row.signals}
    machine = {name: value for name, value in given.items() if isinstance(value, int | float)}
    if not machine:
        return row, {}
    kept = {name: value for name, value in row.signals.items() if name not in machine}
    return replace(row, signals=kept), machine


def check_row(row: object, last_epoch: int | None) -> Row:
    """Return a valid row with plain numbers; raise RowError naming what is wrong with any other.

    Valid is a `Row` whose epoch is a whole number above the one before, and whose signals are real
    numbers (Python's, numpy's, arrays and tensors of one value) or flat sequences of them, NaN and
    infinity included.
    """
    if not isinstance(row, Row):
        raise RowError(
            f"`train` yielded a {type(row).__name__}; it must yield sickbay.trials.contract.Row"
        )
    for key, count in (("epoch", row.epoch), ("step", row.step)):
        if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count < 2**63:
            raise RowError(f"a row's {key} is {count!r}; it must be a whole number from 0 on")
    if last_epoch is not None and row.epoch <= last_epoch:
        raise RowError(
            f"a row for epoch {row.epoch} came after the one for epoch {last_epoch}; "
            "epochs must ascend, one row each"
        )
    if not isinstance(row.signals, Mapping):
        raise RowError(f"the signals of epoch {row.epoch} must be a mapping, not {row.signals!r}")
    _check_names(row)
    return replace(row, signals={name: _plain(row, name) for name in row.signals})


def _check_names(row: Row) -> None:
    for name in row.signals:
        if not isinstance(name, str) or not name.strip() or name.lower() in EPOCH_COLUMNS:
            raise RowError(
                f"epoch {row.epoch} has a signal called {name!r}; a signal's name is a text, not "
                f"empty, and none of {', '.join(EPOCH_COLUMNS)}, which are columns of their own"
            )
    if len({name.lower() for name in row.signals}) < len(row.signals):
        raise RowError(
            f"signals of epoch {row.epoch} differ in upper and lower case only, which SQL cannot "
            f"tell apart: {', '.join(sorted(row.signals))}"
        )


def _plain(row: Row, name: str) -> SignalValue:
    value: Any = row.signals[name]
    if type(value) is float:  # nearly all are: the quick way
        return value
    is_vector = isinstance(value, list | tuple) or _rank(value) == 1
    several = list(cast("Iterable[object]", value)) if is_vector else None
    numbers = [as_number(entry) for entry in ([value] if several is None else several)]
    plain = [number for number in numbers if number is not None]
    if len(plain) < len(numbers):
        wrong = value if several is None else several[numbers.index(None)]
        raise RowError(
            f"the signal {name!r} of epoch {row.epoch} holds a {type(wrong).__name__}: {wrong!r}; "
            "it must be a number or a flat list of numbers (call .item() or .tolist())"
        )
    return plain[0] if several is None else plain


def as_number(value: object) -> float | int | None:
    """A real number of any type as Python's own; None for what is none, or too large for a float.

    Arrays and tensors of rank 0 count as the number that they hold. Booleans stay what they are.
    """
    is_scalar = _rank(value) == 0  # numpy's, torch's, jax's
    number: object = value.item() if is_scalar else value  # type: ignore[attr-defined]
    if not isinstance(number, Real | Decimal):
        return None
    try:
        as_float = float(number)
    except OverflowError:
        return None
    return number if isinstance(number, int | float) else as_float


def _rank(value: object) -> int | None:
    """How many dimensions an array, tensor or numpy scalar has; None for anything else."""
    rank = getattr(value, "ndim", None)
    return rank if isinstance(rank, int) and hasattr(value, "item") else None
