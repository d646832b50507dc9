"""The result of a conformance check: all checks made, or the first flaw."""

from dataclasses import dataclass


class ConformanceError(ValueError):
    """A workload or a detector breaks its contract; the message says where, with the numbers."""


@dataclass(frozen=True)
class ConformanceReport:
    """What was checked, one sentence each, in the order of the checks."""

    name: str
    checked: tuple[str, ...]

    def __str__(self) -> str:
        """Write the report for a person."""
        lines = [f"  {sentence}" for sentence in self.checked]
        return "\n".join([f"{self.name} keeps its contract:", *lines])
