"""Progress of sweeps, from the store alone."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any

from sickbay.service.query.engine import query
from sickbay.service.query.lookup import find_sweep, state_of
from sickbay.trials.contract import TrialState
from sickbay.trials.execution.machine.packing import GpuUse
from sickbay.trials.store import Store, SweepRecord
from sickbay.trials.store.reader import (
    RUNNING,
    list_sweeps,
    read_epoch_records,
    running_trials,
    trial_states,
)
from sickbay.trials.store.tables import damage

COUNTS = """
    SELECT sweep_id, state, label, pathology, failure, count(*) AS n
    FROM outcomes GROUP BY ALL ORDER BY ALL
"""

MEASURED = 8  # trials that had a GPU to themselves are looked at


def overview(store: Store) -> list[dict[str, Any]]:
    """Every sweep of a store with its counts, the latest first."""
    rows = query(store, COUNTS).rows
    return [_summary(store, record, rows) for record in list_sweeps(store)]


def describe(store: Store, word: str) -> dict[str, Any]:
    """One sweep with its counts, those of running trials included; raises SweepError if unknown."""
    record = find_sweep(store, word)
    counted = query(store, COUNTS, sweep_ids=[record.sweep_id])
    summary = _summary(store, record, counted.rows)
    unread = damage(store, [record.sweep_id], ("epochs", "findings", "labels"))
    summary["problems"] = [str(problem) for problem in (*counted.problems, *unread)]
    states = Counter(trial_states(store, record.sweep_id).values())
    alive = summary["state"] == "running"
    summary["running"] = states["running"] if alive else 0
    summary["interrupted"] = 0 if alive else states["running"]
    return summary


def gpu_use(store: Store, sweep_id: str) -> GpuUse | None:
    """What the first trials with a GPU to themselves used of it; None before one was measured."""
    sql = "SELECT trial_id FROM trials WHERE gpu_seconds = wall_seconds ORDER BY started_at LIMIT ?"
    alone = query(store, sql, [MEASURED], sweep_ids=[sweep_id]).rows
    records = [read_epoch_records(store, sweep_id, str(trial_id)) for (trial_id,) in alone]
    measured = [record.machine for rows in records for record in rows]
    known = [machine for machine in measured if {"gpu_memory", "gpu_memory_total"} <= set(machine)]
    if not known:
        return None
    busy = [machine["gpu_utilisation"] for machine in known if "gpu_utilisation" in machine]
    return GpuUse(
        peak=max(machine["gpu_memory"] for machine in known),
        total=max(machine["gpu_memory_total"] for machine in known),
        busy=median(busy) if busy else math.nan,
    )


def gpu_sharing(store: Store, sweep_id: str) -> float | None:
    """The fraction of a GPU that the latest trials had; None while none had less than a whole."""
    sql = """
        SELECT gpu_seconds / wall_seconds FROM trials
        WHERE gpu_seconds > 0 AND gpu_seconds < wall_seconds ORDER BY finished_at DESC LIMIT 1
    """
    rows = query(store, sql, sweep_ids=[sweep_id]).rows
    return round(float(rows[0][0]), 4) if rows else None


def sharing_lines(store: Store, sweep_id: str, resources: Mapping[str, Any]) -> list[str]:
    """How the trials of a sweep share GPUs, in a line; empty where `resources.gpu` is not pack."""
    if resources.get("gpu") != "pack":
        return []
    fraction = gpu_sharing(store, sweep_id)
    if fraction is not None:
        return [f"GPU: each trial gets {fraction:g} of one, so that {int(1 / fraction)} share it"]
    first = "GPU: the first trial gets a whole one and is measured"
    return [f"{first}; then as many trials share a GPU as its memory and time allow"]


def running(store: Store, record: SweepRecord) -> list[dict[str, Any]]:
    """The running trials of a sweep: factors, settings, and the last stored epoch (0 for none)."""
    trials = running_trials(store, record.sweep_id)
    sql = "SELECT trial_id, max(epoch) AS epoch FROM epochs GROUP BY trial_id"
    reached = dict(query(store, sql, sweep_ids=[record.sweep_id]).rows) if trials else {}
    return [
        {
            **trial.config,
            "trial_id": trial.trial_id,
            "sweep_id": record.sweep_id,
            "arm": trial.arm or trial.trial_id[:8],
            "seed": trial.seed,
            "state": RUNNING,
            "epoch": reached.get(trial.trial_id, 0),
            "epochs_planned": trial.epochs,
            "attempt": trial.attempt,
            "started_at": trial.started_at,
        }
        for trial in trials
    ]


def _summary(store: Store, record: SweepRecord, rows: Iterable[tuple[Any, ...]]) -> dict[str, Any]:
    mine = [row[1:] for row in rows if row[0] == record.sweep_id]
    states = _counted(mine, 0)
    return {
        "sweep_id": record.sweep_id,
        "name": record.name,
        "state": state_of(store, record),
        "workload": record.workload,
        "design": record.design,
        "planned": record.trials_planned,
        "ended": sum(n for state, n in states.items() if state != TrialState.CANCELLED),
        "states": states,
        "labels": _counted(mine, 1),
        "verdicts": _verdicts(mine),
        "pathologies": _counted(mine, 2),
        "failures": _counted(mine, 3),
        "submitted_at": record.submitted_at,
        "finished_at": record.finished_at,
    }


def _verdicts(rows: Iterable[tuple[Any, ...]]) -> dict[str, int]:
    """Count the ended trials by label, and by state where there is no label."""
    counts: Counter[str] = Counter()
    for state, label, *_, n in rows:
        counts[label or state] += n
    return dict(counts)


def _counted(rows: Iterable[tuple[Any, ...]], column: int) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for row in rows:
        if row[column] is not None:
            counts[row[column]] += row[-1]
    return dict(counts)
