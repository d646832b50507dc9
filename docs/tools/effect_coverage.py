"""Simulates the intervals of effects and comparisons of equal sweeps, as Markdown.

    python -m docs.tools.effect_coverage        the tables of docs/effects.md, some minutes

The functions are the product's own. A sweep is a grid of two factors of two levels; a trial's
objective is its seed's value plus normal noise of one standard deviation, less one for the second
level of the first factor. For `compare` the same sweep is drawn twice.
"""

import itertools
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from sickbay.service.analysis.comparison import Drift, Half, HalfTrial, compare
from sickbay.service.analysis.effects import effect_table
from sickbay.service.analysis.importance import OBJECTIVE, PATHOLOGICAL, importance_table
from sickbay.service.analysis.interactions import interaction_table
from sickbay.service.analysis.main_effects import main_effect_table
from sickbay.service.analysis.rows.pairs import Span, TrialRow
from sickbay.trials.contract import Goal, Objective
from sickbay.trials.search.outcomes import TrialOutcome
from sickbay.trials.search.sequential import replay
from sickbay.trials.spec.model import SequentialSeeds

TABLES = 500  # a row
DRAWS = 12  # sweeps whose importance is computed
SEEDS = (3, 5, 10)
EFFECT = -1.0
BAD_RUN = 5.0  # standard deviations
LEVELS = {"a": ("off", "on"), "b": ("off", "on")}
LOSS = Objective("val_loss", Goal.MINIMIZE)
SIGNALS = {"toy": "minimize val_loss"}


@dataclass(frozen=True)
class Condition:
    """How many trials are pathological, and how many healthy ones end five deviations off."""

    name: str
    pathological: float = 0.0
    bad: float = 0.0


CONDITIONS = (
    Condition("sound"),
    Condition("30 % pathological", pathological=0.3),
    Condition("5 % bad runs", bad=0.05),
    Condition("30 % pathological, 5 % bad runs", pathological=0.3, bad=0.05),
)


def main() -> None:
    """Print the coverage of every kind of interval, then how often `compare` sees a drift."""
    covered: dict[str, list[str]] = defaultdict(list)
    drifted: list[str] = []
    for condition in CONDITIONS:
        for seeds in SEEDS:
            hits, drifts = _cell(condition, seeds)
            for name, held in hits.items():
                covered[name].append(f"{np.mean(held):.3f}" if held else "none")
            shares = " | ".join(f"{np.mean(seen):.3f}" for seen in drifts.values())
            drifted.append(f"| {condition.name} | {seeds} | {shares} |")
            print(".", end="", file=sys.stderr, flush=True)
    heads = [f"{condition.name}, {seeds}" for condition in CONDITIONS for seeds in SEEDS]
    _print("interval", heads, [f"| {name} | {' | '.join(row)} |" for name, row in covered.items()])
    _print("condition", ["seeds", "drifted, same seeds", "drifted, other seeds"], drifted)
    heads = ["on top", "its share", "largest pair", "its share", "rest", "explained"]
    _print("importance", heads, [_importance(case) for case in IMPORTANCE])


def _print(first: str, heads: list[str], rows: list[str]) -> None:
    print(f"\n| {first} | {' | '.join(heads)} |\n|{'---|' * (len(heads) + 1)}")
    print("\n".join(rows), flush=True)


def _cell(condition: Condition, seeds: int) -> tuple[dict[str, list[bool]], dict[str, list[bool]]]:
    """Whether each interval held the truth, by kind, and whether equal sweeps differed."""
    rng = np.random.default_rng([seeds, round(100 * condition.pathological)])
    hits: dict[str, list[bool]] = defaultdict(list)
    drifts: dict[str, list[bool]] = defaultdict(list)
    for _ in range(TABLES):
        levels = rng.normal(size=2 * seeds)  # of the seeds
        rows = _sweep(rng, condition, levels[:seeds], 0)
        for name, low, high, truth in _intervals(rows, condition):
            held = hits[name]
            if not math.isnan(low):
                held.append(low <= truth <= high)
        before = _half(rows)
        for name, first in (("same", 0), ("other", seeds)):
            again = _sweep(rng, condition, levels[first : first + seeds], first)
            made = compare(before, _half(again)).arms
            drifts[name].append(any(pair.drift is Drift.DRIFTED for pair in made))
            hits[f"compare, {name} seeds"] += [
                pair.difference.low <= 0.0 <= pair.difference.high
                for pair in made
                if not math.isnan(pair.difference.low)
            ]
    return hits, drifts


def _sweep(
    rng: np.random.Generator, condition: Condition, of_seeds: np.ndarray, first: int
) -> list[TrialRow]:
    rows = []
    for place, of_seed in enumerate(of_seeds.tolist()):
        for a in LEVELS["a"]:
            for b in LEVELS["b"]:
                value = of_seed + rng.normal() + EFFECT * (a == "on")
                value += BAD_RUN * (rng.random() < condition.bad)
                ill = rng.random() < condition.pathological
                seed, cause = first + place, "no_skill" if ill else None
                label = "pathological" if ill else "healthy"
                name = f"{seed}-{a}-{b}"
                rows.append(
                    TrialRow(name, seed, {"a": a, "b": b}, "completed", label, cause, value)
                )
    return rows


