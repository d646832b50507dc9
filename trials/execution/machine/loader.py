"""How much of a training loop's time passes while it waits for its data."""

from collections.abc import Callable, Iterable, Iterator
from time import perf_counter
from typing import TypeVar

Batch = TypeVar("Batch")


class LoaderClock:
    """Times a loader's iterator: what the loop waits for, and what it does between two batches."""

    def __init__(self, clock: Callable[[], float] = perf_counter) -> None:
        """Begin with nothing timed."""
        self._clock = clock
        self._waited = self._worked = 0.0

    def batches(self, loader: Iterable[Batch]) -> Iterator[Batch]:
        """Yield the loader's batches; making its iterator counts as waiting."""
        asked = self._clock()
        batches = iter(loader)
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                self._waited += self._clock() - asked
                return
            given = self._clock()
            self._waited += given - asked
            yield batch
            asked = self._clock()
            self._worked += asked - given

    def finish(self) -> dict[str, float]:
        """`data_wait_share` since the last call; nothing if no loader was seen."""
        total, waited = self._waited + self._worked, self._waited
        self._waited = self._worked = 0.0
        return {"data_wait_share": waited / total} if total > 0.0 else {}
