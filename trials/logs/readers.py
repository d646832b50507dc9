"""Read a training log that Sickbay did not make: from a file or folder to records.

A record is what was logged at one moment: a mapping of the log's own names to numbers, in the order
of the log. An empty cell or `null` is "not logged"; `nan`, `inf` and their spellings are numbers.

    CSV                    Lightning's CSVLogger, Keras' CSVLogger, a W&B chart's export
    JSON lines             one object a line: W&B history, Tune's result.json, Sickbay's adapters
    JSON                   a list of objects, Hugging Face's trainer_state.json, a Keras History
    TensorBoard            an event file, or a folder of them
    MLflow                 a run's folder, or its `metrics` folder
"""

import csv
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sickbay.trials.logs.events import event_files, read_events
from sickbay.trials.logs.log import ForeignLog, LogError, Number, Record

WORDS = {"true": 1.0, "false": 0.0, "-": None, "": None, "none": None, "null": None, "n/a": None}
WANDB_BOUNDS = ("__MIN", "__MAX")


def read_log(path: Path, run: str | None = None) -> ForeignLog:
    """Read a log; what it is follows from what it looks like, not from its name alone.

    `run` chooses one run of a W&B export that holds several. Raises LogError with the reason and
    what can be read; a missing file is a LogError as well.
    """
    if not path.exists():
        raise LogError(f"there is no file {path}")
    log = _read_folder(path) if path.is_dir() else _read_file(path, run)
    if not any(log.records):
        raise LogError(f"{path} was read as {log.kind}, but holds no numbers")
    return log


def _read_folder(path: Path) -> ForeignLog:
    if event_files(path):
        return ForeignLog("TensorBoard events", read_events(path))
    metrics = path / "metrics" if (path / "metrics").is_dir() else path
    files = sorted(file for file in metrics.rglob("*") if file.is_file())
    if files:
        return ForeignLog("an MLflow metrics folder", _mlflow(metrics, files))
    raise LogError(
        f"{path} is a folder without TensorBoard event files (events.out.tfevents.*) and without "
        "an MLflow `metrics` folder"
    )


def _read_file(path: Path, run: str | None) -> ForeignLog:
    if "tfevents" in path.name:
        return ForeignLog("TensorBoard events", read_events(path))
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise LogError(
            f"{path} is no text, and no TensorBoard event file (those are called *tfevents*). "
            "CSV, JSON lines, JSON, event files and MLflow folders can be read"
        ) from error
    start = text.lstrip()[:1]
    if not start:
        raise LogError(f"{path} is empty")
    try:
        return _read_json(path, text) if start in "{[" else _read_csv(path, text, run)
    except LogError:
        raise
    except RecursionError as error:
        raise LogError(f"{path} is nested too deeply for a log") from error
    except (csv.Error, ValueError) as error:  # a cell or a number of a hundred thousand digits
        raise LogError(f"{path} cannot be read as a log: {error}") from error


def _read_json(path: Path, text: str) -> ForeignLog:
    try:
        whole = json.loads(text)
    except json.JSONDecodeError:
        return _json_lines(path, text)
    if isinstance(whole, dict) and isinstance(whole.get("log_history"), list):
        return _from_objects("a Hugging Face trainer state", whole["log_history"])
    if isinstance(whole, dict) and whole and all(isinstance(v, list) for v in whole.values()):
        length = max(map(len, whole.values()))
        rows = [
            {name: column[i] for name, column in whole.items() if i < len(column)}
            for i in range(length)
        ]
        return _from_objects("JSON columns (a Keras History)", rows)
    if isinstance(whole, list):
        return _from_objects("a JSON list", whole)
    if isinstance(whole, dict):
        return _from_objects("JSON lines", [whole])
    raise LogError(f"{path} holds one JSON {type(whole).__name__}, not rows of numbers")


def _json_lines(path: Path, text: str) -> ForeignLog:
    rows: list[Any] = []
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    for place, (number, line) in enumerate(lines):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            if place == len(lines) - 1 and rows:  # the writer was killed in mid-line
                log = _from_objects("JSON lines", rows)
                remark = f"line {number}, the last one, is cut off and was left out"
                return ForeignLog(log.kind, log.records, (*log.remarks, remark), log.facts)
            raise LogError(f"{path}, line {number}: no JSON ({error.msg})") from error
    return _from_objects("JSON lines", rows)


