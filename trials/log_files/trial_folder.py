"""The logs in a trial's folder as rows: what a script printed, and the files it wrote there.

All of them are read, and the one that says most is taken: first those with a validation loss, then
those with more signals, then more evaluations. What `sickbay.start` writes goes before all; a text
file is read where nothing else has evaluations and it is the only one.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from sickbay.trials.contract import Row, TaskFacts
from sickbay.trials.history import facts_from_json
from sickbay.trials.log_files.files import SUMMARY, read_raw
from sickbay.trials.log_files.folders import NEVER
from sickbay.trials.logs.log import LogError, Record
from sickbay.trials.logs.reading import read_records
from sickbay.trials.logs.records import appended_runs, logs_of

OUTPUT = "output-{attempt}.txt"  # what a script printed, one file an attempt
REPORTED = "sickbay.jsonl"  # what it reported through `sickbay.start`
SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".wandb", ".db")
TEXTS = (".log", ".txt")


@dataclass(frozen=True)
class LogWords:
    """How to read a script's names: `names` maps its own to signals, `signals` are kept as such.

    `patterns` are the files to look at, relative to the folder; none means all that look like logs.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    signals: Collection[str] = ()
    patterns: tuple[str, ...] = ()


def read_folder(folder: Path, log_words: LogWords) -> list[Row]:
    """The evaluations in the logs of a folder, ascending; empty where nothing is logged."""
    reported = folder / REPORTED
    if reported.is_file():
        return reported_rows(reported)
    candidates = [_rows(records, log_words) for records in _all_records(folder, log_words.patterns)]
    best = max(candidates, key=_worth, default=[])
    if best or log_words.patterns:
        return best
    own = set(folder.glob(OUTPUT.format(attempt="*")))
    texts = [path for path in folder.rglob("*") if path.suffix in TEXTS and path not in own]
    return _rows(_records(texts[0]), log_words) if len(texts) == 1 else []


def reported_rows(file: Path) -> list[Row]:
    """The rows of a file of reports, exactly as reported; a line cut short is left out."""
    rows: dict[int, Row] = {}
    for line in _json_lines(file):
        if "epoch" in line:
            signals = {k: v for k, v in line.items() if k not in {"epoch", "step"}}
            row = Row(int(line["epoch"]), int(line.get("step", line["epoch"])), signals)
            rows = {epoch: kept for epoch, kept in rows.items() if epoch < row.epoch}
            rows[row.epoch] = row  # a run that began again replaces what came after
    return list(rows.values())


def reported_facts(folder: Path) -> TaskFacts | None:
    """What a script said about its task through `sickbay.start`; None where it said nothing."""
    file = folder / REPORTED
    said = [line["facts"] for line in _json_lines(file) if "facts" in line] if file.exists() else []
    return facts_from_json(json.dumps(said[-1])) if said else None


def _json_lines(file: Path) -> list[dict[str, Any]]:
    lines = file.read_text(encoding="utf-8").split("\n")[:-1]  # the last one is being written
    return [json.loads(line) for line in lines if line]


def _all_records(folder: Path, patterns: tuple[str, ...]) -> list[tuple[Record, ...]]:
    """The records of each log of a folder, in an order that does not depend on the clock."""
    logs = [_printed(folder)] if not patterns or "stdout" in patterns else []
    return logs + [_records(path) for path in _log_paths(folder, patterns)]


def _records(path: Path) -> tuple[Record, ...]:
    """The records of the last run in a log; empty where it is no log, or not yet."""
    try:
        logs = [log for raw in read_raw(path) for log in logs_of(raw, str(path))]
    except LogError:
        return ()
    return appended_runs(logs[-1])[-1].records if logs else ()


def _printed(folder: Path) -> tuple[Record, ...]:
    """The output of all attempts: one that resumes from a checkpoint continues the one before."""
    records: list[Record] = []
    number = 1
    while (file := folder / OUTPUT.format(attempt=number)).exists():
        new = _records(file)
        start = next((record["epoch"] for record in new if "epoch" in record), None)
        if start is None or number == 1:
            records = list(new) if new or number == 1 else records
        else:
            records = [*_before(records, float(start)), *new]  # type: ignore[arg-type]
        number += 1
    return tuple(records)


def _before(records: list[Record], epoch: float) -> list[Record]:
    """The records of earlier epochs; those without a number of their own belong to the last one."""
    kept: list[Record] = []
    current = float("-inf")
    for record in records:
        current = float(record.get("epoch", current))  # type: ignore[arg-type]
        if current < epoch:
            kept.append(record)
    return kept


def _log_paths(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    events = {file.parent for file in files if "tfevents" in file.name}
    mlflow = {file.parent for file in files if file.parent.name == "metrics"}
    if patterns:
        chosen = {path for pattern in patterns for path in folder.glob(pattern)}
    else:
        logs = {file for file in files if file.suffix in SUFFIXES and not _of_settings(file)}
        chosen = logs | events | mlflow
    own = {folder / REPORTED, *folder.glob(OUTPUT.format(attempt="*"))}
    return sorted(chosen - own)


def _of_settings(file: Path) -> bool:
    """Whether a file holds a run's settings or last values, not its history."""
    return any(fnmatch(file.name, pattern) for pattern in (*NEVER, SUMMARY))


def _rows(records: tuple[Record, ...], log_words: LogWords) -> list[Row]:
    if not records:
        return []
    names = {name for record in records for name in record}
    given = {mine: signal for mine, signal in log_words.names.items() if mine in names}
    rows = read_records(records, given, log_words.signals, growing=True).made.rows
    return [row for row in rows if row.epoch >= 0]


def _worth(rows: list[Row]) -> tuple[bool, int, int]:
    signals = {name for row in rows for name in row.signals}
    return "val_loss" in signals, len(signals), len(rows)
