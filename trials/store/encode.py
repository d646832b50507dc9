"""From records to rows to Arrow tables and Parquet bytes, and back. Pure: no files here."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sickbay.trials.contract import MACHINE_SIGNALS, Finding, Label, Row, SignalValue
from sickbay.trials.history import facts_to_json
from sickbay.trials.store.schema import (
    FIXED,
    SCHEMA_KEY,
    SCHEMA_VERSION,
    TABLE_KEY,
    TIME,
    VECTOR,
    EpochRecord,
    SweepRecord,
    TrialRecord,
)

PlainRow = dict[str, Any]

_FLOATS = {float, type(None)}
_sorted_json = json.JSONEncoder(sort_keys=True).encode  # made once: a trial has forty findings
_INT64 = range(-(2**63), 2**63)
_ROWS_A_GROUP = 16_384  # small enough that one trial's rows are found without reading all


def sweep_row(record: SweepRecord) -> PlainRow:
    """Make the row of a sweep."""
    return asdict(record)


_OF_RECORD = """
    sweep_id workload_version arm objective best_objective epochs_run wall_seconds gpu_seconds
    device attempt started_at finished_at error failure online_pathology online_epoch audited
""".split()
_OF_LABEL = """
    pathology onset_epoch reason remedy coverage confidence labeller_version label_hash
""".split()
_OF_FINDING = """
    detector detector_version onset_epoch statistic threshold confidence reason remedy
""".split()


def trial_row(record: TrialRecord) -> PlainRow:
    """Make the fixed columns of a trial's row; its settings become columns beside them."""
    trial = record.trial
    return {
        **{name: getattr(record, name) for name in _OF_RECORD},
        "trial_id": trial.trial_id,
        "workload": trial.workload,
        "seed": trial.seed,
        "changed": list(trial.changed),
        "state": str(record.state),
        **label_columns(record.label),
        **standing_columns(None, None),
        "epochs_planned": trial.epochs,
        "code": record.code or None,
        "git_commit": record.git_commit or None,
        "facts": facts_to_json(record.facts),
    }


def label_columns(label: Label | None) -> PlainRow:
    """Make the columns of `trials` that a label fills; all null without one."""
    if label is None:
        return dict.fromkeys(("label", "contributing", *_OF_LABEL))
    columns = {name: getattr(label, name) for name in _OF_LABEL}
    return {"label": str(label.health), "contributing": list(label.contributing), **columns}


def standing_columns(standing: str | None, reference_arm: str | None) -> PlainRow:
    """Make the columns of `trials` that compare a trial with its siblings; null until then."""
    return {"standing": standing, "reference_arm": reference_arm}


def finding_row(
    sweep_id: str, trial_id: str, labeller_version: str | None, finding: Finding
) -> PlainRow:
    """Make the row of a finding."""
    return {
        "sweep_id": sweep_id,
        "trial_id": trial_id,
        "labeller_version": labeller_version,
        **{name: getattr(finding, name) for name in _OF_FINDING},
        "state": str(finding.state),
        "severity": str(finding.severity),
        "evidence": _sorted_json(dict(finding.evidence)),
    }


