"""All that knows the bytes on disk: one Parquet file a table and sweep, and workers' parts.

`writer` puts in what a worker or a driver has, `reader` and `tables` take out, `merge` turns the
workers' many small files into one and adds labels; `schema` holds the records, `encode` turns them
into Arrow tables and bytes, `files` writes whole files or none. `checkpoints` and `pretrained` hold
states of nets. What a trial leaves while it runs, in a folder of its own:

    attempt-<n>.json   attempt n has begun     epochs.parquet   its evaluations so far
    checkpoint         where to go on from     trial.json       its row and findings: it has ended

Every file has a fixed name and is replaced as a whole, so writing twice is writing once.
`trial.json` comes last: a trial that has one (of its latest attempt) is done.
"""

from sickbay.trials.store.files import Store, StoreError, open_store
from sickbay.trials.store.schema import (
    Checkpoint,
    EpochRecord,
    Relabelled,
    SweepRecord,
    TrialRecord,
)
from sickbay.trials.store.writer import (
    latest_attempt,
    note_pruning,
    pruning_noted,
    read_checkpoint,
    request,
    requested,
    start_attempt,
    write_checkpoint,
    write_epochs,
    write_sweep,
    write_trial,
)

__all__ = [
    "Checkpoint",
    "EpochRecord",
    "Relabelled",
    "Store",
    "StoreError",
    "SweepRecord",
    "TrialRecord",
    "latest_attempt",
    "note_pruning",
    "open_store",
    "pruning_noted",
    "read_checkpoint",
    "request",
    "requested",
    "start_attempt",
    "write_checkpoint",
    "write_epochs",
    "write_sweep",
    "write_trial",
]
