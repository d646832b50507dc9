"""Standings of a stored sweep: every judged trial's skill compared, written beside its label.

Computed when a run of the sweep ends and when it is relabelled.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sickbay.trials.contract import Goal
from sickbay.trials.diagnosis.standing import Score, Standings, standings
from sickbay.trials.evidence.statistics import FloatArray
from sickbay.trials.history import History
from sickbay.trials.spec.plan import BASELINE_ARM
from sickbay.trials.store import Store
from sickbay.trials.store.merge import write_standings
from sickbay.trials.store.reader import StoredTrial, iter_histories, read_sweep

JUDGED_BY = ("val_auroc", "val_accuracy")  # measures of skill that no loss weight changes
SAME_FLOOR = 0.01  # relative difference up to which two floors are of one loss


def update_standings(store: Store, sweep_id: str) -> Standings:
    """Compare the judged trials of a sweep and store the result; raises StoreError.

    Call it under the sweep's lease, after its parts are merged.
    """
    record = read_sweep(store, sweep_id)
    objective = json.loads(record.spec).get("objective") if record and record.spec else None
    if isinstance(objective, list):  # of several objectives the first ranks
        objective = objective[0] if objective else None
    compared = Standings()
    if objective:
        stored = iter_histories(store, sweep_id, (objective["signal"], *JUDGED_BY))
        judged = [trial for trial in stored if trial.row["label"] is not None]
        compared = standings(scores_of(judged, objective), BASELINE_ARM)
    write_standings(store, sweep_id, compared.of, compared.reference_arm)
    return compared


def scores_of(stored: Sequence[StoredTrial], objective: Mapping[str, Any]) -> list[Score]:
    """The skill of every trial by one measure that all of them recorded; empty without one.

    A loss counts as gain over each trial's own floor, if all have one above zero. A measure of
    ranking or accuracy is preferred, as an overconfident model loses in the loss alone.
    """
    signal = str(objective["signal"])
    sign = 1.0 if objective["goal"] == Goal.MAXIMIZE else -1.0
    histories = [trial.history for trial in stored]
    if not histories:
        return []
    if signal.endswith("loss"):
        shared = [name for name in JUDGED_BY if all(history.has(name) for history in histories)]
        if shared:
            signal, sign = shared[0], 1.0
        elif not (_one_loss(stored, signal) or _all_floors(stored, signal)):
            return []
    if not all(history.has(signal) for history in histories):
        return []
    return [
        Score(
            trial_id=trial.trial_id,
            arm=str(trial.row["arm"]),
            seed=int(trial.row["seed"]),
            health=trial.row["label"],
            skill=skill(trial.history, signal, sign),
        )
        for trial in stored
    ]


def skill(history: History, signal: str, sign: float) -> float:
    """The mean of a trial's last evaluations (a fifth, five at most), 0 for the best constant.

    A loss with a floor becomes the gain over it, AUROC and accuracy count from chance. NaN if any
    of them is no number.
    """
    values = _last(history.column(signal))
    floor = history.facts.floors.get(signal)
    if floor:
        return float(np.mean((floor - values) / abs(floor)))  # a log density's may be below 0
    return float(np.mean(sign * (values - _chance(history, signal))))


def _last(values: FloatArray) -> FloatArray:
    return values[-max(1, min(5, math.ceil(len(values) / 5))) :]


def _chance(history: History, signal: str) -> float:
    counts = history.facts.class_counts
    if signal == "val_auroc":
        return 0.5
    if signal == "val_accuracy" and any(counts):
        return max(counts) / sum(counts)
    return 0.0


def _one_loss(stored: Sequence[StoredTrial], signal: str) -> bool:
    """Whether trials of one seed, which share their data, have one floor, or no trial has any."""
    floors: dict[int, list[float | None]] = {}
    for trial in stored:
        floors.setdefault(trial.row["seed"], []).append(trial.history.facts.floors.get(signal))
    return all(map(_alike, floors.values()))


def _all_floors(stored: Sequence[StoredTrial], signal: str) -> bool:
    """Whether every trial's loss is a share of a floor of its own."""
    floors = (trial.history.facts.floors.get(signal) for trial in stored)
    return all(floor is not None and 0.0 < floor < math.inf for floor in floors)


def _alike(floors: Sequence[float | None]) -> bool:
    known = [floor for floor in floors if floor is not None]
    if len(known) < len(floors):
        return not known
    return max(known) - min(known) <= SAME_FLOOR * max(map(abs, known))
