"""Read one log: a file of any format, or a folder that is one run."""

import csv
import gzip
import re
import zlib
from dataclasses import replace
from pathlib import Path

from sickbay.trials.log_files.folders import epoch_files
from sickbay.trials.log_files.json_text import read_epoch_files, read_json
from sickbay.trials.log_files.mlflow import is_database, read_database, read_mlflow
from sickbay.trials.log_files.printed import read_printed
from sickbay.trials.log_files.tabular import read_table
from sickbay.trials.log_files.tensorboard import event_files, read_events
from sickbay.trials.log_files.wandb import is_wandb, read_wandb
from sickbay.trials.logs.log import LogError, RawLog
from sickbay.trials.logs.signal_names import is_measure

READABLE = (
    "CSV, JSON, JSON lines, printed logs, Markdown tables, TensorBoard event files, W&B's offline "
    "runs, MLflow folders and databases can be read"
)
SENTENCES = ("log", "message", "msg")  # keys of JSON lines that hold what was printed
SUMMARY = "wandb-summary.json"
COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
GZIP = b"\x1f\x8b"
ENCODINGS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}


def read_raw(path: Path, run: str | None = None) -> list[RawLog]:
    """Read a file, or a folder found by `find_logs`; one log per run, usually one.

    Raises LogError, with the path in its message, for anything that is no log.
    """
    if not path.exists():
        raise LogError(f"there is no file {path}")
    try:
        if path.is_dir():
            return [_read_folder(path)]
        if "tfevents" in path.name:
            return [read_events(path)]
        if is_wandb(path):
            return [read_wandb(path)]
        if is_database(path):
            return read_database(path)
        return _read_text(path, run)
    except LogError:
        raise
    except RecursionError as error:
        raise LogError(f"{path} is nested too deeply for a log") from error
    except OSError as error:
        raise LogError(f"{path} cannot be read: {error.strerror or error}") from error
    except (
        csv.Error,
        EOFError,
        ValueError,
        zlib.error,
    ) as error:  # a cell or a number of a hundred thousand digits
        raise LogError(f"{path} cannot be read as a log: {error}") from error


def _read_folder(path: Path) -> RawLog:
    if path.name == "metrics":
        return read_mlflow(path)
    if event_files(path):
        return read_events(path)
    files = epoch_files(path)
    if files:
        return read_epoch_files(files)
    raise LogError(f"{path} is a folder without a log")


def _read_text(path: Path, run: str | None) -> list[RawLog]:
    text = COLOURS.sub("", _decoded(path))
    if not text.strip():
        raise LogError(f"{path} is empty")
    if text.lstrip()[0] in "{[":
        raw_log = read_json(path, text)
        sentences = _sentences(raw_log)
        if sentences is not None:
            return [sentences]
        if raw_log is not None:
            return [_as_summary(raw_log) if path.name == SUMMARY else raw_log]
    lines = text.splitlines()
    tables = read_table(path, lines, run)
    if tables is not None:
        return tables
    printed = read_printed(text)
    if printed is None:
        raise LogError(
            f"{path} holds no named numbers: no table with a header, no JSON, no line such "
            f"as `epoch 3 loss 0.5`. {READABLE}"
        )
    return [printed]


def _sentences(log: RawLog | None) -> RawLog | None:
    """The printed log inside JSON lines, as Docker and structured loggers write it; or None."""
    if log is None or any(is_measure(str(name)) for row in log.rows for name in row):
        return None
    texts = (row[name] for row in log.rows for name in SENTENCES if isinstance(row.get(name), str))
    return read_printed("\n".join(texts))


def _as_summary(log: RawLog) -> RawLog:
    remark = (
        "this is W&B's summary, the last value of each metric: the history is not in the folder"
    )
    return replace(log, kind="a W&B summary", remarks=(*log.remarks, remark))


def _decoded(path: Path) -> str:
    data = path.read_bytes()
    data = gzip.decompress(data) if data.startswith(GZIP) else data
    encoding = next((name for mark, name in ENCODINGS.items() if data.startswith(mark)), "utf-8")
    if encoding != "utf-16" and b"\x00" in data:
        raise LogError(
            f"{path} is neither text nor a TensorBoard event file (those are called *tfevents*). "
            f"{READABLE}"
        )
    return data.decode(encoding, errors="replace")
