"""Make the corpus as ordinary sweeps of Sickbay, in this process, resuming where it was left.

A round of each task has one seed of its faults, and several of its healthy controls and of its hard
but healthy variants: what was made of the plan when time runs out is spread over all of it. Runs
that the corpus file has are not made again. Trials are not judged while they run: their histories
are judged, again and again, by `judging.py`.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

from docs.tools.corpus import workloads
from docs.tools.corpus.corpus import CORPUS, outcomes
from docs.tools.corpus.faults import FIRST, GROUPS, HELD_OUT, TASKS, faults_of
from docs.tools.corpus.hard import VARIANTS
from sickbay.service.sweeps import runner
from sickbay.trials.execution import trial

MODULE = "docs.tools.corpus.workloads"
SEEDS = {"control": 45, "fault": 5, "hard": 16}
# The corpus must be made within its time: the last tasks of each half have fewer seeds.
FEWER = {"control": 28, "fault": 3, "hard": 10}
SHORT = ("weight_map", "tabular_200", "mixture", "shared")
FURTHER = {"control": 20, "fault": 3, "hard": 6}
LATE = {"control": 12, "fault": 2, "hard": 6}
ROUND = {"control": 12, "fault": 1, "hard": 3}  # seeds of a round; truth takes ten controls
ROUNDS = 6
Key = tuple[str, str, str, int]


def seeds_of(task: str) -> dict[str, int]:
    """How many seeds a task's controls, faults and hard variants have."""
    if task not in FIRST.tasks:
        return LATE if any(task in group.tasks for group in GROUPS[4:]) else FURTHER
    return FEWER if task in SHORT else SEEDS


def levels_of(task: str, kind: str) -> list[tuple[str, str]]:
    """Fault and variant of each arm of a kind."""
    return {
        "control": [(workloads.NONE, workloads.NONE)],
        "fault": [(fault, workloads.NONE) for fault in faults_of(task)],
        "hard": [(workloads.NONE, variant) for variant in VARIANTS[task]],
    }[kind]


def planned(kind: str) -> int:
    """How many runs of a kind the corpus has."""
    return sum(seeds_of(task)[kind] * len(levels_of(task, kind)) for task in TASKS)


def specs(task: str, number: int, known: Collection[Key] = ()) -> Iterator[dict[str, Any]]:
    """Yield the specs of a round of a task, without the runs that are known: a spec a seed."""
    for kind, count in ROUND.items():
        first, beyond = number * count, min((number + 1) * count, seeds_of(task)[kind])
        for seed in range(first, beyond):
            lacking = [
                level for level in levels_of(task, kind) if (task, *level, seed) not in known
            ]
            if not lacking:
                continue
            faults, variants = ([level[place] for level in lacking] for place in (0, 1))
            factors = {"fault": faults} if kind == "fault" else {"variant": variants}
            yield {
                "name": f"corpus-{kind}-{task.replace('_', '-')}-{seed}",
                "workload": f"{MODULE}:{task.upper()}",
                "design": "grid",
                "factors": factors if kind != "control" else {},
                "seeds": [seed],
                "fixed": {"epochs": workloads.TASKS[task].epochs},
                "early_stop": {"pathology": False},
            }


def generate(store: Path, tasks: tuple[str, ...] = TASKS, minutes: float | None = None) -> None:
    """Run what the corpus file and the store lack, round by round, until the time is up."""
    assert set(TASKS) == set(workloads.TASKS)
    known = {case.key for case in outcomes()} if CORPUS.exists() else set()
    # held-out tasks last: their runs teach nothing
    ordered = sorted(tasks, key=lambda task: task in HELD_OUT)
    end = monotonic() + 60.0 * minutes if minutes is not None else float("inf")
    with unjudged():
        for number in range(ROUNDS):
            for task in ordered:
                for spec in specs(task, number, known):
                    if monotonic() > end:
                        return
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
