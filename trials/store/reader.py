"""Reading the store: states, histories, sweeps. Never writes, so a read-only store will do.

A trial's rows are in its sweep's consolidated file, in its own folder below `_parts`, or, while
they are merged, in both: then the folder counts. So nothing is read twice or missing after a kill.
Whole tables come from `tables.load_tables`.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from sickbay.trials.contract import TrialState
from sickbay.trials.history import History, facts_from_json
from sickbay.trials.store.columns import rows_of_table
from sickbay.trials.store.encode import epoch_records
from sickbay.trials.store.files import Store, StoreError, output_file, read_file, trial_parts
from sickbay.trials.store.parts import (
    EndedTrial,
    PartFolder,
    current_folder,
    list_parts,
    read_all,
    read_ended,
    read_epoch_part,
)
from sickbay.trials.store.schema import FIXED, EpochRecord, Problem, SweepRecord
from sickbay.trials.store.tables import Loaded, consolidated, consolidated_states, load_tables

__all__ = [
    "Loaded",
    "Problem",
    "RunningTrial",
    "StoredTrial",
    "ended_row",
    "iter_histories",
    "list_sweeps",
    "load_history",
    "load_tables",
    "read_epoch_records",
    "read_output",
    "read_sweep",
    "running_trials",
    "sweep_problems",
    "trial_states",
]

RUNNING = "running"
T = TypeVar("T")


@dataclass(frozen=True)
class StoredTrial:
    """A trial that has ended: its row of `trials` as plain values, and its history."""

    trial_id: str
    row: Mapping[str, Any]
    history: History


def read_output(store: Store, sweep_id: str, trial_id: str) -> bytes | None:
    """What a trial's script printed; None for a trial that is no script, or has not ended."""
    return read_file(store, output_file(store, sweep_id, trial_id))


def list_sweeps(store: Store) -> tuple[SweepRecord, ...]:
    """All sweeps, the latest submitted first."""
    table = load_tables(store, ("sweeps",)).tables["sweeps"]
    records = [_sweep_record(row) for row in rows_of_table(table)]
    return tuple(sorted(records, key=lambda record: record.submitted_at or 0.0, reverse=True))


def sweep_problems(store: Store) -> tuple[Problem, ...]:
    """The files about sweeps that cannot be read: sweeps that `list_sweeps` does not know of."""
    return load_tables(store, ("sweeps",)).problems


def read_sweep(store: Store, sweep_id: str) -> SweepRecord | None:
    """One sweep, None if there is none of that id. Raises StoreError if its file is damaged."""
    rows = consolidated(store, "sweeps", sweep_id)
    return _sweep_record(rows_of_table(rows)[0]) if rows is not None else None


def trial_states(store: Store, sweep_id: str) -> dict[str, str]:
    """The state of every trial that ever began: a TrialState, or `running`.

    `running` means that an attempt has not ended, whether or not its process is alive. Raises
    StoreError if the sweep's consolidated file is damaged.
    """
    folders = list_parts(store, sweep_id)
    read = read_all(store, read_ended, folders)
    ended = {
        part.trial_id: (str(part.row["state"]), int(part.row["attempt"]))
        for part in read
        if isinstance(part, EndedTrial)
    }
    known = consolidated_states(store, sweep_id) | ended
    states = {trial_id: state for trial_id, (state, _) in known.items()}
    for folder in folders:
        if folder.attempt > known.get(folder.trial_id, ("", 0))[1]:
            states[folder.trial_id] = RUNNING
    return states


@dataclass(frozen=True)
class RunningTrial:
    """A trial whose latest attempt has begun and not ended, as its worker described it.

    `seed`, `epochs`, `arm` and `config` are None or empty where the worker did not say.
    """

    trial_id: str
    arm: str
    seed: int | None
    epochs: int | None
    config: Mapping[str, Any]
    attempt: int
    started_at: float


def running_trials(store: Store, sweep_id: str) -> list[RunningTrial]:
    """List the trials of a sweep that have begun and not ended, by id, alive or not.

    Raises StoreError if the sweep's consolidated file is damaged.
    """
    merged = consolidated_states(store, sweep_id)
    running = []
    for folder in list_parts(store, sweep_id):
        if folder.attempt <= max(merged.get(folder.trial_id, ("", 0))[1], _ended(store, folder)):
            continue
        data = read_file(store, f"{folder.path}/attempt-{folder.attempt}.json")
        if data is not None:  # else it has ended and was merged meanwhile
            marker = json.loads(data)
            running.append(
                RunningTrial(
                    folder.trial_id,
                    marker.get("arm", ""),
                    marker.get("seed"),
                    marker.get("epochs"),
                    marker.get("config", {}),
                    marker["attempt"],
                    marker["started_at"],
                )
            )
    return running


