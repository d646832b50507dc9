"""The truth by outcome: each criterion alone, and what it is not asked of."""

import math

import pytest

from docs.tools.corpus.samples import case
from docs.tools.corpus.truth import killed, killed_groups, truth, truths

CONTROLS = [0.80 + 0.002 * i for i in range(45)]  # 0.80 to 0.888


def test_no_skill_on_the_hidden_split_is_pathological():
    assert truth(case(lower=-0.01), CONTROLS).why == "no_skill"
    assert truth(case(lower=0.0), CONTROLS).why == "no_skill"


def test_a_fault_that_does_no_harm_is_healthy():
    outcome = truth(case(score=0.85, fault="lr_too_high-1"), CONTROLS)
    assert not outcome.pathological


def test_a_fault_below_the_one_percent_quantile_of_its_controls_is_worse():
    # numpy's linear quantile: 0.80 + 0.44 of the way to the next
    assert truth(case(score=0.8008, fault="lr_too_high-1"), CONTROLS).why == "worse"
    assert not truth(case(score=0.8010, fault="lr_too_high-1"), CONTROLS).pathological


def test_controls_and_hard_ones_are_not_compared_with_controls():
    assert not truth(case(score=0.1), CONTROLS).pathological
    assert not truth(case(score=0.1, variant="low_snr"), CONTROLS).pathological


@pytest.mark.parametrize("broken", [{"finite": False}, {"score": math.nan}])
def test_what_is_not_finite_is_pathological(broken):
    assert truth(case(**broken), CONTROLS).why == "non_finite"


def test_an_unknown_skill_is_no_skill():
    assert truth(case(lower=math.nan), CONTROLS).why == "no_skill"


def test_too_few_controls_are_an_error():
    with pytest.raises(ValueError, match="it takes 10"):
        truth(case(score=0.1, fault="lr_too_high-1"), CONTROLS[:9])


def test_controls_come_from_the_cases_themselves():
    controls = [case(score=s, seed=i) for i, s in enumerate(CONTROLS)]
    bad = case(score=0.2, fault="lr_too_high-2", seed=0)
    outcomes = truths([*controls, bad])
    assert outcomes[bad.key].why == "worse"
    assert sum(outcome.pathological for outcome in outcomes.values()) == 1


def test_deepcrime_asks_for_significance_and_for_size():
    spread = [0.5, 0.52, 0.48, 0.51, 0.49]
    assert killed([0.3, 0.32, 0.28, 0.31, 0.29], spread)
    assert not killed(spread, spread)
    assert not killed([0.7, 0.72, 0.68, 0.71, 0.69], spread)  # better is not killed
    assert killed([math.nan] * 5, spread)


def test_groups_are_judged_over_their_seeds():
    controls = [case(score=s, seed=i) for i, s in enumerate(CONTROLS)]
    bad = [case(score=0.2 + 0.01 * i, fault="lr_too_high-2", seed=i) for i in range(5)]
    same = [case(score=0.84 + 0.001 * i, fault="lr_too_high-1", seed=i) for i in range(5)]
    kills = killed_groups([*controls, *bad, *same])
    assert kills == {("regression", "lr_too_high-2"): True, ("regression", "lr_too_high-1"): False}
