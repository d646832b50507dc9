"""The input-independent baseline: a model that is given nothing but zeros.

A model that does no better with its inputs than without has learnt from the targets' shares alone.
"""

import torch
from torch import Tensor

INPUTS = ("as_is", "blank")


def shown(inputs: str, values: Tensor) -> Tensor:
    """Return the values, or zeros where inputs are "blank". ValueError for another value."""
    if inputs not in INPUTS:
        raise ValueError(f"inputs: {inputs!r} is not known; choose one of {', '.join(INPUTS)}")
    return torch.zeros_like(values) if inputs == "blank" else values
