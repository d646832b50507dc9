"""Values known before training that the curves of a mixture of von Mises are read against."""

import math

from sickbay.models.orientation.vonmises import constant_floor, truth_to_one_peak, truth_to_uniform
from sickbay.models.shared.reference_lines import Line


def mixture_lines(kfold: int, kappa: float) -> tuple[Line, ...]:
    """Return the lines of a mixture of von Mises against `kfold` even peaks of κ `kappa`."""
    components = max(kfold, 1)
    lines: tuple[Line, ...] = (
        (
            "val_matched_kl",
            constant_floor(kfold, kappa),
            "the best constant angle",
            "floor",
            "log I0(κ) − log I0(κ sin(π/K)/(π/K))",
        ),
        (
            "val_density_kl",
            truth_to_uniform(kfold, kappa),
            "no direction at all",
            "uniform",
            "KL(truth ‖ uniform) = log 2π − H(truth)",
        ),
        (
            "val_density_kl",
            truth_to_one_peak(kfold, kappa),
            "one peak predicted perfectly, the others forgotten",
            "collapse",
            "KL(truth ‖ its first peak)",
        ),
    )
    if components == 1:
        return lines
    return (
        *lines,
        (
            "peak_coverage",
            1.0 / components,
            "one living component: one peak of all",
            "collapse",
            "1/K",
        ),
        (
            "mixture_weights_entropy",
            math.log(components),
            "all components weigh alike",
            "even_weights",
            "log K",
        ),
    )
