"""Standing: the prediction test against numbers worked out by hand, its errors by simulation."""

import math
import random

import numpy as np
import pytest
from scipy import stats

from sickbay.trials.diagnosis.standing import (
    Score,
    Standing,
    reference_of,
    seed_outliers,
    standings,
)


def arm(name, skills, health="healthy"):
    return [Score(f"{name}-{seed}", name, seed, health, x) for seed, x in enumerate(skills)]


def test_a_trial_is_compared_by_a_t_prediction_interval_with_pooled_noise():
    scores = arm("baseline", [0.80, 0.82, 0.84]) + arm("other", [0.70, 0.74])
    reference = reference_of(scores, "baseline")
    # by hand: deviations .02 0 .02 and .02 .02, three degrees of freedom
    noise = math.sqrt((2 * 0.02**2 + 2 * 0.02**2) / 3)
    assert (reference.mean, reference.n, reference.freedom) == (pytest.approx(0.82), 3, 3)
    assert reference.noise == pytest.approx(noise)
    p = [2 * stats.t.sf(abs(x - 0.82) / (noise * math.sqrt(4 / 3)), 3) for x in (0.70, 0.74)]
    assert p == pytest.approx([0.0205, 0.0581], abs=5e-4)
    compared = standings(scores, "baseline")
    assert compared.of["other-0"] == Standing.BEHIND  # 2 · .0205 after Holm
    assert compared.of["other-1"] == Standing.LEVEL
    assert compared.of["baseline-0"] == Standing.LEVEL
    assert (compared.reference_arm, compared.chosen) == ("baseline", False)


def test_an_inconclusive_seed_of_a_healthy_arm_is_part_of_its_noise():
    baseline = arm("baseline", [0.80, 0.82, 0.84])
    unsure = [Score("baseline-3", "baseline", 3, "inconclusive", 0.70)]
    reference = reference_of([*baseline, *unsure], "baseline")
    assert (reference.n, reference.mean) == (4, pytest.approx(0.79))
    assert reference.noise == pytest.approx(np.std([0.80, 0.82, 0.84, 0.70], ddof=1))
    broken = [Score("baseline-3", "baseline", 3, "pathological", 0.0)]
    assert reference_of([*baseline, *broken], "baseline").n == 3


def test_words_follow_the_size_of_the_difference():
    noise = [0.0, 0.001, 0.002]
    scores = [
        *arm("baseline", [0.8 + x for x in noise]),
        *arm("best", [0.95 + x for x in noise]),
        *arm("little", [0.75 + x for x in noise]),  # significant, and under a tenth of 0.8
        *arm("behind", [0.6 + x for x in noise]),
        *arm("far", [0.3 + x for x in noise], "pathological"),
        *arm("gone", [math.nan, -math.inf, 0.8], "pathological"),
    ]
    compared = standings(scores, "baseline").of
    standing_of = {
        name: str(compared[f"{name}-0"]) for name in ("best", "little", "behind", "far", "gone")
    }
    assert standing_of == {
        "best": "ahead",
        "little": "level",
        "behind": "behind",
        "far": "far_behind",
        "gone": "far_behind",
    }
    assert compared["gone-1"] == Standing.FAR_BEHIND
    random.shuffle(scores)
    assert standings(scores, "baseline").of == compared


def test_without_a_healthy_baseline_the_best_healthy_arm_is_chosen_and_judged_on_other_seeds():
    scores = [
        *arm("baseline", [0.0, 0.0, 0.0, 0.0], "pathological"),
        *arm("good", [0.70, 0.60, 0.70, 0.62]),
        *arm("fair", [0.50, 0.52, 0.51, 0.49]),
    ]
    reference = reference_of(scores, "baseline")
    assert (reference.arm, reference.chosen, reference.n) == ("good", True, 2)
    assert reference.mean == pytest.approx(0.61)  # of the seeds it was not chosen by
    assert standings(scores, "baseline").of["baseline-0"] == Standing.FAR_BEHIND


@pytest.mark.parametrize(
    "scores",
    [
        [],
        arm("baseline", [0.5]),
        arm("baseline", [0.5, 0.6], "pathological"),
        arm("baseline", [0.5, 0.6], "inconclusive") + arm("other", [0.1]),
    ],
)
def test_too_little_to_compare_with_is_unknown(scores):
    compared = standings(scores, "baseline")
    assert set(compared.of.values()) <= {Standing.UNKNOWN}
    assert compared.reference_arm is None


def test_of_level_arms_few_sweeps_call_any_trial_ahead_or_behind():
    rng = np.random.default_rng(0)
    wrong = outlying = 0
    sweeps = 400
    for _ in range(sweeps):
        arms = [f"arm{k}" for k in range(6)]
        scores = [s for name in ["baseline", *arms] for s in arm(name, rng.normal(0.1, 0.1, 3))]
        compared = standings(scores, "baseline").of.values()
        wrong += bool({*compared} - {Standing.LEVEL})
        outlying += bool(seed_outliers(scores))
    # 5 % a sweep; the binomial's 99.9 % bound of 400 sweeps is 8.6 %
    assert wrong / sweeps < 0.086
    assert outlying / sweeps < 0.086


def test_one_seed_far_from_its_siblings_is_an_outlier():
    near = [0.80, 0.81, 0.79, 0.80, 0.82]
    scores = arm("baseline", near) + arm("other", [*near[:4], 0.3])
    assert seed_outliers(scores) == ("other-4",)
    assert seed_outliers(arm("baseline", near) + arm("other", near)) == ()


def test_the_seeds_of_a_pathological_arm_are_no_outliers():
    baseline = arm("baseline", [0.80, 0.81, 0.79, 0.80, 0.82])
    broken = arm("broken", [-2.1, -2.6, -1.4, -3.0, -2.3], "pathological")
    assert seed_outliers(baseline + broken) == ()
