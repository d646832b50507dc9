"""An optimizer without a schedule (Defazio et al. 2024, "The Road Less Scheduled", algorithm 1).

The gradient is taken at y = (1 - b) z + b x, where z makes plain SGD steps and x is their average:
x is the model that is evaluated, y the one that is trained.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

SHARE = 0.9  # of the average in the point at which gradients are taken: b


class ScheduleFree(torch.optim.Optimizer):
    """Schedule-free SGD. Parameters hold y while training and x while an average is shown."""

    def __init__(self, params: Iterable[Any], lr: float) -> None:
        super().__init__(params, {"lr": lr})
        self.steps = 0

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One step; parameters without a gradient stay."""
        self.steps += 1
        for group in self.param_groups:
            for y in group["params"]:
                if y.grad is None:
                    continue
                z, x = self._points(y)
                z.sub_(y.grad, alpha=group["lr"])
                x.lerp_(z, 1.0 / self.steps)
                y.copy_(torch.lerp(z, x, SHARE))

    @torch.no_grad()
    def show_average(self) -> None:
        """Put x into the parameters."""
        for y in self.state:
            y.copy_(self.state[y]["x"])

    @torch.no_grad()
    def show_iterate(self) -> None:
        """Put y back."""
        for y in self.state:
            y.copy_(torch.lerp(self.state[y]["z"], self.state[y]["x"], SHARE))

    def _points(self, y: Tensor) -> tuple[Tensor, Tensor]:
        state = self.state[y]
        if not state:
            state["z"], state["x"] = y.clone(), y.clone()
        return state["z"], state["x"]
