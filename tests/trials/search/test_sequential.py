"""Sequential sweeps: the tests that hold under peeking, and which arm gets a further seed."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sequential_sweeps import LOSS, SimulatedArm, draws, ended, rule, simulate

from sickbay.trials.contract import TrialConfig
from sickbay.trials.events import TrialEnded
from sickbay.trials.search.outcomes import TrialOutcome, in_reference_units
from sickbay.trials.search.sequential import (
    CLAIMS,
    HEALTH_CLAIMS,
    Effect,
    HealthEffect,
    SequentialSweep,
    replay,
)
from sickbay.trials.search.sequential_inference import (
    EffectTest,
    HealthTest,
    look,
    nominal_level,
    sequence_p,
)


def seen(differences):
    """An arm that is alone with the reference, looked at after each pair."""
    test = EffectTest()
    for seed, difference in enumerate(differences):
        test.differences[seed] = difference
        look([test], [test])
    return test


def test_the_p_value_of_a_sequence_is_that_of_students_test_weighted_and_paid_for_looking():
    differences = [0.31, 0.28, 0.35, 0.3, 0.33]
    test = seen(differences)
    least = min(stats.ttest_1samp(differences[:n], 0).pvalue / (n / 5) for n in (3, 4, 5))
    assert math.isclose(test.p_value, least * (1 + 2.1 * math.log10(1 / least)), rel_tol=1e-9)
    error, mean = stats.sem(differences), np.mean(differences)
    low, high = test.interval(0.01)
    quantile = stats.t.isf(nominal_level(0.01) / 2, 4)
    assert math.isclose(high - low, 2 * quantile * error, rel_tol=1e-9)
    one_sided = mean + stats.t.isf(nominal_level(0.02) / 2, 4) * error
    assert one_sided < high
    assert test.equivalent(0.01, one_sided * 1.001)
    assert not test.equivalent(0.01, one_sided * 0.999)


def test_arms_share_their_noise_and_one_that_is_settled_keeps_its_last_look():
    noisy, quiet = seen([0.1, 0.9, 0.4, 0.6]), seen([0.50, 0.51, 0.49, 0.5])
    before = noisy.p_value, quiet.p_value
    look([noisy, quiet], [noisy])
    own, other = (np.var(list(one.differences.values()), ddof=1) for one in (noisy, quiet))
    share = 3 / (3 + 6)
    variance = share * own + (1 - share) * (own + other) / 2
    assert math.isclose(noisy.error, math.sqrt(variance / 4), rel_tol=1e-9)
    assert noisy.degrees > 3
    assert noisy.p_value < before[0]
    assert quiet.p_value == before[1]


@given(st.floats(1e-12, 0.5))
def test_the_nominal_level_inverts_the_p_value_of_a_sequence(alpha):
    assert math.isclose(sequence_p(nominal_level(alpha)), alpha, rel_tol=1e-6)


def test_under_no_difference_the_sequence_falls_below_a_level_no_oftener_than_it_says():
    x, n = np.random.default_rng(7).normal(size=(20_000, 40)), np.arange(3, 41)
    mean = x.cumsum(axis=1)[:, 2:] / n
    variance = ((x**2).cumsum(axis=1)[:, 2:] - n * mean**2) / (n - 1)
    nominal = 2 * stats.t.sf(np.abs(mean) / np.sqrt(variance / n), n - 1)
    least = (nominal / (np.minimum(1, n / 5) * np.minimum(1, (10 / n) ** 2))).min(axis=1)
    for alpha in (0.05, 0.01):
        crossed = float(np.mean(least <= nominal_level(alpha)))
        assert 0.6 * alpha < crossed < alpha


def test_a_streak_of_pathological_seeds_is_a_claim_after_five_and_a_shared_one_never():
    broken, shared, late = HealthTest(), HealthTest(), HealthTest()
    for seed in range(5):
        broken.add(arm=True, reference=False)
        shared.add(arm=True, reference=True)
        late.add(arm=seed > 0, reference=False)
    assert broken.p_value == 3 / 4**5 < 0.015 / 5
    assert shared.p_value == 1.0
    # seeds 3 to 5 multiply the evidence of a streak that began late; the first gave none
    assert late.p_value > 0.015


def test_the_evidence_of_a_streak_that_is_broken_is_that_of_the_e_process():
    test = HealthTest()
    for _ in range(6):
        test.add(arm=True, reference=False)
    # seeds 2 to 6 multiply the evidence by (2 (k + .18) / (k + .36))², k = 1 to 5
    e_value = math.prod((2 * (k + 0.18) / (k + 0.36)) ** 2 for k in range(1, 6))
    assert test.p_value == 3 / 4**6 < 1 / e_value < 0.002


@pytest.mark.parametrize("share", [0.5, 0.3])
def test_where_both_are_equally_often_pathological_a_claim_is_as_rare_as_it_says(share):
    rng, runs, levels = np.random.default_rng(2), 4000, (0.05, 3 / 4**3, 3 / 4**4)
    drawn = rng.random((runs, 2, 12)) < share
    p_values = []
    for arm, reference in drawn.tolist():
        test = HealthTest()
        for seed in range(12):
            test.add(arm[seed], reference[seed])
        p_values.append(test.p_value)
    for level in levels:
        assert np.mean(np.array(p_values) <= level) <= level


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=12))
def test_the_evidence_on_health_does_not_change_when_the_arms_are_swapped(seeds):
    one, other = HealthTest(), HealthTest()
    for arm, reference in seeds:
        one.add(arm, reference)
        other.add(reference, arm)
    assert math.isclose(one.p_value, other.p_value, rel_tol=1e-9)


def verdicts(progress):
    return [(one.effect, one.health, one.seeds) for one in progress.verdicts]


def test_each_arm_stops_when_it_is_settled_and_the_reference_with_the_last():
    rng = np.random.default_rng(3)
    arms = [SimulatedArm(), SimulatedArm(-6), SimulatedArm(6), SimulatedArm(0, pathological=1.0)]
    better, worse, broken = simulate(arms, rule(20), rng).verdicts
    assert (better.effect, worse.effect) == (Effect.BETTER, Effect.WORSE)
    assert (broken.effect, broken.health) == (Effect.UNKNOWN, HealthEffect.LESS_HEALTHY)
    assert broken.pathological == broken.seeds == 5
    assert max(better.seeds, worse.seeds) < 8
    assert better.low < better.mean < better.high < 0


def test_arms_are_equivalent_identical_or_given_up_as_unclear():
    seeds = np.arange(20)
    noise = 0.01 * np.sin(seeds)
    values = {"same": noise, "near": noise + 0.001 * np.cos(3 * seeds), "noisy": -9 * noise[::-1]}
    found = {(arm, seed): ended(values[arm][seed]) for arm in values for seed in seeds}
    found |= {("reference", seed): ended(noise[seed]) for seed in seeds}
    arms = ["reference", "same", "near", "noisy"]
    made = replay(rule(20, 0.005), arms, LOSS, lambda arm, seed: found[arm, seed])
    assert [one.effect for one in made.verdicts] == [
        Effect.IDENTICAL,
        Effect.EQUIVALENT,
        Effect.UNCLEAR,
    ]
    assert made.verdicts[0].seeds == 3
    assert made.verdicts[2].seeds < 20


def test_a_wholly_pathological_reference_ends_the_sweep_early_without_a_claim():
    arms = [SimulatedArm(0, 1.0), SimulatedArm(0, 1.0), SimulatedArm(0, 1.0)]
    made = simulate(arms, rule(20), np.random.default_rng(0))
    assert verdicts(made) == [(Effect.UNKNOWN, HealthEffect.ALIKE, 3)] * 2


def test_a_loss_under_another_floor_is_compared_in_the_references_unit():
    weighted = ended(0.6, floor=3.0)  # a gain of 80 %, as 0.2 is over a floor of one
    assert math.isclose(in_reference_units(weighted, ended(0.5, floor=1.0), LOSS), 0.2)
    assert in_reference_units(ended(0.6, floor=1.005), ended(0.5, floor=1.0), LOSS) == 0.6
    assert in_reference_units(ended(0.6), ended(0.5, floor=1.0), LOSS) == 0.6


def trials(arms, seeds):
    return {
        (arm, seed): TrialConfig(f"{arm}-{seed}", "w", {}, seed, 1)
        for arm in arms
        for seed in seeds
    }


@pytest.mark.parametrize("order", ["first", "last"])
def test_whatever_the_order_of_ends_and_wherever_a_driver_was_killed_the_decisions_are_the_same(
    order,
):
    arms = [SimulatedArm(), SimulatedArm(-2.5), SimulatedArm(0.3), SimulatedArm(0, 0.7)]
    found = draws(arms, 12, np.random.default_rng(11))
    names = [str(place) for place in range(4)]
    planned = trials(names, range(12))
    outcomes = {one.trial_id: found[place] for place, one in planned.items()}
    straight = replay(rule(12), names, LOSS, lambda arm, seed: found[arm, seed])
    stored: set[str] = set()
    while True:  # a driver each time, killed after seven trials
        source = SequentialSweep(rule(12), planned, LOSS, outcomes.get, stored.__contains__)
        running: list[TrialConfig] = []
        for _ in range(7):
            while (trial := source.next()) is not None:
                running.append(trial)
            if not running:
                break
            trial = running.pop(0 if order == "first" else -1)
            stored.add(trial.trial_id)
            source.ended(TrialEnded(trial.trial_id, "completed"))
        if source.complete:
            break
    assert repr(source.progress.verdicts) == repr(straight.verdicts)
    assert len(stored) == sum(one.seeds for one in straight.verdicts) + max(
        one.seeds for one in straight.verdicts
    )


def test_a_cancelled_trial_keeps_its_block_open():
    planned = trials(["baseline", "a"], range(3))
    source = SequentialSweep(rule(3), planned, LOSS, {}.get, lambda _: False)
    given = [source.next() for _ in range(6)]
    for trial in given:
        source.ended(TrialEnded(trial.trial_id, "cancelled"))
    assert source.next() is None
    assert not source.complete


@pytest.mark.slow
@pytest.mark.parametrize("block", [1, 3])
def test_the_chance_of_any_false_claim_is_below_five_percent(block):
    rng, runs = np.random.default_rng(5), 600
    arms = [SimulatedArm(), *[SimulatedArm(sd=sd) for sd in (1, 1, 3, 0.5)], SimulatedArm(0, 0.0)]
    arms = [SimulatedArm(one.mean, 0.3, one.sd) for one in arms]
    false = 0
    for _ in range(runs):
        made = simulate(arms, rule(16, block=block), rng)
        false += any(one.effect in CLAIMS or one.health in HEALTH_CLAIMS for one in made.verdicts)
    assert false / runs < 0.05


def test_inconclusive_and_failed_trials_settle_nothing():
    found = {("reference", seed): ended(0.0) for seed in range(5)} | {
        ("a", seed): TrialOutcome(
            "failed" if seed % 2 else "completed",
            None if seed % 2 else "inconclusive",
            None,
            (9.0,),
            {},
            1,
        )
        for seed in range(5)
    }
    [one] = replay(rule(5), ["reference", "a"], LOSS, lambda arm, seed: found[arm, seed]).verdicts
    assert (one.effect, one.judged, one.pairs) == (Effect.UNKNOWN, 0, 0)
