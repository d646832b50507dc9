"""Facts for the detectors from what the user states about a log's task."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sickbay.trials.contract import TaskFacts, TaskKind

CROSS_ENTROPY = "cross_entropy"


def stated_facts(stated: Mapping[str, Any]) -> TaskFacts:
    """Facts from the keys `task`, `classes`, `floor`, `val_n`, `components`, all optional.

    `floor` is a number (of `val_loss`), `cross_entropy` (the entropy of `classes`, in nats), or a
    mapping of signals to such. Raises ValueError for `cross_entropy` without `classes`.
    """
    classes = tuple(stated.get("classes") or ())
    floor = stated.get("floor")
    floors = floor if isinstance(floor, Mapping) else {} if floor is None else {"val_loss": floor}
    kind = TaskKind(stated.get("task") or TaskKind.UNKNOWN)
    if classes and kind is TaskKind.UNKNOWN:
        kind = TaskKind.BINARY if len(classes) == 2 else TaskKind.MULTICLASS
    return TaskFacts(
        kind=kind,
        floors={name: _floor(value, classes) for name, value in floors.items()},
        class_counts=classes,
        n={"val": stated["val_n"]} if stated.get("val_n") else {},
        components=stated.get("components"),
    )


def entropy(classes: Sequence[int]) -> float:
    """Cross-entropy of the best constant predictor, in nats: the entropy of the class shares."""
    total = sum(classes)
    return -sum(count / total * math.log(count / total) for count in classes if count)


def _floor(value: float | str, classes: Sequence[int]) -> float:
    if value != CROSS_ENTROPY:
        return float(value)
    if sum(classes) == 0:
        raise ValueError(f"floor: {CROSS_ENTROPY} needs the class counts: classes: [90, 10]")
    return entropy(classes)
