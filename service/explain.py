"""Why a trial got its label, and the smallest change of factors that is healthy in its store."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sickbay.service.fix import fixes_for
from sickbay.service.fix_printed import fix_lines
from sickbay.service.query import find_trial, findings, labels, trials
from sickbay.service.stored import stored_spec
from sickbay.service.sweep_advice import advice_records, sweep_advice
from sickbay.service.verdicts import number, print_advice, verdict
from sickbay.trials.contract import FindingState
from sickbay.trials.store import Store

Row = Mapping[str, Any]


def explanation(store: Store, prefix: str) -> dict[str, Any]:
    """A trial, its findings, every label it had, and the smallest known fixes, as plain data.

    `fixes` are the known ones in short, `healing` is all of `Fixes`: what to try where none is
    known, intervals, and the SQL. Raises QueryError if no trial, or more than one, has an id that
    begins with `prefix`.
    """
    sweep_id, trial_id = find_trial(store, prefix)
    rows = trials(store, sweep_id).records()
    trial = next(row for row in rows if row["trial_id"] == trial_id)
    factors = list(stored_spec(store, sweep_id).get("factors", {}))
    healing = fixes_for(store, trial_id)
    return {
        "trial": trial,
        "factors": {name: trial[name] for name in factors},
        "findings": findings(store, sweep_id, trial_id).records(),
        "labels": labels(store, sweep_id, trial_id).records(),
        "fixes": [
            {
                "change": {
                    one.setting: {"from": one.before, "to": one.after} for one in fix.changes
                },
                "healthy": fix.healthy,
                "of": fix.of,
            }
            for fix in healing.known
        ],
        "healing": {**asdict(healing), "says": list(fix_lines(healing))},
        "sweep_findings": advice_records(sweep_advice(store, sweep_id, factors), trial_id),
    }


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
    for line in found["healing"]["says"]:
        console.print(Text(line), soft_wrap=True)
    for one in found["sweep_findings"]:
        if one["state"] == FindingState.FIRED:
            words = f"sweep {one['severity']}: {one['detector']}: {one['reason']} {one['remedy']}"
            console.print(words, markup=False, highlight=False)
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


def _label_words(label: Row) -> str:
    cause = f" ({label['pathology']})" if label["pathology"] else ""
    return f"{label['label']}{cause} by {label['labeller_version']}"
