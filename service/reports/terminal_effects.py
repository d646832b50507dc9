"""The effects of a sweep as a person reads them: two lines a level, then what must be known."""

import math
from collections.abc import Iterator, Mapping

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sickbay.service.analysis.effects import FEWEST_SEEDS, EffectTable, LevelEffect, Side, Verdict
from sickbay.service.analysis.importance import ImportanceTable
from sickbay.service.analysis.interactions import Cell, InteractionTable, InteractionVerdict
from sickbay.service.analysis.main_effects import MainEffectTable
from sickbay.service.analysis.statistics import Estimate, Interval, Proportion
from sickbay.service.analysis.study import EffectStudy, SweepEffects
from sickbay.service.summary.formatting import shown
from sickbay.trials.contract import Goal

# Sign and colour say the same, so that the table can be read without colours.
SIGNS = {
    Verdict.BETTER: ("✓", "green"),
    Verdict.WORSE: ("✗", "red"),
    Verdict.UNCLEAR: ("~", "dim"),
    Verdict.UNKNOWN: ("?", "yellow"),
}


def print_effects(console: Console, found: SweepEffects, *, sql: bool = False) -> None:
    """Print the table, what was left out and why, how to read it; with `sql` what recomputes it."""
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
    if sql:
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


_INTERACTION_SIGNS = {
    InteractionVerdict.INTERACTS: ("×", "magenta"),
    InteractionVerdict.UNCLEAR: ("~", "dim"),
    InteractionVerdict.UNKNOWN: ("?", "yellow"),
}


def print_study(console: Console, study: EffectStudy, *, sql: bool = False) -> None:
    """Print the effects, then every part that was asked for; with `sql` what recomputes each."""
    print_effects(console, study.effects, sql=sql)
    texts: dict[str, str] = {}
    if study.interactions is not None:
        _head(console, "Interactions of two factors")
        _print_interactions(console, study.interactions)
        texts["interactions"] = study.sql["interactions"]
    if study.main_effects is not None:
        _head(console, "Main effects over the whole design")
        _print_main_effects(console, study.main_effects)
        texts["main effects"] = study.sql["main_effects"]
    if study.importance is not None:
        _head(console, "Importance of the factors")
        _print_importance(console, study.importance)
        texts |= {name: one for name, one in study.sql.items() if name.startswith("importance ")}
    if sql:
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
