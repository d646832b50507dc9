"""What the evaluations of a trial cost: seconds, memory, use of the GPU.

Measured by the runner beside the training, for every workload. The numbers follow from the machine
and its load, so they stand beside a row and are no part of it: rows stay bit-identical.
"""

import resource
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic  # by its name: training code may patch the module

from sickbay.trials.execution.machine.gpu import Gpu

SAMPLE_SECONDS = 0.5  # memory and GPU are looked at no more often: under 0.1 % of a trial's time
GIB = 2.0**30
PROCESSES = Path("/proc")  # of Linux; elsewhere the memory in use is not known without a library


@dataclass
class Meter:
    """Reads the machine's signals once an evaluation. `gpu` is the trial's, if it has one."""

    gpu: Gpu | None = None
    clock: Callable[[], float] = monotonic
    _at: float = 0.0
    _step: int = 0
    _sampled: dict[str, float] = field(default_factory=dict)
    _next: float = 0.0

    def begin(self, step: int = 0) -> None:
        """Start the clock where training begins or goes on, after `step` optimiser steps."""
        self._at, self._step = self.clock(), step

    def read(self, step: int) -> dict[str, float]:
        """The signals since the evaluation before, which ended after `step` optimiser steps.

        `evaluation_seconds` is the time from row to row: training and evaluation together.
        `step_seconds` is that time by step, and missing where no step was taken.
        """
        now = self.clock()
        seconds, steps = now - self._at, step - self._step
        self._at, self._step = now, step
        signals = {"evaluation_seconds": seconds}
        if steps > 0:
            signals["step_seconds"] = seconds / steps
        if now >= self._next:
            self._next = now + SAMPLE_SECONDS
            self._sampled = _memory() | (self.gpu.read() if self.gpu is not None else {})
        return signals | self._sampled


def _memory() -> dict[str, float]:
    """`host_memory`: GiB resident in this process and its descendants; nothing where unknown."""
    used = sum(_resident("self"))
    return {"host_memory": used / GIB} if used else {}


def _resident(process: str) -> Iterator[int]:
    """Resident bytes of a process and, one by one, of its descendants."""
    folder = PROCESSES / process
    with suppress(OSError, ValueError, IndexError):  # it has ended, or this is not Linux
        yield int((folder / "statm").read_text().split()[1]) * resource.getpagesize()
        main = folder.resolve().name  # what training starts, its main thread starts
        for child in (folder / "task" / main / "children").read_text().split():
            yield from _resident(child)
