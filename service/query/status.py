"""Progress of sweeps, from the store alone."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from sickbay.service.query.engine import query
from sickbay.service.query.lookup import find_sweep, state_of
from sickbay.trials.contract import TrialState
from sickbay.trials.store import Store, SweepRecord
from sickbay.trials.store.reader import RUNNING, list_sweeps, running_trials, trial_states
from sickbay.trials.store.schema import Problem
from sickbay.trials.store.tables import open_files

COUNTS = """
    SELECT sweep_id, state, label, pathology, failure, count(*) AS n
    FROM outcomes GROUP BY ALL ORDER BY ALL
"""


def overview(store: Store) -> list[dict[str, Any]]:
    """Every sweep of a store with its counts, the latest first."""
    rows = query(store, COUNTS).rows
    return [_summary(store, record, rows) for record in list_sweeps(store)]


def describe(store: Store, word: str) -> dict[str, Any]:
    """One sweep with its counts, those of running trials included; raises SweepError if unknown."""
    record = find_sweep(store, word)
    counted = query(store, COUNTS, sweep_ids=[record.sweep_id])
    summary = _summary(store, record, counted.rows)
    summary["problems"] = [str(problem) for problem in (*counted.problems, *_damage(store, record))]
    states = Counter(trial_states(store, record.sweep_id).values())
    alive = summary["state"] == "running"
    summary["running"] = states["running"] if alive else 0
    summary["interrupted"] = 0 if alive else states["running"]
    return summary


def running(store: Store, record: SweepRecord) -> list[dict[str, Any]]:
    """The running trials of a sweep: their factors and settings, and last stored epoch.

    `epoch` is 0 before the first stored evaluation. Whether the sweep has a live driver, its state
    says.
    """
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


def _damage(store: Store, record: SweepRecord) -> list[Problem]:
    """The damaged files among those of a sweep that were not read for the counts."""
    names = ("epochs", "findings", "labels")
    return [
        problem for name in names for problem in open_files(store, name, [record.sweep_id], {})[1]
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
