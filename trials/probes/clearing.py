"""Whether gradients are cleared between the optimiser's steps: a missing `zero_grad`, seen exactly.

In the first steps of an epoch hooks compare the gradient that a backward pass adds to the smallest
parameter with what it then holds. If they differ, an earlier gradient was still there; if the
parameter has moved since, a step was taken without clearing (accumulation takes none).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.utils.hooks import RemovableHandle

WATCHED_STEPS = 8  # of an epoch: no hook is left on the model while it is saved


class ClearingProbe:
    """Watches one parameter for gradients that are left over from the step before."""

    def __init__(self, groups: Sequence[Sequence[Parameter]]) -> None:
        """Pick the parameter; nothing is watched where gradients are averaged over processes."""
        trained = [parameter for group in groups for parameter in group if parameter.requires_grad]
        shared = torch.distributed.is_available() and torch.distributed.is_initialized()
        self._parameter = None if shared else min(trained, key=Tensor.numel, default=None)
        self._handles: list[RemovableHandle] = []
        self._added: Tensor | None = None
        self._before: Tensor | None = None  # the parameter at the backward pass before
        self._left: list[Tensor] = []

    def begin(self) -> None:
        """Start to watch an epoch."""
        self.end()
        self._before = None
        if self._parameter is not None:
            self._handles = [
                self._parameter.register_hook(self._on_gradient),  # type: ignore[no-untyped-call]
                self._parameter.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
                    self._on_accumulated
                ),
            ]

    def end(self) -> None:
        """Take the hooks away."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def finish(self) -> float:
        """Share of the steps taken that found the gradient before still there; NaN if none was."""
        left, self._left = self._left, []
        steps = [stale for moved, stale in torch.stack(left).tolist() if moved] if left else []
        return sum(steps) / len(steps) if steps else math.nan

    def _on_gradient(self, gradient: Tensor) -> None:
        self._added = gradient.detach().clone()

    def _on_accumulated(self, parameter: Tensor) -> None:
        value = parameter.detach().clone()  # fused optimisers do not count versions
        if self._before is not None and parameter.grad is not None and self._added is not None:
            # NaN equals nothing, not even itself: it shows no gradient from before
            differs = (parameter.grad != self._added) & ~torch.isnan(self._added)
            moved = (value != self._before).any()
            self._left.append(torch.stack([moved, differs.any()]))
        self._before, self._added = value, None
        if len(self._left) >= WATCHED_STEPS:
            self.end()
