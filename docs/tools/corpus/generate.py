"""Make the corpus as ordinary sweeps of Sickbay, in this process, resuming where it was left.

One sweep of faults, one of healthy controls and one of hard but healthy variants a task. Trials
are not judged while they run: their histories are judged, again and again, by `judging.py`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from docs.tools.corpus import workloads
from docs.tools.corpus.faults import FURTHER_TASKS, TASKS, faults_of
from docs.tools.corpus.hard import VARIANTS
from sickbay.service.sweeps import runner
from sickbay.trials.execution import trial

MODULE = "docs.tools.corpus.workloads"
SEEDS = {"control": 45, "fault": 5, "hard": 16}
# The corpus must be made within its time: the last tasks of each half have fewer seeds.
FEWER = {"control": 28, "fault": 3, "hard": 10}
SHORT = ("weight_map", "tabular_200", "mixture", "shared")
FURTHER = {"control": 20, "fault": 3, "hard": 6}


def seeds_of(task: str) -> dict[str, int]:
    """How many seeds a task's controls, faults and hard variants have."""
    if task in FURTHER_TASKS:
        return FURTHER
    return FEWER if task in SHORT else SEEDS


def planned(kind: str) -> int:
    """How many runs of a kind the corpus has."""
    levels = {
        "control": lambda _: 1,
        "fault": lambda t: len(faults_of(t)),
        "hard": lambda t: len(VARIANTS[t]),
    }[kind]
    return sum(seeds_of(task)[kind] * levels(task) for task in TASKS)


def specs(task: str, seeds: dict[str, int] | None = None) -> Iterator[dict[str, Any]]:
    """Yield the specs of a task's sweeps; `seeds` lowers how many of each there are."""
    many = seeds_of(task) | (seeds or {})
    levels = {
        "control": {},
        "fault": {"fault": list(faults_of(task))},
        "hard": {"variant": list(VARIANTS[task])},
    }
    for kind, factors in levels.items():
        if many[kind]:
            yield {
                "name": f"corpus-{kind}-{task.replace('_', '-')}",
                "workload": f"{MODULE}:{task.upper()}",
                "design": "grid",
                "factors": factors,
                "seeds": many[kind],
                "fixed": {"epochs": workloads.TASKS[task].epochs},
                "early_stop": {"pathology": False},
            }


def generate(
    store: Path, tasks: tuple[str, ...] = TASKS, seeds: dict[str, int] | None = None
) -> None:
    """Run whatever is missing from the store, task by task; `seeds` as in `specs`."""
    assert set(TASKS) == set(workloads.TASKS)
    with unjudged():
        for task in tasks:
            for spec in specs(task, seeds):
                result = runner.run(spec, str(store), runner.Options(in_process=True))
                print(spec["name"], result.state, result.ran, result.error, flush=True)


@contextmanager
def unjudged() -> Iterator[None]:
    """Run trials without looking at them: judging would double what they cost."""
    known = trial.detectors
    trial.detectors = tuple  # type: ignore[assignment]
    try:
        yield
    finally:
        trial.detectors = known
