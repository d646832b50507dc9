"""Which fault is applied to which task, and which tasks are held out."""

from collections.abc import Mapping
from typing import Any

from docs.tools.corpus.operators import GENERIC, SINGLE, WRITTEN, Operator

FIRST_TASKS = (
    "tabular_20",
    "tabular_200",
    "cnn",
    "sequence",
    "regression",
    "mixture",
    "vae",
    "shared",
    "weight_map",
)
FURTHER_TASKS = (
    "language",
    "tagging",
    "text",
    "multilabel",
    "digits",
    "segmentation",
    "pairs",
    "series",
    "likelihood",
    "missing",
    "parity",
    "faint",
    "graphs",
)
LATEST_TASKS = (
    "counts",
    "heavy_tails",
    "hinge",
    "distilled",
    "long_tail",
    "denoising",
    "fine_tuned",
)
NEWEST_TASKS = ("point_sets", "choices", "ratings", "events", "grades", "quantiles", "lifetimes")
FRESH_TASKS = ("duels", "field", "many_classes", "poses", "claims", "bandit", "forecast")
UNSEEN_TASKS: tuple[str, ...] = ()
TASKS = FIRST_TASKS + FURTHER_TASKS + LATEST_TASKS + NEWEST_TASKS + FRESH_TASKS + UNSEEN_TASKS
# Nothing is chosen on these: no threshold, no statistic, no weight of a model. Tasks that were held
# out before and have been judged since are calibration tasks: see decision 87.
HELD_OUT = UNSEEN_TASKS
CALIBRATION = tuple(task for task in TASKS if task not in HELD_OUT)
STEPS = (0, 2, 5, 7, 3, 1)  # through the first tasks, from an operator's place in the list
FURTHER_STEPS = (0, 4, 9, 2, 7, 11)
LATEST_STEPS = (0, 3, 1, 5, 2, 6, 4)
NEWEST_STEPS = (0, 2, 5, 1, 6, 3, 4)
FRESH_STEPS = (0, 4, 1, 6, 2, 5, 3)
FEWER_STRENGTHS = (2, 3)  # of the tasks after the first


def _spread(tasks: tuple[str, ...], place: int, steps: tuple[int, ...], count: int) -> list[str]:
    """Some tasks, by an operator's place in the list: nobody chooses."""
    but = GENERIC[place].but
    order = [tasks[(place + step) % len(tasks)] for step in steps]
    return [task for task in order if task not in but][:count]


def operators() -> tuple[tuple[Operator, tuple[str, ...]], ...]:
    """Return every operator with the tasks that it is applied to."""
    applied = []
    for place, operator in enumerate(GENERIC):
        first = operator.tasks or _spread(FIRST_TASKS, place, STEPS, 4)
        further = operator.further or _spread(FURTHER_TASKS, place, FURTHER_STEPS, 3)
        latest = _spread(LATEST_TASKS, place, LATEST_STEPS, 4)
        newest = _spread(NEWEST_TASKS, place, NEWEST_STEPS, 3)
        fresh = _spread(FRESH_TASKS, place, FRESH_STEPS, 3)
        applied.append((operator, (*first, *further, *latest, *newest, *fresh)))
    return (
        *applied,
        *((operator, (*operator.tasks, *operator.further)) for operator in (*SINGLE, *WRITTEN)),
    )


def strengths_of(operator: Operator, task: str) -> tuple[int, ...]:
    """The strengths at which a task has an operator; 1 is the mildest."""
    whole = tuple(range(1, len(operator.levels) + 1))
    return whole if task in FIRST_TASKS or len(whole) < 3 else FEWER_STRENGTHS


def level_name(operator: str, strength: int) -> str:
    """The level of the factor `fault`: operator and strength, 1 the mildest."""
    return f"{operator}-{strength}"


def faults_of(task: str) -> dict[str, Mapping[str, Any]]:
    """Return the changed settings of every fault of a task, by the name of the level."""
    return {
        level_name(operator.name, strength): operator.levels[strength - 1]
        for operator, tasks in operators()
        if task in tasks
        for strength in strengths_of(operator, task)
    }


def operator_of(level: str) -> tuple[Operator, int]:
    """Return the operator and the strength that a level names."""
    name, _, strength = level.rpartition("-")
    return next(operator for operator, _ in operators() if operator.name == name), int(strength)
