"""Interactions, main effects and importance as a person reads them."""

import math
from collections.abc import Mapping

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sickbay.service.analysis.importance import ImportanceTable
from sickbay.service.analysis.interactions import Cell, InteractionTable, InteractionVerdict
from sickbay.service.analysis.main_effects import MainEffectTable
from sickbay.service.analysis.statistics import Estimate
from sickbay.service.analysis.study import EffectStudy
from sickbay.service.reports.effects_printed import SIGNS, p_words, print_effects, print_sql
from sickbay.service.summary.formatting import shown

_INTERACTION_SIGNS = {
    InteractionVerdict.INTERACTS: ("×", "magenta"),
    InteractionVerdict.UNCLEAR: ("~", "dim"),
    InteractionVerdict.UNKNOWN: ("?", "yellow"),
}


def print_study(console: Console, study: EffectStudy) -> None:
    """Print the effects, then every part that was asked for, each with the SQL behind it."""
    print_effects(console, study.effects)
    if study.interactions is not None:
        _head(console, "Interactions of two factors")
        _print_interactions(console, study.interactions)
        print_sql(console, {"interactions": study.sql["interactions"]})
    if study.main_effects is not None:
        _head(console, "Main effects over the whole design")
        _print_main_effects(console, study.main_effects)
        print_sql(console, {"main effects": study.sql["main_effects"]})
    if study.importance is not None:
        _head(console, "Importance of the factors")
        _print_importance(console, study.importance)
        texts = {name: sql for name, sql in study.sql.items() if name.startswith("importance ")}
        print_sql(console, texts)


def _print_interactions(console: Console, table: InteractionTable) -> None:
    made = _table("two factors", "levels beside\nbaselines")
    for name in (
        "sound\nquads",
        "difference of\ndifferences [95 %]",
        "p\nHolm",
        "healthy: neither, one\nother, both",
        "difference of healthy\ndifferences [95 %]",
        "p\nHolm",
    ):
        made.add_column(name, justify="right", no_wrap=True)
    made.add_column("verdict", no_wrap=True)
    for one in table.interactions:
        sign, colour = _INTERACTION_SIGNS[one.verdict]
        cells = [_cell(cell) for cell in one.cells]
        made.add_row(
            Text(f"{one.factor_a}\n{one.factor_b}"),
            Text(
                f"{shown(one.level_a)}, not {shown(one.baseline_a)}\n"
                f"{shown(one.level_b)}, not {shown(one.baseline_b)}"
            ),
            f"{one.sound_quads}\nof {one.quads}",
            Text(_interval(one.difference)),
            f"{p_words(one.difference.p_value)}\n{p_words(one.p_holm)}",
            f"{cells[0]}, {cells[1]}\n{cells[2]}, {cells[3]}",
            Text(_interval(one.health)),
            f"{p_words(one.health.p_value)}\n{p_words(one.health_p_holm)}",
            Text(f"{sign} {one.verdict}", style=colour),
        )
    if table.interactions:
        console.print(made)
    _say(console, table.skipped)
    console.print(Text(_INTERACTIONS_LEGEND, style="dim"))


def _print_main_effects(console: Console, table: MainEffectTable) -> None:
    made = _table("factor", "level\nbaseline")
    for name in ("healthy", "difference [95 %]", "p\nHolm", "places [95 %]", "p\nHolm"):
        made.add_column(name, justify="right", no_wrap=True)
    made.add_column("verdict", no_wrap=True)
    for one in table.effects:
        sign, colour = SIGNS[one.verdict]
        made.add_row(
            Text(one.factor),
            Text(f"{shown(one.level)}\n{shown(one.baseline)}"),
            f"{one.healthy}\nof {one.trials}",
            Text(_interval(one.difference)),
            f"{p_words(one.difference.p_value)}\n{p_words(one.p_holm)}",
            Text(_interval(one.rank)),
            f"{p_words(one.rank.p_value)}\n{p_words(one.rank_p_holm)}",
            Text(f"{sign} {one.verdict}", style=colour),
        )
    if table.effects:
        console.print(made)
        left = ", ".join(f"{word} {n}" for word, n in table.left_out.items())
        console.print(
            Text(
                f"difference: {table.method or 'no model'}, {table.used} healthy trials"
                + (f"; left out: {left}" if left else "")
                + (
                    ""
                    if math.isnan(table.seed_share)
                    else f"; seeds make {100 * table.seed_share:.0f} % of the rest's variance"
                )
            )
        )
    for note in table.notes:
        console.print(Text(note))
    _say(console, table.skipped)
    console.print(Text(_MAIN_LEGEND, style="dim"))


def _print_importance(console: Console, table: ImportanceTable) -> None:
    made = _table("target")
    for name in ("trials", "explained", "by"):
        made.add_column(name, justify="right", no_wrap=True)
    for factor in table.factors:
        made.add_column(Text(factor), justify="right", no_wrap=True)
    for one in table.targets:
        shares = [
            "\n".join("" if f not in by else f"{by[f]:.2f}" for by in (one.fanova, one.ped_anova))
            for f in table.factors
        ]
        count = f"{one.trials}" if one.positives is None else f"{one.positives}\nof {one.trials}"
        made.add_row(
            Text(one.target),
            count,
            "none" if math.isnan(one.explained) else f"{100 * one.explained:.0f} %",
            "fANOVA\nPED-ANOVA",
            *shares,
        )
    console.print(made)
    for one in table.targets:
        if one.note:
            console.print(Text(f"{one.target}: {one.note}"))
        if one.configurations < one.of_configurations:
            console.print(
                Text(
                    f"{one.target}: fANOVA over {one.configurations} of {one.of_configurations} "
                    "configurations, drawn by a fixed seed"
                )
            )
    console.print(Text(_IMPORTANCE_LEGEND, style="dim"))


_INTERACTIONS_LEGEND = """\
difference of differences: (both - other alone) - (one alone - neither), same seed, all else equal,
  all four healthy. Zero where effects add up. "unclear" is not "they add up".
healthy: -1 says that only both levels together are never healthy."""
_MAIN_LEGEND = """\
difference, places: what a level changes on average over the design, in additive models; places is
  the share of the trials of its seed that it falls behind, all that went wrong tied last."""
_IMPORTANCE_LEGEND = """\
Shares of a line add up to 1 whatever the noise; `explained` is how much of the variance lies
  between configurations at all, and not between their seeds. fANOVA: of that variance.
  PED-ANOVA: of what tells the best tenth, or the pathological trials, from all."""


def _head(console: Console, words: str) -> None:
    console.print(Text(f"\n{words}", style="bold"))


def _table(*names: str) -> Table:
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in names:
        made.add_column(name, overflow="fold")
    return made


def _say(console: Console, skipped: Mapping[str, str]) -> None:
    for what, why in skipped.items():
        console.print(Text(f"{what}: {why}"))


def _cell(cell: Cell) -> str:
    return f"{cell.healthy}/{cell.trials}"


def _interval(one: Estimate) -> str:
    if math.isnan(one.mean):
        return "none"
    span = "unknown" if math.isnan(one.low) else f"{one.low:+.3g}, {one.high:+.3g}"
    return f"{one.mean:+.3g}\n[{span}]"
