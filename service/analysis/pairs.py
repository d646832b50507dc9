"""Pairs of trials that differ in exactly one factor and share their seed.

Pure functions over plain rows. Nothing is dropped: every trial of a level is in a pair, or counted
as unpaired or ambiguous; every pair is sound, or says by its trials' outcomes why it is not.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from sickbay.service.query.outcomes import CANCELLED, HEALTHY, outcome, ranks_last
from sickbay.trials.contract import Goal, Scalar

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

    @cached_property
    def outcome(self) -> str:
        """How the trial came out, in one word: see `outcomes`."""
        return outcome(self.state, self.label, self.pathology, self.objective)

    @cached_property
    def ranks_last(self) -> bool:
        """Whether the trial ranks last: pathological, failed, pruned, or without a finite value."""
        return ranks_last(self.state, self.label, self.objective)

    @property
    def value(self) -> float:
        """The objective; NaN if there never was one."""
        return math.nan if self.objective is None else self.objective


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
        both = self.level.outcome == self.baseline.outcome == HEALTHY
        return both and math.isfinite(self.difference)

    @property
    def difference(self) -> float:
        """Objective of the level minus that of the baseline; NaN where one is missing."""
        return self.level.value - self.baseline.value


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


def score(pair: Pair, goal: Goal) -> float | None:
    """1.0 if the level's trial is the better one, 0.0 if the baseline's is, 0.5 for a tie.

    Trials that rank last are worse than all others and equal among themselves. None if one of the
    two was cancelled: that says nothing about it.
    """
    if CANCELLED in (pair.level.outcome, pair.baseline.outcome):
        return None
    lost, won = pair.level.ranks_last, pair.baseline.ranks_last
    if lost or won:
        return 0.5 + (won - lost) / 2
    level, baseline = pair.level.value, pair.baseline.value
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
