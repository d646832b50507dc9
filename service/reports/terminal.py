"""Tables, comparisons and frontiers in a terminal, each with the SQL that recomputes it."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from sickbay.service.analysis.comparison import ArmPair, Comparison, Half
from sickbay.service.analysis.frontier import SweepFrontier
from sickbay.service.analysis.study import EffectStudy, SweepEffects
from sickbay.service.reports.tables import (
    arm_difference,
    comparison_table,
    effects_table,
    importance_table,
    interactions_table,
    main_effects_table,
)
from sickbay.service.summary.formatting import COLOURS, number, short_arm, with_sign
from sickbay.service.summary.table import Table
from sickbay.trials.contract import Goal

MOST_NAMES = 10
VERDICTS = ("verdict", "drift")  # columns whose cells begin with a coloured sign
VERDICT_WIDTH = 16


def print_study(console: Console, study: EffectStudy, *, sql: bool = False) -> None:
    """Print the effects, then each requested part; with `sql`, also the SQL of each."""
    print_effects(console, study.effects, sql=sql)
    if study.interactions is not None:
        table = interactions_table(study.interactions, study.sql["interactions"])
        stacked = table.pick(
            ("first", "second"),
            "all four healthy",
            "difference of differences [95 %]",
            ("p", "Holm"),
            ("healthy: neither, first", "healthy: second, both"),
            "difference of healthy [95 %]",
            ("p of healthy", "Holm of healthy"),
            "verdict",
        )
        print_table(console, stacked, "Interactions of two factors", sql=sql)
    if study.main_effects is not None:
        table = main_effects_table(study.main_effects, study.sql["main_effects"])
        stacked = table.pick(
            "factor",
            ("level", "baseline"),
            "healthy",
            "difference [95 %]",
            ("p", "Holm"),
            "rank [95 %]",
            ("p of rank", "Holm of rank"),
            "verdict",
        )
        print_table(console, stacked, "Main effects over the whole design", sql=sql)
    if study.importance is not None:
        table = importance_table(study.importance, study.sql)
        print_table(console, table, "Importance of the factors", sql=sql)


def print_effects(console: Console, effects: SweepEffects, *, sql: bool = False) -> None:
    """Print the table, what was left out and why, and its legend; with `sql`, also its SQL."""
    table = effects.table
    lower = "lower" if table.goal is Goal.MINIMIZE else "higher"
    cancelled = f", {table.cancelled} of them cancelled" if table.cancelled else ""
    head = (
        f"{effects.sweep_id}: {effects.signal}, {lower} is better; {table.trials} trials{cancelled}"
    )
    console.print(head, highlight=False)
    whole = effects_table(table, effects.sql)
    wide = console.width >= WIDE
    shown = whole.pick(*_WIDE) if wide else _intervals_below(whole.pick(*_NARROW))
    print_table(console, shown, sql=sql)
    if not wide and table.effects:
        console.print(Text(f"with {WIDE} columns also {_MORE}; so do --json and report", "dim"))


WIDE = 150  # columns of a terminal that every number of an effect fits in
_MORE = "healthy pairs, P(better), bootstrap and IQM"
_WIDE = (
    ("factor", "level", "baseline"),
    "healthy pairs",
    ("difference [95 %]", "bootstrap", "IQM"),
    ("p", "Holm"),
    ("P(better) [95 %]", "of pairs", "p, Holm of P(better)"),
    ("healthy [95 %]", "baseline healthy [95 %]", "p, Holm of healthy"),
    "verdict",
)
_NARROW = (
    ("factor", "level", "baseline"),
    ("difference [95 %]", "p, Holm"),
    ("healthy [95 %]", "baseline healthy [95 %]", "p, Holm of healthy"),
    "verdict",
)


def _intervals_below(table: Table) -> Table:
    """A table of `_NARROW` with each difference's interval on a line of its own."""
    rows = ((levels, diff.replace(" [", "\n["), *rest) for levels, diff, *rest in table.rows)
    return replace(table, rows=tuple(rows))


def print_table(console: Console, table: Table, title: str = "", *, sql: bool = True) -> None:
    """Print a table, its notes, legend and SQL; without rows no grid and no legend."""
    if title:
        console.print(Text(f"\n{title}", style="bold"))
    if table.rows:
        console.print(_grid(table))
    for note in table.notes:
        console.print(Text(note))
    if table.rows and table.legend:
        console.print(Text(_reflowed(table.legend), style="dim"))
    if sql:
        print_sql(console, table.sql)


def print_sql(console: Console, texts: Mapping[str, str]) -> None:
    """Print queries to be copied; parts without a query are left out."""
    for what, sql in texts.items():
        if sql:
            console.print(Text(f"\n-- {what}\n{sql}", style="dim"), soft_wrap=True)


def _folded(head: str, cells: Sequence[str]) -> str:
    """A column's head, broken between words where it is wider than what stands below it."""
    width = max((len(line) for cell in cells for line in cell.split("\n")), default=len(head))
    lines = (
        textwrap.wrap(line, max(width, 1), break_long_words=False) for line in head.split("\n")
    )
    return "\n".join(part for wrapped in lines for part in wrapped)


def _reflowed(legend: str) -> str:
    """Join the indented lines of a legend to those they continue: the terminal wraps them."""
    return legend.replace("\n  ", " ")