def _ended(store: Store, folder: PartFolder) -> int:
    """The last attempt that a trial's folder says has ended; 0 for none."""
    if "trial.json" not in folder.files:
        return 0
    if folder.attempt == 1:  # most trials: nothing is to be read
        return 1
    ended = read_ended(store, folder)
    return int(ended.row["attempt"]) if isinstance(ended, EndedTrial) else 0


def ended_row(store: Store, sweep_id: str, trial_id: str) -> Mapping[str, Any] | None:
    """Read the row of a trial whose latest attempt has ended and is not merged yet; None else."""
    folder = _folder(store, sweep_id, trial_id)
    ended = read_ended(store, folder)
    is_latest = isinstance(ended, EndedTrial) and ended.row["attempt"] == folder.attempt
    return ended.row if isinstance(ended, EndedTrial) and is_latest else None


def read_epoch_records(store: Store, sweep_id: str, trial_id: str) -> tuple[EpochRecord, ...]:
    """Read a trial's evaluations so far, ascending; raises StoreError if they are damaged."""
    return epoch_records(_epochs_of(store, sweep_id, _folder(store, sweep_id, trial_id)))


def load_history(store: Store, sweep_id: str, trial_id: str) -> History:
    """Read the history of a trial that has ended, finished if it completed.

    Raises ValueError if no trial of that id has ended in this sweep, StoreError if it is damaged.
    """
    folder = _folder(store, sweep_id, trial_id)
    ended = _sound(read_ended(store, folder))
    if ended is not None:
        row = dict(ended.row)
    else:
        table = consolidated(store, "trials", sweep_id, trial_id=trial_id)
        if table is None or table.num_rows == 0:
            raise ValueError(
                f"no trial {trial_id!r} has ended in the sweep {sweep_id!r}: `sickbay results"
                f" {sweep_id}` lists those that have"
            )
        row = rows_of_table(table)[0]
    return _history(row, epoch_records(_epochs_of(store, sweep_id, folder)))


def iter_histories(
    store: Store, sweep_id: str, signals: Collection[str] | None = None
) -> Iterator[StoredTrial]:
    """Every trial of a sweep that has ended, sorted by id, with its history. Reads each file once.

    `signals` narrows the histories, which is quicker. Raises StoreError if a file is damaged.
    """
    loaded = load_tables(store, ("trials", "epochs"), [sweep_id])
    if loaded.problems:
        raise StoreError("; ".join(str(problem) for problem in loaded.problems))
    trials = loaded.tables["trials"].sort_by("trial_id")
    epochs = loaded.tables["epochs"].sort_by([("trial_id", "ascending"), ("epoch", "ascending")])
    if signals is not None:
        kept = {*FIXED["epochs"].names, *signals}
        epochs = epochs.select([name for name in epochs.column_names if name in kept])
    ids = np.asarray(epochs["trial_id"].to_pylist(), dtype=object)
    for row in rows_of_table(trials):
        first = int(np.searchsorted(ids, row["trial_id"], side="left"))
        last = int(np.searchsorted(ids, row["trial_id"], side="right"))
        history = _history(row, epoch_records(epochs.slice(first, last - first)))
        yield StoredTrial(row["trial_id"], row, history)


def _sweep_record(row: dict[str, Any]) -> SweepRecord:
    times = {name: row[name] and row[name].timestamp() for name in ("submitted_at", "finished_at")}
    return SweepRecord(**{**row, **times})


def _history(row: Mapping[str, Any], records: tuple[EpochRecord, ...]) -> History:
    return History(
        [record.observed for record in records],
        facts_from_json(row["facts"]),
        int(row["epochs_planned"]),
        finished=row["state"] == TrialState.COMPLETED,
    )


def _folder(store: Store, sweep_id: str, trial_id: str) -> PartFolder:
    return current_folder(store, trial_parts(store, sweep_id, trial_id))


def _epochs_of(store: Store, sweep_id: str, folder: PartFolder) -> pa.Table:
    table = _sound(read_epoch_part(store, folder))
    if table is None:
        table = consolidated(store, "epochs", sweep_id, trial_id=folder.trial_id)
    return FIXED["epochs"].empty_table() if table is None else table


def _sound(read: T | Problem) -> T:
    if isinstance(read, Problem):
        raise StoreError(str(read))
    return read
