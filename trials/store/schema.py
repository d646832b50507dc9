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

_TYPES = {
    "text": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "time": TIME,
    "texts": TEXTS,
}
_LABEL = (
    "pathology onset_epoch:int reason remedy contributing:texts coverage:float confidence:float"
)
_TRIAL_TYPES = """
    seed:int changed:texts onset_epoch:int contributing:texts coverage:float confidence:float
    objective:float best_objective:float epochs_planned:int epochs_run:int wall_seconds:float
    gpu_seconds:float attempt:int started_at:time finished_at:time online_epoch:int audited:bool
"""


def schema_of(columns: str) -> pa.Schema:
    """A schema of columns `name:type`, text where no type stands."""
    pairs = (column.partition(":") for column in columns.split())
    return pa.schema([(name, _TYPES[kind or "text"]) for name, _, kind in pairs])


_TYPED = schema_of(_TRIAL_TYPES)
FIXED: Mapping[str, pa.Schema] = {
    "sweeps": schema_of(
        "sweep_id name workload design spec state submitted_at:time finished_at:time "
        "trials_planned:int code_version sickbay_version libraries data_version"
    ),
    "trials": pa.schema(
        [
            _TYPED.field(name) if name in _TYPED.names else (name, pa.string())
            for name in TRIAL_COLUMNS
        ]
    ),
    "epochs": schema_of("sweep_id trial_id attempt:int epoch:int step:int seconds:float"),
    "findings": schema_of(
        "sweep_id trial_id detector detector_version labeller_version state severity "
        "onset_epoch:int statistic:float threshold:float confidence:float reason remedy evidence"
    ),
    # Every label that a trial ever had; `trials` repeats the latest one.
    "labels": schema_of(f"sweep_id trial_id labeller_version label_hash label {_LABEL}"),
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

    `label` is None without a verdict (failed, cancelled). `error` is the traceback.
    `online_pathology` and `online_epoch` are the online diagnosis's first finding. Times are Unix
    seconds. `objective` is None if never recorded; NaN is a value. `failure` is the class of a
    failure's cause (`diagnosis.failures`). `code` is the hash of the training code, `git_commit`
    that of the folder the sweep was started from, with `+` if changed since.
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
