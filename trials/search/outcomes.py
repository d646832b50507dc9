"""The outcome of an ended trial for a search: state, health and objectives."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from sickbay.trials.contract import Goal, Objective
from sickbay.trials.store.columns import rows_of_table
from sickbay.trials.store.files import Store, trial_parts
from sickbay.trials.store.parts import EndedTrial, current_folder, list_parts, read_all, read_ended
from sickbay.trials.store.reader import read_epoch_records
from sickbay.trials.store.tables import consolidated


@dataclass(frozen=True)
class TrialOutcome:
    """One ended trial. `values` are the objectives' last, NaN where one was never recorded."""

    state: str
    label: str | None
    pathology: str | None
    values: tuple[float, ...]
    floors: Mapping[str, float]
    epochs_run: int

    @property
    def judged(self) -> bool:
        """Whether it ended because of the configuration, rather than the machine."""
        return self.state in ("completed", "stopped", "pruned")

    @property
    def unusable(self) -> bool:
        """Whether its objectives cannot be trusted: pathological, or not finite."""
        return self.label == "pathological" or not all(map(math.isfinite, self.values))

    @property
    def decided(self) -> bool:
        """Whether it ended with a verdict: it is sound, or must not be believed."""
        return self.judged and (self.sound or self.unusable)

    @property
    def sound(self) -> bool:
        """Whether it is healthy, came to its end, and gave finite numbers."""
        return (
            self.judged and self.state != "pruned" and self.label == "healthy" and not self.unusable
        )


@dataclass(frozen=True)
class Aggregate:
    """The result of a configuration over its seeds, as reported to the sampler.

    `values` has one number an objective. `constraint` is the share of pathological seeds, None
    without an objective. `pruned_at` counts the epochs before a scheduler ended it; `attributes` go
    into the study for its readers.
    """

    values: tuple[float, ...]
    constraint: float | None
    attributes: Mapping[str, Any]
    pruned_at: int | None = None

    @property
    def stand_in(self) -> bool:
        """Whether no seed gave a usable number, and another stands in its place."""
        return bool(self.attributes.get("stand_in"))


def counts_of(outcomes: Sequence[TrialOutcome]) -> dict[str, Any]:
    """Count the seeds of a configuration by health, and list their pathologies."""
    causes = {outcome.pathology for outcome in outcomes if outcome.pathology}
    return {
        "healthy": sum(outcome.label == "healthy" for outcome in outcomes),
        "pathological": sum(outcome.unusable for outcome in outcomes),
        "inconclusive": sum(
            outcome.label == "inconclusive" and not outcome.unusable for outcome in outcomes
        ),
        "pathologies": sorted(causes),
    }


SAME_FLOOR = 0.01  # relative difference up to which two floors are of one loss


def in_reference_units(
    mine: TrialOutcome, theirs: TrialOutcome, goal: Objective, place: int = 0
) -> float:
    """Convert an objective (the first by default) as if it had the other trial's floor.

    A loss is scaled by the ratio of the floors, so that losses rank by their gain over their own
    floor. Other values, and losses without two positive floors, stay as they are.
    """
    value = mine.values[place]
    own, other = (outcome.floors.get(goal.signal, 0.0) for outcome in (mine, theirs))
    scalable = goal.goal is Goal.MINIMIZE and min(own, other) > 0.0
    if not scalable or abs(own - other) <= SAME_FLOOR * max(own, other):
        return value
    return value * other / own


Outcomes = Mapping[int, TrialOutcome]  # of one configuration, by seed


def aggregate(
    outcomes: Outcomes,
    baseline: Outcomes,
    goals: Sequence[Objective],
    known: Sequence[Sequence[float]],
) -> Aggregate:
    """Summarise a configuration: for each objective the median of its usable seeds.

    A loss is in the unit of the baseline's loss of the same seed, if that has ended. Without a
    usable seed, the worst of `known` values or the best constant predictor's loss stands in.
    """
    usable = {seed: outcome for seed, outcome in outcomes.items() if not outcome.unusable}
    values = tuple(
        median(
            _in_baseline_units(seed, outcome, baseline, goal, place)
            for seed, outcome in usable.items()
        )
        if usable
        else _worst([row[place] for row in known], outcomes, baseline, (place, goal))
        for place, goal in enumerate(goals)
    )
    pruned = any(outcome.state == "pruned" for outcome in usable.values())
    return Aggregate(
        values=values,
        constraint=sum(outcome.unusable for outcome in outcomes.values()) / len(outcomes),
        attributes={**counts_of(list(outcomes.values())), "stand_in": not usable},
        pruned_at=min(outcome.epochs_run for outcome in usable.values()) if pruned else None,
    )


