"""Which trials a scheduler ends early: pure rules, fed with every evaluation of every trial.

A young pathological trial often has the lowest loss. So a suspected trial ranks last, also at rungs
it passed before, and no trial is judged before the detectors have enough evaluations. Scores are
skill over each trial's own floor where known (losses under different weights have different
floors), else the objective itself.

asha       successive halving, asynchronous (Li et al. 2020): at each rung, after `grace`,
           `grace` x `reduction`, ... evaluations, the best 1 / `reduction` go on
hyperband  several such ladders (Li et al. 2018), each beginning `reduction` times later, so that
           slow starters have their chance
median     ends what is worse at its best than the median of the others' means (Golovin et al. 2017)

The parameters are those of `early_stop` in a spec.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Protocol

import numpy as np

from sickbay.trials.contract import Goal
from sickbay.trials.spec.model import EarlyStopSpec

GRACE = 10  # evaluations, before which the detectors take a slow start for what it may be
FEWEST_EVALUATIONS = 3  # before which nothing is weighed at all
GRACE_SHARE = 0.25  # of the plan, where that is shorter
FEWEST_OTHERS = {"asha": 1, "hyperband": 1, "median": 3}  # trials to compare with, by scheduler


@dataclass(frozen=True)
class Report:
    """One evaluation of a running trial, numbered from 1.

    A larger `score` is better, one that is not finite ranks last; it is a skill if `over_floor`.
    """

    evaluation: int
    score: float
    over_floor: bool = False
    suspect: bool = False


class Rule(Protocol):
    """Decides which running trials end early."""

    def prunes(self, trial_id: str, report: Report) -> bool:
        """Take in a report, in the order of time, and say whether its trial is to end."""


def rule_of(stop: EarlyStopSpec, epochs: int) -> Rule:
    """Make the rule `asha`, `hyperband` or `median` of a spec, for trials of at most `epochs`."""
    others = FEWEST_OTHERS[stop.scheduler] if stop.min_trials is None else stop.min_trials
    grace = grace_of(epochs) if stop.grace is None else stop.grace
    if stop.scheduler == "median":
        return MedianRule(grace, others, stop.percentile, stop.interval)
    brackets = stop.brackets if stop.scheduler == "hyperband" else 1
    ladders = [
        Halving(grace * stop.reduction**place, stop.reduction, others) for place in range(brackets)
    ]
    return Hyperband(ladders) if stop.scheduler == "hyperband" else ladders[0]


def grace_of(epochs: int) -> int:
    """How many of at most `epochs` evaluations a rule waits for unless the spec says otherwise."""
    return max(FEWEST_EVALUATIONS, min(GRACE, math.ceil(GRACE_SHARE * epochs)))


def score_of(value: float, floor: float | None, goal: Goal) -> tuple[float, bool]:
    """Return an objective as a score, larger for better, and whether it is a skill.

    The skill of a loss is (floor - loss) / |floor|: 0 for the best constant predictor.
    """
    if goal is Goal.MAXIMIZE:
        return value, False
    if floor is None or floor == 0.0 or not math.isfinite(floor):
        return -value, False
    return (floor - value) / abs(floor), True


@dataclass
class _Suspects:
    """Which trials are suspect; a score that is not finite is suspect, too."""

    known: set[str] = field(default_factory=set)

    def see(self, trial_id: str, report: Report) -> bool:
        suspect = report.suspect or not math.isfinite(report.score)
        (self.known.add if suspect else self.known.discard)(trial_id)
        return suspect

    def cleared(self, scores: Mapping[str, float]) -> list[float]:
        """The scores of the trials that are not suspect."""
        return [score for trial_id, score in scores.items() if trial_id not in self.known]


class Halving:
    """Asynchronous successive halving."""

    def __init__(self, grace: int, reduction: int, others: int = 1) -> None:
        """The first rung is after `grace` evaluations, each next `reduction` times later.

        A trial is compared at a rung once `others` trials have reached it before.
        """
        self._grace, self._reduction, self._others = grace, reduction, others
        self._suspects = _Suspects()
        # by rung and kind of score: every trial that reached it, with its score there
        self._rungs: defaultdict[tuple[int, bool], dict[str, float]] = defaultdict(dict)

    def prunes(self, trial_id: str, report: Report) -> bool:
        """At a rung: whether the trial is not among the best share there."""
        suspect = self._suspects.see(trial_id, report)
        if report.evaluation < self._grace:
            return False
        rung = math.floor(math.log(report.evaluation / self._grace, self._reduction) + 1e-9)
        scores = self._rungs[rung, report.over_floor]
        if trial_id in scores:
            return False
        scores[trial_id] = _ranked(report.score)
        rivals = self._suspects.cleared(scores)
        if len(scores) <= self._others:
            return False
        if suspect:
            return bool(rivals)  # with nothing to compare with, it is the detectors' to stop it
        better = sum(score > scores[trial_id] for score in rivals)
        return better >= math.ceil(len(scores) / self._reduction)


class Hyperband:
    """Several halvings; each new trial joins the one that is furthest behind its share."""

    def __init__(self, brackets: Sequence[Halving]) -> None:
        """The first begins earliest and takes most of the trials."""
        self._brackets = brackets
        self._counts = [0] * len(brackets)
        self._of: dict[str, int] = {}

    def prunes(self, trial_id: str, report: Report) -> bool:
        """The decision of the trial's own bracket."""
        if trial_id not in self._of:
            # Hyperband gives the bracket of s later rungs about eta^s / (s + 1) of the trials;
            # with each reduced by two from one to the next, no bracket is ever left empty.
            share = [count * 2**place for place, count in enumerate(self._counts)]
            place = share.index(min(share))
            self._of[trial_id] = place
            self._counts[place] += 1
        return self._brackets[self._of[trial_id]].prunes(trial_id, report)


class MedianRule:
    """Median stopping: a trial's best so far against the others' means up to there."""

    def __init__(
        self, grace: int, others: int = 3, percentile: float = 50.0, interval: int = 1
    ) -> None:
        """Nothing ends before `grace` evaluations, or with fewer than `others` to compare with.

        Every `interval` evaluations the best `percentile` % go on; 50 is the median.
        """
        self._grace, self._others, self._interval = grace, others, interval
        self._quantile = 1.0 - percentile / 100.0
        self._suspects = _Suspects()
        self._seen: defaultdict[bool, dict[str, list[float]]] = defaultdict(dict)

    def prunes(self, trial_id: str, report: Report) -> bool:
        """Whether the trial falls behind the median, or another percentile, of the others."""
        suspect = self._suspects.see(trial_id, report)
        seen = self._seen[report.over_floor]
        mine = seen.setdefault(trial_id, [])
        mine.append(_ranked(report.score))
        after = report.evaluation - self._grace
        if after < 0 or after % self._interval:
            return False
        means = {
            other: fmean(scores[: len(mine)]) for other, scores in seen.items() if other != trial_id
        }
        others = self._suspects.cleared(means)
        if len(others) < self._others:
            return False
        return suspect or max(mine) < float(np.quantile(others, self._quantile))


def _ranked(score: float) -> float:
    """The score, or the least there is for one that is not finite."""
    return score if math.isfinite(score) else -math.inf
