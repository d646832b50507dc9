"""The verdict table of a sweep, for one screen."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sickbay.service.query.engine import trials
from sickbay.service.query.outcomes import CUT_SHORT, HEALTHY
from sickbay.service.reports.best import code_lines, headline_rows, headlines
from sickbay.service.summary.formatting import COLOURS, SIGNS, as_float, recorded, short_arm, shown
from sickbay.trials.contract import Health, TrialState
from sickbay.trials.diagnosis.failures import REMEDIES, Failure
from sickbay.trials.diagnosis.sweep_findings import SweepFinding, shown_findings
from sickbay.trials.events import error_line
from sickbay.trials.spec.command import COMMAND
from sickbay.trials.store import Store

WELL_COVERED = 0.8  # share of the fatal detectors that judged: above, more signals hardly help
REASONS = 3  # for which trials are inconclusive, at most
ROWS_ON_A_SCREEN = 40  # above, trials are counted by arm

Row = Mapping[str, Any]


def print_verdicts(console: Console, store: Store, sweep_id: str, spec: Mapping[str, Any]) -> None:
    """Print the trials of a sweep with their labels, then each cause once with its remedy."""
    factors: Mapping[str, Any] = spec.get("factors", {})
    rows = in_spec_order(trials(store, sweep_id).records(), factors)
    if len(rows) <= ROWS_ON_A_SCREEN:
        print_trials(console, rows, factors)
    else:
        console.print(arm_table(rows))
        console.print(f"every trial: sickbay results {sweep_id}", style="dim")
    print_causes(console, rows)
    first = headline_rows(headlines(store, sweep_id, rows, spec))
    for line in (*first, *code_lines(rows)):
        console.print(line, highlight=False, soft_wrap=True)


def in_spec_order(rows: Sequence[Row], factors: Mapping[str, Any]) -> list[Row]:
    """Sort trials by their levels in the order of the spec, then by seed."""

    def position(row: Row) -> tuple[Any, ...]:
        ranks = []
        for name, levels in factors.items():
            known = levels if isinstance(levels, list) else []
            ranks.append(known.index(row[name]) if row.get(name) in known else len(known))
        return (*ranks, row["arm"], row["seed"])

    return sorted(rows, key=position)


def with_sweep_findings(
    rows: Sequence[Row], findings: Sequence[SweepFinding]
) -> list[dict[str, Any]]:
    """Trials with the findings of their sweep: those that name the trial, or no trial at all."""
    findings_of = [
        (
            frozenset(finding.trials),
            {
                "detector": finding.detector,
                "severity": str(finding.severity),
                "reason": finding.reason,
                "remedy": finding.remedy,
            },
        )
        for finding in shown_findings(findings)
    ]
    return [
        {
            **row,
            "sweep_findings": [
                finding for ids, finding in findings_of if not ids or row["trial_id"] in ids
            ],
        }
        for row in rows
    ]


def trial_table(rows: Sequence[Row], factors: Iterable[str]) -> Table:
    """One line per trial: id, factors, seed, objective, label, cause, onset, standing.

    The standing is a column only where a trial is ahead of or behind the reference arm.
    """
    compared = any(stands(row) for row in rows)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("trial", style="dim", no_wrap=True)
    for name in factors:
        table.add_column(name, no_wrap=True)
    table.add_column("seed", justify="right", no_wrap=True)
    table.add_column("objective", justify="right", no_wrap=True)
    table.add_column("label", no_wrap=True)
    table.add_column("cause", no_wrap=True)
    table.add_column("since", justify="right", no_wrap=True)
    if compared:
        table.add_column("standing", no_wrap=True)
    for row in rows:
        table.add_row(
            row["trial_id"][:8],
            *(shown(row.get(name)) for name in factors),
            str(row["seed"]),
            recorded(row["objective"]),
            verdict(row),
            cause(row),
            "" if row["onset_epoch"] is None else f"epoch {row['onset_epoch']}",
            *([stands(row)] if compared else []),
        )
    return table


def print_trials(console: Console, rows: Sequence[Row], factors: Iterable[str]) -> None:
    """Print the trials: one column per factor, or one for the arm on a narrow terminal."""
    table = trial_table(rows, factors)
    unbound = console.options.update(max_width=10_000)
    fits = console.measure(table, options=unbound).maximum <= console.width
    console.print(table if fits else _narrow_table(rows))


def _narrow_table(rows: Sequence[Row]) -> Table:
    """One entry per trial, of as many lines as needed: no id, seed or verdict is cut."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("trial", style="dim", no_wrap=True)
    table.add_column("arm", overflow="fold")
    for name in ("seed", "objective"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("label and cause", overflow="fold", min_width=14)
    for row in rows:
        since = "" if row["onset_epoch"] is None else f" since epoch {row['onset_epoch']}"
        why = f"\n{cause(row)}{since}" if cause(row) else ""
        parts = (verdict(row), Text(why), Text(f"\n{stands(row)}" if stands(row) else ""))
        table.add_row(
            row["trial_id"][:8],
            short_arm(row["arm"]),
            str(row["seed"]),
            recorded(row["objective"]),
            Text.assemble(*parts),
        )
    return table


def cause(row: Row) -> str:
    """A trial's pathology, or the class of its failure; "" without either."""
    return str(row["pathology"] or row.get("failure") or "")


def stands(row: Row) -> str:
    """How a trial compares with its siblings, if worth a note: "far behind", or ""."""
    word = row.get("standing")
    return word.replace("_", " ") if word in ("ahead", "behind", "far_behind") else ""


def arm_table(rows: Sequence[Row]) -> Table:
    """One line per arm: how many of its trials are healthy, pathological by cause, failed."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("arm")
    table.add_column("healthy", justify="right", no_wrap=True)
    table.add_column("objective, median [min, max]", justify="right", no_wrap=True)
    table.add_column("causes")
    arms: dict[str, list[Row]] = {}
    for row in rows:
        arms.setdefault(row["arm"], []).append(row)
    for name, mine in arms.items():
        counted = [row["outcome"] for row in mine if row["outcome"] not in CUT_SHORT]
        healthy = counted.count(HEALTHY)
        table.add_row(
            short_arm(name), f"{healthy} of {len(counted)}", spread(mine), causes_of(mine)
        )
    return table


def print_causes(console: Console, rows: Sequence[Row]) -> None:
    """Print each pathology once, with one trial's reason, and the remedy."""
    pathological = [row for row in rows if row["pathology"]]
    for cause in dict.fromkeys(row["pathology"] for row in pathological):
        mine = [row for row in pathological if row["pathology"] == cause]
        example = mine[0]
        console.print(Text(f"{cause}: {len(mine)} of {len(rows)} trials", style="bold"))
        print_advice(console, example)
    _print_open(console, [row for row in rows if row["label"] == Health.INCONCLUSIVE], len(rows))
    print_failures(console, rows)


def print_failures(console: Console, rows: Sequence[Row]) -> None:
    """Print each class of failure once: number of trials, error line, remedy."""
    failed = [row for row in rows if row["state"] == TrialState.FAILED]
    for failure in dict.fromkeys(row.get("failure") for row in failed):
        mine = [row for row in failed if row.get("failure") == failure]
        known = failure or Failure.UNKNOWN
        console.print(Text(f"failed, {known}: {len(mine)} of {len(rows)} trials", style="bold"))
        _print_pairs(console, why=error_line(mine[0]["error"]), change=REMEDIES.get(known, ""))


def _print_open(console: Console, rows: Sequence[Row], total: int) -> None:
    """Print why trials are inconclusive, and the lines that would change it."""
    for reason in list(dict.fromkeys(row["reason"] for row in rows))[:REASONS]:
        mine = [row for row in rows if row["reason"] == reason]
        console.print(Text(f"inconclusive: {len(mine)} of {total} trials", style="bold"))
        grid = Table.grid(padding=(0, 2))
        grid.add_column()
        grid.add_column(overflow="fold")
        grid.add_row("  why", Text(reason))
        for line in _lacking(mine[0]):
            grid.add_row("  add", Text(line))
        console.print(grid)


def _lacking(row: Row) -> list[str]:
    """The lines to write so that a trial like this one can be judged."""
    floors = json.loads(row["facts"] or "{}").get("floors", {})
    script = row["workload"] == COMMAND
    lines = []
    if script and row["objective"] is None:
        lines.append(
            "in the spec, what to compare: objective: {signal: train_loss, goal: minimize}"
        )
    if "val_loss" not in floors:
        lines.append(
            "in the spec, what is known: facts: {task: multiclass, classes: [50, 50], "
            "floor: cross_entropy, val_n: 100}"
            if script
            else "in the workload, what is known: TaskFacts.of(loss, targets)"
        )
    if (row["coverage"] or 0.0) < WELL_COVERED:
        lines.append(
            "in the script: run = sickbay.start(…); run.watch(model); run.log(epoch=…, val_loss=…)"
            if script
            else "in the training loop: probe = Probe(model), probe.step(loss), probe.evaluation()"
        )
    return lines


def print_advice(console: Console, row: Row) -> None:
    """Print why a trial is pathological, and the remedy, with a hanging indent."""
    _print_pairs(console, why=row["reason"], change=row["remedy"])


def _print_pairs(console: Console, **texts: str) -> None:
    grid = Table.grid(padding=(0, 2))
    grid.add_column()
    grid.add_column(overflow="fold")
    for name, text in texts.items():
        grid.add_row(f"  {name}", Text(text))
    console.print(grid)


def verdict(row: Row) -> Text:
    """A trial's label with its sign, or its state where it has none."""
    if row["label"] is None:
        return Text(f"! {row['state']}", style="magenta")
    sign = SIGNS[row["label"]]
    return Text(f"{sign} {row['label']}", style=COLOURS[sign])


def causes_of(rows: Sequence[Row]) -> str:
    """Count what is not healthy: `no_skill 3, inconclusive 1, failed 1`."""
    outcomes = [row["outcome"] for row in rows if row["outcome"] != HEALTHY]
    return ", ".join(f"{word} {outcomes.count(word)}" for word in dict.fromkeys(outcomes))


def spread(rows: Sequence[Row]) -> str:
    """Median and range of the objective, and the number of non-finite values."""
    values = [as_float(row["objective"]) for row in rows]
    finite = sorted(value for value in values if value is not None and math.isfinite(value))
    lost = len(values) - len(finite)
    tail = f" and {lost} not finite" if lost else ""
    if not finite:
        return "none" + tail
    return f"{median(finite):.4g} [{finite[0]:.4g}, {finite[-1]:.4g}]{tail}"
