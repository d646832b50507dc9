"""From a spec to a running sweep: prepared, run here or elsewhere, watched, ended.

    result = sickbay.service.sweeps.run("examples/quickstart.yaml")

`prepare` reads the spec and what the store has of it, `runner` runs what is missing and waits.
"""

from sickbay.service.sweeps.runner import Options, SweepResult, run

__all__ = ["Options", "SweepResult", "run"]
