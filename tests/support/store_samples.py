"""Records for the store's tests: a trial that ran and ended, and comparisons that know NaN."""

import math

from sickbay.trials.contract import (
    Finding,
    FindingState,
    Health,
    Label,
    Row,
    Severity,
    TaskFacts,
    TaskKind,
    TrialConfig,
    TrialState,
)
from sickbay.trials.store import EpochRecord, TrialRecord, start_attempt, write_epochs, write_trial
from sickbay.trials.store.columns import rows_of_table
from sickbay.trials.store.tables import load_tables

START = 1_760_000_000.25
FACTS = TaskFacts(
    kind=TaskKind.DENSITY, floors={"val_loss": 0.5}, groups=("in", "out"), bounds={"x": (0.0, 1.0)}
)


def config(trial_id="t1", *, seed=0, epochs=3, **settings):
    return TrialConfig(trial_id, "toy", {"lr": 0.1, "init": "zeros", **settings}, seed, epochs)


def record_of(epoch, attempt=1, **signals):
    values = {
        "val_loss": 1.0 / epoch,
        "grad_norm": math.inf if epoch == 2 else math.nan,
        "group_norm": [float(epoch), math.nan, -math.inf],
        **signals,
    }
    return EpochRecord(attempt, 0.5 * epoch, Row(epoch, 10 * epoch, values))


def label(version="v1", health=Health.HEALTHY, **changes):
    values = {"reason": "skill 0.9 ± 0.1", "coverage": 0.75, "label_hash": f"hash-{version}"}
    return Label(health, labeller_version=version, **{**values, **changes})


def finding(detector="no_skill", **changes):
    values = {
        "state": FindingState.CLEAR,
        "severity": Severity.FATAL,
        "reason": "0.1 ≤ 0.5",
        "statistic": math.nan,
        "threshold": math.inf,
        "evidence": {"z": math.nan, "n": 3.0},
    }
    return Finding(detector, "2", **{**values, **changes})


def ended(sweep_id="s1", trial=None, state=TrialState.COMPLETED, attempt=1, **changes):
    values = {
        "label": label() if state == TrialState.COMPLETED else None,
        "facts": FACTS,
        "objective": 0.25,
        "best_objective": 0.2,
        "epochs_run": 3,
        "device": "cpu",
        "started_at": START,
        "finished_at": START + 9,
    }
    return TrialRecord(
        sweep_id, trial or config(), "1.0", "baseline", state, attempt, **{**values, **changes}
    )


def run_through(
    store, sweep_id="s1", trial_id="t1", *, epochs=3, state=TrialState.COMPLETED, **settings
):
    """Write everything that a trial writes from its beginning to its end."""
    trial = config(trial_id, epochs=epochs, **settings)
    attempt = start_attempt(store, sweep_id, trial_id, device="cpu", started_at=START)
    records = [record_of(epoch, attempt) for epoch in range(1, epochs + 1)]
    write_epochs(store, sweep_id, trial_id, records)
    record = ended(sweep_id, trial, state, attempt)
    write_trial(store, record, [finding("no_skill"), finding("divergence")])
    return record


def picture(store, *sweep_ids):
    """All that a reader sees, as text, so that NaN equals NaN; every damaged file is an error."""
    return {
        name: [repr(row) for row in rows] for name, rows in plain_rows(store, *sweep_ids).items()
    }


def plain_rows(store, *sweep_ids):
    """The rows of every table, sorted, each value as text."""
    loaded = load_tables(store, sweep_ids=sweep_ids or None)
    assert loaded.problems == ()
    seen = {}
    for name, table in loaded.tables.items():
        keys = [
            key
            for key in (
                "sweep_id",
                "trial_id",
                "epoch",
                "detector",
                "labeller_version",
                "label_hash",
            )
            if key in table.column_names
        ]
        ordered = table.sort_by([(key, "ascending") for key in keys])
        seen[name] = [
            {key: repr(value) for key, value in row.items()} for row in rows_of_table(ordered)
        ]
    return seen


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
