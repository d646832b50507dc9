"""The values of a report; `collect` reads them from a store."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sickbay.trials.contract import Objective, TaskFacts
from sickbay.trials.diagnosis.sweep_findings import SweepFinding
from sickbay.trials.store import SweepRecord

BELIEVE, BEHIND, TRAP = "believe", "behind", "trap"
DISBELIEVE, MIXED, NONE = "disbelieve", "mixed", "none"
GROUPS = {  # in the order of the summary
    BELIEVE: "Believe: healthy in every seed",
    BEHIND: "Believe, but behind: healthy in every seed, and worse than the arm",
    TRAP: "Do not believe, although the objective looks good",
    DISBELIEVE: "Do not believe: pathological",
    MIXED: "Depends on the seed",
    NONE: "No verdict: inconclusive, failed or cancelled",
}

ArmKey = tuple[Any, ...]  # the arm's name and its levels: what the SQL groups by


@dataclass(frozen=True)
class TrialLine:
    """One ended trial. `verdict` is its label, or its state where it has none."""

    trial_id: str
    key: ArmKey
    seed: int
    state: str
    outcome: str
    label: str | None
    pathology: str | None
    onset_epoch: int | None
    standing: str | None
    failure: str | None
    objective: float | None
    best_objective: float | None
    epochs_run: int
    epochs_planned: int
    wall_seconds: float | None
    reason: str
    remedy: str
    error: str
    facts: TaskFacts
    labeller_version: str | None
    workload_version: str | None

    @property
    def arm(self) -> str:
        """The arm's name."""
        return str(self.key[0])

    @property
    def verdict(self) -> str:
        """The label, or how the trial ended where it has none."""
        return self.label or self.state


@dataclass(frozen=True)
class CauseCount:
    """A primary cause: its number of trials and range of onsets."""

    name: str
    trials: int
    first_onset: int | None
    last_onset: int | None


@dataclass(frozen=True)
class ArmLine:
    """One arm over its seeds; the objective's numbers are over judged, finite trials.

    `trials` leaves out the `cancelled` and `pruned`. `inconclusive` are all others without a
    verdict, or healthy without a finite value. `behind` are worse than the arm `reference_arm`.
    """

    key: ArmKey
    causes: tuple[CauseCount, ...]
    group: str
    trials: int
    healthy: int
    pathological: int
    inconclusive: int
    failed: int
    cancelled: int
    pruned: int
    middle: float | None
    lowest: float | None
    highest: float | None
    non_finite: int
    behind: int
    reference_arm: str | None

    @property
    def arm(self) -> str:
        """The arm's name."""
        return str(self.key[0])


@dataclass(frozen=True)
class CauseLine:
    """A primary cause over the sweep, with one trial as the example."""

    name: str
    example: TrialLine
    remedies: tuple[str, ...]
    trials: int
    arms: int
    first_onset: int | None
    middle_onset: float | None
    last_onset: int | None


@dataclass(frozen=True)
class Mark:
    """A finding on the time line. `kind`: primary, fatal, warning or suspect."""

    detector: str
    kind: str
    onset_epoch: int | None
    reason: str


@dataclass(frozen=True)
class Values:
    """Everything in a report but its pictures."""

    record: SweepRecord
    state: str
    factors: tuple[str, ...]
    objective: Objective | None
    verdicts: Mapping[str, int]
    arms: tuple[ArmLine, ...]
    causes: tuple[CauseLine, ...]
    trials: tuple[TrialLine, ...]
    marks: Mapping[str, tuple[Mark, ...]]  # by trial
    problems: tuple[str, ...]
    advice: tuple[SweepFinding, ...] = ()  # what fired over the whole sweep

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the ended trials."""
        return tuple(sorted({trial.seed for trial in self.trials}))


def sample(trials: Sequence[TrialLine], most: int) -> tuple[TrialLine, ...]:
    """Sample about `most` trials, stratified by verdict and cause; all if there are no more."""
    if len(trials) <= most:
        return tuple(trials)
    by_cause: dict[tuple[str, str | None], list[TrialLine]] = {}
    for trial in trials:
        by_cause.setdefault((trial.verdict, trial.pathology), []).append(trial)
    taken: list[TrialLine] = []
    for some in by_cause.values():
        n = max(1, round(most * len(some) / len(trials)))
        taken += [some[k * len(some) // n] for k in range(n)]
    return tuple(taken)
