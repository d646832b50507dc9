"""Rates with their intervals, and the page's other figures. Pure functions of plain numbers."""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

Z95 = 1.959963984540054
DRAWS = 1000


@dataclass(frozen=True)
class Figure:
    """A number, how many it was counted over, and its 95 % interval."""

    value: float
    n: int
    low: float
    high: float

    def text(self, *, percent: bool = True) -> str:
        """`93.1 % [91.0, 94.8], n = 812`."""
        if self.n == 0 or math.isnan(self.value):
            return "none"
        scale, unit, places = (100.0, " %", 1) if percent else (1.0, "", 3)
        value, low, high = (
            f"{scale * number:.{places}f}" for number in (self.value, self.low, self.high)
        )
        return f"{value}{unit} [{low}, {high}], n = {self.n}"


def share(hits: int, n: int) -> Figure:
    """A proportion with Wilson's interval (1927)."""
    if n == 0:
        return Figure(math.nan, 0, math.nan, math.nan)
    p, z2 = hits / n, Z95**2
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return Figure(p, n, max(0.0, middle - half), min(1.0, middle + half))


def share_of(flags: Sequence[bool]) -> Figure:
    """The share of flags that are set."""
    return share(sum(map(bool, flags)), len(flags))


def resampled(
    values: Sequence[float], statistic: Callable[[np.ndarray], float], seed: int = 0
) -> Figure:
    """Any statistic of a sample with its percentile bootstrap interval."""
    sample = np.asarray(values, dtype=np.float64)
    if not len(sample):
        return Figure(math.nan, 0, math.nan, math.nan)
    draw = np.random.default_rng(seed)
    again = [statistic(sample[draw.integers(len(sample), size=len(sample))]) for _ in range(DRAWS)]
    low, high = np.quantile(again, [0.025, 0.975])
    return Figure(float(statistic(sample)), len(sample), float(low), float(high))


def clustered(flags: Sequence[bool], clusters: Sequence[Hashable], seed: int = 0) -> Figure:
    """A proportion whose interval resamples whole clusters: runs of one fault are much alike."""
    groups: dict[Hashable, list[bool]] = {}
    for flag, cluster in zip(flags, clusters, strict=True):
        groups.setdefault(cluster, []).append(bool(flag))
    hits = np.array([sum(group) for group in groups.values()], dtype=np.float64)
    sizes = np.array([len(group) for group in groups.values()], dtype=np.float64)
    if not len(sizes):
        return Figure(math.nan, 0, math.nan, math.nan)
    draw = np.random.default_rng(seed)
    rows = draw.integers(len(sizes), size=(DRAWS, len(sizes)))
    low, high = np.quantile(hits[rows].sum(1) / sizes[rows].sum(1), [0.025, 0.975])
    return Figure(float(hits.sum() / sizes.sum()), int(sizes.sum()), float(low), float(high))


def calibration_error(confidence: Sequence[float], right: Sequence[bool], bins: int = 10) -> float:
    """Expected calibration error over equal bins of confidence (Naeini et al. 2015)."""
    stated, hit = np.asarray(confidence, np.float64), np.asarray(right, np.float64)
    if not len(stated):
        return math.nan
    place = np.minimum((stated * bins).astype(int), bins - 1)
    gaps = [
        (place == index).mean() * abs(stated[place == index].mean() - hit[place == index].mean())
        for index in range(bins)
        if (place == index).any()
    ]
    return float(sum(gaps))
