"""The names of `import sickbay`, each loaded on first use.

    run = sickbay.start(task="multiclass", …)    in a training script: report, store, be judged
    sweep = sickbay.sweep("sweep.yaml")          in Python and notebooks: run, look at tables
    sickbay.Client("http://…")                   talk to a service

This folder is the package `sickbay` itself; the rooms `sickbay.trials` and so on lie beside it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sickbay.notebook import Sweep, sweep
    from sickbay.reporting import Run, start
    from sickbay.service.client import Client
    from sickbay.trials.contract import TaskFacts

__all__ = ["Client", "Run", "Sweep", "TaskFacts", "start", "sweep"]


def __getattr__(name: str) -> Any:
    """Load a name of `__all__` on its first use; AttributeError for any other."""
    if name in {"start", "Run"}:
        from sickbay import reporting  # noqa: PLC0415

        return getattr(reporting, name)
    if name in {"sweep", "Sweep"}:
        from sickbay import notebook  # noqa: PLC0415

        return getattr(notebook, name)
    if name == "Client":
        from sickbay.service.client import Client  # noqa: PLC0415

        return Client
    if name == "TaskFacts":
        from sickbay.trials.contract import TaskFacts  # noqa: PLC0415

        return TaskFacts
    raise AttributeError(f"module 'sickbay' has no attribute {name!r}")


def __dir__() -> list[str]:
    """All public names, loaded or not."""
    return sorted(__all__)
