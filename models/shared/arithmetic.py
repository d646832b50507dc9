"""How exact a net computes: float32 as a rule, faster and coarser where a setting says so."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

PRECISIONS = ("float32", "tf32", "bf16")


@contextmanager
def arithmetic(precision: str, device: str) -> Iterator[None]:
    """Set the precision inside the context; the previous settings are restored.

    `tf32` rounds the factors of float32 products to 10 bits, on GPUs that can; `bf16` computes
    layers in bfloat16 (torch's autocast), with weights, losses and statistics in float32. Raises
    ValueError for another value.
    """
    if precision not in PRECISIONS:
        known = ", ".join(PRECISIONS)
        raise ValueError(f"precision: {precision!r} is not known; choose one of {known}")
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    if precision == "tf32":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
    kind = torch.device(device).type
    try:
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=precision == "bf16"):
            yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


@contextmanager
def exact(device: torch.device) -> Iterator[None]:
    """Leave autocast for what must not be rounded: projections, rays, coordinates."""
    with torch.autocast(device.type, enabled=False):
        yield
