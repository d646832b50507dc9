"""Raw rows become records of numbers: nesting, splits, long tables, gaps, several runs in one file.

What is the same for every format is done here, once: a reader only takes a file apart.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sickbay.trials.logs.cells import is_gap, number
from sickbay.trials.logs.log import ExternalLog, Number, RawLog, Record
from sickbay.trials.logs.signal_names import (
    is_clock,
    is_epoch,
    is_measure,
    is_step,
    split_of,
    words,
)

SETTINGS = ("config", "hparams", "hyperparameters", "hyper_parameters", "params", "args")
SPLIT_COLUMNS = (
    *("mode", "phase", "split", "subset", "stage", "set", "partition", "kind", "type", "event"),
)
METRIC_COLUMNS = ("metric", "metric name", "key", "tag", "variable", "measure", "name")
VALUE_COLUMNS = ("value", "metric value", "val")
RUN_COLUMNS = (
    *("run", "run id", "run name", "fold", "trial", "trial id", "trial name", "experiment", "seed"),
)
WITHIN_EPOCH = frozenset({"batch", "batches", "it"})  # counters that begin anew in every epoch
SHOWN_COLUMNS = 4


def logs_of(raw: RawLog, path: str) -> list[ExternalLog]:
    """The runs of a raw log as records, in their order; one as a rule.

    A column that names the run (`run`, `fold`, `trial_id`) and has several values keeps its rows
    apart. Runs that were appended to one another are found later, by `appended_runs`.
    """
    flat = [dict(_flat(row)) for row in raw.rows if "facts" not in row]
    parts = _by_run(_pivoted(flat))
    made = []
    for run, part in parts.items():
        rows, remarks = _split_rows(part)
        records, more = _numbers(rows)
        name = raw.run if run is None else run
        remarks = (*raw.remarks, *remarks, *more)
        made.append(ExternalLog(raw.kind, records, remarks, raw.facts, name, path))
    return made


def appended_runs(log: ExternalLog) -> list[ExternalLog]:
    """The runs that were appended to one file: a new one begins where epochs or steps decrease.

    A fall to a later epoch than the first is a run that was taken up again from a checkpoint: it
    replaces what it repeats. A batch counter, or a step that begins anew with every epoch, counts
    no runs.
    """
    counter = _run_counter(log.records)
    if counter is None:
        return [log]
    values = [record.get(counter) for record in log.records]
    starts, kept, remarks = _restarts(values, [frozenset(record) for record in log.records])
    if len(starts) == 1 and len(kept) == len(log.records):
        return [log]
    sizes = {end - start for start, end in zip(starts, [*starts[1:], len(values)], strict=True)}
    if is_step(counter) and len(starts) > 2 and max(sizes) - min(sizes) <= 1:
        return [log]  # the step within an epoch
    bounds = [*starts, len(values)]
    return [
        ExternalLog(
            log.kind,
            tuple(log.records[i] for i in kept if bounds[n] <= i < bounds[n + 1]),
            (*log.remarks, *remarks),
            log.facts,
            str(n + 1) if len(starts) > 1 else log.run,
            log.path,
        )
        for n in range(len(starts))
    ]


def _restarts(
    values: Sequence[Number | None], kinds: Sequence[frozenset[str]]
) -> tuple[list[int], list[int], list[str]]:
    """Where runs begin, the indices that count, and remarks on resumed runs.

    Only records of one kind (the same columns) are compared: training and validation may count
    differently.
    """
    starts, kept, remarks = [0], [], []
    first, last = math.nan, dict[frozenset[str], float]()
    for index, (value, kind) in enumerate(zip(values, kinds, strict=True)):
        kept.append(index)
        if not isinstance(value, float) or not math.isfinite(value):
            continue
        before = last.get(kind, -math.inf)
        if value < before and value <= first:
            starts.append(index)
            first, last = value, {}
        elif value < before:
            again = {i for i in kept[:-1] if i >= starts[-1] and _at_least(values[i], value)}
            kept = [i for i in kept if i not in again]
            last = {}
            remarks.append(
                f"the run was resumed at {value:g}, after {before:g}: {len(again)} records "
                "that it repeats were left out"
            )
        first = value if math.isnan(first) else first
        last[kind] = value
    return starts, kept, remarks


def _at_least(value: Number | None, bound: float) -> bool:
    return isinstance(value, float) and value >= bound


def _run_counter(records: Sequence[Record]) -> str | None:
    names = list(dict.fromkeys(name for record in records for name in record))
    for test in (is_epoch, is_step):
        for name in names:
            n = sum(name in record for record in records)
            if test(name) and words(name) not in WITHIN_EPOCH and n > len(records) / 2:
                return name
    return None


def _flat(row: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        if isinstance(value, Mapping):
            if str(name).lower() not in SETTINGS:
                yield from _flat(value, f"{above}{name}/")
        else:
            yield f"{above}{name}", value


def _pivoted(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A long table (`step, metric, value`) as one record per moment."""
    names = dict.fromkeys(name for row in rows for name in row)
    metric = next((n for n in names if words(n) in METRIC_COLUMNS and _of_measures(rows, n)), None)
    value = next((n for n in names if words(n) in VALUE_COLUMNS), None)
    if metric is None or value is None:
        return rows
    wide: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        rest = {k: v for k, v in row.items() if k not in {metric, value} and not is_clock(k)}
        place = wide.setdefault(tuple(map(str, rest.items())), rest)
        place[str(row.get(metric))] = row.get(value)
    return list(wide.values())