def health_aggregate(outcomes: Outcomes) -> Aggregate:
    """Summarise for a boundary search: the share of pathological seeds, ½ if none decides."""
    counts = counts_of(list(outcomes.values()))
    decided = counts["healthy"] + counts["pathological"]
    return Aggregate((counts["pathological"] / decided if decided else 0.5,), None, counts)


def _in_baseline_units(
    seed: int, mine: TrialOutcome, baseline: Outcomes, goal: Objective, place: int
) -> float:
    theirs = baseline.get(seed)
    return mine.values[place] if theirs is None else in_reference_units(mine, theirs, goal, place)


def _worst(
    known: Sequence[float], outcomes: Outcomes, baseline: Outcomes, objective: tuple[int, Objective]
) -> float:
    """The worst value that is known to be sound, or of no skill at all; else its own worst."""
    place, goal = objective
    worst = max if goal.goal is Goal.MINIMIZE else min
    floors = [
        _in_baseline_units(
            seed, replace(outcome, values=(outcome.floors[goal.signal],)), baseline, goal, 0
        )
        for seed, outcome in outcomes.items()
        if goal.signal in outcome.floors
    ]
    values = [outcome.values[place] for outcome in outcomes.values()]
    own = [value for value in values if math.isfinite(value)]
    return float(worst([*known, *floors] or own, default=0.0))


def read_outcome(
    store: Store, sweep_id: str, trial_id: str, signals: Sequence[str]
) -> TrialOutcome | None:
    """Read the outcome of a trial; None if it has not ended."""
    row = _row(store, sweep_id, trial_id)
    if row is None:
        return None
    if len(signals) < 2:
        return outcome_of(row)
    return with_signals(outcome_of(row), store, sweep_id, trial_id, signals)


def with_signals(
    outcome: TrialOutcome, store: Store, sweep_id: str, trial_id: str, signals: Sequence[str]
) -> TrialOutcome:
    """Give an outcome the last values of these signals, NaN for one that was never recorded."""
    rows = [record.row.signals for record in read_epoch_records(store, sweep_id, trial_id)]
    return replace(outcome, values=tuple(_last(rows, signal) for signal in signals))


def read_outcomes(store: Store, sweep_id: str) -> dict[str, TrialOutcome]:
    """Read the outcomes of all ended trials, by id; `values` has only the first objective."""
    return {str(row["trial_id"]): outcome_of(row) for row in ended_rows(store, sweep_id)}


def ended_rows(store: Store, sweep_id: str) -> list[Mapping[str, Any]]:
    """Read the rows of `trials` of a sweep, those of its parts, too; each trial's latest."""
    table = consolidated(store, "trials", sweep_id)
    rows: list[Mapping[str, Any]] = [] if table is None else [*rows_of_table(table)]
    ended = read_all(store, read_ended, list_parts(store, sweep_id))
    rows += [trial.row for trial in ended if isinstance(trial, EndedTrial)]
    return list({str(row["trial_id"]): row for row in rows}.values())


def outcome_of(row: Mapping[str, Any]) -> TrialOutcome:
    """Read a row of `trials`."""
    floors = json.loads(row["facts"] or "{}").get("floors", {})
    return TrialOutcome(
        state=str(row["state"]),
        label=row["label"],
        pathology=row["pathology"],
        values=(math.nan if row["objective"] is None else float(row["objective"]),),
        floors={name: float(value) for name, value in floors.items()},
        epochs_run=int(row["epochs_run"]),
    )


def _row(store: Store, sweep_id: str, trial_id: str) -> Mapping[str, Any] | None:
    ended = read_ended(store, current_folder(store, trial_parts(store, sweep_id, trial_id)))
    if isinstance(ended, EndedTrial):
        return ended.row
    table = consolidated(store, "trials", sweep_id, trial_id=trial_id)
    return None if table is None or table.num_rows == 0 else rows_of_table(table)[0]


def _last(rows: Sequence[Mapping[str, Any]], signal: str) -> float:
    values = [row[signal] for row in rows if isinstance(row.get(signal), int | float)]
    return float(values[-1]) if values else math.nan
