"""Stored trials as runs of trackers: MLflow, Weights & Biases, TensorBoard.

    export_to(store, sweep_id, Tracker.MLFLOW, "tracking")

A trial becomes a run: its settings, every signal by epoch, its label with the reason. Exporting
again adds what is new and updates labels, without duplicates.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from sickbay.service.formats import Tracker
from sickbay.service.query.lookup import SweepError, stored_spec
from sickbay.trials.store import Store, StoreError
from sickbay.trials.store.columns import rows_of_table
from sickbay.trials.store.reader import load_tables

_OWN = 6  # columns of `epochs` before the signals
_FACTS = tuple(
    """
        sweep_id trial_id workload workload_version seed arm state label pathology
        onset_epoch reason remedy labeller_version epochs_run attempt device error
    """.split()
)


@dataclass(frozen=True)
class Point:
    """One number of one signal: `step` is the epoch, `time` Unix seconds."""

    name: str
    value: float
    step: int
    time: float


@dataclass(frozen=True)
class RunData:
    """A trial as a run of any tracker.

    `settings` are all that it was trained with, `facts` the known columns of `trials`. `points` are
    sorted by epoch; entry k of a vector is called `name/k`.
    """

    trial_id: str
    name: str
    settings: Mapping[str, Any]
    facts: Mapping[str, Any]
    objective: float | None
    best_objective: float | None
    started: float
    finished: float
    points: tuple[Point, ...]


def export_to(store: Store, sweep_id: str, tracker: Tracker, target: str) -> int:
    """Export every ended trial of a sweep; returns their number.

    `target` is a folder, or MLflow's tracking URI. Raises SweepError if there is no such sweep or
    the tracker's library is not installed, StoreError if files cannot be read or written.
    """
    writer = _writer(tracker)
    name = str(stored_spec(store, sweep_id).get("name", sweep_id))
    try:
        return writer(sweep_id, name, runs(store, sweep_id), target)
    except OSError as error:
        raise StoreError(f"cannot export to {target}: {error}") from error


Writer = Callable[[str, str, Iterator[RunData], str], int]


def _writer(tracker: Tracker) -> Writer:
    """Import a tracker's writer, and the library it needs, only when requested."""
    try:
        match tracker:
            case Tracker.MLFLOW:
                from sickbay.service.export.mlflow import write_runs  # noqa: PLC0415
            case Tracker.WANDB:
                from sickbay.service.export.wandb import write_runs  # noqa: PLC0415
            case Tracker.TENSORBOARD:
                from sickbay.service.export.tensorboard import write_runs  # noqa: PLC0415
    except ImportError as error:
        raise SweepError(
            f"--to {tracker} needs a library that is not installed ({error}): pip install"
            f" 'sickbay[{tracker.value}]'"
        ) from error
    return write_runs


def runs(store: Store, sweep_id: str) -> Iterator[RunData]:
    """Read the ended trials of a sweep as runs, by id; raises StoreError if a file is damaged."""
    loaded = load_tables(store, ("trials", "epochs"), [sweep_id])
    if loaded.problems:
        raise StoreError(f"nothing was exported, because {'; '.join(map(str, loaded.problems))}")
    trials = loaded.tables["trials"].sort_by("trial_id")
    epochs = loaded.tables["epochs"].sort_by([("trial_id", "ascending"), ("epoch", "ascending")])
    spans = _spans(epochs["trial_id"].to_pylist())
    for row in rows_of_table(trials):
        span = spans.get(row["trial_id"], slice(0, 0))
        yield _run(row, epochs.slice(span.start, span.stop - span.start))


def _spans(ids: Sequence[str]) -> dict[str, slice]:
    spans: dict[str, slice] = {}
    for index, trial_id in enumerate(ids):
        start = spans[trial_id].start if trial_id in spans else index
        spans[trial_id] = slice(start, index + 1)
    return spans


def _run(row: Mapping[str, Any], epochs: pa.Table) -> RunData:
    settings = json.loads(row["config"] or "{}")
    started = _seconds(row["started_at"])
    return RunData(
        trial_id=row["trial_id"],
        name=f"{row['arm']}, seed {row['seed']}",
        settings=settings,
        facts={name: row[name] for name in _FACTS if row.get(name) is not None},
        objective=row["objective"],
        best_objective=row["best_objective"],
        started=started,
        finished=_seconds(row["finished_at"]) or started,
        points=tuple(_points(epochs, started)),
    )


def _points(epochs: pa.Table, started: float) -> Iterator[Point]:
    names = epochs.column_names[_OWN:]
    for row in epochs.to_pylist():
        when = started + (row["seconds"] or 0.0)
        for name in names:
            value = row[name]
            if isinstance(value, list):
                for k, entry in enumerate(value):
                    yield Point(f"{name}/{k}", _number(entry), row["epoch"], when)
            elif isinstance(value, int | float):
                yield Point(name, float(value), row["epoch"], when)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _seconds(when: datetime | None) -> float:
    return when.timestamp() if when is not None else 0.0


def folder_of(target: str) -> Path:
    """Create the target folder, and return its path."""
    folder = Path(target)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
