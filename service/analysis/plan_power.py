"""What a planned design can detect, in the objective's unit where the store knows the noise."""

import json
import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sickbay.service.analysis.statistics import FEWEST_SEEDS
from sickbay.service.analysis.statistics.power import power, seeds_needed, smallest_detectable
from sickbay.service.query.engine import query
from sickbay.trials.store import Store

USUAL = math.sqrt(2.0)  # two standard deviations of a trial, in noise of paired differences


@dataclass(frozen=True)
class PlannedPower:
    """What a design of so many seeds and compared levels can detect.

    `noise` is the standard deviation of a paired difference over seeds, from `pairs` stored pairs
    of the workload; None without any, and then it is the unit. `power` and `seeds_needed` are for
    the `difference`: the spec's smallest effect, or two standard deviations of a trial.
    """

    seeds: int
    levels: int
    noise: float | None
    pairs: int
    smallest_detectable: float
    difference: float
    power: float
    seeds_needed: int | None


def planned_power(
    store: Store, workload: str, signal: str, design: tuple[int, int], smallest: float | None
) -> PlannedPower:
    """Compute the power of a design of (seeds, compared levels)."""
    seeds, levels = design
    noise, pairs = stored_noise(store, workload, signal)
    unit = noise or 1.0
    in_noise = smallest / unit if smallest and noise else USUAL
    return PlannedPower(
        seeds=seeds,
        levels=levels,
        noise=noise,
        pairs=pairs,
        smallest_detectable=smallest_detectable(seeds, levels) * unit,
        difference=in_noise * unit,
        power=power(in_noise, seeds, levels),
        seeds_needed=seeds_needed(round(in_noise, 6), levels),
    )


def stored_noise(store: Store, workload: str, signal: str) -> tuple[float | None, int]:
    """Standard deviation of paired differences over seeds, pooled over stored sweeps, and pairs.

    Each arm is paired with its sweep's first by seed, both healthy, in sweeps of the same
    objective.
    """
    specs = query(store, "SELECT sweep_id, spec FROM sweeps").rows
    alike = {sweep for sweep, spec in specs if _signal(json.loads(spec or "{}")) == signal}
    rows = query(
        store,
        "SELECT sweep_id, arm, seed, objective FROM outcomes\n"
        "WHERE workload = ? AND outcome = 'healthy' ORDER BY sweep_id, arm, seed",
        [workload],
    ).rows
    sweeps: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for sweep, arm, seed, objective in rows:
        if sweep in alike:
            sweeps[sweep][arm][seed] = objective
    squares, degrees, pairs = 0.0, 0, 0
    for arms in sweeps.values():
        first, *others = arms.values()
        for other in others:
            differences = np.array([other[seed] - first[seed] for seed in other if seed in first])
            if len(differences) > 1:
                squares += float(((differences - differences.mean()) ** 2).sum())
                degrees += len(differences) - 1
                pairs += len(differences)
    return (math.sqrt(squares / degrees), pairs) if squares > 0.0 else (None, 0)


def power_line(found: PlannedPower) -> str:
    """Say what the design can detect, and how many seeds are recommended."""
    if found.seeds < FEWEST_SEEDS:
        more = f"; {found.seeds_needed} are recommended" if found.seeds_needed else ""
        few = "1 seed gives" if found.seeds == 1 else f"{found.seeds} seeds give"
        return (
            f"seeds: {few} no verdict: an interval needs {FEWEST_SEEDS} with a healthy pair{more}"
        )
    unit = "" if found.noise else " times the noise of a paired difference"
    known = (
        f" (noise {found.noise:.3g}, from {found.pairs} stored pairs of this workload)"
        if found.noise
        else ""
    )
    needed = f"{found.seeds_needed} seeds" if found.seeds_needed else "more than 200 seeds"
    smallest, difference = f"{found.smallest_detectable:.3g}", f"{found.difference:.3g}"
    return (
        f"power: {found.seeds} seeds and {found.levels} compared levels find a true difference of "
        f"{smallest}{unit} with 80 % probability{known}; one of {difference} with "
        f"{100 * found.power:.0f} %, for which {needed} are recommended, if all trials are healthy"
    )


def _signal(spec: Mapping[str, object]) -> object:
    said = spec.get("objective")
    said = said[0] if isinstance(said, list) and said else said
    return said.get("signal") if isinstance(said, Mapping) else None
