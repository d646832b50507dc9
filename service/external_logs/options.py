"""What a person says about a foreign log on the command line or over HTTP, as values."""

import math
from collections.abc import Sequence

from sickbay.service.external_logs.judge import CROSS_ENTROPY
from sickbay.trials.contract import TaskKind


def parse_names(pairs: Sequence[str]) -> dict[str, str]:
    """Read `mine=val_loss` pairs; ValueError for anything else."""
    names = {}
    for pair in pairs:
        mine, sign, signal = pair.rpartition("=")
        if not sign or not mine or not signal:
            raise ValueError(f"--map {pair}: write it as mine=val_loss (or mine=- to leave it out)")
        names[mine] = signal
    return names


def parse_task(task: str | None) -> TaskKind | None:
    """Read a task's kind; ValueError lists the kinds."""
    kinds = [kind.value for kind in TaskKind]
    if task is None:
        return None
    if task not in kinds:
        raise ValueError(f"--task {task}: it is one of {', '.join(kinds)}")
    return TaskKind(task)


def parse_classes(text: str | None) -> tuple[int, ...]:
    """Read class counts `90,10`; ValueError for fewer than two, or for what is no count."""
    if text is None:
        return ()
    try:
        counts = tuple(int(part) for part in text.split(","))
    except ValueError:
        counts = ()
    if len(counts) < 2 or min(counts) < 0 or sum(counts) == 0:
        raise ValueError(
            f"--classes {text}: give the samples of each class, separated by commas, as in 90,10"
        )
    return counts


def parse_floors(entries: Sequence[str]) -> dict[str, float | str]:
    """Read floors: `0.325`, `cross_entropy`, `val_density_kl=0.7`; ValueError for anything else."""
    floors: dict[str, float | str] = {}
    for entry in entries:
        signal, sign, value = entry.rpartition("=")
        name = signal if sign else "val_loss"
        if value == CROSS_ENTROPY:
            floors[name] = CROSS_ENTROPY
            continue
        try:
            floors[name] = float(value)
        except ValueError:
            floors[name] = math.nan
        if not math.isfinite(float(floors[name])):
            raise ValueError(
                f"--floor {entry}: give a number, {CROSS_ENTROPY}, or signal=number as in "
                "val_density_kl=0.7"
            )
    return floors
