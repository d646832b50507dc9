"""MLflow's file store: one file per metric in a run's `metrics` folder, one line per value."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from sickbay.trials.logs.cells import number
from sickbay.trials.logs.log import LogError, RawLog

Value = tuple[int, float, int]  # timestamp in ms, value, step


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
    files = list(_files(metrics))
    series = {file.relative_to(metrics).as_posix(): _values(file) for file in files}
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


def _by_key(series: dict[str, list[tuple[int, float]]]) -> list[tuple[int, dict[str, float]]]:
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
