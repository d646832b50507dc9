"""The judge: the probability that a history is pathological, and the evidence.

An additive logistic model over the statistics of `judge_statistics`: every statistic has a curve of
its own, a step function from its value to log odds, monotone where sense demands it, and the
log odds of a history are the sum over its curves. So each statistic's contribution is plain to see.
The curves are fitted on the fault corpus by `make judge` and stored in a versioned table beside
this file; here they are only looked up and added, in a fixed order.

There is a table for finished trials where chance is known (`skill`), one for those where it is not
(`curve`), and one for running trials where it is known (`skill_running`): while a trial runs,
losses that nothing compares with chance are not weighed.
"""

import hashlib
import json
import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sickbay.trials.diagnosis.judge_statistics import (
    CURVE,
    SKILL,
    Statistic,
    knows_chance,
    share_done,
    tells_too_little,
    values_of,
)
from sickbay.trials.history import History

JUDGE = "judge"  # the name under which its judgement is filed among the findings
HARD_CONFIDENCE = 0.99  # of a label by hard evidence: 620 of 625 are right on calibration tasks
FEWEST_RUNNING = 3  # evaluations before a running trial is weighed
FEWEST_CURVE = 5  # before a course of losses is, that nothing compares with chance
STORED = Path(__file__).with_name("judge-2.json")
STATISTICS: Mapping[str, tuple[Statistic, ...]] = {"skill": SKILL, "curve": CURVE}


@dataclass(frozen=True)
class Curve:
    """Log odds of one statistic: `log_odds[i]` up to and with `cuts[i]`, the last one beyond."""

    statistic: Statistic
    cuts: tuple[float, ...]
    log_odds: tuple[float, ...]
    missing: float

    def at(self, value: float) -> float:
        """Contribution of a value; NaN has its own."""
        if math.isnan(value):
            return self.missing
        return self.log_odds[bisect_left(self.cuts, value)]


@dataclass(frozen=True)
class Table:
    """A fitted model with its thresholds, all in log odds.

    At or over `threshold` a history is called pathological, at or under `healthy` it may be called
    healthy. The threshold of a running trial falls with the share of the plan that is done:
    `pathological[i]` holds up to and with `shares[i]`, the last one beyond.
    """

    name: str
    curves: tuple[Curve, ...]
    bias: float
    shares: tuple[float, ...]
    pathological: tuple[float, ...]
    healthy: float

    def threshold(self, done: float) -> float:
        """Log odds from which a history is called pathological."""
        return self.pathological[bisect_left(self.shares, done)]


@dataclass(frozen=True)
class Contribution:
    """What one statistic adds to the log odds, and the statistic with its value in words."""

    name: str
    words: str
    value: float
    log_odds: float

    def __str__(self) -> str:
        """`validation skill at the end 0.4%: +3.1`."""
        return f"{self.words}: {self.log_odds:+.1f}"


@dataclass(frozen=True)
class Judgement:
    """Log odds that a history is pathological, and the contributions, the largest first.

    `threshold` is the table's, at the share of the plan that is done.
    """

    table: Table
    threshold: float
    log_odds: float
    contributions: tuple[Contribution, ...]

    @property
    def pathological(self) -> bool:
        """Whether the log odds reach the threshold for pathological."""
        return self.log_odds >= self.threshold

    @property
    def healthy(self) -> bool:
        """Whether the log odds are low enough to call it healthy, if skill is proven."""
        return self.log_odds <= self.table.healthy

    @property
    def probability(self) -> float:
        """Calibrated probability that the history is pathological."""
        return logistic(self.log_odds)


def judge(history: History) -> Judgement | None:
    """Judge a history; None if it has too few evaluations or no measure of learning.

    A few losses without a floor are a beginning, not a course: they may fall as well as not.
    """
    weights = _weigh(history)
    if weights is None:
        return None
    contributions = [
        Contribution(curve.statistic.name, curve.statistic.say(value), value, part)
        for curve, value, part in zip(
            weights.table.curves, weights.values, weights.parts, strict=True
        )
    ]
    contributions.sort(key=lambda contribution: -abs(contribution.log_odds))
    return Judgement(weights.table, weights.threshold, weights.log_odds, tuple(contributions))


def calls_pathological(history: History) -> bool:
    """Whether `judge` calls a history pathological, without its reasons."""
    weights = _weigh(history)
    return weights is not None and weights.log_odds >= weights.threshold


@dataclass(frozen=True)
class _Weights:
    """The statistics of a history: their values, their log odds, and the sum with the bias."""

    table: Table
    threshold: float
    values: tuple[float, ...]
    parts: tuple[float, ...]
    log_odds: float


def _weigh(history: History) -> _Weights | None:
    if len(history) < (1 if history.finished else FEWEST_RUNNING):
        return None
    kind = "skill" if knows_chance(history) else "curve"
    fewest = FEWEST_CURVE if kind == "curve" else 1 if history.finished else FEWEST_RUNNING
    if len(history) < fewest or tells_too_little(history):
        return None
    table = tables().get(kind if history.finished else f"{kind}_running")
    if table is None:
        return None
    statistics = tuple(curve.statistic for curve in table.curves)
    values = tuple(values_of(statistics, history).tolist())
    if all(
        math.isnan(value) or not measure.monotone
        for measure, value in zip(statistics, values, strict=True)
    ):
        return None
    parts = tuple(curve.at(value) for curve, value in zip(table.curves, values, strict=True))
    log_odds = table.bias
    for part in parts:  # not `sum`, which rounds otherwise from Python 3.12 on
        log_odds += part
    return _Weights(table, table.threshold(share_done(history)), values, parts, log_odds)


def logistic(log_odds: float) -> float:
    """Probability of log odds, to six decimals: further ones differ between platforms."""
    return round(1.0 / (1.0 + math.exp(-min(max(log_odds, -40.0), 40.0))), 6)


@cache
def tables() -> Mapping[str, Table]:
    """Read the stored tables, once a process."""
    stored = json.loads(STORED.read_text())
    return {name: _table(name, stored_table) for name, stored_table in stored["tables"].items()}


@cache
def model_hash() -> str:
    """Name the stored model by its content: it is part of the labeller's version."""
    return hashlib.sha256(STORED.read_bytes()).hexdigest()[:8]


def _table(name: str, stored: Mapping[str, object]) -> Table:
    known = {statistic.name: statistic for statistic in STATISTICS[name.removesuffix("_running")]}
    curves = tuple(
        Curve(
            known[curve["statistic"]],
            tuple(map(float, curve["cuts"])),
            tuple(map(float, curve["log_odds"])),
            float(curve["missing"]),
        )
        for curve in stored["curves"]  # type: ignore[attr-defined]
    )
    high: Mapping[str, list[float]] = stored["pathological"]  # type: ignore[assignment]
    return Table(
        name,
        curves,
        bias=float(stored["bias"]),  # type: ignore[arg-type]
        shares=tuple(map(float, high["shares"])),
        pathological=tuple(map(float, high["log_odds"])),
        healthy=float(stored["healthy"]),  # type: ignore[arg-type]
    )