def _from_objects(kind: str, rows: Sequence[Any]) -> ForeignLog:
    wrong = next((row for row in rows if not isinstance(row, dict)), None)
    if wrong is not None:
        raise LogError(f"expected one JSON object a row, found {json.dumps(wrong)[:60]}")
    facts: Mapping[str, Any] = next(
        (row["facts"] for row in rows if isinstance(row.get("facts"), dict)), {}
    )
    nulls = sum(value is None for row in rows for value in row.values())
    remarks = (
        (f"{nulls} nulls were read as 'not logged'; write NaN for a loss that was NaN",)
        if nulls
        else ()
    )
    records = tuple(dict(_flat(row)) for row in rows if "facts" not in row)
    return ForeignLog(kind, records, remarks, facts)


def _flat(row: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Number]]:
    for name, value in row.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{name}/")
        elif isinstance(value, list):
            numbers = [_number(entry) for entry in value]
            if numbers and all(entry is not None for entry in numbers):
                yield above + name, tuple(entry for entry in numbers if entry is not None)
        else:
            number = _number(value)
            if number is not None:
                yield above + name, number


def _read_csv(path: Path, text: str, run: str | None) -> ForeignLog:
    lines = text.splitlines()
    delimiter = max(",;\t", key=lines[0].count)
    reader = csv.reader(lines, delimiter=delimiter)
    head = [name.strip() for name in next(reader)]
    if len(head) < 2 and not (head and head[0].isidentifier()):
        raise LogError(
            f"{path}: the first line {lines[0][:60]!r} is no row of column names. CSV with a "
            "header, JSON lines, JSON, TensorBoard event files and MLflow folders can be read"
        )
    twice = sorted(name for name, times in Counter(head).items() if name and times > 1)
    if twice:
        raise LogError(f"{path}: two columns are called {twice[0]!r}")
    head, kind = _wandb_columns(path, head, run)
    records, text_cells = [], 0
    for row in reader:
        record: dict[str, Number] = {}
        for name, cell in zip(head, row, strict=False):
            number = _number(cell)
            if name and number is not None:
                record[name] = number
            elif name and cell.strip().lower() not in WORDS:
                text_cells += 1
        records.append(record)
    remarks = (f"{text_cells} cells are no numbers and were left out",) if text_cells else ()
    return ForeignLog(kind, tuple(records), remarks)


def _wandb_columns(path: Path, head: list[str], run: str | None) -> tuple[list[str], str]:
    """A chart's export calls its columns `run - metric`, and adds `__MIN` and `__MAX` to each."""
    parts = [name.rpartition(" - ") for name in head]
    runs = sorted({left for left, _, right in parts if left and not right.endswith(WANDB_BOUNDS)})
    if not runs:
        return head, "CSV"
    if len(runs) > 1 and run is None:
        raise LogError(f"{path} holds {len(runs)} runs ({', '.join(runs[:5])}): choose by --run")
    chosen = run or runs[0]
    if chosen not in runs:
        raise LogError(f"{path} holds no run {chosen!r}, but {', '.join(runs[:5])}")
    kept = [
        right if left == chosen and not right.endswith(WANDB_BOUNDS) else name if not left else ""
        for name, (left, _, right) in zip(head, parts, strict=True)
    ]
    return kept, "a W&B chart's CSV"


def _mlflow(metrics: Path, files: Sequence[Path]) -> tuple[Record, ...]:
    """Each file is a metric, each line `timestamp value step`; records are ordered by step."""
    by_step: dict[int, dict[str, Number]] = {}
    for file in files:
        name = file.relative_to(metrics).as_posix()
        for number, line in enumerate(file.read_text().splitlines(), 1):
            try:
                _, value, *step = line.split()
                place = int(step[0]) if step else number - 1
                by_step.setdefault(place, {"step": float(place)})[name] = float(value)
            except (ValueError, IndexError) as error:
                raise LogError(
                    f"{file}, line {number}: expected `timestamp value step`, found {line[:60]!r}"
                ) from error
    return tuple(by_step[step] for step in sorted(by_step))


def _number(value: Any) -> float | None:
    if isinstance(value, int | float):
        try:
            return float(value)
        except OverflowError:  # an integer of hundreds of digits
            return math.copysign(math.inf, value)
    if not isinstance(value, str):
        return None
    text = value.strip().lower()
    if text in WORDS:
        return WORDS[text]
    try:
        return float(text.rstrip("%"))
    except ValueError:
        return None
