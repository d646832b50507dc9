"""A plan for display, before anything runs, and the progress of a sequential sweep."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from sickbay.service.analysis.plan_power import PlannedPower, planned_power, power_line
from sickbay.service.query.engine import query
from sickbay.service.query.status import gpu_sharing, sharing_lines
from sickbay.service.summary.formatting import short_arm, shown, signed, with_sign
from sickbay.service.sweeps.prepare import Prepared
from sickbay.trials.search.sequential import (
    ArmVerdict,
    Effect,
    HealthEffect,
    Progress,
    progress_of_sweep,
)
from sickbay.trials.spec import plan as design
from sickbay.trials.spec.model import RangeSpec
from sickbay.trials.store import Store

TRIALS_SHOWN = 30
ALIASES_SHOWN = 30


@dataclass(frozen=True)
class Estimate:
    """Time that the missing trials need, by `n` stored trials of the same workload (and size).

    `seconds` is their median wall seconds an epoch, `trial_seconds` the mean of a missing trial by
    that; `slots` trials run at once here. `hours` is wall time, `core_hours` and `gpu_hours` count
    cores and GPUs.
    """

    n: int
    seconds: float
    trial_seconds: float
    slots: int
    hours: float
    core_hours: float
    gpu_hours: float


def describe_plan(prepared: Prepared) -> dict[str, Any]:
    """The plan as plain data: every trial in order, counts, hours, trials beyond the budget.

    `heading` and `notes` are the lines above and below its table.
    """
    made = prepared.plan
    counts = design.summary(made)
    missing = {trial.trial_id for trial in prepared.missing}
    estimate, power = estimated(prepared), power_of(prepared)
    remarks = design_remarks(prepared)
    last_lines = [*remarks, *([power_line(power)] if power else [])]
    return {
        "sweep_id": prepared.sweep_id,
        "design": prepared.spec.design,
        "factors": list(prepared.spec.factors),
        "trials": [
            {
                "trial_id": trial.trial_id,
                "arm": design.arm_name(trial.config, trial.changed),
                "seed": trial.seed,
                "epochs": trial.epochs,
                "stored": trial.trial_id not in missing,
                "config": dict(trial.config),
            }
            for trial in made.trials
        ],
        "total": prepared.planned,
        "missing": prepared.left,
        "per_arm": dict(counts.per_arm),
        "per_seed": {str(seed): n for seed, n in counts.per_seed.items()},
        "dropped_by_budget": counts.dropped,
        "fair": counts.fair,
        "excluded_by_constraint": dict(made.excluded),
        "resolution": made.aliasing.resolution if made.aliasing else None,
        "defining_words": list(made.aliasing.words) if made.aliasing else [],
        "aliases": {k: list(v) for k, v in made.aliasing.aliases.items()} if made.aliasing else {},
        "sequential": asdict(prepared.progress) if prepared.progress else None,
        "search": _search(prepared) if prepared.searches else None,
        "estimated_core_hours": estimate.core_hours if estimate else None,
        "estimate": vars(estimate) if estimate else None,
        "budget_holds": budget_holds(prepared, estimate),
        "remarks": remarks,
        "power": vars(power) if power else None,
        "heading": list(_heading(prepared)),
        "notes": list(_notes(prepared, estimate, last_lines)),
    }


def design_remarks(prepared: Prepared) -> list[str]:
    """What the planned trials cannot show: confounded factors, and levels without a trial."""
    spec, arms = prepared.spec, prepared.plan.arms
    if prepared.searches or not arms:
        return []
    levels = {name: values for name, values in spec.factors.items() if isinstance(values, tuple)}
    partitions: dict[tuple[int, ...], list[str]] = {}
    remarks = []
    for name, values in levels.items():
        met = [arm.config[name] for arm in arms]
        places = list(dict.fromkeys(met))
        if len(places) > 1:
            partitions.setdefault(tuple(places.index(level) for level in met), []).append(name)
        missing = [level for level in values if level not in places]
        if missing:
            remarks.append(
                f"{name}: no trial has {', '.join(map(shown, missing))}"
                + (f"; {spec.design} uses the first and the last level" if len(values) > 2 else "")
            )
    joint = [" = ".join(names) for names in partitions.values() if len(names) > 1]
    return [f"aliasing: {names} (always change together)" for names in joint] + remarks


def power_of(prepared: Prepared) -> PlannedPower | None:
    """What the design can detect; None where nothing is compared."""
    spec = prepared.spec
    levels = sum(len(some) - 1 for some in spec.factors.values() if isinstance(some, tuple))
    if levels < 1 or prepared.sequential:  # which has no number of seeds to say it of
        return None
    signal = design.objective_of(spec, prepared.workload).signal
    seeds = len(prepared.plan.seeds) or len(spec.seed_list)
    return planned_power(
        prepared.store, spec.workload, signal, (seeds, levels), spec.smallest_effect
    )


def estimated(prepared: Prepared) -> Estimate | None:
    """Estimate the hours of the missing trials; None while the store has no trial like these."""
    sql = """
        SELECT wall_seconds / epochs_run AS seconds, config FROM trials
        WHERE workload = ? AND state IN ('completed', 'stopped') AND epochs_run > 0
    """
    size = design.settings_of(prepared.spec, prepared.workload, {}).get("size")
    rows = query(prepared.store, sql, [prepared.spec.workload]).rows
    durations = [
        float(seconds)
        for seconds, config in rows
        if size is None or json.loads(config or "{}").get("size") == size
    ]
    if not durations or not prepared.left:
        return None
    epochs, left = _epochs_left(prepared), prepared.left
    asked, own = prepared.spec.resources, prepared.workload.resources
    cores = own.cpu if asked.cpu is None else asked.cpu
    packed = gpu_sharing(prepared.store, prepared.sweep_id) or 1.0
    gpus = {"auto": own.gpu, "pack": packed}[asked.gpu] if isinstance(asked.gpu, str) else asked.gpu
    slots = max(1, int((os.cpu_count() or 1) / max(cores, 0.01)))
    seconds = float(median(durations))
    work = seconds * epochs / 3600  # hours, one trial after another
    waves = -(-left // slots) / left  # the last wave may leave slots idle
    return Estimate(
        n=len(durations),
        seconds=seconds,
        trial_seconds=seconds * epochs / left,
        slots=slots,
        hours=work * waves,
        core_hours=work * cores,
        gpu_hours=work * gpus,
    )


def budget_holds(prepared: Prepared, estimate: Estimate | None) -> dict[str, bool | None]:
    """Whether the sweep fits each limit of the budget; None where unknown."""
    budget = prepared.spec.budget
    holds: dict[str, bool | None] = {}
    if budget.trials is not None:
        holds["trials"] = prepared.plan.dropped == 0
    for name, limit in (("hours", budget.hours), ("gpu_hours", budget.gpu_hours)):
        if limit is not None:
            holds[name] = None if estimate is None else getattr(estimate, name) <= limit
    return holds


def print_plan(console: Console, plan: Mapping[str, Any]) -> None:
    """Print a plan that `describe_plan` made, here or in a service."""
    for line in plan["heading"]:
        _print(console, line)
    shown_trials = plan["trials"][:TRIALS_SHOWN]
    if shown_trials:
        trials = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for column in ("trial", "seed", *plan["factors"], "epochs", ""):
            trials.add_column(column, no_wrap=True)
        for trial in shown_trials:
            levels = (shown(trial["config"][name]) for name in plan["factors"])
            cells = (trial["trial_id"], str(trial["seed"]), *levels, str(trial["epochs"]))
            trials.add_row(*cells, "stored" if trial["stored"] else "")
        console.print(trials)
        more = sum(plan["per_arm"].values()) - len(shown_trials)
        if more > 0:
            console.print(f"… and {more} more (--json lists all)", style="dim")
        arms = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        arms.add_column("arm")
        arms.add_column("trials", justify="right")
        for name, n in list(plan["per_arm"].items())[:TRIALS_SHOWN]:
            arms.add_row(short_arm(name), str(n))
        console.print(arms)
    for line in plan["notes"]:
        _print(console, line)


def _print(console: Console, line: str) -> None:
    console.print(line, markup=False, emoji=False, highlight=False, soft_wrap=True)


def _heading(prepared: Prepared) -> Iterator[str]:
    """The size of a plan; of a search also its space, of a sequential sweep how far it is."""
    made, design_name = prepared.plan, prepared.spec.design
    if prepared.searches:
        search = _search(prepared)
        yield (
            f"{prepared.sweep_id}: {design_name}, {search['configurations']} configurations x "
            f"{search['seeds']} seeds = {prepared.planned} trials; {search['suggested']} "
            f"configurations suggested so far, {prepared.left} trials to run"
        )
        for name, space in search["space"].items():
            choices = (
                f"{space['low']:g} to {space['high']:g}{', log scale' if space['log'] else ''}"
                if isinstance(space, dict)
                else ", ".join(shown(level) for level in space)
            )
            yield f"  {name}: {choices}; starts at {shown(search['baseline'][name])}"
        if prepared.earlier:
            yield f"warm start: {prepared.earlier.line}"
    else:
        total, missing = len(made.trials), len(prepared.missing)
        yield (
            f"{prepared.sweep_id}: {total} trials = {len(made.arms)} arms x {len(made.seeds)} "
            f"seeds, {design_name}; {missing} to run, {total - missing} stored"
        )
    if prepared.progress is not None:
        yield (
            "seeds until resolved: three for every arm, then one at a time where the verdict is "
            "open; the number of trials shown is the maximum"
        )
        yield from progress_lines(prepared.progress, len(prepared.spec.seed_list))


def _notes(prepared: Prepared, estimate: Estimate | None, remarks: Sequence[str]) -> Iterator[str]:
    """What is left out, how long the rest takes, and what it cannot show."""
    made, spec = prepared.plan, prepared.spec
    for text, n in made.excluded.items():
        yield f"the constraint {text!r} leaves out {n} configurations"
    if made.dropped:
        fair = "whole seed blocks" if made.fair else "NOT even one whole seed block fits"
        yield f"the budget leaves out {made.dropped} trials ({fair})"
    yield _hours(prepared, estimate)
    yield from sharing_lines(prepared.store, prepared.sweep_id, spec.resources.model_dump())
    fits = {True: "the sweep fits", False: "the sweep does NOT fit", None: "unknown yet"}
    for name, holds in budget_holds(prepared, estimate).items():
        yield f"budget.{name} {getattr(spec.budget, name):g}: {fits[holds]}"
    if not prepared.searches and not any(line.startswith("aliasing") for line in remarks):
        yield from _aliases(made)
    yield from remarks


def _search(prepared: Prepared) -> dict[str, Any]:
    """What is known of a search before it runs."""
    spec = prepared.spec
    assert spec.budget.trials is not None
    space: dict[str, Any] = {
        name: levels.model_dump() if isinstance(levels, RangeSpec) else list(levels)
        for name, levels in spec.factors.items()
    }
    return {
        "configurations": spec.budget.trials // len(spec.seed_list),
        "suggested": len(prepared.plan.arms),
        "seeds": len(spec.seed_list),
        "space": space,
        "baseline": design.baseline_choice(spec, prepared.workload),
        "warm_start": prepared.earlier.as_data() if prepared.earlier else None,
    }


def _hours(prepared: Prepared, estimate: Estimate | None) -> str:
    if prepared.left == 0:
        return "all trials are stored: nothing to run"
    if estimate is None:
        return "no stored trial of this workload yet, so no estimate of hours"
    return (
        f"about {estimate.hours:.2g} hours on {estimate.slots} slots "
        f"({estimate.core_hours:.2g} core hours): {estimate.trial_seconds:.3g} s a trial, the "
        f"median of {estimate.n} stored trials of this workload"
    )


def _aliases(made: design.Plan) -> Iterator[str]:
    aliasing = made.aliasing
    if aliasing is None or not aliasing.words:
        yield "aliasing: none, as each arm of this design is a distinct configuration"
        return
    yield f"resolution {aliasing.resolution}: I = {', '.join(aliasing.words[:ALIASES_SHOWN])}"
    lines = [f"  {name} = {' = '.join(others)}" for name, others in aliasing.aliases.items()]
    yield from lines[:ALIASES_SHOWN]
    if len(lines) > ALIASES_SHOWN:
        yield f"  … and {len(lines) - ALIASES_SHOWN} more (--json lists all)"
    if not lines:
        yield "  no main effect or two-factor interaction is confounded with another"


def _epochs_left(prepared: Prepared) -> float:
    settings = design.settings_of(prepared.spec, prepared.workload, {})
    unknown = prepared.unsuggested * int(settings.get("epochs", 1))
    return sum(trial.epochs for trial in prepared.missing) + unknown


def sequential_lines(store: Store, sweep_id: str, spec: Mapping[str, Any]) -> list[str]:
    """Which arms of a stored sequential sweep are settled; empty for any other sweep."""
    if not isinstance(spec.get("seeds"), Mapping):
        return []
    progress = progress_of_sweep(store, sweep_id, spec)
    return [] if progress is None else list(progress_lines(progress, spec["seeds"]["at_most"]))


def progress_lines(progress: Progress, at_most: int) -> Iterator[str]:
    """The number of settled arms, and each arm's verdict so far."""
    settled = sum(verdict.settled for verdict in progress.verdicts)
    yield (
        f"sequential: {settled} of {len(progress.verdicts)} arms are settled against the "
        f"reference, with at most {at_most} seeds each"
    )
    for verdict in progress.verdicts:
        yield f"  {short_arm(verdict.arm)}: {_verdict(verdict)}"


def _verdict(verdict: ArmVerdict) -> str:
    parts = ["open" if verdict.effect is Effect.OPEN else with_sign(verdict.effect.value)]
    if verdict.pairs:
        parts.append(f"{signed(verdict.mean)} [{signed(verdict.low)}, {signed(verdict.high)}]")
    if verdict.health in (HealthEffect.HEALTHIER, HealthEffect.LESS_HEALTHY):
        parts.append(verdict.health.value)
    if verdict.pathological or verdict.reference_pathological:
        parts.append(
            f"{verdict.pathological} of {verdict.judged} pathological, reference "
            f"{verdict.reference_pathological}"
        )
    return f"{', '.join(parts)} ({verdict.seeds} seeds, {verdict.pairs} healthy pairs)"
