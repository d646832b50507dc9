"""MLflow's stores, read without the package mlflow.

The file store has one file per metric in a run's `metrics` folder, one line per value. The database
(`mlflow.db`, today's default) has a table of metrics, one row per value.
"""

import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from sickbay.trials.logs.cells import number
from sickbay.trials.logs.log import LogError, RawLog

Value = tuple[int, float, int]  # timestamp in ms, value, step
DATABASE = b"SQLite format 3\0"
INFINITE = 1.797e308  # the database stores the largest float for infinity
METRICS = """
SELECT run_uuid, COALESCE(name, run_uuid), key, metrics.timestamp,
    CASE WHEN is_nan THEN NULL ELSE value END, step
FROM metrics JOIN runs USING (run_uuid) WHERE key NOT LIKE 'system/%'
ORDER BY start_time, run_uuid, key, step, metrics.timestamp
"""


def metrics_folders(folder: Path) -> list[Path]:
    """The `metrics` folders of the runs at or below a folder, sorted; none if it is no store."""
    if folder.name == "metrics":
        return [folder]
    folders = sorted(path for path in folder.rglob("metrics") if path.is_dir())
    return [path for path in folders if _is_metric(next(_files(path), None))]


def _files(folder: Path) -> Iterator[Path]:
    return (file for file in sorted(folder.rglob("*")) if file.is_file())


def _is_metric(file: Path | None) -> bool:
    if file is None:
        return False
    with file.open(encoding="utf-8", errors="replace") as lines:
        parts = lines.readline(1000).split()
    return len(parts) in {2, 3} and all(number(part) is not None for part in parts)


def read_mlflow(metrics: Path, run: str | None = None) -> RawLog:
    """The metrics of one run as records, ordered by step.

    Where every step is 0 (`log_metric` without a step) the order of the lines counts, and the
    timestamps if the metrics have different lengths. Raises LogError for a line of another form.
    """
    return _log(
        {file.relative_to(metrics).as_posix(): _values(file) for file in _files(metrics)}, run
    )


def is_database(path: Path) -> bool:
    """Whether a file is an SQLite database, by its first bytes."""
    with path.open("rb") as file:
        return file.read(len(DATABASE)) == DATABASE


def read_database(path: Path) -> list[RawLog]:
    """The runs of MLflow's database in the order in which they began, as `read_mlflow` reads one.

    Raises LogError if it is another database, or holds no metric.
    """
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as connection:
            rows = connection.execute(METRICS).fetchall()
    except sqlite3.Error as error:
        raise LogError(f"{path} cannot be read as MLflow's database: {error}") from error
    runs: dict[str, dict[str, list[Value]]] = {}
    for run, _, name, timestamp, value, step in rows:
        runs.setdefault(run, {}).setdefault(name, []).append((timestamp, _float(value), step))
    if not runs:
        raise LogError(f"{path} is MLflow's database without a metric: nothing was logged")
    names = {run: name for run, name, *_ in rows}
    if len(set(names.values())) < len(names):
        names = {run: run for run in names}
    return [_log(series, names[run] if len(runs) > 1 else None) for run, series in runs.items()]


def _float(value: float | None) -> float:
    if value is None:
        return math.nan
    return math.copysign(math.inf, value) if abs(value) >= INFINITE else value


def _log(series: Mapping[str, Sequence[Value]], run: str | None) -> RawLog:
    stepless = all(
        len(values) > 1 and len({v[2] for v in values}) == 1 for values in series.values()
    )
    if not stepless:
        rows = _by_key({name: [(v[2], v[1]) for v in values] for name, values in series.items()})
        return RawLog("an MLflow run", tuple({"step": k} | row for k, row in rows), run=run)
    lengths = {len(values) for values in series.values()}
    keys = {
        name: [(place if len(lengths) == 1 else v[0], v[1]) for place, v in enumerate(values)]
        for name, values in series.items()
    }
    how = "lines" if len(lengths) == 1 else "timestamps"
    remark = f"every value has the same step: ordered by {how} instead"
    return RawLog("an MLflow run", tuple(row for _, row in _by_key(keys)), (remark,), run=run)


def _by_key(
    series: Mapping[str, Sequence[tuple[int, float]]],
) -> list[tuple[int, dict[str, float]]]:
    rows: dict[int, dict[str, float]] = {}
    for name, values in series.items():
        for key, value in values:
            rows.setdefault(key, {})[name] = value
    return [(key, rows[key]) for key in sorted(rows)]


def _values(file: Path) -> Sequence[Value]:
    values = []
    for place, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines()):
        parts = line.split()
        try:
            step = int(float(parts[2])) if len(parts) > 2 else place
            values.append((int(float(parts[0])), float(parts[1]), step))
        except (ValueError, IndexError, OverflowError) as error:
            raise LogError(
                f"{file}, line {place + 1}: expected `timestamp value step`, found {line[:60]!r}"
            ) from error
    return values
