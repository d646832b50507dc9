"""What the store holds: the records that go in, and the Parquet schema of each table.

Fixed columns are listed here; beside them `trials` has one column a setting and `epochs` one column
a signal. `SCHEMA_VERSION` is written into every file's metadata under `sickbay.schema`; a reader
accepts its own and all older versions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import pyarrow as pa

from sickbay.trials.contract import (
    TRIAL_COLUMNS,
    Finding,
    Label,
    Row,
    TaskFacts,
    TrialConfig,
    TrialState,
)

SCHEMA_VERSION = 1
SCHEMA_KEY = b"sickbay.schema"
TABLE_KEY = b"sickbay.table"

TIME = pa.timestamp("us", tz="UTC")
VECTOR = pa.list_(pa.float64())
TEXTS = pa.list_(pa.string())

# Columns of `trials` that are no text.
_TRIAL_TYPES = {
    "seed": pa.int64(),
    "changed": TEXTS,
    "onset_epoch": pa.int64(),
    "contributing": TEXTS,
    "coverage": pa.float64(),
    "confidence": pa.float64(),
    "objective": pa.float64(),
    "best_objective": pa.float64(),
    "epochs_planned": pa.int64(),
    "epochs_run": pa.int64(),
    "wall_seconds": pa.float64(),
    "gpu_seconds": pa.float64(),
    "attempt": pa.int64(),
    "started_at": TIME,
    "finished_at": TIME,
    "online_epoch": pa.int64(),
    "audited": pa.bool_(),
}

FIXED: Mapping[str, pa.Schema] = {
    "sweeps": pa.schema(
        [
            ("sweep_id", pa.string()),
            ("name", pa.string()),
            ("workload", pa.string()),
            ("design", pa.string()),
            ("spec", pa.string()),
            ("state", pa.string()),
            ("submitted_at", TIME),
            ("finished_at", TIME),
            ("trials_planned", pa.int64()),
            ("code_version", pa.string()),
            ("sickbay_version", pa.string()),
            ("libraries", pa.string()),
            ("data_version", pa.string()),
        ]
    ),
    "trials": pa.schema([(name, _TRIAL_TYPES.get(name, pa.string())) for name in TRIAL_COLUMNS]),
    "epochs": pa.schema(
        [
            ("sweep_id", pa.string()),
            ("trial_id", pa.string()),
            ("attempt", pa.int64()),
            ("epoch", pa.int64()),
            ("step", pa.int64()),
            ("seconds", pa.float64()),
        ]
    ),
    "findings": pa.schema(
        [
            ("sweep_id", pa.string()),
            ("trial_id", pa.string()),
            ("detector", pa.string()),
            ("detector_version", pa.string()),
            ("labeller_version", pa.string()),
            ("state", pa.string()),
            ("severity", pa.string()),
            ("onset_epoch", pa.int64()),
            ("statistic", pa.float64()),
            ("threshold", pa.float64()),
            ("confidence", pa.float64()),
            ("reason", pa.string()),
            ("remedy", pa.string()),
            ("evidence", pa.string()),
        ]
    ),
    # Every label that a trial ever had; `trials` repeats the latest one.
    "labels": pa.schema(
        [
            ("sweep_id", pa.string()),
            ("trial_id", pa.string()),
            ("labeller_version", pa.string()),
            ("label_hash", pa.string()),
            ("label", pa.string()),
            ("pathology", pa.string()),
            ("onset_epoch", pa.int64()),
            ("reason", pa.string()),
            ("remedy", pa.string()),
            ("contributing", TEXTS),
            ("coverage", pa.float64()),
            ("confidence", pa.float64()),
        ]
    ),
}
TABLES = tuple(FIXED)
KEYS = {  # what makes a row one row, beside the sweep; tables are sorted by it
    "sweeps": ("sweep_id",),
    "trials": ("trial_id",),
    "epochs": ("trial_id", "epoch"),
    "findings": ("trial_id", "labeller_version", "detector"),
    "labels": ("trial_id", "labeller_version", "label_hash"),
}


@dataclass(frozen=True)
class SweepRecord:
    """One row of `sweeps`. `spec` is JSON text, times are Unix seconds.

    `libraries` are the versions of Python and the packages that train, `data_version` the
    workload's identity of the data of the first trial: "" for generated data.
    """

    sweep_id: str
    name: str
    workload: str
    design: str
    spec: str
    state: str
    submitted_at: float | None = None
    finished_at: float | None = None
    trials_planned: int = 0
    code_version: str = ""
    sickbay_version: str = ""
    libraries: str = ""
    data_version: str = ""


@dataclass(frozen=True)
class TrialRecord:
    """One row of `trials`: how an ended trial ran, and how it was judged.

    `label` is None for a trial that has no verdict (failed, cancelled). `error` is the traceback of
    what stopped it. `online_pathology` and `online_epoch` say what the online diagnosis saw first.
    Times are Unix seconds, durations are seconds. `objective` None means that it was never
    recorded; NaN is a value. `failure` is the class of a failed trial's cause, see
    `diagnosis.failures`. `code` is the hash of the training code that ran, `git_commit` the commit
    of the folder that the sweep was started from, with `+` where that was changed since.
    """

    sweep_id: str
    trial: TrialConfig
    workload_version: str
    arm: str
    state: TrialState
    attempt: int
    label: Label | None = None
    facts: TaskFacts = field(default_factory=TaskFacts)
    objective: float | None = None
    best_objective: float | None = None
    epochs_run: int = 0
    wall_seconds: float = 0.0
    gpu_seconds: float = 0.0
    device: str = ""
    started_at: float | None = None
    finished_at: float | None = None
    error: str | None = None
    failure: str | None = None
    online_pathology: str | None = None
    online_epoch: int | None = None
    audited: bool = False
    code: str = ""
    git_commit: str = ""


@dataclass(frozen=True)
class EpochRecord:
    """One row of `epochs`: a workload's row, the attempt it came from, seconds since that began.

    `machine` are the signals that the runner measured beside it (`MACHINE_SIGNALS`).
    """

    attempt: int
    seconds: float
    row: Row
    machine: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def observed(self) -> Row:
        """The row with the machine's signals: what is stored, and what a detector sees."""
        row = self.row
        return replace(row, signals={**row.signals, **self.machine}) if self.machine else row


@dataclass(frozen=True)
class Checkpoint:
    """The bytes from which a trial continues after `epoch`."""

    epoch: int
    payload: bytes


@dataclass(frozen=True)
class Relabelled:
    """A new verdict on a stored trial, with the findings behind it; None takes its label away."""

    trial_id: str
    label: Label | None
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Problem:
    """A file in the store that could not be used, and why. The rest stays readable."""

    path: str
    message: str

    def __str__(self) -> str:
        """One line for a person."""
        return f"{self.path}: {self.message}"
