"""Which fault is applied to which task, and which tasks are held out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from docs.tools.corpus.operators import GENERIC, SINGLE, WRITTEN, Operator


@dataclass(frozen=True)
class Group:
    """Tasks that joined the corpus together, and how generic operators are spread over them."""

    tasks: tuple[str, ...]
    steps: tuple[int, ...]  # through the tasks, from an operator's place in the list
    count: int  # of the tasks, to which each operator is applied


FIRST = Group(
    (
        "tabular_20",
        "tabular_200",
        "cnn",
        "sequence",
        "regression",
        "mixture",
        "vae",
        "shared",
        "weight_map",
    ),
    (0, 2, 5, 7, 3, 1),
    4,
)
FURTHER = Group(
    (
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
    ),
    (0, 4, 9, 2, 7, 11),
    3,
)
COUNTS_TO_FINE_TUNED = Group(
    ("counts", "heavy_tails", "hinge", "distilled", "long_tail", "denoising", "fine_tuned"),
    (0, 3, 1, 5, 2, 6, 4),
    4,
)
POINT_SETS_TO_LIFETIMES = Group(
    ("point_sets", "choices", "ratings", "events", "grades", "quantiles", "lifetimes"),
    (0, 2, 5, 1, 6, 3, 4),
    3,
)
DUELS_TO_FORECAST = Group(
    ("duels", "field", "many_classes", "poses", "claims", "bandit", "forecast"),
    (0, 4, 1, 6, 2, 5, 3),
    3,
)
TRIPLETS_TO_FRAMES = Group(
    ("triplets", "links", "alignments", "diffusion", "copying", "frames"), (0, 2, 5, 1, 4, 3), 3
)
GROUPS = (
    FIRST,
    FURTHER,
    COUNTS_TO_FINE_TUNED,
    POINT_SETS_TO_LIFETIMES,
    DUELS_TO_FORECAST,
    TRIPLETS_TO_FRAMES,
)
TASKS = tuple(task for group in GROUPS for task in group.tasks)
# Nothing is chosen on these: no threshold, no statistic, no weight of a model. Tasks that were held
# out before and have been judged since are calibration tasks: see decision 87.
HELD_OUT = TRIPLETS_TO_FRAMES.tasks
CALIBRATION = tuple(task for task in TASKS if task not in HELD_OUT)
FEWER_STRENGTHS = (2, 3)  # of the tasks after the first


def _spread(group: Group, place: int) -> list[str]:
    """Some tasks of a group, by an operator's place in the list: nobody chooses."""
    order = [group.tasks[(place + step) % len(group.tasks)] for step in group.steps]
    return [task for task in order if task not in GENERIC[place].but][: group.count]


def operators() -> tuple[tuple[Operator, tuple[str, ...]], ...]:
    """Return every operator with the tasks that it is applied to."""
    applied = []
    for place, operator in enumerate(GENERIC):
        chosen = {FIRST: operator.tasks, FURTHER: operator.further}
        parts = [chosen.get(group) or _spread(group, place) for group in GROUPS]
        applied.append((operator, tuple(task for part in parts for task in part)))
    return (
        *applied,
        *((operator, (*operator.tasks, *operator.further)) for operator in (*SINGLE, *WRITTEN)),
    )


def strengths_of(operator: Operator, task: str) -> tuple[int, ...]:
    """The strengths at which a task has an operator; 1 is the mildest."""
    whole = tuple(range(1, len(operator.levels) + 1))
    return whole if task in FIRST.tasks or len(whole) < 3 else FEWER_STRENGTHS


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
