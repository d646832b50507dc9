"""The judge: the probability that a history is pathological, and the evidence.

An additive logistic model over the statistics of `judge_statistics`: every statistic has a curve of
its own, a step function from its value to log odds, monotone where sense demands it, and the
log odds of a history are the sum over its curves. So each statistic's contribution is plain to see.
The curves are fitted on the fault corpus by `make judge` and stored in a versioned table beside
this file; here they are only looked up and added, in a fixed order, with nothing but numpy.

There is a table for finished trials where chance is known (`skill`), one for those where it is not
(`curve`), and one for running trials where it is known (`skill_running`): while a trial runs,
losses that nothing compares with chance are not weighed.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from sickbay.trials.diagnosis.judge_statistics import (
    CURVE,
    SKILL,
    Statistic,
    knows_chance,
    share_done,
    tells_too_little,
    values_of,
)
from sickbay.trials.evidence.statistics import FloatArray
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
    cuts: FloatArray
    log_odds: FloatArray
    missing: float

    def at(self, value: float) -> float:
        """Contribution of a value; NaN has its own."""
        if math.isnan(value):
            return self.missing
        return float(self.log_odds[np.searchsorted(self.cuts, value, side="left")])


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
    shares: FloatArray
    pathological: FloatArray
    healthy: float

    def threshold(self, done: float) -> float:
        """Log odds from which a history is called pathological."""
        return float(self.pathological[np.searchsorted(self.shares, done, side="left")])


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
    kind = "skill" if knows_chance(history) else "curve"
    fewest = FEWEST_CURVE if kind == "curve" else 1 if history.finished else FEWEST_RUNNING
    if len(history) < fewest or tells_too_little(history):
        return None
    table = tables().get(kind if history.finished else f"{kind}_running")
    if table is None:
        return None
    statistics = tuple(curve.statistic for curve in table.curves)
    values = values_of(statistics, history)
    if all(
        np.isnan(value) or not measure.monotone
        for measure, value in zip(statistics, values, strict=True)
    ):
        return None
    total, contributions = table.bias, []
    for curve, value in zip(table.curves, values, strict=True):
        part = curve.at(float(value))
        total += part
        statistic = curve.statistic
        contributions.append(
            Contribution(statistic.name, statistic.say(float(value)), float(value), part)
        )
    contributions.sort(key=lambda contribution: -abs(contribution.log_odds))
    return Judgement(table, table.threshold(share_done(history)), total, tuple(contributions))


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
            np.array(curve["cuts"], dtype=np.float64),
            np.array(curve["log_odds"], dtype=np.float64),
            float(curve["missing"]),
        )
        for curve in stored["curves"]  # type: ignore[attr-defined]
    )
    high: Mapping[str, list[float]] = stored["pathological"]  # type: ignore[assignment]
    return Table(
        name,
        curves,
        bias=float(stored["bias"]),  # type: ignore[arg-type]
        shares=np.array(high["shares"], dtype=np.float64),
        pathological=np.array(high["log_odds"], dtype=np.float64),
        healthy=float(stored["healthy"]),  # type: ignore[arg-type]
    )