def _by_run(rows: list[dict[str, Any]]) -> dict[str | None, list[dict[str, Any]]]:
    names = {name for row in rows for name in row if words(name) in RUN_COLUMNS}
    for name in sorted(names):
        parts: dict[str | None, list[dict[str, Any]]] = {}
        for row in rows:
            if not is_gap(row.get(name)):
                parts.setdefault(str(row[name]), []).append(row)
        results = all(number(run) is None for run in parts)  # a row for each run, by its name
        if len(parts) > 1 and (results or min(map(len, parts.values())) > 1):
            return parts
    return {None: rows}


def _split_rows(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Prefix measures with the split that a column assigns to their row."""
    names = dict.fromkeys(name for row in rows for name in row)
    column = next((n for n in names if n.lower() in SPLIT_COLUMNS and _names_splits(rows, n)), None)
    if column is None:
        return rows, ()
    made = []
    for row in rows:
        split = split_of(str(row.get(column, "")))
        made.append(
            {
                name if _keeps_name(name, split) else f"{split}/{name}": value
                for name, value in row.items()
                if name != column
            }
        )
    return made, (f"rows were split into runs by the column {column!r}",)


def _keeps_name(name: str, split: str | None) -> bool:
    counter = is_epoch(name) or is_step(name) or is_clock(name)
    return split is None or counter or split_of(name) is not None


def _names_splits(rows: Iterable[Mapping[str, Any]], name: str) -> bool:
    values = [row[name] for row in rows if not is_gap(row.get(name))]
    known = [isinstance(value, str) and split_of(value) is not None for value in values]
    return bool(values) and sum(known) > len(values) / 2


def _of_measures(rows: Iterable[Mapping[str, Any]], name: str) -> bool:
    """Whether a column holds names, at least one of them of a measure."""
    values = [row[name] for row in rows if name in row]
    texts = all(isinstance(value, str) and number(value) is None for value in values)
    return texts and any(map(is_measure, values))


def _numbers(rows: Sequence[Mapping[str, Any]]) -> tuple[tuple[Record, ...], list[str]]:
    gaps: Counter[str] = Counter()
    texts: Counter[str] = Counter()
    records = []
    for row in rows:
        record: dict[str, Number] = {}
        for name, cell in row.items():
            value = _value(name, cell)
            if value is not None:
                record[name] = value
            elif is_gap(cell):
                gaps[name] += 1
            elif not isinstance(cell, list) and is_measure(name):
                texts[name] += 1
        records.append(record)
    known = {name for record in records for name in record}
    remarks = _gap_remarks({n: k for n, k in gaps.items() if n in known and is_measure(n)})
    if texts:
        remarks.append(f"{_counted(texts, 'cells')} are not numbers and were left out")
    return tuple(records), remarks


def _gap_remarks(gaps: Mapping[str, int]) -> list[str]:
    if not gaps:
        return []
    remark = (
        f"{_counted(gaps, 'empty cells or nulls')} were read as 'not logged'. pandas and JSON "
        "writers write NaN like this, too: if such a loss was NaN, write NaN"
    )
    return [remark]


def _counted(counts: Mapping[str, int], what: str) -> str:
    shown = [f"{name!r}: {n}" for name, n in list(counts.items())[:SHOWN_COLUMNS]]
    more = len(counts) - SHOWN_COLUMNS
    tail = f" and {more} more columns" if more > 0 else ""
    return f"{sum(counts.values())} {what} ({', '.join(shown)}{tail})"


def _value(name: str, cell: Any) -> Number | None:
    if isinstance(cell, list | tuple):
        flat = [entry for part in cell for entry in (part if isinstance(part, list) else [part])]
        numbers = [number(entry) for entry in flat]
        known = tuple(entry for entry in numbers if entry is not None)
        return known if known and len(known) == len(numbers) else None
    if isinstance(cell, str) and (is_epoch(name) or is_step(name)):  # `3/80`
        cell = re.sub(r"\s*/\s*\d+\s*$", "", cell)
    return number(cell)


def merged(records: Sequence[Record], keys: Sequence[str]) -> list[Record]:
    """Merge adjacent records of one moment: equal counters, and no name twice."""
    made: list[dict[str, Number]] = []
    for record in records:
        last = made[-1] if made else None
        same = last is not None and all(last.get(key) == record.get(key) for key in keys)
        if last is not None and keys and same and not (record.keys() & last.keys()) - set(keys):
            last.update(record)
        else:
            made.append(dict(record))
    return list(made)


def with_vectors(
    records: Sequence[Record], bases: Iterable[str]
) -> tuple[list[Record], dict[str, int]]:
    """Columns `name_0, name_1, …` of these names as one vector, and the length of each.

    A family must be complete and counted from 0 or 1; a column that already bears the name stays.
    """
    names = list(dict.fromkeys(name for record in records for name in record))
    families = {base: _family(base, names) for base in bases if base not in names}
    families = {base: columns for base, columns in families.items() if len(columns) > 1}
    gone = {name for columns in families.values() for name in columns}
    made: list[Record] = []
    for record in records:
        kept = {name: value for name, value in record.items() if name not in gone}
        for base, columns in families.items():
            values = [record.get(name) for name in columns]
            if all(isinstance(value, float) for value in values):
                kept[base] = tuple(value for value in values if isinstance(value, float))
        made.append(kept)
    return made, {base: len(columns) for base, columns in families.items()}


def _family(base: str, names: Sequence[str]) -> list[str]:
    shape = re.compile(re.escape(base) + r"[_./\-\[(]?(\d+)[\])]?")
    numbered = {int(hit[1]): name for name in names if (hit := shape.fullmatch(name))}
    order = sorted(numbered)
    counted = order in ([*range(len(order))], [*range(1, len(order) + 1)])
    return [numbered[i] for i in order] if counted else []
