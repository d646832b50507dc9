"""From a spec to a running sweep: prepare, run here or elsewhere, follow, end.

    result = sickbay.service.sweeps.run("examples/quickstart.yaml")

`prepare` reads the spec and what the store has of it, `runner` runs what is missing and waits.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sickbay.service.sweeps.runner import Options, SweepResult, run

__all__ = ["Options", "SweepResult", "run"]


def __getattr__(name: str) -> Any:
    """Load the runner on first use: planning does not need its imports."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from sickbay.service.sweeps import runner  # noqa: PLC0415

    return getattr(runner, name)
