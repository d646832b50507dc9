"""Levels of a table pool their noise estimates, which gives more power from few seeds.

With five seeds a level's own variance has four degrees of freedom, and its interval is wide for
that alone. The levels of a table usually have noise of one size, so each takes

    variance = 1/4 own + 3/4 mean over the levels,

in the spirit of moderated variances (Smyth 2004, limma), with Satterthwaite's degrees of freedom.
The differences share their baseline, hence their variances are correlated; the mean counts for
less. The own quarter keeps a level that is three times noisier from false alarms: a plain pooled
variance makes them in 7 to 16 % of tables, this in 5 % at most (docs/effects.md, "What was
simulated").
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from sickbay.service.analysis.statistics import LEAST_CORRELATION, OWN
from sickbay.service.analysis.statistics.estimates import Estimate, student_estimate

FEWEST_SHARED = 3  # seeds that two levels must share for their correlation to be estimated


@dataclass(frozen=True)
class Measured:
    """A level's difference with its own noise: one value per seed, and its group for pooling."""

    estimate: Estimate
    values: Mapping[Hashable, float]
    group: Hashable


@dataclass(frozen=True)
class Moderated:
    """The estimate with the shared noise: error² = own · (its own error)² + borrowed."""

    estimate: Estimate
    own: float = 1.0
    borrowed: float = 0.0


def moderated(levels: Sequence[Measured]) -> list[Moderated]:
    """Pool the noise within each group of levels; a level alone keeps its own.

    Levels without an interval, or without any spread, neither give nor take.
    """
    result = [Moderated(level.estimate) for level in levels]
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for place, level in enumerate(levels):
        if level.estimate.error > 0.0 and math.isfinite(level.estimate.error):
            groups[level.group].append(place)
    for places in groups.values():
        if len(places) > 1:
            some = [levels[place] for place in places]
            for place, made in zip(places, _shared(some), strict=True):
                result[place] = made
    return result


def _shared(levels: Sequence[Measured]) -> list[Moderated]:
    sizes = np.array([len(level.values) for level in levels], dtype=np.float64)
    degrees = np.array([level.estimate.degrees for level in levels])
    variances = np.array([level.estimate.error**2 for level in levels]) * sizes
    k = len(levels)
    correlation = np.full((k, k), _squared_correlation(levels))
    np.fill_diagonal(correlation, 1.0)
    # of two estimated variances: 2 s⁴ / degrees, and 2 ρ² s² s'² / degrees between them
    spread = np.outer(variances, variances) * correlation / np.maximum.outer(degrees, degrees)
    made = []
    for place, level in enumerate(levels):
        weights = np.full(k, (1.0 - OWN) / k)
        weights[place] += OWN
        variance = float(weights @ variances)
        freedom = variance**2 / float(weights @ spread @ weights)
        freedom = min(max(freedom, float(degrees[place])), float(degrees.sum()))
        borrowed = (1.0 - OWN) * float(variances.mean() / sizes[place])
        error = math.sqrt(variance / sizes[place])
        made.append(Moderated(student_estimate(level.estimate.mean, error, freedom), OWN, borrowed))
    return made


def _squared_correlation(levels: Sequence[Measured]) -> float:
    """Mean squared correlation of two levels over the seeds they share, less its bias, in [¼, 1].

    Under independence r² has the mean 1 / (n - 1). 1, the cautious end, where too few are shared.
    """
    squares = []
    for level, other in combinations(levels, 2):
        shared = [seed for seed in level.values if seed in other.values]
        if len(shared) >= FEWEST_SHARED:
            a = np.array([level.values[seed] for seed in shared])
            b = np.array([other.values[seed] for seed in shared])
            scale = float(a.var() * b.var())
            if scale > 0.0:
                squared = float(np.mean((a - a.mean()) * (b - b.mean()))) ** 2 / scale
                squares.append(((len(shared) - 1) * squared - 1.0) / (len(shared) - 2))
    return min(max(float(np.mean(squares)), LEAST_CORRELATION), 1.0) if squares else 1.0
