"""From a log's records to the evaluations of a history.

Logs write training losses often and validation losses rarely, on lines of their own. An evaluation
here is an epoch where the log counts whole epochs, else what a validation number closes, else one
record. Each knows its place in the log, in the log's own epoch or step.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sickbay.trials.contract import Row, SignalValue
from sickbay.trials.logs.cells import total
from sickbay.trials.logs.log import Number, Record
from sickbay.trials.logs.records import merged
from sickbay.trials.logs.signal_names import SHARES, SIGNALS, Matched

MOST_ROWS = 500  # evaluations of a log that marks none: more tell a detector nothing new
MOST_COUNTED = 2.0**53  # beyond, a float is no exact count
FEWEST_EPOCHS = 3  # with fewer whole epochs, and several records in each, an epoch is too coarse
FEWEST_VALIDATIONS = 5  # with fewer, validation is too rare to mark the evaluations
SCALARS = frozenset(SIGNALS.values()) - {"val_confusion", "mixture_weights"}
PER_STEP = ("train_loss", "train_accuracy", "grad_norm")


@dataclass(frozen=True)
class Place:
    """Position of an evaluation in the log: its own epoch and step, and the record's number."""

    record: int
    epoch: float | None = None
    step: float | None = None

    def __str__(self) -> str:
        """Format for people: `epoch 0.3 (step 1550)`, `step 3010`, `record 8`."""
        if self.epoch is not None and self.step is not None:
            return f"epoch {self.epoch:.10g} (step {self.step:.10g})"
        if self.epoch is not None:
            return f"epoch {self.epoch:.10g}"
        return f"record {self.record}" if self.step is None else f"step {self.step:.10g}"


@dataclass(frozen=True)
class Evaluations:
    """The rows of a history, the place of each by its `Row.epoch`, and how they were made.

    `own_epochs` says that `Row.epoch` is the log's own epoch; else it counts evaluations from 1.
    """

    rows: tuple[Row, ...]
    places: Mapping[int, Place]
    own_epochs: bool
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class _Groups:
    groups: list[tuple[int, list[Record]]]
    how: str
    own_epochs: bool = False


def evaluations_of(
    records: Sequence[Record], matched: Matched, *, growing: bool = False
) -> Evaluations:
    """The evaluations of a log, ascending.

    Of a training number the mean over an evaluation's records is taken, NaN included, and its
    standard error where there are several; of a gradient norm the quantiles; of everything else the
    last value. Anything called a loss or a gradient that is not finite is counted. With `growing`,
    whole epochs and validation numbers mark evaluations however few they are as yet.
    """
    keys = [key for key in (matched.epoch, matched.step) if key is not None]
    records = _numbered(merged(records, keys))
    source = {signal: name for signal, name in matched.taken.items() if signal != "epoch"}
    source |= {signal: signal for signal in matched.parts}
    scale, remarks = _scales(records, source)
    made = _grouped(records, source, matched, growing=growing)
    runs = _gradient_runs(records, matched.gradients)
    rows, places = [], {}
    for place, (epoch, group) in enumerate(made.groups, 1):
        signals: dict[str, SignalValue] = {}
        for signal, name in source.items():
            values = [record[name] for record in group if name in record]
            if values:
                signals |= _summed_up(signal, values, scale.get(signal, 1.0))
        signals |= _not_finite(group, matched, runs)
        if signals:
            where = _place(group, matched)
            counted = where.step is not None and abs(where.step) < MOST_COUNTED
            step = int(where.step) if where.step is not None and counted else place
            rows.append(Row(epoch, step, signals))
            places[epoch] = where
    if len(rows) < len(made.groups):
        lost = len(made.groups) - len(rows)
        remarks.append(f"{lost} rows or epochs without any measure were left out")
    return Evaluations(
        tuple(rows), places, made.own_epochs, (*remarks, made.how.format(n=len(rows)))
    )


def place_of(record: Record, matched: Matched, number: int) -> Place:
    """The position of a record, counted from 1."""
    return Place(
        number, _count(record.get(matched.epoch or "")), _count(record.get(matched.step or ""))
    )


NUMBER = "\0record"  # the record's number travels in it, under a name that no log has


def _numbered(records: Sequence[Record]) -> list[Record]:
    return [{**record, NUMBER: float(i)} for i, record in enumerate(records, 1)]


def _place(group: Sequence[Record], matched: Matched) -> Place:
    whole: dict[str, Number] = {}
    for record in group:
        whole |= record
    return place_of(whole, matched, int(_scalar(whole.get(NUMBER, 0.0))))


def _count(value: Number | None) -> float | None:
    number = _scalar(value)
    return number if math.isfinite(number) else None


