"""Pairs of trials that differ in exactly one factor and share their seed.

Pure functions over plain rows. Nothing is dropped: every trial of a level is in a pair, or counted
as unpaired or ambiguous; every pair is sound, or says by its trials' outcomes why it is not.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sickbay.service.query.outcomes import CANCELLED, CUT_SHORT, HEALTHY, outcome, ranks_last
from sickbay.trials.contract import Goal, Scalar

NEARLY = 1e-6  # relative: equal runs on a GPU differ by some 1e-7

# By level, then (context, seed): the trials that were run there.
_Index = Mapping[Hashable, Mapping[tuple[Hashable, int], list["TrialRow"]]]


@dataclass(frozen=True)
class Span:
    """A factor that is a range: from `low` to `high`, in the logarithm if `log`."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class TrialRow:
    """An ended trial as effects need it; the objective is None if there never was one.

    `floor` is the loss of the best constant predictor under the trial's own loss, where known.
    """

    trial_id: str
    seed: int
    levels: Mapping[str, Scalar | None]
    state: str
    label: str | None
    pathology: str | None
    objective: float | None
    floor: float | None = None

    @cached_property
    def outcome(self) -> str:
        """The trial's outcome: see `outcomes`."""
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
    """A level's trial and the baseline's trial that differs from it in this factor alone."""

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
    """All pairs of one level, and the trials that are in no pair.

    `unpaired` counts trials without a partner among the level and the baseline's trials in its
    contexts, `ambiguous` those that share level, context and seed with another.
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
    """Pair the trials of a level with those of the baseline, ordered by seed and id."""
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
    """A key that compares levels as settings: 1 equals 1.0, but true and 1 differ."""
    return isinstance(level, bool), level


IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]

Levels = Mapping[str, Sequence[Scalar]]  # by factor; the first is the baseline


@dataclass(frozen=True)
class Coded:
    """Trials as arrays of one length n, sorted by seed and id.

    `levels` holds the index of a trial's level by factor, (n,), unlisted levels last. `last` are
    trials that rank behind all others, `cut_short` those cancelled or pruned. `objective` may be
    NaN.
    """

    rows: tuple[TrialRow, ...]
    seeds: IntArray
    levels: Mapping[str, IntArray]
    objective: FloatArray
    outcomes: tuple[str, ...]
    healthy: BoolArray
    cancelled: BoolArray
    cut_short: BoolArray
    last: BoolArray


def coded(rows: Sequence[TrialRow], levels: Levels) -> Coded:
    """Sort trials and turn their levels of these factors into numbers."""
    ordered = tuple(sorted(rows, key=lambda row: (row.seed, row.trial_id)))
    outcomes = tuple(row.outcome for row in ordered)
    return Coded(
        rows=ordered,
        seeds=np.array([row.seed for row in ordered], dtype=np.int64),
        levels={factor: _places(ordered, factor, known) for factor, known in levels.items()},
        objective=np.array(
            [np.nan if row.objective is None else row.objective for row in ordered],
            dtype=np.float64,
        ),
        outcomes=outcomes,
        healthy=np.array([word == HEALTHY for word in outcomes], dtype=np.bool_),
        cancelled=np.array([word == CANCELLED for word in outcomes], dtype=np.bool_),
        cut_short=np.array([word in CUT_SHORT for word in outcomes], dtype=np.bool_),
        last=np.array([row.ranks_last for row in ordered], dtype=np.bool_),
    )


def groups(columns: Sequence[IntArray], length: int) -> IntArray:
    """Number the rows by their combination of values in these columns, (n,), from 0."""
    numbers = np.zeros(length, dtype=np.int64)
    for column in columns:
        _, numbers = np.unique(
            numbers * (int(column.max(initial=0)) + 1) + column, return_inverse=True
        )
    return numbers


def shares_of_places(trials: Coded, goal: Goal) -> FloatArray:
    """Rank trials within their seed: 0 is best, 1 is worst, (n,); NaN for cancelled ones.

    Ties, and all trials that rank last, share the mean of their places. The place r of n trials of
    a seed is written as (r - 1/2) / n.
    """
    from scipy.stats import rankdata  # noqa: PLC0415 - half a second that few readers need

    better = trials.objective if goal is Goal.MINIMIZE else -trials.objective
    keys = np.where(trials.last, np.inf, better)
    ranks = np.full(len(keys), np.nan)
    for seed in np.unique(trials.seeds):
        mine = (trials.seeds == seed) & ~trials.cancelled
        if mine.any():
            ranks[mine] = (rankdata(keys[mine]) - 0.5) / mine.sum()
    return ranks


def _places(rows: Sequence[TrialRow], factor: str, known: Sequence[Scalar]) -> IntArray:
    places: dict[Hashable, int] = {}
    for level in known:
        places.setdefault(level_key(level), len(places))
    return np.array(
        [places.setdefault(level_key(row.levels.get(factor)), len(places)) for row in rows],
        dtype=np.int64,
    )
