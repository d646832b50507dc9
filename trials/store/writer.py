"""The crash-safe writer: what a worker and a driver put into a store while a sweep runs."""

import json
import os
import socket
import struct
from collections.abc import Sequence
from typing import Any, Literal

from sickbay.trials.contract import Finding, TrialConfig
from sickbay.trials.store.encode import (
    epoch_table,
    finding_row,
    parquet_bytes,
    sweep_row,
    table_from_rows,
    trial_row,
)
from sickbay.trials.store.files import (
    Store,
    open_store,
    output_file,
    read_file,
    remove_file,
    sweep_parts,
    table_file,
    trial_parts,
    write_file,
)
from sickbay.trials.store.parts import current_folder
from sickbay.trials.store.schema import (
    SCHEMA_VERSION,
    Checkpoint,
    EpochRecord,
    SweepRecord,
    TrialRecord,
)
from sickbay.trials.store.tables import consolidated_states

Request = Literal["stop", "cancel"]

_MAGIC = b"SICKBAY1"
_HEAD = struct.Struct("<8sqq")  # magic, epoch, length of the payload


def write_sweep(store: Store, record: SweepRecord) -> None:
    """Write or replace the row of a sweep."""
    table = table_from_rows("sweeps", [sweep_row(record)])
    path = table_file(store, "sweeps", record.sweep_id)
    write_file(store, path, parquet_bytes("sweeps", table), durable=True)


def write_output(store: Store, sweep_id: str, trial_id: str, printed: bytes) -> None:
    """Keep what a trial's script printed."""
    write_file(store, output_file(store, sweep_id, trial_id), printed)


def start_attempt(
    store: Store,
    sweep_id: str,
    trial_id: str,
    *,
    device: str,
    started_at: float,
    trial: TrialConfig | None = None,
    arm: str = "",
) -> int:
    """Mark that this process begins a trial, which then is running; returns the attempt's number.

    `trial` and `arm` describe it for `reader.running_trials`.
    """
    folder = trial_parts(store, sweep_id, trial_id)
    attempt = 1 + latest_attempt(store, sweep_id, trial_id)
    marker = {
        "attempt": attempt,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "device": device,
        "started_at": started_at,
        "arm": arm,
    }
    if trial is not None:
        marker |= {"seed": trial.seed, "epochs": trial.epochs, "config": dict(trial.config)}
    text = json.dumps(marker, default=_plain)
    write_file(store, f"{folder}/attempt-{attempt}.json", text.encode())
    return attempt


def latest_attempt(store: Store, sweep_id: str, trial_id: str) -> int:
    """The number of the attempt that began last; 0 for a trial that never began."""
    latest = current_folder(store, trial_parts(store, sweep_id, trial_id)).attempt
    if latest == 0:  # never begun, or merged since
        latest = consolidated_states(store, sweep_id, trial_id).get(trial_id, ("", 0))[1]
    return latest


def write_epochs(
    store: Store, sweep_id: str, trial_id: str, records: Sequence[EpochRecord]
) -> None:
    """Write all evaluations of a trial so far, replacing what stood there.

    A trial that continues from a checkpoint after epoch e passes the earlier records up to e and
    its own after that. The cost grows with their number, so callers with many write every few
    seconds. Raises ValueError for a signal named like a column or that is no number, StoreError if
    the file cannot be written.
    """
    table = epoch_table(sweep_id, trial_id, records)
    path = f"{trial_parts(store, sweep_id, trial_id)}/epochs.parquet"
    write_file(store, path, parquet_bytes("epochs", table, compression="snappy"))


def write_trial(store: Store, record: TrialRecord, findings: Sequence[Finding] = ()) -> None:
    """Write that a trial has ended: its row and its findings, in one step, after its epochs.

    The findings carry the label's version and replace those of an earlier attempt. Raises
    StoreError.
    """
    trial_id = record.trial.trial_id
    version = record.label.labeller_version if record.label else None
    content = {
        "schema": SCHEMA_VERSION,
        "row": trial_row(record),
        "config": dict(record.trial.config),
        "findings": [
            finding_row(record.sweep_id, trial_id, version, finding) for finding in findings
        ],
    }
    path = f"{trial_parts(store, record.sweep_id, trial_id)}/trial.json"
    # A setting may be anything that a user's workload declares; what JSON lacks becomes text.
    write_file(store, path, json.dumps(content, default=_plain).encode())


def write_checkpoint(
    store: Store, sweep_id: str, trial_id: str, *, epoch: int, payload: bytes
) -> None:
    """Keep the bytes from which the trial can go on after `epoch`, in place of earlier ones.

    Write the epochs up to `epoch` first: a trial that goes on from here takes them from the store.
    """
    path = f"{trial_parts(store, sweep_id, trial_id)}/checkpoint"
    write_file(store, path, _HEAD.pack(_MAGIC, epoch, len(payload)) + payload)


def read_checkpoint(store: Store, sweep_id: str, trial_id: str) -> Checkpoint | None:
    """Return the last checkpoint; None if there is none or it is damaged: then start afresh."""
    data = read_file(store, f"{trial_parts(store, sweep_id, trial_id)}/checkpoint")
    if data is None or len(data) < _HEAD.size:
        return None
    magic, epoch, length = _HEAD.unpack_from(data)
    if magic != _MAGIC or length != len(data) - _HEAD.size:
        return None
    return Checkpoint(epoch, data[_HEAD.size :])


def request(store: Store, sweep_id: str, what: Request | None) -> None:
    """Ask the workers of a sweep to stop after their running trials, or to cancel; None: go on."""
    path = f"{sweep_parts(store, sweep_id)}/control.json"
    if what is None:
        remove_file(store, path)
    else:
        write_file(store, path, json.dumps({"request": what}).encode())


def requested(store: Store, sweep_id: str) -> Request | None:
    """Say what was asked of the workers of a sweep. One small read: poll it every second or so."""
    data = read_file(store, f"{sweep_parts(store, sweep_id)}/control.json")
    what = json.loads(data)["request"] if data else None
    return what if what in ("stop", "cancel") else None


def note_pruning(store_uri: str, sweep_id: str, trial_id: str) -> None:
    """Leave a note for the worker of a trial: a scheduler wants it to end."""
    write_file(open_store(store_uri), _pruning(open_store(store_uri), sweep_id, trial_id), b"{}")


def pruning_noted(store_uri: str, sweep_id: str, trial_id: str) -> bool:
    """Whether there is such a note; it is taken away, since it is for this run only."""
    store = open_store(store_uri)
    path = _pruning(store, sweep_id, trial_id)
    noted = read_file(store, path) is not None
    if noted:
        remove_file(store, path)
    return noted


def _pruning(store: Store, sweep_id: str, trial_id: str) -> str:
    return f"{trial_parts(store, sweep_id, trial_id)}/prune.json"


def _plain(value: Any) -> object:
    return value.item() if hasattr(value, "item") else str(value)  # numpy's and torch's scalars
