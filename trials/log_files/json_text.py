"""JSON and JSON lines: rows of objects, columns of lists, Trainer states, boosting results.

W&B history, Tune's result.json, mmdetection's log.json, DeiT's log.txt, trainer_state.json, a
Keras History, evals_result, `{"train_losses": […]}`, a bare list, pandas' to_json
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sickbay.trials.logs.cells import is_gap, number
from sickbay.trials.logs.log import LogError, RawLog
from sickbay.trials.logs.signal_names import is_epoch, is_loss, is_split, is_step

NUMBERED = re.compile(r"(?:(epoch|step)[ _-]?)?(\d+)")  # `epoch_3`, or an index
MOST_BROKEN = 0.5  # share of lines that may be no JSON


def read_json(path: Path, text: str) -> RawLog | None:
    """Read JSON of any of these shapes; None if it is none. Raises LogError for what holds no rows.

    Of JSON lines a last one that is cut off, and single lines that are no JSON, are left out and
    remarked.
    """
    try:
        whole = json.loads(text)
    except json.JSONDecodeError:
        return _json_lines(text)
    return _shape(path, whole)


def read_epoch_files(files: Sequence[Path]) -> RawLog:
    """The rows of a run that writes a JSON object for each epoch; raises LogError for no object."""
    rows = []
    for file in files:
        row = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(row, dict):
            raise LogError(f"{file} holds no JSON object")
        rows.append(row)
    return RawLog("a JSON file for each epoch", tuple(rows))


def _shape(path: Path, whole: Any) -> RawLog:
    if isinstance(whole, list):
        return _list(path, whole)
    if not isinstance(whole, dict):
        raise LogError(f"{path} holds one JSON {type(whole).__name__}, not rows of numbers")
    return _tables(whole) or _columns_or_row(whole)


def _tables(whole: Mapping[str, Any]) -> RawLog | None:
    """The rows in an object: pandas' `data`, a list of objects, an object for each epoch."""
    if isinstance(whole.get("columns"), list) and isinstance(whole.get("data"), list):
        rows = [_zipped(whole["columns"], row) for row in whole["data"] if isinstance(row, list)]
        return RawLog("a pandas table as JSON", tuple(rows))
    tables = {k: v for k, v in whole.items() if _is_list_of_objects(v)}
    if len(tables) > 1 and all(map(is_split, tables)):  # `{"train": [{…}], "val": [{…}]}`
        return _from_columns(tables)
    if tables:
        name = (
            "log_history" if "log_history" in tables else max(tables, key=lambda k: len(tables[k]))
        )
        kind = "a Hugging Face trainer state" if name == "log_history" else f"JSON ({name!r})"
        return RawLog(kind, tuple(tables[name]), facts=_facts([whole]))
    numbered = [(NUMBERED.fullmatch(key), row) for key, row in whole.items()]
    if len(whole) > 1 and all(hit and isinstance(row, dict) for hit, row in numbered):
        rows = [{hit[1]: hit[2], **row} if hit and hit[1] else row for hit, row in numbered]
        return RawLog("a JSON object of rows", tuple(rows))
    return None


def _columns_or_row(whole: Mapping[str, Any]) -> RawLog:
    columns = dict(_columns(whole))
    a_row = any(is_epoch(k) or is_step(k) for k in _scalars(whole))
    if columns and (not a_row or any(map(is_loss, columns))):
        return _from_columns(columns)
    return RawLog("JSON lines", (whole,), facts=_facts([whole]))


def _list(path: Path, whole: list[Any]) -> RawLog:
    if _is_list_of_objects(whole):
        columns = dict(_columns(whole[0])) if len(whole) == 1 else {}
        return _from_columns(columns) if columns else RawLog("a JSON list", tuple(whole))
    if whole and all(number(value) is not None or is_gap(value) for value in whole):
        return _from_columns({path.stem: whole})
    lists = bool(whole) and all(isinstance(row, list) for row in whole)
    if lists and all(isinstance(name, str) for name in whole[0]):
        return RawLog("a JSON list", tuple(_zipped(whole[0], row) for row in whole[1:]))
    wrong = next((row for row in whole if not isinstance(row, dict)), whole)
    raise LogError(
        f"{path} is a JSON list, but not of objects or numbers: it holds {json.dumps(wrong)[:60]}"
    )


def _json_lines(text: str) -> RawLog | None:
    rows: list[dict[str, Any]] = []
    broken: list[int] = []
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    for place, line in lines:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            row = None
        if isinstance(row, dict):
            rows.append(row)
        else:
            broken.append(place)
    if not rows or len(broken) > MOST_BROKEN * len(lines):
        return None
    remarks: list[str] = []
    if broken and broken[-1] == lines[-1][0]:  # the writer was killed in mid-line
        remarks.append(f"line {broken.pop()}, the last one, is cut off and was left out")
    if broken:
        shown = ", ".join(map(str, broken[:5]))
        remarks.append(f"{len(broken)} lines are not JSON and were left out (lines {shown})")
    return RawLog("JSON lines", tuple(rows), tuple(remarks), _facts(rows))


def _facts(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    return next((row["facts"] for row in rows if isinstance(row.get("facts"), dict)), {})


def _columns(value: Mapping[str, Any], above: str = "") -> list[tuple[str, list[Any]]]:
    """Every list of numbers in an object, by the path to it; pandas writes them as `{"0": 0.7}`."""
    columns: list[tuple[str, list[Any]]] = []
    for name, entry in value.items():
        if isinstance(entry, dict):
            if len(entry) > 1 and all(key.isdigit() for key in entry):
                columns += _columns({name: list(entry.values())}, above)
            else:
                deeper = above if name == "history" else f"{above}{name}/"
                columns += _columns(entry, deeper)
        elif isinstance(entry, list) and len(entry) > 1 and all(map(_is_cell, entry)):
            columns.append((above + name, entry))
    return columns


def _scalars(whole: Mapping[str, Any]) -> list[str]:
    return [name for name, value in whole.items() if not isinstance(value, dict | list)]


def _is_cell(value: Any) -> bool:
    return not isinstance(value, dict | list) and (number(value) is not None or is_gap(value))


def _from_columns(columns: Mapping[str, list[Any]]) -> RawLog:
    """Rows from columns; a shorter column is spread evenly, its last value at the end."""
    length = max(map(len, columns.values()))
    rows: list[dict[str, Any]] = [{} for _ in range(length)]
    for name, values in columns.items():
        for index, value in enumerate(values):
            rows[(index + 1) * length // len(values) - 1][name] = value
    shorter = [name for name, values in columns.items() if len(values) < length]
    remarks = (
        (f"{', '.join(map(repr, shorter))} is shorter and was spread evenly over the others",)
        if shorter
        else ()
    )
    return RawLog("JSON columns", tuple(rows), remarks)


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _zipped(names: Sequence[Any], row: Sequence[Any]) -> dict[str, Any]:
    return {str(name): value for name, value in zip(names, row, strict=False)}
