"""Which arms to believe: the groups of a report's summary. Pure."""

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from sickbay.service.summary.values import (
    BELIEVE,
    GROUPS,
    MIXED,
    NONE,
    SICK,
    TRAP,
    ArmKey,
    ArmLine,
    TrialLine,
)
from sickbay.trials.contract import Goal, Objective


def grouped(
    lines: Sequence[ArmLine], trials: Sequence[TrialLine], objective: Objective | None
) -> tuple[ArmLine, ...]:
    """Put every arm into a group of GROUPS, and sort by group, then the best objective first."""
    worse = -1.0 if objective and objective.goal is Goal.MAXIMIZE else 1.0
    sound = [
        worse * line.middle
        for line in lines
        if line.healthy == line.trials and line.middle is not None
    ]
    floors = _floors(trials, objective)
    order = list(GROUPS)
    done = [replace(line, group=_group(line, worse, sound, floors.get(line.key))) for line in lines]
    return tuple(
        sorted(
            done,
            key=lambda line: (
                order.index(line.group),
                math.inf if line.middle is None else worse * line.middle,
                line.arm,
            ),
        )
    )


def _group(line: ArmLine, worse: float, sound: Sequence[float], floor: float | None) -> str:
    if line.trials and line.healthy == line.trials:
        return BELIEVE
    if 2 * line.pathological > line.trials:
        return TRAP if _looks_good(line, worse, sound, floor) else SICK
    return MIXED if line.healthy or line.pathological else NONE


def _looks_good(line: ArmLine, worse: float, sound: Sequence[float], floor: float | None) -> bool:
    """Whether the objective alone would pass: among the sound arms, or half way to the best one.

    Half way is counted from `floor`, the best constant predictor; without a sound arm, to 0.
    """
    if line.middle is None:
        return False
    value = worse * line.middle
    if sound and value <= max(sound):
        return True
    if floor is None or not math.isfinite(floor):
        return False
    best = min(sound) if sound else 0.0
    return best < worse * floor and value <= (worse * floor + best) / 2


def _floors(trials: Sequence[TrialLine], objective: Objective | None) -> dict[ArmKey, float]:
    """Give the objective's floor by arm, the middle one of its seeds; empty if none is known."""
    found: dict[ArmKey, list[float]] = {}
    for trial in trials:
        floor = trial.facts.floors.get(objective.signal) if objective else None
        if floor is not None:
            found.setdefault(trial.key, []).append(floor)
    return {key: median(values) for key, values in found.items()}
