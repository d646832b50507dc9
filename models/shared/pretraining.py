"""A pretraining that writes rows and checkpoints, and resumes where it was killed."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

ROWS = 100  # of a whole pretraining: each is the mean over a hundredth of its steps

Row = tuple[int, float, float]  # step, loss, learning rate
State = dict[str, Any]


class Log(Protocol):
    """Where rows and checkpoints go."""

    def restore(self) -> State | None:
        """Return the last checkpoint, None where there is none."""

    def save(self, make: Callable[[], State]) -> None:
        """Keep what `make` returns if a checkpoint is due."""

    def write(self, rows: list[Row]) -> None:
        """Write all rows so far."""


class Part(Protocol):
    """A net, an optimiser or a schedule."""

    def state_dict(self) -> State:
        """Return what a checkpoint must hold."""

    def load_state_dict(self, state_dict: Any) -> Any:
        """Take over what `state_dict` has returned."""


class Pretraining:
    """Counts the steps of a pretraining. The same steps are taken whether or not it was killed.

    run = Pretraining({"net": net, "optimizer": optimizer}, steps, log)
    for _ in range(run.done): next(batches)     # what was trained on before
    for _ in run.remaining():
        ...
        run.add(loss, rate)
    """

    def __init__(self, parts: Mapping[str, Part], steps: int, log: Log) -> None:
        """Take over the checkpoint, if there is one; `done` counts the steps that it has taken."""
        self._parts, self._steps, self._log = parts, steps, log
        self._every = max(1, steps // ROWS)
        self._losses: list[Tensor] = []
        self._rows: list[Row] = []
        self.done = 0
        kept = log.restore()
        if kept is not None:
            for name, part in parts.items():
                part.load_state_dict(kept[name])
            self.done, self._rows = kept["step"], [tuple(row) for row in kept["rows"]]

    def remaining(self) -> Iterator[int]:
        """Yield the steps that are left; each must `add` its loss."""
        while self.done < self._steps:
            yield self.done
            self.done += 1
            if self.done % self._every == 0 or self.done == self._steps:
                self._log.write(self._rows)
                self._log.save(self._state)

    def add(self, loss: Tensor, rate: float) -> None:
        """Keep the loss of a step; it is read from the device once a row."""
        self._losses.append(loss.detach())
        step = self.done + 1
        if step % self._every == 0 or step == self._steps:
            mean = float(torch.stack(self._losses).double().mean())
            self._rows.append((step, mean, rate))
            self._losses.clear()

    def _state(self) -> State:
        parts = {name: part.state_dict() for name, part in self._parts.items()}
        return parts | {"step": self.done, "rows": self._rows}
