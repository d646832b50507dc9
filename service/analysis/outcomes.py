"""Pairs of trials that differ in exactly one factor and share their seed, and how each trial ended.

Pure functions over plain rows. Nothing is dropped: every trial of a level is in a pair, or counted
as unpaired or ambiguous; every pair is sound, or says by its trials' outcomes why it is not.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from sickbay.trials.contract import Goal, Health, Scalar, TrialState

HEALTHY = "healthy"
INCONCLUSIVE = "inconclusive"
FAILED = "failed"
CANCELLED = "cancelled"
PRUNED = "pruned"
UNLABELLED = "unlabelled"
NOT_FINITE = "objective_not_finite"
CUT_SHORT = (CANCELLED, PRUNED)  # nobody knows whether they would have come to be healthy

# By level, then (context, seed): the trials that were run there.
_Index = Mapping[Hashable, Mapping[tuple[Hashable, int], list["TrialRow"]]]


@dataclass(frozen=True)
class TrialRow:
    """What effects need to know of an ended trial; the objective is None if there never was one."""

    trial_id: str
    seed: int
    levels: Mapping[str, Scalar | None]
    state: str
    label: str | None
    pathology: str | None
    objective: float | None


@dataclass(frozen=True)
class Pair:
    """A trial of a level, and the trial of the baseline that differs in this factor alone."""

    level: TrialRow
    baseline: TrialRow
    context: Hashable

    @property
    def seed(self) -> int:
        """The seed that both trials have."""
        return self.level.seed

    @property
    def sound(self) -> bool:
        """Whether both trials are healthy with a finite objective, and so is their difference."""
        return (
            outcome(self.level) == HEALTHY
            and outcome(self.baseline) == HEALTHY
            and math.isfinite(self.difference)
        )

    @property
    def difference(self) -> float:
        """Objective of the level minus that of the baseline; NaN where one is missing."""
        return _objective(self.level) - _objective(self.baseline)


@dataclass(frozen=True)
class Pairing:
    """All pairs of one level, and the trials that are in none.

    `unpaired` counts trials of the level without a partner, and trials of the baseline in the
    level's contexts without one. `ambiguous` counts trials that share level, context and seed with
    another, so that nobody can say which is whose partner.
    """

    pairs: tuple[Pair, ...]
    unpaired: int
    ambiguous: int


def outcome(row: TrialRow) -> str:
    """Say in one word how a trial ended: `healthy`, its pathology, or why it is neither."""
    if row.state in (TrialState.FAILED, TrialState.CANCELLED):
        return FAILED if row.state == TrialState.FAILED else CANCELLED
    if row.label == Health.PATHOLOGICAL:
        return row.pathology or Health.PATHOLOGICAL.value
    if row.state == TrialState.PRUNED:
        return PRUNED
    if row.label is None:
        return UNLABELLED
    if row.label == Health.INCONCLUSIVE:
        return INCONCLUSIVE
    return HEALTHY if math.isfinite(_objective(row)) else NOT_FINITE


def is_last(row: TrialRow) -> bool:
    """Whether a trial ranks last: pathological, failed, pruned, or without a finite value."""
    return (
        row.label == Health.PATHOLOGICAL
        or row.state in (TrialState.FAILED, TrialState.PRUNED)
        or not math.isfinite(_objective(row))
    )


def score(pair: Pair, goal: Goal) -> float | None:
    """1.0 if the level's trial is the better one, 0.0 if the baseline's is, 0.5 for a tie.

    Trials that `is_last` are worse than all others and equal among themselves. None if one of the
    two was cancelled: that says nothing about it.
    """
    if CANCELLED in (outcome(pair.level), outcome(pair.baseline)):
        return None
    lost, won = is_last(pair.level), is_last(pair.baseline)
    if lost or won:
        return 0.5 + (won - lost) / 2
    level, baseline = _objective(pair.level), _objective(pair.baseline)
    if level == baseline:
        return 0.5
    return float((level < baseline) == (goal is Goal.MINIMIZE))


def index_by_level(rows: Sequence[TrialRow], factor: str, factors: Sequence[str]) -> _Index:
    """Sort trials by their level of one factor, then by all the others' levels and the seed."""
    others = [name for name in factors if name != factor]
    index: dict[Hashable, dict[tuple[Hashable, int], list[TrialRow]]] = {}
    for row in rows:
        context = tuple(level_key(row.levels.get(name)) for name in others)
        places = index.setdefault(level_key(row.levels.get(factor)), {})
        places.setdefault((context, row.seed), []).append(row)
    return index


def pairs_of(index: _Index, level: Scalar | None, baseline: Scalar | None) -> Pairing:
    """Pair the trials of a level with those of the baseline, in the order of seed and id."""
    ours, theirs = index.get(level_key(level), {}), index.get(level_key(baseline), {})
    contexts = {context for context, _ in ours}
    pairs, unpaired, ambiguous = [], 0, 0
    for place, mine in ours.items():
        partners = theirs.get(place, [])
        if len(mine) > 1 or len(partners) > 1:
            ambiguous += len(mine) + len(partners)
        elif not partners:
            unpaired += 1
        else:
            pairs.append(Pair(mine[0], partners[0], place[0]))
    for place, partners in theirs.items():
        if place[0] in contexts and place not in ours:
            unpaired += len(partners)
    pairs.sort(key=lambda pair: (pair.seed, pair.level.trial_id))
    return Pairing(tuple(pairs), unpaired, ambiguous)


def level_key(level: Scalar | None) -> Hashable:
    """Tell levels apart as settings are: 1 is 1.0, but no number is true or false."""
    return isinstance(level, bool), level


def _objective(row: TrialRow) -> float:
    return math.nan if row.objective is None else row.objective
