"""Truth by outcome: a run is pathological by what it came to on the hidden split, not by its fault.

    (a) no skill over the trivial predictor: the 95 % lower bound of its skill is not over 0
    (b) worse than its controls: its score is below the 1 % quantile of the controls' scores
    (c) not finite

(b) asks for controls of the very same task, so it is asked of faults alone; a fault that does no
harm is an equivalent mutant, and healthy. Beside (b), DeepCrime's own criterion for groups of seeds
(p < 0.05 and Cohen's d >= 0.5) is worked out for the page.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr

from docs.tools.corpus.corpus import Case

QUANTILE = 0.01
DEEPCRIME_P = 0.05
DEEPCRIME_D = 0.5
FEWEST_CONTROLS = 10


@dataclass(frozen=True)
class Truth:
    """Whether a run is pathological, and by which criterion: non_finite, no_skill or worse."""

    pathological: bool
    why: str


def truths(cases: Iterable[Case]) -> dict[tuple[str, str, str, int], Truth]:
    """Judge every case; its task's controls must be among them, at least ten."""
    cases = list(cases)
    scores: dict[str, list[float]] = {}
    for case in cases:
        if case.kind == "control":
            scores.setdefault(case.task, []).append(case.score)
    return {case.key: truth(case, scores.get(case.task, [])) for case in cases}


def truth(case: Case, controls: Sequence[float]) -> Truth:
    """Judge one case against the scores of its controls."""
    if not case.finite or not math.isfinite(case.score):
        return Truth(pathological=True, why="non_finite")
    if not case.lower > 0.0:
        return Truth(pathological=True, why="no_skill")
    if case.kind == "fault":
        if len(controls) < FEWEST_CONTROLS:
            raise ValueError(f"{case.task}: {len(controls)} controls; it takes {FEWEST_CONTROLS}")
        if case.score < float(np.quantile(np.asarray(controls), QUANTILE)):
            return Truth(pathological=True, why="worse")
    return Truth(pathological=False, why="")


def killed(scores: Sequence[float], controls: Sequence[float]) -> bool:
    """DeepCrime's criterion for a group of seeds: significantly and noticeably worse."""
    faulty, known = np.nan_to_num(scores, nan=-1e3), np.asarray(controls)
    a, b = faulty.var(ddof=1), known.var(ddof=1)
    gap = float(known.mean() - faulty.mean())
    if gap / max(math.sqrt((a + b) / 2.0), 1e-12) < DEEPCRIME_D:
        return False
    a, b = a / len(faulty), b / len(known)  # Welch's test, two-sided
    freedom = (a + b) ** 2 / (a**2 / (len(faulty) - 1) + b**2 / (len(known) - 1))
    return float(2.0 * stdtr(freedom, -gap / math.sqrt(a + b))) < DEEPCRIME_P


def killed_groups(cases: Iterable[Case]) -> Mapping[tuple[str, str], bool]:
    """Apply DeepCrime's criterion to each fault of each task, over its seeds."""
    groups: dict[tuple[str, str], list[float]] = {}
    controls: dict[str, list[float]] = {}
    for case in cases:
        if case.kind == "fault":
            groups.setdefault((case.task, case.fault), []).append(case.score)
        elif case.kind == "control":
            controls.setdefault(case.task, []).append(case.score)
    return {
        key: killed(scores, controls[key[0]]) for key, scores in groups.items() if len(scores) > 1
    }
