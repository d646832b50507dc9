"""Where a trial's data lie: on the training device, or on the host and sent by batches.

Streamed batches are copied into pinned memory and sent while the device computes the one before.
Draws are made on the host either way, so the rows are the same.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Protocol, Self, TypeVar

from torch import Tensor

from sickbay.trials.contract import Config, Context

PLACES = ("device", "stream")


class Movable(Protocol):
    """Data that can be moved as a whole."""

    def to(self, device: str) -> Self:
        """Move to a device."""


M = TypeVar("M", bound=Movable)
B = TypeVar("B")


@dataclass(frozen=True)
class Placement:
    """The device that trains, and the one where data are kept: the same, or the CPU."""

    device: str
    kept_on: str

    @classmethod
    def of(cls, config: Config, context: Context) -> "Placement":
        """Read the setting `data`. Raises ValueError for another word."""
        place = str(config["data"])
        if place not in PLACES:
            raise ValueError(f"data: {place!r} is not known; choose one of {', '.join(PLACES)}")
        return cls(context.device, context.device if place == "device" else "cpu")

    def keep(self, data: M) -> M:
        """Move data to where they are kept."""
        return data.to(self.kept_on)

    def sent(self, batches: Iterable[B]) -> Iterator[B]:
        """Yield batches on the device."""
        return map(self.send, batches)

    def send(self, batch: B) -> B:
        """Return a tensor on the device; of a tuple or a dataclass all that it holds."""
        sent: Any = batch
        if isinstance(batch, Tensor):
            pinned = self.device.startswith("cuda") and batch.device.type == "cpu"
            sent = (batch.pin_memory() if pinned else batch).to(self.device, non_blocking=True)
        elif isinstance(batch, tuple):
            sent = tuple(map(self.send, batch))
        elif is_dataclass(batch) and not isinstance(batch, type):
            parts = {field.name: getattr(batch, field.name) for field in fields(batch)}
            sent = replace(batch, **{name: self.send(part) for name, part in parts.items()})
        return sent  # type: ignore[no-any-return]
