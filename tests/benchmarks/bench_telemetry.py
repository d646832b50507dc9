"""What telemetry and online diagnosis cost of a small trial of system 1, as shares of its wall
time.

Every call into the probe, the diagnosis and the store is timed while a trial runs; the shares are
of the same run's wall time, so a busy machine slows both. Also the seconds that a trial takes, and
those of a process's first trial, of one epoch: torch loads a thousand modules for its optimizer.
"""

import functools
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from figures import Figure, tell

from sickbay.trials import registry
from sickbay.trials.execution import recorder
from sickbay.trials.execution import trial as run
from sickbay.trials.execution.inline import run_to_end
from sickbay.trials.execution.trial import RunPolicy, TrialJob
from sickbay.trials.probes import StepProbe
from sickbay.trials.spec import check_spec, parse_spec, plan

LIMIT = 0.02
LONGEST = 12.0  # seconds of a small trial on one core

spent: Counter[str] = Counter()


def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Count the seconds in a function."""

    @functools.wraps(function)
    def measured(*args: Any, **options: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*args, **options)
        finally:
            spent[name] += time.perf_counter() - start

    return measured


def seconds_of_trials(seeds: int, **settings: int) -> list[float]:
    """Run so many small trials of system 1 to their end."""
    workload = registry.workload("mvm_orientation")
    fixed = {"initialization": "random", "loss": "uniform", **settings}
    raw = {"name": "bench", "workload": "mvm_orientation", "fixed": fixed, "seeds": seeds}
    walls = []
    for trial in plan.plan(check_spec(parse_spec(raw), workload), workload).trials:
        with tempfile.TemporaryDirectory() as folder:
            policy = RunPolicy()
            job = TrialJob(
                folder, "bench", trial, "", workload.objective, f"{folder}/w", policy=policy
            )
            record = run_to_end(job)
            assert record.epochs_run == trial.epochs, record
            walls.append(record.wall_seconds)
    return walls


def main() -> int:
    """Measure, print, judge."""
    torch.set_num_threads(1)
    for name in ("after_backward", "after_update", "finish_epoch"):
        setattr(StepProbe, name, timed("telemetry", getattr(StepProbe, name)))
    run.diagnose = timed("diagnosis", run.diagnose)
    run.look = timed("diagnosis", run.look)
    recorder.write_epochs = timed("store", recorder.write_epochs)
    run.write_trial = timed("store", run.write_trial)
    run.detectors()  # loaded once a process
    (first,) = seconds_of_trials(1, epochs=1)
    spent.clear()
    walls = seconds_of_trials(3)
    total = sum(walls)
    share = (spent["telemetry"] + spent["diagnosis"]) / total
    return tell(
        [
            Figure("a process's first trial of system 1, one epoch", first, "s"),
            Figure("a small trial of system 1, the slowest of 3", max(walls), "s", LONGEST),
            *(
                Figure(f"{name}, of the trial's time", 100 * seconds / total, "%")
                for name, seconds in spent.items()
            ),
            Figure("telemetry and online diagnosis", 100 * share, "%", 100 * LIMIT),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