def _grouped(
    records: Sequence[Record], source: Mapping[str, str], matched: Matched, *, growing: bool
) -> _Groups:
    if matched.epoch is not None and _whole(records, matched.epoch):
        by_epoch: dict[int, list[Record]] = {}
        epoch = None
        for record in records:
            epoch = int(_scalar(record.get(matched.epoch, epoch)))
            by_epoch.setdefault(epoch, []).append(record)
        fine = len(by_epoch) >= FEWEST_EPOCHS or len(records) <= FEWEST_EPOCHS * len(by_epoch)
        if fine or growing:
            how = f"{{n}} evaluations, one an epoch (by {matched.epoch!r})"
            return _Groups(sorted(by_epoch.items()), how, own_epochs=True)
    validation = {name for signal, name in source.items() if signal.startswith("val_")}
    training = set(source.values()) - validation
    closed = _closed_by(validation, records)
    n_closing = sum(bool(validation & record.keys()) for record in records)
    n_training = sum(bool(training & record.keys()) for record in records)
    often = n_closing >= FEWEST_VALIDATIONS or n_training <= 2 * n_closing
    if n_closing and (often or growing):
        return _Groups(closed, "{n} evaluations, counted by validation numbers")
    size = math.ceil(len(records) / MOST_ROWS)
    chunks = [list(records[i : i + size]) for i in range(0, len(records), size)]
    what = "record" if size == 1 else f"{size} records"
    return _Groups(list(enumerate(chunks, 1)), f"{{n}} evaluations, one each {what}")


def _whole(records: Sequence[Record], name: str) -> bool:
    """Whether a column counts whole epochs; the first record must have one."""
    values = [_scalar(record[name]) for record in records if name in record]
    return name in records[0] and all(abs(v) < MOST_COUNTED and v == int(v) for v in values)


def _closed_by(validation: set[str], records: Sequence[Record]) -> list[tuple[int, list[Record]]]:
    """Groups that end with their validation numbers, which may span several records."""
    groups: list[list[Record]] = [[]]
    closed = False
    for record in records:
        again = closed and any(
            validation & record.keys() & earlier.keys() for earlier in groups[-1]
        )
        if (closed and not validation & record.keys()) or again:
            groups.append([])
            closed = False
        groups[-1].append(record)
        closed = closed or bool(validation & record.keys())
    return list(enumerate(groups, 1))


def _summed_up(signal: str, values: Sequence[Number], scale: float) -> dict[str, SignalValue]:
    if signal in SCALARS:  # a list of the batches' losses is their mean
        values = [entry for value in values for entry in _entries(value)]
    if any(isinstance(value, tuple) for value in values):
        last = values[-1]
        return {signal: list(last) if isinstance(last, tuple) else last}
    numbers = [_scalar(value) * scale for value in values]
    if signal == "grad_norm":
        ordered = sorted(numbers, key=lambda value: (math.isnan(value), value))
        at = [ordered[min(len(ordered) - 1, int(q * len(ordered)))] for q in (0.5, 0.9)]
        return {"grad_norm_p50": at[0], "grad_norm_p90": at[1], "grad_norm_max": ordered[-1]}
    if signal not in PER_STEP or len(numbers) == 1:
        return {signal: numbers[-1]}
    mean = total(numbers) / len(numbers)
    if signal != "train_loss":
        return {signal: mean}
    spread = math.hypot(*(value - mean for value in numbers)) / math.sqrt(len(numbers) - 1)
    broken = sum(not math.isfinite(value) for value in numbers)
    return {
        "train_loss": mean,
        "train_loss_se": spread / math.sqrt(len(numbers)) if not broken else float("nan"),
        "nonfinite_loss_steps": float(broken),
    }


def _entries(value: Number) -> tuple[float, ...]:
    return value if isinstance(value, tuple) else (value,)


def _not_finite(
    group: Sequence[Record], matched: Matched, runs: Mapping[int, int]
) -> dict[str, SignalValue]:
    """Counts of records in which any loss, or any gradient, is NaN or infinite."""
    made: dict[str, SignalValue] = {}
    losses = sum(not finite(record, matched.losses) for record in group)
    if losses:
        made["nonfinite_loss_steps"] = float(losses)
    gradients = sum(not finite(record, matched.gradients) for record in group)
    if runs:
        made["train_steps"] = float(sum(any(n in r for n in matched.gradients) for r in group))
        made["nonfinite_grad_steps"] = float(gradients)
        longest = [runs.get(int(_scalar(record.get(NUMBER))), 0) for record in group]
        made["nonfinite_grad_run"] = float(max(longest))
    return made


def _gradient_runs(records: Sequence[Record], names: Sequence[str]) -> dict[int, int]:
    """For each record, the length of its run of non-finite gradients."""
    runs: dict[int, int] = {}
    row: list[int] = []
    for place, record in enumerate(records, 1):
        if any(name in record for name in names):
            row = [] if finite(record, names) else [*row, place]
            runs |= dict.fromkeys(row, len(row))
    return runs


def finite(record: Record, names: Iterable[str]) -> bool:
    """Whether every number that a record has under these names is finite."""
    for name in names:
        value = record.get(name, 0.0)
        if not all(map(math.isfinite, _entries(value))):
            return False
    return True


def _scales(
    records: Sequence[Record], source: Mapping[str, str]
) -> tuple[dict[str, float], list[str]]:
    """Convert shares logged in per cent to shares."""
    scales, remarks = {}, []
    for signal in SHARES:
        name = source.get(signal)
        values = [_scalar(record[name]) for record in records if name in record] if name else []
        known = [value for value in values if math.isfinite(value)]
        if known and 1.5 < max(known) <= 100.0 and min(known) >= 0.0:
            scales[signal] = 0.01
            remarks.append(f"{name!r} was read as per cent")
    return scales, remarks


def _scalar(value: Number | None) -> float:
    if value is None:
        return float("nan")
    return value[-1] if isinstance(value, tuple) else value
