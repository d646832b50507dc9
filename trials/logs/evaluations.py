"""From a foreign log's records to evaluations: what was logged between two of them is summed up.

Logs write training losses often and validation losses rarely, on lines of their own. An evaluation
here is an epoch where the log counts whole epochs, else whatever a validation number closes, else
one record.
"""

import math
from collections.abc import Mapping, Sequence

from sickbay.trials.contract import Row, SignalValue
from sickbay.trials.logs.log import Number, Record
from sickbay.trials.logs.signal_names import SHARES, Matched

MOST_ROWS = 500  # evaluations of a log that marks none: more tell a detector nothing new
MOST_COUNTED = 2.0**53  # beyond, a float is no exact count
PER_STEP = ("train_loss", "train_accuracy", "grad_norm")


def rows_of(records: Sequence[Record], matched: Matched) -> tuple[list[Row], list[str]]:
    """The evaluations of a log, ascending, and remarks on how they were made.

    Of a training number the mean over an evaluation's records is taken, NaN included, and its
    standard error where there are several; of a gradient norm the quantiles; of everything else the
    last value.
    """
    source = {signal: name for signal, name in matched.taken.items() if signal != "epoch"}
    scale, remarks = _scales(records, source)
    groups, how = _grouped(records, source, matched)
    rows = []
    for place, (epoch, group) in enumerate(groups, 1):
        signals: dict[str, SignalValue] = {}
        for signal, name in source.items():
            values = [record[name] for record in group if name in record]
            if values:
                signals |= _summed_up(signal, values, scale.get(signal, 1.0))
        step = _last(group, matched.step)
        counted = step is not None and abs(step) < MOST_COUNTED  # NaN and infinity are no step
        rows.append(Row(epoch, int(step) if step is not None and counted else place, signals))
    kept = [row for row in rows if row.signals]
    return kept, [*remarks, how.format(n=len(kept))]


def _grouped(
    records: Sequence[Record], source: Mapping[str, str], matched: Matched
) -> tuple[list[tuple[int, list[Record]]], str]:
    if matched.epoch is not None and _whole(records, matched.epoch):
        by_epoch: dict[int, list[Record]] = {}
        epoch = None
        for record in records:
            epoch = int(_scalar(record.get(matched.epoch, epoch)))
            by_epoch.setdefault(epoch, []).append(record)
        name = matched.epoch
        return sorted(by_epoch.items()), f"{{n}} evaluations, one an epoch (by {name!r})"
    validation = {name for signal, name in source.items() if signal.startswith("val_")}
    if any(validation & record.keys() for record in records):
        return _closed_by(validation, records), "{n} evaluations, counted by validation numbers"
    size = math.ceil(len(records) / MOST_ROWS)
    chunks = [list(records[i : i + size]) for i in range(0, len(records), size)]
    what = "record" if size == 1 else f"{size} records"
    return list(enumerate(chunks, 1)), f"{{n}} evaluations, one each {what}"


def _whole(records: Sequence[Record], name: str) -> bool:
    """Whether a column counts whole epochs; the first record must know its own."""
    values = [_scalar(record[name]) for record in records if name in record]
    return name in records[0] and all(abs(v) < MOST_COUNTED and v == int(v) for v in values)


def _closed_by(validation: set[str], records: Sequence[Record]) -> list[tuple[int, list[Record]]]:
    """Groups that end with their validation numbers, which may lie on several records in a row."""
    groups: list[list[Record]] = [[]]
    closed = False
    for record in records:
        if closed and not validation & record.keys():
            groups.append([])
            closed = False
        elif closed and any(validation & record.keys() & earlier.keys() for earlier in groups[-1]):
            groups.append([])
        groups[-1].append(record)
        closed = closed or bool(validation & record.keys())
    return list(enumerate(groups, 1))


def _summed_up(signal: str, values: Sequence[Number], scale: float) -> dict[str, SignalValue]:
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
    mean = math.fsum(numbers) / len(numbers) if all(map(math.isfinite, numbers)) else sum(numbers)
    if signal != "train_loss":
        return {signal: mean}
    spread = sum((value - mean) ** 2 for value in numbers) / (len(numbers) - 1)
    broken = sum(not math.isfinite(value) for value in numbers)
    return {
        "train_loss": mean,
        "train_loss_se": math.sqrt(spread / len(numbers)) if not broken else float("nan"),
        "nonfinite_loss_steps": float(broken),
    }


def _scales(
    records: Sequence[Record], source: Mapping[str, str]
) -> tuple[dict[str, float], list[str]]:
    """Shares that were logged in per cent are shares again."""
    scales, remarks = {}, []
    for signal in SHARES:
        name = source.get(signal)
        values = [_scalar(record[name]) for record in records if name in record] if name else []
        known = [value for value in values if math.isfinite(value)]
        if known and 1.5 < max(known) <= 100.0 and min(known) >= 0.0:
            scales[signal] = 0.01
            remarks.append(f"{name!r} was read as per cent")
    return scales, remarks


def _last(group: Sequence[Record], name: str | None) -> float | None:
    found = [_scalar(record[name]) for record in group if name is not None and name in record]
    return found[-1] if found and math.isfinite(found[-1]) else None


def _scalar(value: Number | None) -> float:
    if value is None:
        return float("nan")
    return value[-1] if isinstance(value, tuple) else value
