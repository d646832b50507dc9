"""How many trials share a GPU, by what one that had it to itself used of it."""

import math
from dataclasses import dataclass

HEADROOM = 1.1  # what other arms may need, relative to the trial that was measured


@dataclass(frozen=True)
class GpuUse:
    """What a trial that had a GPU to itself used of it: GiB (`peak` of `total`).

    `busy` is the share of time in which a kernel ran, NaN if unknown.
    """

    peak: float
    total: float
    busy: float


def trials_per_gpu(use: GpuUse) -> int:
    """How many trials like the measured one its memory and time allow on a GPU, at least 1.

    More than 1 / `busy` trials would only wait for each other.
    """
    most = int(use.total / (HEADROOM * use.peak))
    if not math.isnan(use.busy):
        most = min(most, round(1.0 / max(use.busy, 0.001)))
    return max(1, most)


def gpu_share(trials: int) -> float:
    """The share of a GPU that each of so many trials gets.

    Ray counts resources in steps of 1e-4; rounding down keeps all shares within one GPU.
    """
    return int(1e4 / trials) / 1e4