def table_from_rows(name: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Make a table of the fixed columns; a missing value becomes null, NaN stays NaN."""
    schema = FIXED[name]
    arrays = [
        pa.array([_value(row.get(field.name), field.type) for row in rows], field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def trial_table(
    rows: Sequence[Mapping[str, Any]], configs: Sequence[Mapping[str, Any]]
) -> pa.Table:
    """Make the table `trials`: the fixed columns, then one column for every setting of any trial.

    Levels of one type keep it, int and float become float, other mixtures text. A setting with a
    fixed column's name gets no column (`config` holds it).
    """
    texts = [
        {**row, "config": json.dumps(config, sort_keys=True)}
        for row, config in zip(rows, configs, strict=True)
    ]
    table = table_from_rows("trials", texts)
    for key in sorted({key for config in configs for key in config} - set(table.column_names)):
        table = table.append_column(key, setting_array([config.get(key) for config in configs]))
    return table


def setting_array(values: Sequence[Any]) -> pa.Array:
    """Put the values of one setting into the narrowest type of column that holds them all."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    if kinds == {int} and all(value is None or value in _INT64 for value in values):
        return pa.array(values, pa.int64())
    if kinds and kinds <= {int, float}:
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    return pa.array([_text(value) for value in values], pa.string())


def epoch_table(sweep_id: str, trial_id: str, records: Sequence[EpochRecord]) -> pa.Table:
    """Make the table `epochs` of one trial, ascending; of two records of an epoch the later counts.

    A signal that is a vector in any row is a list column. Raises ValueError for a signal named like
    a fixed column, or one that is no number.
    """
    by_epoch = {record.row.epoch: record for record in records}
    ordered = [by_epoch[epoch] for epoch in sorted(by_epoch)]
    n = len(ordered)
    columns = {
        "sweep_id": pa.array([sweep_id] * n, pa.string()),
        "trial_id": pa.array([trial_id] * n, pa.string()),
        "attempt": pa.array([record.attempt for record in ordered], pa.int64()),
        "epoch": pa.array([record.row.epoch for record in ordered], pa.int64()),
        "step": pa.array([record.row.step for record in ordered], pa.int64()),
        "seconds": pa.array([record.seconds for record in ordered], pa.float64()),
    }
    signals = [record.observed.signals for record in ordered]
    for name in sorted(frozenset().union(*signals)):
        if name in columns:
            raise ValueError(
                f"a signal may not be called {name!r}: every row has a column of that name."
                f" Taken are {', '.join(FIXED['epochs'].names)}"
            )
        columns[name] = _signal_array(name, [values.get(name) for values in signals])
    return pa.table(columns)


def epoch_records(table: pa.Table) -> tuple[EpochRecord, ...]:
    """Read the records that `epoch_table` was made of; what is null was not recorded."""
    fixed = [table.column(name).to_pylist() for name in ("attempt", "seconds", "epoch", "step")]
    names = [name for name in table.column_names if name not in FIXED["epochs"].names]
    signals = [table.column(name).to_pylist() for name in names]
    records = []
    for index, (attempt, seconds, epoch, step) in enumerate(zip(*fixed, strict=True)):
        values = {
            name: column[index]
            for name, column in zip(names, signals, strict=True)
            if column[index] is not None
        }
        machine = {name: values.pop(name) for name in MACHINE_SIGNALS if name in values}
        records.append(EpochRecord(attempt, seconds, Row(epoch, step, values), machine))
    return tuple(records)


def parquet_bytes(name: str, table: pa.Table, *, compression: str = "zstd") -> bytes:
    """Write a table as Parquet, with its name and the schema version in it, pages checksummed.

    `zstd` is the smallest, `snappy` the quickest for what is written again and again.
    """
    metadata = {SCHEMA_KEY: str(SCHEMA_VERSION).encode(), TABLE_KEY: name.encode()}
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.replace_schema_metadata(metadata),
        sink,
        row_group_size=_ROWS_A_GROUP,
        compression=compression,
        use_dictionary=[field.name for field in table.schema if field.type == pa.string()],
        write_page_checksum=True,
    )
    return bytes(sink.getvalue())


def _signal_array(name: str, values: Sequence[SignalValue | None]) -> pa.Array:
    if {type(value) for value in values} <= _FLOATS:  # nearly all are: the quick way
        return pa.array(values, pa.float64())
    vectors = any(_is_vector(value) for value in values)
    kind = VECTOR if vectors else pa.float64()
    return pa.array([_numbers(name, value, vector=vectors) for value in values], kind)


def _is_vector(value: object) -> bool:
    if isinstance(value, str | bytes):
        return False
    try:
        len(value)  # type: ignore[arg-type]
    except TypeError:  # also numpy's and torch's scalars, which have a useless __len__
        return False
    return True


def _numbers(name: str, value: Any, *, vector: bool) -> float | list[float] | None:
    if value is None:
        return None
    try:
        if not vector:
            return _number(value)
        return [_number(entry) for entry in (value if _is_vector(value) else (value,))]
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"the signal {name!r} is {value!r}: a signal is a number or a sequence of numbers"
        ) from error


def _number(value: Any) -> float:
    if isinstance(value, str | bytes):  # float() would read "12"
        raise TypeError
    return float(value)


def _value(value: object, kind: pa.DataType) -> object:
    """Turn times, Unix seconds, into the microseconds that the tables hold."""
    return round(value * 1e6) if kind == TIME and isinstance(value, int | float) else value


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, default=str)
