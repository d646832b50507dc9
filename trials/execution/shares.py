"""What one trial gets of a cluster."""

from dataclasses import dataclass

from sickbay.trials.events import ResourceError


@dataclass(frozen=True)
class TrialShare:
    """What one trial gets of the cluster."""

    cpu: float = 1.0
    gpu: float = 0.0


def gpu_fraction(total: float, wanted: float) -> float:
    """Largest share 1/n of a GPU of `total` GiB that leaves each of n trials `wanted` GiB.

    Raises ResourceError if not even one trial fits.
    """
    if wanted > total:
        raise ResourceError(
            f"resources.gpu_memory: a trial wants {wanted:g} GiB and the GPU has {total:.1f} GiB"
        )
    # Ray counts resources in steps of 1e-4; rounding down keeps n shares within one GPU
    return int(1e4 / int(total / wanted)) / 1e4
