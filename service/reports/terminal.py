"""Two sides as a person reads them: drift first, then the arms, then what only one has."""

import math
from collections.abc import Iterator

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sickbay.service.analysis.comparison import ArmPair, ArmSide, Comparison, Drift, Half
from sickbay.service.analysis.frontier import SweepFrontier
from sickbay.service.analysis.statistics import Estimate
from sickbay.service.reports.terminal_effects import p_words, print_sql
from sickbay.service.reports.verdicts import number

_SIGNS = {
    Drift.IDENTICAL: ("=", "green"),
    Drift.NONE: ("~", "dim"),
    Drift.DRIFTED: ("!", "red"),
    Drift.UNKNOWN: ("?", "yellow"),
}
MOST_NAMES = 10


def print_comparison(console: Console, found: Comparison, *, sql: bool = False) -> None:
    """Print a comparison; with `sql` also what recomputes either side."""
    for letter, half in (("A", found.a), ("B", found.b)):
        console.print(Text(f"{letter}  {_half(half)}"), soft_wrap=True)
    for name, (before, after) in found.settings.items():
        console.print(Text(f"{name}: {before} in all of A, {after} in all of B"))
    for one in found.arms:
        if one.baseline:
            console.print(_drift_line(one), soft_wrap=True)
    if found.arms:
        console.print(_table(found))
    for line in _remarks(found):
        console.print(Text(line))
    console.print(Text(_LEGEND, style="dim"))
    same = found.a.sql == found.b.sql
    texts = {"either side": found.a.sql} if same else {"A": found.a.sql, "B": found.b.sql}
    if sql:
        print_sql(console, texts)


_LEGEND = """\
B - A: paired by seed among trials healthy in both, or, marked with *, Welch's where fewer than
  three such seeds are shared. "no drift seen" is not "none": the interval says what could hide."""


def _remarks(found: Comparison) -> Iterator[str]:
    """Say whose label changed, what only one side has, and what could not be compared."""
    for one in found.arms:
        for change in one.label_changes:
            yield f"{one.arm}, seed {change.seed}: {change.before} in A, {change.after} in B"
    for letter, names in (("A", found.only_a), ("B", found.only_b)):
        if names:
            more = f", and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
            words = "; ".join(names[:MOST_NAMES])
            yield f"only in {letter}, {len(names)} arms: {words}{more}"
    yield from found.notes


def _drift_line(one: ArmPair) -> Text:
    sign, colour = _SIGNS[one.drift]
    health = (
        f"; {len(one.label_changes)} of {one.shared_seeds} shared seeds came out otherwise"
        if one.label_changes
        else ""
    )
    same = f", {one.identical} of {one.pairs} pairs to the last bit" if one.pairs else ""
    words = f"{sign} baseline {one.drift}: B - A {_interval(one.difference)}{same}{health}"
    return Text(words, style=f"bold {colour}")


def _table(found: Comparison) -> Table:
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    made.add_column("arm", overflow="fold")
    for name in ("healthy A\nB", "mean A\nB", "pairs", "B - A [95 %]", "p\nHolm"):
        made.add_column(name, justify="right", no_wrap=True)
    made.add_column("drift", no_wrap=True)
    for one in found.arms:
        sign, colour = _SIGNS[one.drift]
        made.add_row(
            Text(one.arm),
            Text(f"{_health(one.a)}\n{_health(one.b)}"),
            f"{_mean(one.a)}\n{_mean(one.b)}",
            f"{one.pairs}\nof {one.shared_seeds}",
            Text(_interval(one.difference) + ("" if one.paired else " *")),
            f"{p_words(one.difference.p_value)}\n{p_words(one.p_holm)}",
            Text(f"{sign} {one.drift}", style=colour),
        )
    return made


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


def _health(side: ArmSide) -> str:
    causes = ", ".join(f"{cause} {n}" for cause, n in side.causes.items())
    return f"{side.healthy} of {side.trials}" + (f" ({causes})" if causes else "")


def _mean(side: ArmSide) -> str:
    return "none" if side.mean is None else f"{side.mean:.4g}"


def _interval(one: Estimate) -> str:
    if math.isnan(one.mean):
        return "none"
    span = "no noise" if one.error == 0.0 else "unknown"
    if not math.isnan(one.low):
        span = f"{one.low:+.4g}, {one.high:+.4g}"
    return f"{one.mean:+.4g} [{span}]"


SHOWN = 9  # places of an axis that are printed


def print_frontier(console: Console, one: SweepFrontier) -> None:
    """Print P(pathological) on a coarse grid over the first two ranges, `.` sound to `#` sick."""
    found, names = one.found, list(one.spans)
    console.print(
        f"{one.sweep_id}: {found.pathological} pathological, {found.healthy} healthy, "
        f"{found.unsure} inconclusive trials",
        highlight=False,
    )
    if not found.fitted:
        console.print("all labels are alike: there is no frontier within these ranges")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    across = _places(found.axes[0])
    table.add_column("" if len(names) == 1 else f"{names[1]} \\ {names[0]}", no_wrap=True)
    for place in across:
        table.add_column(number(found.axes[0][place]), justify="right", no_wrap=True)
    if len(names) == 1:
        table.add_row("P(pathological)", *(f"{found.probability[i]:.2f}" for i in across))
        table.add_row("95 %", *(f"{found.lower[i]:.2f}-{found.upper[i]:.2f}" for i in across))
    else:
        middle = tuple(len(axis) // 2 for axis in found.axes[2:])
        for row in reversed(_places(found.axes[1])):
            cells = [f"{found.probability[(i, row, *middle)]:.2f}" for i in across]
            table.add_row(number(found.axes[1][row]), *cells)
        for place, axis in enumerate(found.axes[2:], 2):
            at = number(axis[len(axis) // 2])
            console.print(f"at {names[place]} = {at}, the middle of its range", highlight=False)
    console.print(f"P(pathological) by {names[0]}:" if len(names) == 1 else "P(pathological):")
    console.print(table)


def _places(axis: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> list[int]:
    return [int(place) for place in np.linspace(0, len(axis) - 1, min(SHOWN, len(axis))).round()]
