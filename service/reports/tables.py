"""The table of effects as a report writes it: the same cells for a page, Markdown and LaTeX."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sickbay.service.analysis.effects import LevelEffect, Side, Verdict
from sickbay.service.analysis.effects_sql import effects_sql
from sickbay.service.analysis.questions import SweepEffects
from sickbay.service.analysis.statistics import Estimate, Proportion
from sickbay.service.reports.effects_printed import notes
from sickbay.service.summary.formatting import level, number

SIGNS_OF_VERDICTS = {
    Verdict.BETTER: "✓",
    Verdict.WORSE: "✗",
    Verdict.UNCLEAR: "~",
    Verdict.UNKNOWN: "?",
}


@dataclass(frozen=True)
class EffectLine:
    """One level in words; `nr` is its row in the SQL. `causes` are those of the level's trials."""

    nr: int
    factor: str
    level: str
    baseline: str
    pairs: str
    difference: str
    better: str
    healthy: str
    baseline_healthy: str
    causes: tuple[tuple[str, int], ...]
    verdict: Verdict

    @property
    def sign(self) -> str:
        """A sign that says the same as the verdict."""
        return SIGNS_OF_VERDICTS[self.verdict]


@dataclass(frozen=True)
class EffectSection:
    """All that a report says of effects; `missing` says why there is nothing, where that is so."""

    lines: tuple[EffectLine, ...] = ()
    notes: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    signal: str = ""
    goal: str = ""
    sql: str = ""
    missing: str = ""


def effect_section(
    sweep_id: str, found: SweepEffects | None, factors: Sequence[str], missing: str = ""
) -> EffectSection:
    """Write the effects of a sweep in words; `factors` are the columns that make a context."""
    if found is None:
        return EffectSection(missing=missing)
    table = found.table
    lines = tuple(_line(nr, one) for nr, one in enumerate(table.effects, start=1))
    return EffectSection(
        lines=lines,
        notes=tuple(notes(table)),
        skipped=tuple(table.skipped.items()),
        signal=found.signal,
        goal=table.goal.value,
        sql=effects_sql(sweep_id, table, factors),
        missing="" if lines else "No factor has two levels, so there is nothing to compare.",
    )


def _line(nr: int, one: LevelEffect) -> EffectLine:
    return EffectLine(
        nr=nr,
        factor=one.factor,
        level=level(one.level),
        baseline=level(one.baseline),
        pairs=f"{one.sound_pairs} of {one.pairs}",
        difference=estimate(one.difference),
        better=share(one.improvement),
        healthy=health(one.of_level),
        baseline_healthy=health(one.of_baseline),
        causes=tuple(one.of_level.causes.items()),
        verdict=one.verdict,
    )


def estimate(one: Estimate) -> str:
    """Write a difference with its interval; `unknown` where noise could not be measured."""
    if math.isnan(one.mean):
        return "none"
    mean = signed(one.mean)
    if math.isnan(one.low):
        return f"{mean} [unknown]"
    return f"{mean} [{signed(one.low)}, {signed(one.high)}]"


def signed(value: float) -> str:
    """Write a difference with its sign."""
    return f"{'+' if value > 0 else ''}{number(value)}"


def share(one: Proportion) -> str:
    """Write a probability with its interval."""
    return "none" if math.isnan(one.value) else f"{one.value:.2f} [{one.low:.2f}, {one.high:.2f}]"


def health(side: Side) -> str:
    """Write how many trials are healthy, with the interval of the share in percent."""
    if not side.trials:
        return "0 of 0"
    return f"{side.healthy} of {side.trials} [{100 * side.low:.0f}, {100 * side.high:.0f}] %"
