"""The conclusion about a level: better or worse, healthier or less healthy.

Two tests, each adjusted over the table, joined by `conclusion` to a line such as "better, but less
healthy (2 of 5 divergence, not significant)" or "broken (5 of 5 pathological, mixture_collapse)".
"""

import math
from collections.abc import Mapping
from enum import StrEnum

from sickbay.service.analysis.statistics import ALPHA
from sickbay.service.analysis.statistics.estimates import Estimate
from sickbay.service.query.outcomes import FAILED, INCONCLUSIVE, NOT_FINITE, UNLABELLED
from sickbay.trials.contract import Goal

FEWEST_BROKEN = 2  # trials: one alone is no pattern
NO_PATHOLOGY = (FAILED, NOT_FINITE)
COULD_NOT_JUDGE = (INCONCLUSIVE, UNLABELLED)


class Verdict(StrEnum):
    """The verdict on the difference among healthy pairs. `unclear` is never "no effect"."""

    BETTER = "better"
    WORSE = "worse"
    EQUIVALENT = "equivalent"  # within the smallest effect of interest, by two one-sided tests
    SAME = "no difference"  # every pair has the same objective: identical runs
    UNCLEAR = "unclear"  # the noise between seeds is as large as the difference
    UNKNOWN = "unknown"  # too few seeds with a healthy pair


class HealthVerdict(StrEnum):
    """The verdict on the shares of healthy trials."""

    HEALTHIER = "healthier"
    LESS_HEALTHY = "less healthy"
    UNCLEAR = "unclear"
    UNKNOWN = "unknown"  # no pair of trials that both came to their end


def verdict_of(difference: Estimate, p_holm: float, goal: Goal) -> Verdict:
    """Judge a difference by its adjusted p-value; UNKNOWN where there was no test."""
    if math.isnan(p_holm):
        return Verdict.UNKNOWN
    if p_holm > ALPHA:
        return Verdict.UNCLEAR
    return Verdict.BETTER if (difference.mean < 0.0) == (goal is Goal.MINIMIZE) else Verdict.WORSE


def health_verdict_of(difference: float, p_holm: float) -> HealthVerdict:
    """Judge a difference of healthy shares by its adjusted p-value."""
    if math.isnan(p_holm):
        return HealthVerdict.UNKNOWN
    if p_holm > ALPHA:
        return HealthVerdict.UNCLEAR
    return HealthVerdict.HEALTHIER if difference > 0.0 else HealthVerdict.LESS_HEALTHY


def conclusion(
    verdict: str,
    level: tuple[int, int],
    baseline: tuple[int, int],
    causes: Mapping[str, int],
    health: HealthVerdict,
) -> str:
    """Join both verdicts; `level` and `baseline` are (healthy, trials), `causes` the level's.

    A level of which no trial is healthy is broken, whatever the tests say: the counts stand there.
    A share that merely was lower or higher, without significance, is said to be just that.
    """
    (healthy, trials), (other_healthy, other_trials) = level, baseline
    bad = trials - healthy - sum(causes.get(word, 0) for word in COULD_NOT_JUDGE)
    if trials >= FEWEST_BROKEN and bad == trials:
        return _broken(trials, causes)
    if not trials or not other_trials:
        return verdict
    share, other = healthy / trials, other_healthy / other_trials
    remark = "" if health in (HealthVerdict.HEALTHIER, HealthVerdict.LESS_HEALTHY) else SO_FAR
    if share < other:
        but = "but less healthy" if verdict in (Verdict.BETTER, "interacts") else "less healthy"
        counts = ", ".join(f"{n} of {trials} {cause}" for cause, n in causes.items())
        return f"{verdict}, {but} ({counts}{remark})"
    if share > other:
        but = "but healthier" if verdict == Verdict.WORSE else "healthier"
        counts = f"{healthy} of {trials} against {other_healthy} of {other_trials}"
        return f"{verdict}, {but} ({counts}{remark})"
    return verdict


SO_FAR = ", not significant"


def headline(sentence: str) -> str:
    """A conclusion without its counts, for a picture: "better, but less healthy"."""
    return sentence.partition(" (")[0]


def _broken(trials: int, causes: Mapping[str, int]) -> str:
    what = "not healthy" if set(causes) & set(NO_PATHOLOGY) else "pathological"
    if len(causes) == 1:
        return f"broken ({trials} of {trials} {what}, {next(iter(causes))})"
    return (
        f"broken ({trials} of {trials} {what}: {', '.join(f'{c} {n}' for c, n in causes.items())})"
    )
