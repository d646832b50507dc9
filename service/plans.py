"""What a plan looks like to a person, before anything runs."""

from collections import Counter
from statistics import median
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from sickbay.service.query import query
from sickbay.service.sweeps import Prepared
from sickbay.service.verdicts import shown
from sickbay.trials import design

TRIALS_SHOWN = 30


def describe_plan(prepared: Prepared) -> dict[str, Any]:
    """The plan as plain data: every trial in order, counts, hours, what the budget left out."""
    made = prepared.plan
    counts = design.summary(made)
    missing = {trial.trial_id for trial in prepared.missing}
    return {
        "sweep_id": prepared.sweep_id,
        "design": prepared.spec.design,
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
        "total": counts.total,
        "missing": len(missing),
        "per_arm": dict(counts.per_arm),
        "per_seed": {str(seed): n for seed, n in counts.per_seed.items()},
        "dropped_by_budget": counts.dropped,
        "fair": counts.fair,
        "estimated_core_hours": core_hours(prepared),
    }


def core_hours(prepared: Prepared) -> float | None:
    """Estimate the core hours of what is missing, from stored trials of the same workload.

    The median time an epoch of those that came to their end, times the epochs that are planned;
    None while the store holds no such trial.
    """
    sql = """
        SELECT wall_seconds / epochs_run AS seconds FROM trials
        WHERE workload = ? AND state IN ('completed', 'stopped') AND epochs_run > 0
    """
    rows = query(prepared.store, sql, [prepared.spec.workload]).rows
    if not rows:
        return None
    epochs = sum(trial.epochs for trial in prepared.missing)
    asked = prepared.spec.resources.cpu
    cores = prepared.workload.resources.cpu if asked is None else asked
    return float(median(seconds for (seconds,) in rows)) * epochs * cores / 3600


def print_plan(console: Console, prepared: Prepared) -> None:
    """Print the plan: arms, seeds, the first trials, hours, what the budget left out."""
    made = prepared.plan
    counts = design.summary(made)
    console.print(
        f"{prepared.sweep_id}: {counts.total} trials = {len(made.arms)} arms x "
        f"{len(made.seeds)} seeds, {prepared.spec.design}; {len(prepared.missing)} to run, "
        f"{counts.total - len(prepared.missing)} stored"
    )
    console.print(_trial_table(prepared))
    if counts.total > TRIALS_SHOWN:
        console.print(f"[dim]… and {counts.total - TRIALS_SHOWN} more (--json lists all)[/dim]")
    console.print(_arm_table(counts.per_arm))
    if counts.dropped:
        fair = "whole seed blocks" if counts.fair else "NOT even one whole seed block fits"
        console.print(f"the budget leaves out {counts.dropped} trials ({fair})")
    hours = core_hours(prepared)
    console.print(
        "no stored trial of this workload yet, so no estimate of hours"
        if hours is None
        else f"about {hours:.2g} core hours, by stored trials of this workload"
    )
    console.print(
        "[dim]aliasing: none, every arm of this design is a configuration of its own[/dim]"
    )


def _trial_table(prepared: Prepared) -> Table:
    factors = list(prepared.spec.factors)
    missing = {trial.trial_id for trial in prepared.missing}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("trial", "seed", *factors, "epochs", ""):
        table.add_column(name, no_wrap=True)
    for trial in prepared.plan.trials[:TRIALS_SHOWN]:
        levels = (shown(trial.config[name]) for name in factors)
        stored = "" if trial.trial_id in missing else "stored"
        table.add_row(trial.trial_id, str(trial.seed), *levels, str(trial.epochs), stored)
    return table


def _arm_table(per_arm: Any) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("arm")
    table.add_column("trials", justify="right")
    arms = Counter(dict(per_arm))
    for arm, n in list(arms.items())[:TRIALS_SHOWN]:
        table.add_row(arm, str(n))
    return table
