"""Reading the values of a report out of a store, by the very SQL that the report prints."""

import functools
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import Any

from sickbay.service.query.engine import query
from sickbay.service.query.lookup import SweepError, state_of
from sickbay.service.summary import questions as ask
from sickbay.service.summary.formatting import most_common
from sickbay.service.summary.sweep_findings import sweep_advice
from sickbay.service.summary.values import (
    BEHIND,
    BELIEVE,
    DISBELIEVE,
    GROUPS,
    MIXED,
    NONE,
    TRAP,
    ArmKey,
    ArmLine,
    CauseCount,
    CauseLine,
    Mark,
    TrialLine,
    Values,
)
from sickbay.trials.contract import Goal, Objective, TaskFacts
from sickbay.trials.diagnosis.sweep_findings import shown_findings
from sickbay.trials.history import facts_from_json
from sickbay.trials.store import Store, SweepRecord
from sickbay.trials.store.reader import read_sweep
from sickbay.trials.store.tables import damage


def report_values(store: Store, sweep_id: str) -> Values:
    """Read the values of a report; raises SweepError if there is no such sweep."""
    record = read_sweep(store, sweep_id)
    if record is None:
        raise SweepError(f"no sweep {sweep_id!r} in {store.shown}: `sickbay list` shows all sweeps")
    return collect(store, record, state_of(store, record))


def collect(store: Store, record: SweepRecord, state: str) -> Values:
    """Read all values of a report; raises QueryError or StoreError if the store cannot be read."""
    sweep = record.sweep_id
    factors = _factors(store, record)
    listed = query(store, ask.trials(sweep, factors), sweep_ids=[sweep])
    trials = tuple(_trial(row, len(factors)) for row in listed.rows)
    objective = _objective(store, record, trials)
    return Values(
        record=record,
        state=state,
        factors=factors,
        objective=objective,
        verdicts=dict(query(store, ask.verdicts(sweep), sweep_ids=[sweep]).rows),
        arms=_arms(store, sweep, factors, trials, objective),
        causes=_causes(store, sweep, trials),
        trials=trials,
        marks=_marks(store, sweep, trials),
        problems=tuple(
            map(str, (*listed.problems, *damage(store, [sweep], ("epochs", "findings"))))
        ),
        advice=shown_findings(sweep_advice(store, sweep, factors, objective)),
    )


def _factors(store: Store, record: SweepRecord) -> tuple[str, ...]:
    """The factors of the spec, and those that earlier specs of this sweep have changed."""
    rows = query(store, ask.changed(record.sweep_id), sweep_ids=[record.sweep_id]).rows
    named = dict.fromkeys([*json.loads(record.spec).get("factors", {}), *(row[0] for row in rows)])
    columns = query(store, "SELECT * FROM trials LIMIT 0", sweep_ids=[record.sweep_id]).columns
    return tuple(factor for factor in named if factor in columns)


def _trial(row: Sequence[Any], factors: int) -> TrialLine:
    trial_id, arm = row[:2]
    seed, state, outcome, label, pathology, onset = row[2 + factors : 8 + factors]
    last, best, run, planned, seconds, standing, failure = row[8 + factors : -6]
    reason, remedy, error, facts, labeller, workload = row[-6:]
    return TrialLine(
        trial_id=trial_id,
        key=(arm, *row[2 : 2 + factors]),
        seed=seed,
        state=state,
        outcome=outcome,
        label=label,
        pathology=pathology,
        onset_epoch=onset,
        standing=standing,
        failure=failure,
        objective=last,
        best_objective=best,
        epochs_run=run,
        epochs_planned=planned,
        wall_seconds=seconds,
        reason=reason or "",
        remedy=remedy or "",
        error=error or "",
        facts=_facts(facts),
        labeller_version=labeller,
        workload_version=workload,
    )


@functools.lru_cache(maxsize=1024)
def _facts(text: str | None) -> TaskFacts:
    return facts_from_json(text) if text else TaskFacts()


def _objective(store: Store, record: SweepRecord, trials: Sequence[TrialLine]) -> Objective | None:
    """The spec's objective, or the signal whose last value is every stored objective."""
    said = json.loads(record.spec).get("objective")
    if said:
        return Objective(said["signal"], Goal(said["goal"]))
    if all(trial.objective is None for trial in trials):
        return None
    sweep = record.sweep_id
    known = query(store, "SELECT * FROM epochs LIMIT 0", sweep_ids=[sweep])
    types = dict(zip(known.columns, known.types, strict=True))
    signals = [column for column in known.columns[6:] if types[column] == "DOUBLE"]
    for tried in (["val_loss"] if "val_loss" in signals else [], signals):
        if not tried:
            continue
        row = query(store, ask.objective_signals(sweep, tried), sweep_ids=[sweep]).rows[0]
        for index, signal in enumerate(tried):
            same, least, largest = row[3 * index : 3 * index + 3]
            if same and (least or largest):
                return Objective(signal, Goal.MINIMIZE if least else Goal.MAXIMIZE)
    return None


