"""Standing of a trial against its sweep's reference arm: ahead, level, behind or far behind.

A run that learns, but far less than the other arms of its sweep, shows nothing in its own history.
Beside the reference arm's seeds it can be seen. Standing is a comparison and never a pathology:
it changes no label and no label changes it, except that only a healthy arm may be the reference.

    found = standings(scores, baseline="baseline")
    found.of["3f2a…"]        Standing.BEHIND

Rule. The reference is the baseline where it is healthy, else the best healthy arm; that one is
chosen on every other seed and judged on the rest, so that its luck does not count. A trial is
compared with the mean of the reference's seeds by a t prediction interval,

    t = (x − m) / (s sqrt(1 + 1/n)),

whose noise s is pooled over the healthy arms (within-arm variance of the seeds that are not
pathological, n_a − 1 degrees of freedom each). Holm's correction holds the error over the sweep,
and a difference under a tenth of the reference's own skill is none in practice.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from sickbay.trials.contract import Health

FloatArray = NDArray[np.float64]
ALPHA = 0.05  # chance that any level trial of a sweep is called ahead or behind
MARGIN = 0.1  # share of the reference's skill under which a difference is none in practice
FAR = 0.5  # share of the reference's skill that a trial far behind lacks
FEWEST = 2  # seeds of the reference, and degrees of freedom behind the noise


class Standing(StrEnum):
    """Where a trial stands against the reference arm of its sweep."""

    AHEAD = "ahead"
    LEVEL = "level"
    BEHIND = "behind"
    FAR_BEHIND = "far_behind"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Score:
    """The result of one judged trial: its skill, higher is better, 0 is no skill.

    NaN or minus infinity stands for a trial that ended in no number: it is behind everything.
    """

    trial_id: str
    arm: str
    seed: int
    health: str | None
    skill: float


@dataclass(frozen=True)
class Standings:
    """The standing of every trial by its id, and the arm that they were compared with."""

    of: Mapping[str, Standing] = field(default_factory=dict)
    reference_arm: str | None = None
    chosen: bool = False  # whether the reference is the best healthy arm, not the baseline


@dataclass(frozen=True)
class Reference:
    """The arm that trials are compared with: its mean skill over n seeds, and the noise."""

    arm: str
    mean: float
    n: int
    noise: float
    freedom: int
    chosen: bool


def standings(scores: Sequence[Score], baseline: str) -> Standings:
    """Compare every trial with the reference arm; UNKNOWN where no arm or no noise is known."""
    reference = reference_of(scores, baseline)
    if reference is None:
        return Standings({score.trial_id: Standing.UNKNOWN for score in scores})
    others = [score for score in scores if score.arm != reference.arm]
    differs = _rejected([_p_value(score, reference) for score in others])
    by_trial = {
        score.trial_id: _standing(score, reference, differs=rejected)
        for score, rejected in zip(others, differs, strict=True)
    }
    by_trial |= {score.trial_id: Standing.LEVEL for score in scores if score.arm == reference.arm}
    return Standings(by_trial, reference.arm, reference.chosen)


def reference_of(scores: Sequence[Score], baseline: str) -> Reference | None:
    """Choose the arm to compare with; None without a healthy arm of at least two seeds."""
    arms = _healthy_arms(scores)
    noise, freedom = _pooled_noise(arms.values())
    if freedom < FEWEST:
        return None
    if baseline in arms:
        return _reference(baseline, arms[baseline], noise, freedom, chosen=False)
    halves = {arm: (some[::2], some[1::2]) for arm, some in arms.items()}
    if not halves:
        return None
    best = max(halves, key=lambda arm: _mean(halves[arm][0]))
    return _reference(best, halves[best][1], noise, freedom, chosen=True)


def seed_outliers(scores: Sequence[Score]) -> tuple[str, ...]:
    """Ids of trials far from the other seeds of their own arm, by the same test and margin.

    Each is compared with its siblings alone, where most of these are healthy: the noise is that of
    the healthy arms, its own seed left out, and a pathological arm scatters as it likes. Holm's
    correction holds the error over the sweep.
    """
    members: dict[str, list[Score]] = {}
    for score in scores:
        members.setdefault(score.arm, []).append(score)
    elsewhere = _noise_elsewhere(_healthy_arms(scores), members)
    tested: list[str] = []
    p_values: list[float] = []
    arms = {arm: _Siblings(some) for arm, some in members.items()}
    for score in scores:
        siblings, sound = arms[score.arm].without(score)
        if sound is None or len(siblings) < FEWEST or not math.isfinite(score.skill):
            continue
        squares, freedom = elsewhere[score.arm]
        squares, freedom = squares + _squares(sound), freedom + len(sound) - 1
        if freedom < FEWEST:
            continue
        noise = math.sqrt(squares / freedom)
        arm = Reference(score.arm, _mean(siblings), len(siblings), noise, freedom, chosen=False)
        tested.append(score.trial_id)
        p_values.append(_p_value(score, arm) if _matters(score, arm) else 1.0)
    return tuple(
        trial_id for trial_id, outlies in zip(tested, _rejected(p_values), strict=True) if outlies
    )


class _Siblings:
    """The seeds of one arm, to leave out one after another without going through all again."""

    def __init__(self, members: Sequence[Score]) -> None:
        finite = [score for score in members if math.isfinite(score.skill)]
        judged = [score for score in members if score.health is not None]
        sound = [score for score in judged if score.health != Health.PATHOLOGICAL]
        sound.sort(key=lambda score: score.seed)
        self._skills = [score.skill for score in finite]
        self._place = {id(score): i for i, score in enumerate(finite)}
        self._sound = np.array([score.skill for score in sound], dtype=np.float64)
        self._sound_place = {id(score): i for i, score in enumerate(sound)}
        self._judged = len(judged)
        self._healthy = sum(score.health == Health.HEALTHY for score in judged)
        self._infinite = int((~np.isfinite(self._sound)).sum())

    def without(self, score: Score) -> tuple[list[float], FloatArray | None]:
        """The finite skills of the others, and what `_healthy_arms` would keep of them."""
        place, sound = self._place.get(id(score)), self._sound_place.get(id(score))
        finite = place is not None
        skills = (
            self._skills if place is None else [*self._skills[:place], *self._skills[place + 1 :]]
        )
        judged = self._judged - (score.health is not None)
        healthy = self._healthy - (score.health == Health.HEALTHY)
        infinite = self._infinite - (sound is not None and not finite)
        if healthy < FEWEST or 2 * healthy <= judged or infinite:
            return skills, None
        return skills, self._sound if sound is None else np.delete(self._sound, sound)


def _noise_elsewhere(
    healthy: Mapping[str, Sequence[float]], arms: Iterable[str]
) -> dict[str, tuple[float, int]]:
    """For each arm, the squared deviations of all other healthy arms and their freedom.

    Sums on both sides of the arm, not a difference of sums: nothing cancels.
    """
    place = {arm: i for i, arm in enumerate(healthy)}
    squares = np.array([_squares(skills) for skills in healthy.values()], dtype=np.float64)
    freedoms = [len(skills) - 1 for skills in healthy.values()]
    whole = float(squares.sum()), sum(freedoms)
    return {
        arm: whole
        if (i := place.get(arm)) is None
        else (float(squares[:i].sum() + squares[i + 1 :].sum()), whole[1] - freedoms[i])
        for arm in arms
    }


def _squares(skills: Sequence[float] | FloatArray) -> float:
    """The sum of squared deviations from the mean."""
    group = np.asarray(skills, dtype=np.float64)
    return float(((group - group.mean()) ** 2).sum())


def _healthy_arms(scores: Sequence[Score]) -> dict[str, list[float]]:
    """The finite skills of arms with at least two healthy seeds, the majority of those judged.

    Inconclusive seeds of such an arm count as well: to leave out those that did too poorly to be
    called healthy would understate the noise.
    """
    arms: dict[str, list[Score]] = {}
    for score in sorted(scores, key=lambda judged: (judged.arm, judged.seed)):
        if score.health is not None:
            arms.setdefault(score.arm, []).append(score)
    skills = {}
    for arm, some in arms.items():
        healthy = sum(member.health == Health.HEALTHY for member in some)
        sound = [member.skill for member in some if member.health != Health.PATHOLOGICAL]
        if healthy >= FEWEST and 2 * healthy > len(some) and all(map(math.isfinite, sound)):
            skills[arm] = sound
    return skills


def _pooled_noise(arms: Iterable[Sequence[float]]) -> tuple[float, int]:
    """Standard deviation between seeds, pooled over arms, and its degrees of freedom."""
    groups = list(arms)
    freedom = sum(len(group) - 1 for group in groups)
    if freedom == 0:
        return math.nan, 0
    return math.sqrt(sum(map(_squares, groups)) / freedom), freedom


def _reference(
    arm: str, skills: Sequence[float], noise: float, freedom: int, *, chosen: bool
) -> Reference | None:
    if not skills:
        return None
    return Reference(arm, _mean(skills), len(skills), noise, freedom, chosen)


def _p_value(score: Score, reference: Reference) -> float:
    """Two-sided p of the t prediction test; 0 for a trial that ended in no number."""
    if not math.isfinite(score.skill):
        return 0.0
    error = reference.noise * math.sqrt(1.0 + 1.0 / reference.n)
    gap = abs(score.skill - reference.mean)
    if error == 0.0:
        return 1.0 if gap == 0.0 else 0.0
    from scipy.special import stdtr  # noqa: PLC0415  verbs that only read need not wait for it

    return float(2.0 * stdtr(reference.freedom, -gap / error))


def _rejected(p_values: Sequence[float]) -> tuple[bool, ...]:
    if not p_values or len(p_values) * min(p_values) > ALPHA:  # Holm's first step rejects nothing
        return (False,) * len(p_values)
    from sickbay.trials.evidence.statistics import holm  # noqa: PLC0415  as above

    return holm(p_values, ALPHA)


def _standing(score: Score, reference: Reference, *, differs: bool) -> Standing:
    if not math.isfinite(score.skill):
        return Standing.FAR_BEHIND
    if not differs or not _matters(score, reference):
        return Standing.LEVEL
    gap = score.skill - reference.mean
    if gap > 0.0:
        return Standing.AHEAD
    return Standing.FAR_BEHIND if -gap > FAR * abs(reference.mean) else Standing.BEHIND


def _matters(score: Score, reference: Reference) -> bool:
    return abs(score.skill - reference.mean) > MARGIN * abs(reference.mean)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
