"""Tiny runs of a workload, for the tests of each system."""

from dataclasses import dataclass
from typing import Any

from sickbay.trials.contract import Context, Workload
from sickbay.trials.history import History


@dataclass(frozen=True)
class Runs:
    """A workload and the settings that make it tiny."""

    workload: Workload
    small: dict[str, Any]

    def settings(self, **changes):
        return {**self.workload.defaults, **self.small, **changes}

    def context(self, seed=0, epochs=3, restored=None, kept=None):
        def save(make):
            if kept is not None:
                kept.append(make())

        return Context(seed, epochs, "cpu", ".", lambda: restored, save)

    def run(self, seed=0, epochs=3, **changes):
        return list(self.workload.train(self.settings(**changes), self.context(seed, epochs)))

    def facts(self, **changes):
        return self.workload.facts(self.settings(**changes), self.context())

    def same(self, left, right):
        """Bit for bit, NaN equal to NaN."""
        known = self.facts()
        return History(left, known, 3).digest() == History(right, known, 3).digest()
