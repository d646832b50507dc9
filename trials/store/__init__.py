"""All that knows the bytes on disk: one Parquet file a table and sweep, and workers' parts.

`writer`, `reader` and `tables` write and read; `merge` turns the workers' many small files into one
and adds labels; `schema` holds the records, `encode` turns them into Arrow tables and bytes,
`files` replaces whole files. `checkpoints` and `pretrained` hold states of nets. A running trial
has a folder of its own:

    attempt-<n>.json   attempt n has begun     epochs.parquet   its evaluations so far
    checkpoint         where to continue       trial.json       its row and findings: it has ended

Files have fixed names and are replaced whole, so writing is idempotent; `trial.json` comes last.
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