def _intervals(
    rows: list[TrialRow], condition: Condition
) -> Iterator[tuple[str, float, float, float]]:
    """Every interval as its kind, its ends and the truth."""
    of_a = effect_table(rows, LEVELS, Goal.MINIMIZE).effects[0]
    together = interaction_table(rows, LEVELS, Goal.MINIMIZE).interactions[0]
    over_all = main_effect_table(rows, LEVELS, Goal.MINIMIZE).effects[0]
    healthy, side = 1.0 - condition.pathological, of_a.of_level
    for name, interval, truth in (
        ("difference", of_a.difference, EFFECT),
        ("bootstrap of the difference", of_a.bootstrap, EFFECT),
        ("IQM", of_a.iqm, EFFECT),
        ("P(better)", of_a.improvement, _better(condition)),
        ("healthy share", side, healthy),
        ("difference of healthy shares", of_a.health, 0.0),
        ("interaction", together.difference, 0.0),
        ("interaction of health", together.health, 0.0),
        ("main effect", over_all.difference, EFFECT),
    ):
        yield name, interval.low, interval.high, truth
    yield "sequential difference", *_sequential(rows), EFFECT


def _better(condition: Condition) -> float:
    """The true probability that the second level's trial is the better one of a pair."""
    won = 0.0
    for chance, off in (
        (condition.bad * (1 - condition.bad), BAD_RUN),
        (condition.bad * (1 - condition.bad), -BAD_RUN),
        (condition.bad**2 + (1 - condition.bad) ** 2, 0.0),
    ):
        won += chance * float(ndtr((-EFFECT - off) / math.sqrt(2.0)))
    ill = condition.pathological
    return (1 - ill) ** 2 * won + ill * (1 - ill) + ill**2 / 2


def _sequential(rows: list[TrialRow]) -> tuple[float, float]:
    """The interval of the first arm of a sequential sweep over at most these seeds."""
    outcomes = {
        (f"{row.levels['a']}-{row.levels['b']}", row.seed): TrialOutcome(
            row.state, row.label, row.pathology, (float(row.objective or 0.0),), {}, 1
        )
        for row in rows
    }
    rule = SequentialSeeds(until="resolved", at_most=max(row.seed for row in rows) + 1)
    arms = ["off-off", "on-off", "off-on", "on-on"]
    made = replay(rule, arms, LOSS, lambda arm, seed: outcomes[arm, seed]).verdicts[0]
    return (made.low, made.high) if math.isfinite(made.low) else (math.nan, math.nan)


@dataclass(frozen=True)
class Case:
    """A truth whose importance is known: the objective, and which trials are pathological."""

    name: str
    target: str
    value: Callable[[float, float, float], float] = lambda *_: 0.0
    ill: Callable[[float, float, float], bool] = lambda *_: False
    ranges: bool = False


IMPORTANCE = (
    Case("noise only, a full grid", OBJECTIVE),
    Case("noise only, ranges", OBJECTIVE, ranges=True),
    Case(
        "exclusive-or of health by a and b, a full grid",
        PATHOLOGICAL,
        ill=lambda a, b, _: (a > 0) ^ (b > 0),
    ),
    Case(
        "exclusive-or of health by a and b, ranges",
        PATHOLOGICAL,
        ill=lambda a, b, _: (a > 0) ^ (b > 0),
        ranges=True,
    ),
    Case("a + b c, a full grid", OBJECTIVE, value=lambda a, b, c: a + b * c),
    Case("a + b c, ranges", OBJECTIVE, value=lambda a, b, c: a + b * c, ranges=True),
)


def _importance(case: Case) -> str:
    """Which factor comes out on top in 12 sweeps, and the shares, as means over them."""
    tops: Counter[str] = Counter()
    pairs: Counter[str] = Counter()
    shares = []
    for draw in range(DRAWS):
        rng = np.random.default_rng(draw)
        settings = (
            [tuple(row) for row in rng.uniform(-1.0, 1.0, size=(60, 3))]
            if case.ranges
            else list(itertools.product((-1.0, 0.0, 1.0), repeat=3))
        )
        rows = []
        for seed in range(1 if case.ranges else 3):
            for number, (a, b, c) in enumerate(settings):
                ill = case.ill(a, b, c)
                label, cause = ("pathological", "no_skill") if ill else ("healthy", None)
                value = case.value(a, b, c) + 0.1 * rng.normal()
                levels = {"a": a, "b": b, "c": c}
                rows.append(
                    TrialRow(f"{seed}-{number}", seed, levels, "completed", label, cause, value)
                )
        spans = dict.fromkeys("abc", Span(-1.0, 1.0)) if case.ranges else None
        made = importance_table(rows, ("a", "b", "c"), Goal.MINIMIZE, spans)
        [found] = [one for one in made.targets if one.target == case.target]
        top = max(found.fanova, key=found.fanova.__getitem__)
        pair = max(found.pairs, key=found.pairs.__getitem__, default="none")
        tops[top] += 1
        pairs[pair] += 1
        shares.append(
            (found.fanova[top], found.pairs.get(pair, math.nan), found.rest, found.explained)
        )
    main, of_pair, rest, explained = np.mean(shares, axis=0)
    cells = (
        ", ".join(f"{name} {n}" for name, n in tops.most_common()),
        f"{main:.2f}",
        ", ".join(f"{name} {n}" for name, n in pairs.most_common()),
        *("none" if math.isnan(share) else f"{share:.2f}" for share in (of_pair, rest, explained)),
    )
    return f"| {case.name} | {' | '.join(cells)} |"


def _half(rows: list[TrialRow]) -> Half:
    trials = tuple(
        HalfTrial(row, "toy", f"{row.levels['a']} {row.levels['b']}", baseline=False)
        for row in rows
    )
    return Half("sweep", "", (), (), SIGNALS, {}, {}, trials, "")


if __name__ == "__main__":
    sys.exit(main())
