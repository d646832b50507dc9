"""torch.compile for methods of a net, where a setting asks for it."""

import importlib.util
import shutil
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

RECOMPILATIONS = 64  # of one function: for each module that shares it, training and evaluation


class Layers(nn.Sequential):
    """Layers in a row, with a `forward` that can be compiled: torch skips that of its own class."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply one layer after another."""
        for layer in self:
            x = layer(x)
        return x


def compile_methods(methods: Iterable[Callable[..., Any]], *, wanted: bool, device: str) -> None:
    """Let torch compile bound methods of modules at their first call; names of weights stay.

    Sums are taken in another order then, so rows differ from those without. Nothing happens unless
    it is `wanted`. Raises ValueError where no compiler is installed.
    """
    if not wanted:
        return
    lacking = missing_compiler(device)
    if lacking:
        raise ValueError(
            f"compile: torch.compile needs {lacking}, and there is none; install it, or set "
            "compile: false"
        )
    from torch._dynamo import config  # noqa: PLC0415  seconds, and only if wanted

    config.recompile_limit = RECOMPILATIONS
    torch.compiler.reset()  # what an earlier trial of this process compiled must change nothing
    for method in methods:
        setattr(method.__self__, method.__name__, torch.compile(method))  # type: ignore[attr-defined]


def missing_compiler(device: str) -> str:
    """Say what torch.compile lacks on a device; empty if nothing."""
    from torch._inductor import config  # noqa: PLC0415  seconds, and only asked for if wanted

    if torch.device(device).type != "cpu" and importlib.util.find_spec("triton") is None:
        return "triton"
    compilers = [name for name in config.cpp.cxx if name]
    return "" if any(map(shutil.which, compilers)) else f"a C++ compiler ({compilers[0]})"