def _arms(
    store: Store,
    sweep: str,
    factors: Sequence[str],
    trials: Sequence[TrialLine],
    objective: Objective | None,
) -> tuple[ArmLine, ...]:
    width = 1 + len(factors)
    by_arm: dict[ArmKey, list[CauseCount]] = {}
    for row in query(store, ask.arm_causes(sweep, factors), sweep_ids=[sweep]).rows:
        by_arm.setdefault(row[:width], []).append(CauseCount(*row[width:]))
    lines = [
        ArmLine(
            row[:width],
            tuple(sorted(by_arm.get(row[:width], ()), key=lambda cause: -cause.trials)),
            NONE,
            *row[width:],
        )
        for row in query(store, ask.arms(sweep, factors), sweep_ids=[sweep]).rows
    ]
    return grouped(lines, trials, objective)


def _causes(store: Store, sweep: str, trials: Sequence[TrialLine]) -> tuple[CauseLine, ...]:
    lines = []
    for row in query(store, ask.causes(sweep), sweep_ids=[sweep]).rows:
        affected = [
            trial for trial in trials if trial.label == "pathological" and trial.pathology == row[0]
        ]
        remedies = most_common([trial.remedy for trial in affected])
        name = row[0] or "unnamed"
        lines.append(CauseLine(name, affected[0], remedies, *row[1:]))
    return tuple(lines)


def _marks(store: Store, sweep: str, trials: Sequence[TrialLine]) -> dict[str, tuple[Mark, ...]]:
    primary = {trial.trial_id: trial.pathology for trial in trials}
    marks: dict[str, list[Mark]] = {}
    for row in query(store, ask.findings(sweep), sweep_ids=[sweep]).rows:
        trial_id, detector, state, severity, onset, reason = row
        kind = "suspect" if state == "suspect" else "fatal" if severity == "fatal" else "warning"
        if kind == "fatal" and detector == primary.get(trial_id):
            kind = "primary"
        marks.setdefault(trial_id, []).append(Mark(detector, kind, onset, reason or ""))
    rank = ("primary", "fatal", "warning", "suspect")
    return {
        trial_id: tuple(sorted(some, key=lambda mark: rank.index(mark.kind)))
        for trial_id, some in marks.items()
    }


def grouped(
    lines: Sequence[ArmLine], trials: Sequence[TrialLine], objective: Objective | None
) -> tuple[ArmLine, ...]:
    """Assign every arm to one of GROUPS; sort by group, then the best objective first."""
    worse = -1.0 if objective and objective.goal is Goal.MAXIMIZE else 1.0
    sound = [
        worse * line.middle
        for line in lines
        if line.healthy == line.trials and line.middle is not None
    ]
    floors = _floors(trials, objective)
    order = list(GROUPS)
    done = [replace(line, group=_group(line, worse, sound, floors.get(line.key))) for line in lines]
    return tuple(
        sorted(
            done,
            key=lambda line: (
                order.index(line.group),
                math.inf if line.middle is None else worse * line.middle,
                line.arm,
            ),
        )
    )


def _group(line: ArmLine, worse: float, sound: Sequence[float], floor: float | None) -> str:
    if line.trials and line.healthy == line.trials:
        return BEHIND if 2 * line.behind > line.trials else BELIEVE
    if 2 * line.pathological > line.trials:
        return TRAP if _looks_good(line, worse, sound, floor) else DISBELIEVE
    return MIXED if line.healthy or line.pathological else NONE


def _looks_good(line: ArmLine, worse: float, sound: Sequence[float], floor: float | None) -> bool:
    """Whether the objective is as good as a healthy arm's, or half way from `floor` to the best.

    Without a healthy arm, half way is counted to 0.
    """
    if line.middle is None:
        return False
    value = worse * line.middle
    if sound and value <= max(sound):
        return True
    if floor is None or not math.isfinite(floor):
        return False
    best = min(sound) if sound else 0.0
    return best < worse * floor and value <= (worse * floor + best) / 2


def _floors(trials: Sequence[TrialLine], objective: Objective | None) -> dict[ArmKey, float]:
    """The objective's floor by arm, the median of its seeds; empty if none is known."""
    by_arm: dict[ArmKey, list[float]] = {}
    for trial in trials:
        floor = trial.facts.floors.get(objective.signal) if objective else None
        if floor is not None:
            by_arm.setdefault(trial.key, []).append(floor)
    return {key: median(values) for key, values in by_arm.items()}
