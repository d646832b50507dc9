"""The levels of a table share their noise (`trials.evidence.shared_noise`)."""

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sickbay.service.analysis.statistics.estimates import Estimate, FloatArray, student_estimate
from sickbay.trials.evidence.shared_noise import shared_noise


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
    variances = np.array([level.estimate.error**2 for level in levels]) * sizes
    degrees = np.array([level.estimate.degrees for level in levels])
    noise = shared_noise(variances, degrees, _by_seed(levels))
    parts = np.sqrt(noise.variances / sizes), noise.degrees, noise.own, variances / sizes
    made = []
    for level, error, freedom, own, plain in zip(
        levels, *(part.tolist() for part in parts), strict=True
    ):
        shared = student_estimate(level.estimate.mean, error, freedom)
        made.append(Moderated(shared, own, error**2 - own * plain))
    return made


def _by_seed(levels: Sequence[Measured]) -> FloatArray:
    """The levels' values, (levels, seeds); NaN where a level has none."""
    seeds = dict.fromkeys(seed for level in levels for seed in level.values)
    return np.array([[level.values.get(seed, np.nan) for seed in seeds] for level in levels])
