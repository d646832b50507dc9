"""The trials of a sweep as arrays: levels as whole numbers, so that 10,000 trials take no time.

Pure. What is a pair, what is healthy and what ranks last is said in `effect_pairs`; this file only
says it for all trials at once.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sickbay.service.analysis.pairs import TrialRow, level_key
from sickbay.service.query.outcomes import CANCELLED, CUT_SHORT, HEALTHY
from sickbay.trials.contract import Goal, Scalar

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]

Levels = Mapping[str, Sequence[Scalar]]  # by factor; the first is the baseline


@dataclass(frozen=True)
class Coded:
    """Trials as arrays of one length n, sorted by seed and id.

    `levels` holds for every factor the place of a trial's level among those of the factor, (n,);
    levels that are not listed come after them, in the order in which they are met. `last` are
    trials that rank behind all others, `cut_short` those cancelled or pruned. `objective` is NaN
    where there is none.
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
    """Number the rows by the combination of these columns' values, (n,), from 0 on."""
    found = np.zeros(length, dtype=np.int64)
    for column in columns:
        _, found = np.unique(found * (int(column.max(initial=0)) + 1) + column, return_inverse=True)
    return found


def shares_of_places(trials: Coded, goal: Goal) -> FloatArray:
    """Rank trials within their seed: 0 is best, 1 is worst, (n,); NaN for cancelled ones.

    Ties, and all trials that rank last, share the mean of their places. The place r of n trials of
    a seed is written as (r - 1/2) / n.
    """
    from scipy.stats import rankdata  # noqa: PLC0415 - half a second that few readers need

    better = trials.objective if goal is Goal.MINIMIZE else -trials.objective
    keys = np.where(trials.last, np.inf, better)
    found = np.full(len(keys), np.nan)
    for seed in np.unique(trials.seeds):
        mine = (trials.seeds == seed) & ~trials.cancelled
        if mine.any():
            found[mine] = (rankdata(keys[mine]) - 0.5) / mine.sum()
    return found


def _places(rows: Sequence[TrialRow], factor: str, known: Sequence[Scalar]) -> IntArray:
    places: dict[Hashable, int] = {}
    for level in known:
        places.setdefault(level_key(level), len(places))
    return np.array(
        [places.setdefault(level_key(row.levels.get(factor)), len(places)) for row in rows],
        dtype=np.int64,
    )
