"""Simulates what the effects' tests and intervals do: error, power and coverage, as Markdown.

    python -m docs.tools.effect_errors        the tables of docs/effects.md, about two minutes

The functions are the product's own. A sweep has a baseline and `levels` more arms; a trial's
objective is its seed's value plus noise of one standard deviation, normal unless said otherwise.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sickbay.service.analysis.statistics import ALPHA
from sickbay.service.analysis.statistics.estimates import NOTHING, Estimate, paired_effect
from sickbay.service.analysis.statistics.moderated import Measured, moderated
from sickbay.service.analysis.statistics.shares import risk_difference
from sickbay.trials.evidence.statistics import holm_adjusted

TABLES = 1000  # a row
FEWEST_SEEDS = 3
EFFECT = 2.0  # standard deviations, of one level, for power
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Condition:
    """What the noise is like: the arms' standard deviations, and how often a run goes wrong."""

    name: str
    baseline: float = 1.0
    last: float = 1.0
    pathological: float = 0.0
    bad: float = 0.0  # share of healthy runs that end five standard deviations off


CONDITIONS = (
    Condition("equal noise"),
    Condition("30 % pathological", pathological=0.3),
    Condition("one arm three times noisier", last=3.0),
    Condition("baseline three times noisier", baseline=3.0),
    Condition("5 % bad runs", bad=0.05),
)


def main() -> None:
    """Print the table of differences, then that of health."""
    _head("noise", "seeds", "levels", "error before", "now", "power before", "now", "coverage")
    for condition in CONDITIONS:
        for seeds in (3, 5, 10):
            for levels in (1, 3, 6):
                print(_row(condition, seeds, levels), flush=True)
    _head("seeds", "error, 30 % pathological", "the same, hard seeds", "power, 10 % and 80 %")
    for seeds in (3, 5, 10):
        print(f"| {seeds} | {' | '.join(f'{one:.3f}' for one in _health(seeds))} |", flush=True)


def _head(*columns: str) -> None:
    print(f"\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")


def _row(condition: Condition, seeds: int, levels: int) -> str:
    rng = np.random.default_rng([seeds, levels])
    errors, powers, covered, intervals = np.zeros(2), np.zeros(2), 0, 0
    for _ in range(TABLES):
        values, sound = _sweep(rng, condition, seeds, levels)
        for effect, counts in ((0.0, errors), (EFFECT, powers)):
            shifted = values + effect * (np.arange(levels + 1) == 1)[:, None]
            before, now = _estimates(shifted, sound)
            for place, found in enumerate((before, now)):
                adjusted = holm_adjusted([one.p_value for one in found])
                tested = adjusted[:1] if effect else adjusted
                counts[place] += any(p_value <= ALPHA for p_value in tested)
            if not effect:
                ends = [(one.low, one.high) for one in now if one.low == one.low]
                covered += sum(low <= 0.0 <= high for low, high in ends)
                intervals += len(ends)
    shares = [*(errors / TABLES), *(powers / TABLES), covered / max(1, intervals)]
    numbers = " | ".join(f"{share:.3f}" for share in shares)
    return f"| {condition.name} | {seeds} | {levels} | {numbers} |"


def _sweep(
    rng: np.random.Generator, condition: Condition, seeds: int, levels: int
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Objectives of the arms, the baseline first, and which trials are healthy, (arms, seeds)."""
    scale = np.ones((levels + 1, 1))
    scale[0], scale[-1] = condition.baseline, condition.last
    shape = (levels + 1, seeds)
    values = rng.normal(size=(1, seeds)) + scale * rng.normal(size=shape)
    values += 5.0 * (rng.random(shape) < condition.bad)
    return values, rng.random(shape) >= condition.pathological


def _estimates(
    values: FloatArray, sound: NDArray[np.bool_]
) -> tuple[list[Estimate], list[Estimate]]:
    """Every level's difference by its own noise alone, and by the noise of the table."""
    measured = [
        _measured(values[k] - values[0], sound[k] & sound[0]) for k in range(1, len(values))
    ]
    return [one.estimate for one in measured], [one.estimate for one in moderated(measured)]


def _measured(differences: FloatArray, there: NDArray[np.bool_]) -> Measured:
    seeds = np.flatnonzero(there).tolist()
    kept = differences[there].tolist()
    found = paired_effect(kept, seeds, [0] * len(seeds)) if len(seeds) >= FEWEST_SEEDS else NOTHING
    return Measured(found, dict(zip(seeds, kept, strict=True)), 0)


def _health(seeds: int) -> Iterator[float]:
    """Error of the test of health for independent trials and for hard seeds, then its power."""
    rng = np.random.default_rng(seeds)
    drawn = rng.random((3, 2, TABLES, seeds))
    hard = 0.3 * np.where(rng.random((TABLES, seeds)) < 0.5, 2.0, 0.0)  # a seed is hard or easy
    for shares, chance in (
        ((0.3, 0.3), drawn[0]),
        ((hard, hard), drawn[1]),
        ((0.1, 0.8), drawn[2]),
    ):
        healthy = [chance[side] >= shares[side] for side in (0, 1)]
        yield float(np.mean([_p(*pair) <= ALPHA for pair in zip(*healthy, strict=True)]))


def _p(one: Sequence[bool], other: Sequence[bool]) -> float:
    return risk_difference(one, other, range(len(one))).p_value


if __name__ == "__main__":
    sys.exit(main())