def _grid(table: Table) -> Grid:
    made = Grid(box=box.SIMPLE_HEAD, pad_edge=False)
    for place, name in enumerate(table.columns):
        if name not in table.words:
            head = _folded(name, [row[place] for row in table.rows])
            made.add_column(Text(head), justify="right", no_wrap=True)
        elif name in VERDICTS:
            made.add_column(Text(name), overflow="fold", min_width=VERDICT_WIDTH)
        else:
            made.add_column(Text(name), overflow="fold")
    for row in table.rows:  # as text: brackets in a cell are no markup
        made.add_row(
            *(
                Text(cell, style=COLOURS[cell[0]] if name in VERDICTS else "")
                for name, cell in zip(table.columns, row, strict=True)
            )
        )
    return made


def print_comparison(console: Console, comparison: Comparison, *, sql: bool = False) -> None:
    """Print a comparison; with `sql`, also the SQL of both sides."""
    for letter, half in (("A", comparison.a), ("B", comparison.b)):
        console.print(Text(f"{letter}  {_half(half)}"), soft_wrap=True)
    for name, (before, after) in comparison.settings.items():
        console.print(Text(f"{name}: {before} in all of A, {after} in all of B"))
    for pair in comparison.arms:
        if pair.baseline:
            console.print(_drift_line(pair), soft_wrap=True)
    table = comparison_table(comparison).pick(
        "arm",
        ("healthy A", "healthy B"),
        ("mean A", "mean B"),
        "B - A [95 %]",
        ("pairs", "p", "Holm"),
        "drift",
    )
    if table.rows:
        console.print(_grid(table))
    for line in _remarks(comparison):
        console.print(Text(line))
    console.print(Text(_reflowed(table.legend), style="dim"))
    same = comparison.a.sql == comparison.b.sql
    texts = (
        {"either side": comparison.a.sql}
        if same
        else {"A": comparison.a.sql, "B": comparison.b.sql}
    )
    if sql:
        print_sql(console, texts)


def _remarks(comparison: Comparison) -> Iterator[str]:
    """Print changed labels, arms of one side only, and what could not be compared."""
    for pair in comparison.arms:
        for change in pair.label_changes:
            where = f"{short_arm(pair.arm)}, seed {change.seed}"
            yield f"{where}: {change.before} in A, {change.after} in B"
    for letter, names in (("A", comparison.only_a), ("B", comparison.only_b)):
        if names:
            more = f", and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
            listed = "; ".join(names[:MOST_NAMES])
            yield f"only in {letter}, {len(names)} arms: {listed}{more}"
    yield from comparison.notes


def _drift_line(pair: ArmPair) -> Text:
    sign, drift = with_sign(pair.drift).split(" ", 1)
    line = f"{sign} baseline {drift}: B - A {arm_difference(pair)}"
    if pair.pairs:
        line += f", {pair.identical} of {pair.pairs} pairs to the last bit"
    if pair.label_changes:
        changed = len(pair.label_changes)
        line += f"; {changed} of {pair.shared_seeds} shared seeds have another outcome"
    return Text(line, style=f"bold {COLOURS[sign]}")


def _half(half: Half) -> str:
    counts = ", ".join(f"{n} {name}" for name, n in half.labels.items() if name != "none")
    lost = ", ".join(
        f"{half.states[state]} {state}" for state in ("failed", "cancelled") if state in half.states
    )
    what = f"{len(half.sweeps)} sweeps" if half.name == half.store else half.store
    signals = ", ".join(sorted(set(half.signals.values()))) or "no objective"
    return (
        f"{half.name} ({what}; code {', '.join(half.versions)}): {len(half.trials)} trials, "
        f"{counts or 'no labels'}{', ' + lost if lost else ''}; {signals}"
    )


SHOWN = 9  # places of an axis that are printed


def print_frontier(console: Console, swept: SweepFrontier) -> None:
    """Print P(pathological) on a coarse grid over the first two ranges, from `.` (0) to `#` (1)."""
    frontier, names = swept.found, list(swept.spans)
    console.print(
        f"{swept.sweep_id}: {frontier.pathological} pathological, {frontier.healthy} healthy, "
        f"{frontier.unsure} inconclusive trials",
        highlight=False,
    )
    if not frontier.fitted:
        console.print("all labels are alike: there is no frontier within these ranges")
        return
    if frontier.warning:
        console.print(f"warning: {frontier.warning}", style="yellow", highlight=False)
    table = Grid(box=box.SIMPLE_HEAD, pad_edge=False)
    across = _places(frontier.axes[0])
    table.add_column("" if len(names) == 1 else f"{names[1]} \\ {names[0]}", no_wrap=True)
    for place in across:
        table.add_column(number(frontier.axes[0][place]), justify="right", no_wrap=True)
    if len(names) == 1:
        table.add_row("P(pathological)", *(f"{frontier.probability[i]:.2f}" for i in across))
        table.add_row("95 %", *(f"{frontier.lower[i]:.2f}-{frontier.upper[i]:.2f}" for i in across))
    else:
        middle = tuple(len(axis) // 2 for axis in frontier.axes[2:])
        for row in reversed(_places(frontier.axes[1])):
            cells = [f"{frontier.probability[(i, row, *middle)]:.2f}" for i in across]
            table.add_row(number(frontier.axes[1][row]), *cells)
        for place, axis in enumerate(frontier.axes[2:], 2):
            at = number(axis[len(axis) // 2])
            console.print(f"at {names[place]} = {at}, the middle of its range", highlight=False)
    console.print(f"P(pathological) by {names[0]}:" if len(names) == 1 else "P(pathological):")
    console.print(table)


def _places(axis: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> list[int]:
    return [int(place) for place in np.linspace(0, len(axis) - 1, min(SHOWN, len(axis))).round()]
