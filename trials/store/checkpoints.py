"""Checkpoints as bytes: what `Context.save` is given and `Context.restore` gives back."""

import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn


class Schedule(Protocol):
    """What follows the validation loss from epoch to epoch and remembers what it saw."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must hold."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` has returned."""


@dataclass
class Progress:
    """All that a training loop carries from epoch to epoch; `epoch` and `step` are those done."""

    net: nn.Module
    optimizer: torch.optim.Optimizer
    epoch: int = 0
    step: int = 0
    schedule: Schedule | None = None

    def pack(self) -> bytes:
        """Return a checkpoint."""
        modules = {"net": self.net.state_dict(), "optimizer": self.optimizer.state_dict()}
        if self.schedule is not None:
            modules["schedule"] = self.schedule.state_dict()
        return pack(modules | {"epoch": self.epoch, "step": self.step})

    def resume(self, kept: bytes | None, device: str) -> None:
        """Take over a checkpoint in place; None leaves everything as it is."""
        if kept is None:
            return
        state = unpack(kept, device)
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])
        self.epoch, self.step = state["epoch"], state["step"]


def pack(state: Mapping[str, Any]) -> bytes:
    """Turn tensors, numbers, strings and containers of them into bytes. Tensors are copied."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    return buffer.getvalue()


def unpack(data: bytes, device: str = "cpu") -> dict[str, Any]:
    """Read what `pack` wrote, tensors onto `device`, without executing anything in it.

    Raises ValueError for bytes that are no checkpoint or hold anything but plain values.
    """
    try:
        state = torch.load(io.BytesIO(data), map_location=device, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"these {len(data)} bytes are no checkpoint of ours: {error}") from error
    if not isinstance(state, dict):
        kind = type(state).__name__
        raise ValueError(f"a checkpoint holds a mapping, this one a {kind}")  # noqa: TRY004 - bad data
    return state
