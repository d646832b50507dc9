"""Why a trial got its label, and the smallest change of factors that is healthy in its sweep."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sickbay.service.query import find_trial, findings, labels, trials
from sickbay.service.stored import stored_spec
from sickbay.service.verdicts import number, print_advice, shown, verdict
from sickbay.trials.contract import Health
from sickbay.trials.store import Store

Row = Mapping[str, Any]


def explanation(store: Store, prefix: str) -> dict[str, Any]:
    """A trial, its findings, every label it had, and the smallest known fixes, as plain data.

    Raises QueryError if no trial, or more than one, has an id that begins with `prefix`.
    """
    sweep_id, trial_id = find_trial(store, prefix)
    rows = trials(store, sweep_id).records()
    trial = next(row for row in rows if row["trial_id"] == trial_id)
    factors = list(stored_spec(store, sweep_id).get("factors", {}))
    return {
        "trial": trial,
        "factors": {name: trial[name] for name in factors},
        "findings": findings(store, sweep_id, trial_id).records(),
        "labels": labels(store, sweep_id, trial_id).records(),
        "fixes": smallest_fixes(trial, rows, factors),
    }


def smallest_fixes(trial: Row, rows: Sequence[Row], factors: Sequence[str]) -> list[dict[str, Any]]:
    """The smallest sets of factor changes whose every stored trial of this sweep is healthy.

    Exact over what is stored: an arm counts only if all of its trials, whatever their seed, are
    healthy; of these, those that change the fewest factors. Empty for a healthy trial, and where no
    arm is healthy throughout.
    """
    if trial["label"] == Health.HEALTHY:
        return []
    arms: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        arms.setdefault(tuple(row[name] for name in factors), []).append(row)
    found: list[dict[str, Any]] = []
    for levels, mine in arms.items():
        if any(row["label"] != Health.HEALTHY for row in mine):
            continue
        change = {
            name: {"from": trial[name], "to": level}
            for name, level in zip(factors, levels, strict=True)
            if level != trial[name]
        }
        found.append({"change": change, "healthy": len(mine), "of": len(mine)})
    fewest = min((len(fix["change"]) for fix in found), default=0)
    return [fix for fix in found if len(fix["change"]) == fewest]


def print_explanation(console: Console, found: Mapping[str, Any]) -> None:
    """Print an explanation for a person."""
    trial = found["trial"]
    head = Text(f"{trial['trial_id']}  {trial['arm']}, seed {trial['seed']}: ", style="bold")
    console.print(head + verdict(trial))
    console.print(
        f"{trial['state']} after {trial['epochs_run']} of {trial['epochs_planned']} epochs, "
        f"objective {number(trial['objective']) or 'none'}; sweep {trial['sweep_id']}",
        highlight=False,
    )
    _print_judgement(console, trial)
    console.print(_finding_table(found["findings"]))
    _print_fixes(console, found)
    if len(found["labels"]) > 1:
        console.print("labels it had: " + ", ".join(_label_words(one) for one in found["labels"]))


def _print_judgement(console: Console, trial: Row) -> None:
    if trial["pathology"]:
        since = "" if trial["onset_epoch"] is None else f", since epoch {trial['onset_epoch']}"
        console.print(f"\n[bold]{trial['pathology']}[/bold]{since}")
        print_advice(console, trial)
    elif trial["reason"]:
        console.print(f"  {trial['reason']}", highlight=False)
    if trial["contributing"]:
        console.print(f"  with    {', '.join(trial['contributing'])}", highlight=False)
    if trial["error"]:
        console.print(Text(trial["error"].rstrip(), style="magenta"))


def _finding_table(rows: Sequence[Row]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("detector", "state", "severity", "onset"):
        table.add_column(name, no_wrap=True)
    table.add_column("statistic", justify="right", no_wrap=True)
    table.add_column("threshold", justify="right", no_wrap=True)
    table.add_column("reason and evidence", overflow="fold")
    for row in rows:
        evidence = json.loads(row["evidence"] or "{}")
        words = ", ".join(f"{name} {number(value)}" for name, value in evidence.items())
        table.add_row(
            row["detector"],
            row["state"],
            row["severity"],
            "" if row["onset_epoch"] is None else str(row["onset_epoch"]),
            number(row["statistic"]),
            number(row["threshold"]),
            f"{row['reason']}" + (f" ({words})" if words else ""),
        )
    return table


def _print_fixes(console: Console, found: Mapping[str, Any]) -> None:
    if found["trial"]["label"] == Health.HEALTHY:
        return
    if not found["fixes"]:
        console.print("no arm of this sweep is healthy in all of its trials: no fix is known yet")
        return
    console.print("the smallest change that is healthy in this sweep:")
    for fix in found["fixes"]:
        words = " and ".join(
            f"{name} {shown(levels['from'])} -> {shown(levels['to'])}"
            for name, levels in fix["change"].items()
        )
        console.print(
            f"  {words or 'none: other seeds of the same arm are healthy'}: "
            f"healthy in {fix['healthy']}/{fix['of']}",
            highlight=False,
        )


def _label_words(label: Row) -> str:
    cause = f" ({label['pathology']})" if label["pathology"] else ""
    return f"{label['label']}{cause} by {label['labeller_version']}"
