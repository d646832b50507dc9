"""The arm that all others are compared with: the declared baseline, or the best healthy arm.

Declared is the spec's `reference`, else the baseline. If that is not healthy, the best healthy arm
takes its place, unless the caller named an arm. An arm is healthy if at least half of its trials
are; the best has the largest healthy share, then the best mean objective. Choosing it from the
trials flatters it: p-values are multiplied by the number of ways to choose (`Choice`).
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

from sickbay.service.analysis.rows.load import SweepRows
from sickbay.service.analysis.rows.pairs import Levels, TrialRow, level_key
from sickbay.service.query.lookup import SweepError
from sickbay.service.query.outcomes import CUT_SHORT, HEALTHY
from sickbay.trials.contract import Goal, Scalar

DECLARED, CHOSEN, ASKED = "declared", "chosen", "asked for"
BASELINE, BEST = "baseline", "best"  # words for `--reference`


@dataclass(frozen=True)
class Choice:
    """From how many arms the reference was chosen: `healthy` ones, of `arms`; 1 if declared.

    A table shows c - 1 of the c (c - 1) / 2 differences of c arms, so p-values count c / 2 times
    (Bonferroni over all pairs).
    """

    healthy: int = 1
    arms: int = 1

    @property
    def of_differences(self) -> float:
        """Factor for the p-value of a difference."""
        return max(1.0, self.healthy / 2.0)

    @property
    def of_health(self) -> float:
        """Factor for the p-value of a health difference."""
        return max(1.0, self.arms / 2.0)


DECLARED_CHOICE = Choice()


@dataclass(frozen=True)
class Reference:
    """The reference arm by its levels, how it was chosen, and a sentence about it."""

    levels: Mapping[str, Scalar]
    name: str
    origin: str
    choice: Choice
    note: str


def with_reference(rows: SweepRows, wanted: str | None = None) -> tuple[SweepRows, Reference]:
    """Choose the reference arm, and put its levels first in the factors' lists.

    `wanted` is `baseline`, `best`, or levels such as `lr=0.1, init=random`; those that it leaves
    out are the baseline's. Raises SweepError for an arm that is none.
    """
    reference = _reference(rows, wanted)
    levels = {
        factor: [reference.levels.get(factor, known[0]) if known else None, *known]
        for factor, known in rows.levels.items()
    }
    first = {factor: _distinct(known) for factor, known in levels.items()}
    return replace(rows, levels=first), reference


def arm_text(levels: Mapping[str, Scalar | None]) -> str:
    """Name an arm by all its levels, as `--reference` takes it."""
    return ", ".join(f"{factor}={_written(level)}" for factor, level in levels.items())


def _reference(rows: SweepRows, wanted: str | None) -> Reference:
    compared = {factor: known for factor, known in rows.levels.items() if len(known) > 1}
    declared = {factor: known[0] for factor, known in compared.items()}
    declared |= {
        factor: level
        for factor, level in rows.spec.get("reference", {}).items()
        if factor in compared
    }
    if wanted and wanted not in (BASELINE, BEST):
        return Reference(
            levels := _parsed(wanted, compared, declared), arm_text(levels), ASKED, Choice(), ""
        )
    arms = _arms(rows.rows, list(compared)) if not rows.skipped else {}
    healthy, trials = _health(arms.get(_key(declared), ()))
    plain = Reference(declared, arm_text(declared), DECLARED, Choice(), "")
    if wanted == BASELINE or not compared:
        return plain
    candidates = {key: rows for key, rows in arms.items() if _is_healthy(rows)}
    if not candidates or (_key(declared) in candidates and wanted != BEST):
        return plain
    best = min(candidates, key=lambda key: (*_rank(candidates[key], rows.goal), str(key)))
    levels = {
        factor: next(level for level in known if level_key(level) == key)
        for (factor, known), key in zip(compared.items(), best, strict=True)
    }
    choice = Choice(len(candidates), len(arms))
    note = (
        f"reference: {arm_text(levels)}, the best healthy arm, as the declared one "
        f"({arm_text(declared)}) is healthy in {healthy} of {trials} trials. It was chosen from "
        f"{choice.healthy} healthy arms of {choice.arms} by these same trials: p-values are "
        f"multiplied by {choice.of_differences:g} and those of health by {choice.of_health:g}"
    )
    return Reference(levels, arm_text(levels), CHOSEN, choice, note)


def _parsed(wanted: str, levels: Levels, declared: Mapping[str, Scalar]) -> dict[str, Scalar]:
    chosen = dict(declared)
    for part in wanted.split(","):
        factor, _, written = (side.strip() for side in part.partition("="))
        if factor not in levels:
            raise SweepError(
                f"--reference {wanted!r}: {factor!r} is no factor with levels; there are "
                f"{', '.join(levels) or 'none'}. Write FACTOR=LEVEL, … or {BASELINE} or {BEST}"
            )
        known = [level for level in levels[factor] if _written(level) == written]
        if not known:
            there = ", ".join(_written(level) for level in levels[factor])
            raise SweepError(
                f"--reference {wanted!r}: {factor} has no level {written!r}; there are {there}"
            )
        chosen[factor] = known[0]
    return chosen


def _arms(
    rows: Sequence[TrialRow], factors: Sequence[str]
) -> dict[tuple[Hashable, ...], list[TrialRow]]:
    arms: dict[tuple[Hashable, ...], list[TrialRow]] = {}
    for row in rows:
        key = tuple(level_key(row.levels.get(factor)) for factor in factors)
        arms.setdefault(key, []).append(row)
    return arms


def _key(levels: Mapping[str, Scalar]) -> tuple[Hashable, ...]:
    return tuple(level_key(level) for level in levels.values())


def _health(rows: Sequence[TrialRow]) -> tuple[int, int]:
    ended = [row.outcome for row in rows if row.outcome not in CUT_SHORT]
    return ended.count(HEALTHY), len(ended)


def _is_healthy(rows: Sequence[TrialRow]) -> bool:
    healthy, trials = _health(rows)
    return healthy > 0 and 2 * healthy >= trials


def _rank(rows: Sequence[TrialRow], goal: Goal) -> tuple[float, float]:
    healthy, trials = _health(rows)
    values = [row.value for row in rows if row.outcome == HEALTHY]
    mean = math.fsum(values) / len(values)
    return -healthy / trials, mean if goal is Goal.MINIMIZE else -mean


def _distinct(levels: Sequence[Scalar | None]) -> list[Scalar]:
    distinct: dict[Hashable, Scalar] = {}
    for level in levels:
        if level is not None:
            distinct.setdefault(level_key(level), level)
    return list(distinct.values())


def _written(level: Scalar | None) -> str:
    return str(level).lower() if isinstance(level, bool) else str(level)
