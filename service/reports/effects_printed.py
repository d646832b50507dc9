"""The effects of a sweep as a person reads them: two lines a level, then what must be known."""

import math
from collections.abc import Iterator, Mapping

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sickbay.service.analysis.bootstrap import Interval
from sickbay.service.analysis.effects import FEWEST_SEEDS, EffectTable, LevelEffect, Side, Verdict
from sickbay.service.analysis.questions import SweepEffects
from sickbay.service.analysis.statistics import Estimate, Proportion
from sickbay.service.summary.formatting import shown
from sickbay.trials.contract import Goal

# Sign and colour say the same, so that the table can be read without colours.
SIGNS = {
    Verdict.BETTER: ("✓", "green"),
    Verdict.WORSE: ("✗", "red"),
    Verdict.UNCLEAR: ("~", "dim"),
    Verdict.UNKNOWN: ("?", "yellow"),
}


def print_effects(console: Console, found: SweepEffects) -> None:
    """Print the table, what was left out of it and why, how to read it, and the SQL behind it."""
    table = found.table
    lower = "lower" if table.goal is Goal.MINIMIZE else "higher"
    cancelled = f", {table.cancelled} of them cancelled" if table.cancelled else ""
    console.print(
        f"{found.sweep_id}: {found.signal}, {lower} is better; {table.trials} trials{cancelled}",
        highlight=False,
    )
    if table.effects:
        console.print(effects_table(table))
    for line in notes(table):
        console.print(Text(line))
    for factor, why in table.skipped.items():
        console.print(Text(f"{factor}: {why}"))
    if table.effects:
        console.print(Text(_LEGEND, style="dim"))
    print_sql(console, found.sql)


def print_sql(console: Console, texts: Mapping[str, str]) -> None:
    """Print queries to be copied; what has none is left out."""
    for what, sql in texts.items():
        if sql:
            console.print(Text(f"\n-- {what}\n{sql}", style="dim"), soft_wrap=True)


def effects_table(table: EffectTable) -> Table:
    """Two lines a level: the level's numbers, and below them the baseline's, or a second view."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    made.add_column("factor", overflow="fold")
    made.add_column("level\nbaseline", overflow="fold")
    made.add_column("sound\npairs", justify="right", no_wrap=True)
    made.add_column("difference [95 %]\nbootstrap, IQM", justify="right", no_wrap=True)
    made.add_column("p\nHolm", justify="right", no_wrap=True)
    made.add_column("P(better) [95 %]\nof all pairs", justify="right", no_wrap=True)
    made.add_column("p\nHolm", justify="right", no_wrap=True)
    made.add_column("healthy [95 %]\nbaseline", justify="right", no_wrap=True)
    made.add_column("verdict", no_wrap=True)
    before = None
    for one in table.effects:
        sign, colour = SIGNS[one.verdict]
        cells = (
            one.factor if one.factor != before else "",
            f"{shown(one.level)}\n{shown(one.baseline)}",
            f"{one.sound_pairs}\nof {one.pairs}",
            f"{_estimate(one.difference)}\n{_bootstrap(one.bootstrap)}{_estimate(one.iqm)}",
            f"{p_words(one.difference.p_value)}\n{p_words(one.p_holm)}",
            f"{_share(one.improvement)}\n{one.ranked_pairs} pairs",
            f"{p_words(one.improvement.p_value)}\n{p_words(one.improvement_p_holm)}",
            f"{_health(one.of_level)}\n{_health(one.of_baseline)}",
        )
        verdict = Text(f"{sign} {one.verdict}", style=colour)
        made.add_row(*map(Text, cells), verdict)  # as text: brackets in a cell are no markup
        before = one.factor
    return made


def notes(table: EffectTable) -> Iterator[str]:
    """Say in sentences what the numbers of each level leave out, and where they disagree."""
    for one in table.effects:
        head = f"{one.factor} {shown(one.level)}: "
        for line in _notes(one):
            yield head + line


def _notes(one: LevelEffect) -> Iterator[str]:
    if one.left_out:
        sides = ", ".join(f"{_LEFT_OUT[side]} {n}" for side, n in one.left_out.items())
        causes = [
            f"{side} had {_counted(trials.causes)}"
            for side, trials in (("the level", one.of_level), ("the baseline", one.of_baseline))
            if trials.causes
        ]
        yield (
            f"{one.pairs - one.sound_pairs} of {one.pairs} pairs are not in the difference "
            f"({sides}): {'; '.join(causes) or 'see the trials'}"
        )
    if one.verdict is Verdict.UNKNOWN:
        yield (
            f"unknown, which is not 'no effect': {one.seeds} seeds have a healthy pair, and an "
            f"interval takes {FEWEST_SEEDS}"
            if one.seeds < FEWEST_SEEDS
            else "unknown, which is not 'no effect': no two healthy pairs repeat one comparison"
        )
    if one.verdict is Verdict.BETTER and one.improvement.value < 0.5:
        yield "better only where both are healthy: over all pairs it loses more often than it wins"
    if one.verdict is Verdict.WORSE and one.improvement.value > 0.5:
        yield "worse only where both are healthy: over all pairs it wins more often than it loses"
    if one.difference.error == 0.0:
        yield (
            f"the difference is {one.difference.mean:+.4g} in all {one.seeds} seeds to the last "
            "digit, so no noise can be measured and there is no interval"
        )
    if one.unpaired:
        yield f"{one.unpaired} trials have no partner that differs in this factor alone"
    if one.ambiguous:
        yield f"{one.ambiguous} trials share all levels and the seed with another: not paired"


_LEFT_OUT = {
    "level": "only the level's trial is not healthy in",
    "baseline": "only the baseline's in",
    "both": "both in",
    "overflow": "the difference is not finite in",
}
_LEGEND = """\
difference: level - baseline, same seed, all other factors equal, both trials healthy; paired
  t-interval over the seeds; below it the studentised bootstrap's, which leans as they lean;
  then the interquartile mean. The verdict is that of its p after Holm.
P(better): how often the level wins over all pairs, cancelled ones apart; pathological, failed and
  non-finite trials come last. No p of it can be under 2 / 2^seeds.
p: above unadjusted, below adjusted over the table (Holm)."""


def _counted(causes: Mapping[str, int]) -> str:
    return ", ".join(f"{cause} {n}" for cause, n in causes.items())


def _estimate(one: Estimate) -> str:
    if math.isnan(one.mean):
        return "none"
    if math.isnan(one.low):
        return f"{one.mean:+.4g} [unknown]"
    return f"{one.mean:+.4g} [{one.low:+.4g}, {one.high:+.4g}]"


def _bootstrap(one: Interval) -> str:
    return "" if math.isnan(one.low) else f"[{one.low:+.4g}, {one.high:+.4g}]\nIQM "


def _share(one: Proportion) -> str:
    return "none" if math.isnan(one.value) else f"{one.value:.2f} [{one.low:.2f}, {one.high:.2f}]"


def _health(side: Side) -> str:
    share = f" [{100 * side.low:.0f}, {100 * side.high:.0f}] %" if side.trials else ""
    return f"{side.healthy} of {side.trials}{share}"


def p_words(value: float) -> str:
    """Write a p-value to two digits; nothing where there is no test."""
    return "" if math.isnan(value) else "<0.0001" if value < 0.0001 else f"{value:.2g}"
