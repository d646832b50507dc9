"""Effect tables from plain rows: pairs, what is left out of them, and what is never hidden."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from effect_samples import trial
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sickbay.service.analysis.effects import effect_table
from sickbay.service.analysis.verdicts import HealthVerdict, Verdict
from sickbay.trials.contract import Goal

LEVELS = {"a": ("off", "on")}


def arms(off, on, labels=()):
    """The baseline and one level, one trial a seed; `labels` are those of the level, by seed."""
    labels = dict(labels)
    return [trial(seed, value, a="off") for seed, value in enumerate(off)] + [
        trial(seed, value, labels.get(seed, "healthy"), a="on") for seed, value in enumerate(on)
    ]


def only(rows, levels=None, goal=Goal.MINIMIZE):
    [effect] = effect_table(rows, levels or LEVELS, goal).effects
    return effect


OFF, ON = [0.50, 0.55, 0.61, 0.48, 0.52], [0.41, 0.44, 0.53, 0.36, 0.44]


def test_a_level_is_compared_with_the_baseline_seed_by_seed():
    effect = only(arms(OFF, ON))
    reference = stats.ttest_rel(ON, OFF)
    low, high = reference.confidence_interval(0.95)
    assert effect.difference.mean == pytest.approx(np.mean(ON) - np.mean(OFF))
    assert (effect.difference.low, effect.difference.high) == pytest.approx((low, high))
    assert effect.p_holm == effect.difference.p_value == pytest.approx(reference.pvalue)
    assert (effect.pairs, effect.sound_pairs, effect.seeds, effect.contexts) == (5, 5, 5, 1)
    assert effect.of_level.mean - effect.of_baseline.mean == pytest.approx(effect.difference.mean)
    assert effect.improvement.value == 1.0
    assert effect.improvement_p_holm == 2 / 32
    assert (effect.of_level.healthy, effect.of_level.trials) == (5, 5)
    assert effect.verdict is Verdict.BETTER
    assert effect.left_out == {}


def test_a_level_that_diverges_in_two_of_five_seeds_does_not_look_better_in_silence():
    labels = {1: "divergence", 3: "divergence"}
    rows = arms(OFF, [0.41, math.nan, 0.53, 1e30, 0.44], labels)
    effect = only(rows)
    assert effect.sound_pairs == 3
    assert effect.left_out == {"level": 2}
    assert effect.of_level.causes == {"divergence": 2}
    assert (effect.of_level.healthy, effect.of_level.trials) == (3, 5)
    low_high = stats.binomtest(3, 5).proportion_ci(method="wilson")
    assert (effect.of_level.low, effect.of_level.high) == pytest.approx(
        (low_high.low, low_high.high)
    )
    assert effect.difference.mean == pytest.approx(np.mean([-0.09, -0.08, -0.08]))
    assert effect.improvement.value == 3 / 5  # the same pairs, the diverged ones lost
    assert effect.ranked_pairs == 5


@pytest.mark.parametrize(
    ("label", "value", "cause", "won"),
    [
        ("divergence", 0.0, "divergence", 0.0),
        ("failed", 0.0, "failed", 0.0),
        ("failed", None, "failed", 0.0),
        ("healthy", math.nan, "objective_not_finite", 0.0),
        ("healthy", -math.inf, "objective_not_finite", 0.0),
        ("healthy", None, "objective_not_finite", 0.0),
        ("inconclusive", 0.0, "inconclusive", 1.0),
        ("inconclusive", math.nan, "inconclusive", 0.0),
    ],
)
def test_whatever_is_not_sound_is_counted_and_ranked(label, value, cause, won):
    effect = only(arms(OFF, [*ON[:4], value], {4: label}))
    assert effect.sound_pairs == 4
    assert effect.left_out == {"level": 1}
    assert effect.of_level.causes == {cause: 1}
    assert effect.of_level.trials == effect.of_level.healthy + 1 == 5
    assert effect.improvement.value == pytest.approx((4 + won) / 5)


def test_a_cancelled_trial_neither_loses_nor_counts_as_pathological():
    effect = only(arms(OFF, [*ON[:4], 0.1], {4: "cancelled"}))
    assert effect.left_out == {"level": 1}
    assert effect.ranked_pairs == 4
    assert (effect.of_level.trials, effect.of_level.causes) == (4, {})
    assert effect_table(arms(OFF, ON, {4: "cancelled"}), LEVELS, Goal.MINIMIZE).cancelled == 1


def test_two_that_are_both_last_are_a_tie():
    rows = [trial(0, 0.1, "divergence", a="off"), trial(0, 9.0, "no_skill", a="on")]
    effect = only(rows)
    assert effect.improvement.value == 0.5
    assert effect.left_out == {"both": 1}
    assert (effect.of_level.causes, effect.of_baseline.causes) == (
        {"no_skill": 1},
        {"divergence": 1},
    )


def test_a_difference_beyond_all_numbers_is_left_out_by_name():
    effect = only(arms([-1.7e308, 0.1, 0.2, 0.3], [1.7e308, 0.2, 0.1, 0.4]))
    assert effect.left_out == {"overflow": 1}
    assert effect.sound_pairs == 3
    assert effect.ranked_pairs == 4


@pytest.mark.parametrize("seeds", [0, 1, 2])
def test_too_few_sound_seeds_are_unknown_not_no_effect(seeds):
    effect = only(arms(OFF[:seeds], ON[:seeds]))
    assert effect.verdict is Verdict.UNKNOWN
    assert math.isnan(effect.p_holm)
    assert math.isnan(effect.difference.low)
    assert math.isnan(effect.iqm.low)
    if seeds:  # what was seen is still shown
        assert effect.difference.mean == pytest.approx(np.mean(ON[:seeds]) - np.mean(OFF[:seeds]))
    else:
        assert effect.of_level.mean is None
        assert (effect.of_level.low, effect.of_level.high) == (0.0, 1.0)


def test_a_level_that_is_never_healthy_is_unknown_and_last():
    effect = only(arms(OFF, [0.0] * 5, dict.fromkeys(range(5), "no_skill")))
    assert effect.verdict is Verdict.UNKNOWN
    assert effect.improvement.value == 0.0
    assert effect.improvement.high < 0.5
    assert math.isnan(effect.difference.mean)


HEALTHY = ["healthy"] * 5
MIXED = ["divergence", "divergence", *HEALTHY[:3]]


@pytest.mark.parametrize(
    ("off", "on", "words", "verdict"),
    [
        (HEALTHY, ["mixture_collapse"] * 5, "broken (5 of 5 pathological, mixture_collapse)", -1),
        (HEALTHY, ["failed"] * 5, "broken (5 of 5 not healthy, failed)", -1),
        (
            HEALTHY,
            ["no_skill", *["divergence"] * 4],
            "broken (5 of 5 pathological: divergence 4, no_skill 1)",
            -1,
        ),
        (HEALTHY, MIXED, "better, but less healthy (2 of 5 divergence, not significant)", 0),
        (MIXED, HEALTHY, "better, healthier (5 of 5 against 3 of 5, not significant)", 0),
        (["no_skill"] * 5, HEALTHY, "unknown, healthier (5 of 5 against 0 of 5)", 1),
        (HEALTHY, HEALTHY, "better", 0),
        (HEALTHY, ["inconclusive"] * 5, "unknown, less healthy (5 of 5 inconclusive)", -1),
    ],
)
def test_the_conclusion_joins_the_objective_and_health(off, on, words, verdict):
    rows = [trial(seed, OFF[seed], label, a="off") for seed, label in enumerate(off)]
    effect = only(rows + [trial(seed, ON[seed], label, a="on") for seed, label in enumerate(on)])
    assert effect.conclusion == words
    verdicts = {
        -1: HealthVerdict.LESS_HEALTHY,
        0: HealthVerdict.UNCLEAR,
        1: HealthVerdict.HEALTHIER,
    }
    assert effect.health_verdict is verdicts[verdict]


def test_runs_that_agree_in_every_seed_are_no_difference():
    effect = only(arms(OFF, OFF))
    assert effect.verdict is Verdict.SAME
    assert only(arms(OFF, [value * (1 + 3e-7) for value in OFF])).verdict is Verdict.SAME
    assert only(arms(OFF, [*OFF[:4], OFF[4] * 1.001])).verdict is Verdict.UNCLEAR
    assert (effect.difference.mean, effect.difference.error) == (0.0, 0.0)
    assert effect.improvement.value == 0.5


def test_only_one_factor_may_differ():
    rows = [
        trial(0, 1.0, a="off", b=1),
        trial(0, 2.0, a="on", b=1),
        trial(0, 4.0, a="off", b=2),
        trial(0, 8.0, a="on", b=3),  # differs from all others in two
    ]
    table = effect_table(rows, {"a": ("off", "on"), "b": (1, 2, 3)}, Goal.MINIMIZE)
    on, two, three = table.effects
    assert (on.pairs, on.difference.mean, on.unpaired) == (1, 1.0, 1)
    assert (two.pairs, two.difference.mean, two.unpaired) == (1, 3.0, 0)
    assert (three.pairs, three.difference.mean) == (1, 6.0)


def test_a_grid_weighs_every_context_the_same_and_counts_its_seeds_once():
    rng = np.random.default_rng(3)
    rows, by_seed = [], np.zeros(5)
    for b in range(4):
        for seed in range(5):
            off, on = rng.normal(b, 1.0, 2)
            by_seed[seed] += (on - off) / 4
            rows += [trial(seed, off, a="off", b=b), trial(seed, on, a="on", b=b)]
    effect = effect_table(rows, {**LEVELS, "b": (0, 1, 2, 3)}, Goal.MAXIMIZE).effects[0]
    assert (effect.pairs, effect.seeds, effect.contexts) == (20, 5, 4)
    low, high = stats.ttest_1samp(by_seed, 0.0).confidence_interval(0.95)
    assert (effect.difference.low, effect.difference.high) == pytest.approx((low, high))
    assert effect.iqm.mean == pytest.approx(stats.trim_mean(by_seed, 0.25))


def test_leaving_one_out_and_adding_one_in_find_their_pairs():
    def config(*on):
        return {name: name in on for name in "abc"}

    levels = dict.fromkeys("abc", (False, True))
    leave = [config(*"abc"), config(*"bc"), config(*"ac"), config(*"ab"), config()]
    add = [config(), config("a"), config("b"), config("c"), config(*"abc")]
    # four seeds: with one left out, two trials a level have no partner; added alone, one has none
    for chosen, unpaired in ((leave, 8), (add, 4)):
        rows = [
            trial(seed, sum(arm.values()) + 0.01 * seed**2, **arm)
            for arm in chosen
            for seed in range(4)
        ]
        effects = effect_table(rows, levels, Goal.MAXIMIZE).effects
        assert [(effect.pairs, effect.unpaired) for effect in effects] == [(4, unpaired)] * 3
        assert all(effect.difference.mean == pytest.approx(1.0) for effect in effects)


def test_an_unfinished_sweep_counts_who_waits_for_a_partner():
    effect = only([*arms(OFF, ON[:3]), trial(9, 0.4, a="on")])
    assert (effect.pairs, effect.unpaired) == (3, 3)
    assert effect.verdict is not Verdict.UNKNOWN


def test_twins_are_not_paired_by_chance():
    rows = [*arms(OFF, ON), replace(trial(0, 0.9, a="on"), trial_id="twin")]
    effect = only(rows)
    assert (effect.pairs, effect.ambiguous) == (4, 3)


def test_one_is_one_point_zero_but_not_true():
    rows = [trial(0, 1.0, a=1), trial(0, 2.0, a=True), trial(0, 4.0, a=2)]
    levels = {"a": (1.0, 2, True)}
    two, true = effect_table(rows, levels, Goal.MINIMIZE).effects
    assert (two.difference.mean, true.difference.mean) == (3.0, 1.0)


def test_a_factor_of_one_level_and_a_level_without_trials_are_not_hidden():
    table = effect_table(arms(OFF, ON), {"a": ("off", "on", "auto"), "b": (1,)}, Goal.MINIMIZE)
    assert [effect.level for effect in table.effects] == ["on", "auto"]
    assert (table.effects[1].pairs, table.effects[1].verdict) == (0, Verdict.UNKNOWN)
    assert list(table.skipped) == ["b"]


def test_every_verdict_and_way_to_be_left_out_is_documented():
    text = (Path(__file__).parents[3] / "docs" / "effects.md").read_text()
    terms = (
        *Verdict,
        *HealthVerdict,
        "level",
        "baseline",
        "both",
        "overflow",
        "unpaired",
        "ambiguous",
    )
    assert [word for word in terms if f"`{word}`" not in text] == []


def test_holm_is_taken_over_the_whole_table_of_those_that_can_be_tested():
    rng = np.random.default_rng(0)
    rows = [
        trial(seed, float(rng.normal(0.3 * (level == "x"), 0.1)), a=level)
        for level in ("off", "x", "y", "z")
        for seed in range(5 if level != "z" else 2)
    ]
    table = effect_table(rows, {"a": ("off", "x", "y", "z")}, Goal.MINIMIZE)
    x, y, z = table.effects
    assert x.p_holm == pytest.approx(2 * x.difference.p_value)
    assert y.p_holm == y.difference.p_value
    assert math.isnan(z.p_holm)
    assert x.verdict is Verdict.WORSE


values = st.floats(-1e3, 1e3).map(lambda value: round(value, 6))
labels = st.sampled_from(["healthy", "healthy", "divergence", "failed", "cancelled"])
outcomes = st.tuples(values | st.just(math.nan), labels)
sweeps = st.lists(st.tuples(outcomes, outcomes, st.integers(0, 1)), min_size=1, max_size=12)
GRID = {**LEVELS, "b": (0, 1)}


def rows_of(sweep):
    return [
        trial(seed // 2, *value_of_level, a=level, b=b if seed % 2 else 1 - b)
        for seed, (off, on, b) in enumerate(sweep)
        for level, value_of_level in (("off", off), ("on", on))
    ]


def unlike(rows):
    """Rows without those that share levels and seed with one before."""
    return list({(row.seed, *row.levels.values()): row for row in rows}.values())


def numbers(effect):
    estimates = (effect.difference, effect.iqm, effect.improvement)
    return [number for estimate in estimates for number in vars(estimate).values()]


@given(sweeps, st.randoms(use_true_random=False))
def test_the_order_of_rows_means_nothing(sweep, random):
    rows = unlike(rows_of(sweep))
    shuffled = random.sample(rows, len(rows))
    assert repr(effect_table(rows, GRID, Goal.MINIMIZE)) == repr(
        effect_table(shuffled, GRID, Goal.MINIMIZE)
    )


@given(sweeps)
def test_the_mirrored_objective_with_the_other_goal_says_the_same(sweep):
    rows = unlike(rows_of(sweep))
    mirrored = [
        replace(row, objective=None if row.objective is None else -row.objective) for row in rows
    ]
    pairs = zip(
        effect_table(rows, GRID, Goal.MINIMIZE).effects,
        effect_table(mirrored, GRID, Goal.MAXIMIZE).effects,
        strict=True,
    )
    for effect, other in pairs:
        assert effect.verdict == other.verdict
        assert effect.difference.mean == pytest.approx(-other.difference.mean, nan_ok=True)
        assert (effect.difference.low, effect.iqm.low) == pytest.approx(
            (-other.difference.high, -other.iqm.high), nan_ok=True
        )
        assert repr(effect.improvement) == repr(other.improvement)


@given(sweeps)
def test_the_other_goal_turns_the_verdict_and_keeps_the_difference(sweep):
    rows = unlike(rows_of(sweep))
    turned = {Verdict.BETTER: Verdict.WORSE, Verdict.WORSE: Verdict.BETTER}
    pairs = zip(
        effect_table(rows, GRID, Goal.MINIMIZE).effects,
        effect_table(rows, GRID, Goal.MAXIMIZE).effects,
        strict=True,
    )
    for effect, other in pairs:
        assert repr(effect.difference) == repr(other.difference)
        assert other.verdict == turned.get(effect.verdict, effect.verdict)
        if effect.sound_pairs == effect.ranked_pairs > 0:
            assert effect.improvement.value == pytest.approx(1.0 - other.improvement.value)


@given(sweeps, st.sampled_from(["failed", "divergence"]), values)
def test_one_more_lost_trial_changes_the_counts_but_not_the_healthy_difference(sweep, label, value):
    rows = unlike(rows_of(sweep))
    more = [trial(99, 0.0, a="off", b=0), trial(99, value, label, a="on", b=0)]
    before, after = (
        effect_table(some, GRID, Goal.MINIMIZE).effects[0] for some in (rows, rows + more)
    )
    assert repr(after.difference) == repr(before.difference)
    assert repr(after.iqm) == repr(before.iqm)
    assert after.pairs == before.pairs + 1
    assert after.left_out.get("level", 0) == before.left_out.get("level", 0) + 1
    assert after.of_level.causes[label] == before.of_level.causes.get(label, 0) + 1
    assert after.of_level.trials == before.of_level.trials + 1
    assert after.ranked_pairs == before.ranked_pairs + 1
    if before.ranked_pairs:
        assert after.improvement.value <= before.improvement.value


@given(sweeps)
def test_every_pair_and_every_trial_is_accounted_for(sweep):
    rows = unlike(rows_of(sweep))
    for effect in effect_table(rows, GRID, Goal.MINIMIZE).effects:
        assert effect.pairs == effect.sound_pairs + sum(effect.left_out.values())
        for side in (effect.of_level, effect.of_baseline):
            assert side.trials == side.healthy + sum(side.causes.values())
            assert 0.0 <= side.low <= side.high <= 1.0
        assert effect.sound_pairs <= effect.ranked_pairs <= effect.pairs
        whole = effect.of_level.mean is not None
        assert whole == (effect.sound_pairs > 0)
        if whole:
            expected = effect.of_level.mean - effect.of_baseline.mean
            assert effect.difference.mean == pytest.approx(expected, abs=1e-9)
