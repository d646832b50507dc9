"""The statistics of effects: against independent implementations, by properties, by simulation."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from sickbay.service.analysis.statistics.estimates import (
    equivalence,
    interquartile_effect,
    interquartile_mean,
    paired_effect,
    seed_values,
)
from sickbay.service.analysis.statistics.shares import (
    boschloo,
    clustered_wilson,
    improvement,
    permuted,
    risk_difference,
    sign_flip,
    wilson,
)
from sickbay.trials.evidence import statistics
from sickbay.trials.evidence.statistics import holm_adjusted

sizes = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))
samples = st.lists(sizes, min_size=3, max_size=30)


def one_context(values):
    return paired_effect(values, range(len(values)), ["here"] * len(values))


def spread_out(table):
    """A full table (contexts, seeds) as three columns."""
    contexts, seeds = np.indices(table.shape)
    return table.ravel().tolist(), seeds.ravel().tolist(), contexts.ravel().tolist()


@given(samples.filter(lambda values: np.std(values) > 1e-3))
def test_one_context_is_the_paired_t_test(values):
    estimate = one_context(values)
    reference = stats.ttest_rel(values, np.zeros(len(values)))
    low, high = reference.confidence_interval(0.95)
    assert estimate.mean == pytest.approx(np.mean(values), rel=1e-9, abs=1e-9)
    assert (estimate.low, estimate.high) == pytest.approx((low, high), rel=1e-6, abs=1e-6)
    assert estimate.p_value == pytest.approx(reference.pvalue, rel=1e-6, abs=1e-12)
    assert estimate.degrees == pytest.approx(len(values) - 1)


def test_a_full_grid_is_the_t_test_of_the_seeds_means():
    table = np.random.default_rng(0).normal(1.0, 2.0, (4, 6)) + np.arange(4)[:, None]
    estimate = paired_effect(*spread_out(table))
    reference = stats.ttest_1samp(table.mean(axis=0), 0.0)
    low, high = reference.confidence_interval(0.95)
    assert (estimate.low, estimate.high) == pytest.approx((low, high))
    assert estimate.degrees == pytest.approx(5.0)
    assert estimate.p_value == pytest.approx(reference.pvalue)
    assert seed_values(*spread_out(table)) == pytest.approx(table.mean(axis=0))


def test_gaps_in_a_grid_are_met_with_bell_and_mccaffrey_s_correction():
    """The same quantities from the definition, with the matrices written out."""
    rng = np.random.default_rng(1)
    values, seeds, contexts = spread_out(rng.normal(size=(3, 5)))
    kept = [0, 1, 2, 3, 4, 5, 7, 9, 11, 12]  # 5, 3 and 2 of 5 seeds
    d = np.array(values)[kept]
    s, c = np.array(seeds)[kept], np.array(contexts)[kept]
    same = c[:, None] == c[None, :]
    size = same.sum(axis=1)
    weight = 1 / (3 * size)
    residual_maker = np.eye(len(d)) - same / size[:, None]
    by_seed = (np.arange(5)[:, None] == s[None, :]) @ (weight[:, None] * residual_maker)
    covariance = by_seed @ by_seed.T
    scale = (weight**2).sum() / np.trace(covariance)
    estimate = paired_effect(d.tolist(), s.tolist(), c.tolist())
    assert estimate.mean == pytest.approx((weight * d).sum())
    assert estimate.error**2 == pytest.approx(((by_seed @ d) ** 2).sum() * scale)
    degrees = np.trace(covariance) ** 2 / (covariance**2).sum()
    assert estimate.degrees == pytest.approx(degrees)
    half = stats.t.ppf(0.975, degrees) * estimate.error
    assert (estimate.low, estimate.high) == pytest.approx(
        (estimate.mean - half, estimate.mean + half)
    )


def test_contexts_count_the_same_however_many_of_their_pairs_are_left():
    estimate = paired_effect([0.0, 0.1, -0.1, 0.2, 10.0], [0, 1, 2, 3, 0], [*"aaaa", "b"])
    assert estimate.mean == pytest.approx((0.05 + 10.0) / 2)


@pytest.mark.parametrize(
    ("values", "seeds", "contexts"), [([], [], []), ([1.0], [0], [0]), ([1.0, 2.0], [0, 0], [0, 1])]
)
def test_without_a_repeated_comparison_there_is_no_noise_to_measure(values, seeds, contexts):
    estimate = paired_effect(values, seeds, contexts)
    assert math.isnan(estimate.p_value)
    assert math.isnan(estimate.low)
    assert estimate.mean == pytest.approx(np.mean(values) if values else math.nan, nan_ok=True)


def test_differences_that_agree_to_the_last_bit_have_no_interval():
    for values, p_value in (([0.0] * 5, 1.0), ([0.25] * 5, 2 / 32), ([0.3 - 0.2, 0.4 - 0.3], 0.5)):
        estimate = one_context(values)
        assert estimate.error == 0.0
        assert math.isnan(estimate.low)
        assert estimate.p_value == p_value
    exact = one_context([1e-9, 2e-9, 3e-9])  # small is not the same as equal
    assert exact.error > 0.0


def test_a_seed_may_stand_once_in_a_context():
    with pytest.raises(ValueError, match="two pairs"):
        paired_effect([1.0, 2.0], [0, 0], ["a", "a"])
    with pytest.raises(ValueError, match="argument"):
        paired_effect([1.0, 2.0], [0], ["a", "a"])


@given(samples, st.integers(0, 2**32 - 1))
def test_order_means_nothing(values, seed):
    order = np.random.default_rng(seed).permutation(len(values))
    contexts = [index % 2 for index in range(len(values))]
    estimate = paired_effect(values, range(len(values)), contexts)
    shuffled = ([column[i] for i in order] for column in (values, range(len(values)), contexts))
    other = paired_effect(*shuffled)
    assert vars(estimate) == pytest.approx(vars(other), rel=1e-6, abs=1e-9, nan_ok=True)


@given(samples)
def test_the_other_sign_mirrors_the_interval(values):
    for estimate in (one_context, lambda some: interquartile_mean(np.array(some))):
        interval, other = estimate(values), estimate([-value for value in values])
        assert (interval.mean, interval.low, interval.high) == pytest.approx(
            (-other.mean, -other.high, -other.low), nan_ok=True, rel=1e-9, abs=1e-9
        )
        assert interval.p_value == pytest.approx(other.p_value, nan_ok=True)


@given(samples)
def test_the_interquartile_mean_is_scipy_s_trimmed_mean_with_yuen_s_error(values):
    estimate = interquartile_mean(np.array(values))
    assert estimate.mean == pytest.approx(stats.trim_mean(values, 0.25), rel=1e-9, abs=1e-9)
    if estimate.error > 1e-3:  # Yuen's test of a sample against its own mirror image
        mirrored = stats.ttest_ind(values, -np.array(values), equal_var=False, trim=0.25)
        expected = mirrored.statistic / np.sqrt(2.0)
        assert estimate.mean / estimate.error == pytest.approx(expected, rel=1e-6, abs=1e-9)
        assert estimate.degrees == pytest.approx(mirrored.df / 2)
        low, high = estimate.mean + estimate.error * stats.t.ppf([0.025, 0.975], estimate.degrees)
        assert (estimate.low, estimate.high) == pytest.approx((low, high))


def test_the_interquartile_effect_is_corrected_only_where_pairs_are_missing():
    table = np.random.default_rng(4).normal(size=(3, 6))
    full = spread_out(table)
    assert vars(interquartile_effect(*full)) == pytest.approx(
        vars(interquartile_mean(table.mean(axis=0)))
    )
    gaps = [column[4:] for column in full]
    corrected, naive = interquartile_effect(*gaps), interquartile_mean(seed_values(*gaps))
    assert corrected.mean == naive.mean
    assert corrected.error > naive.error
    assert corrected.degrees < naive.degrees
    assert math.isnan(interquartile_effect([1.0], [0], [0]).low)


def test_one_outlier_in_five_does_not_move_the_interquartile_mean():
    assert interquartile_mean(np.array([1.0, 1.1, 0.9, 1.0, 1e9])).mean < 1.1
    assert math.isnan(interquartile_mean(np.array([])).mean)
    assert math.isnan(interquartile_mean(np.array([1.0])).low)


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=40))
def test_one_pair_a_seed_is_the_sign_test(scores):
    probability = improvement(scores, range(len(scores)))
    wins, losses = scores.count(1.0), scores.count(0.0)
    expected = stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert probability.p_value == pytest.approx(expected)
    assert probability.value == pytest.approx(np.mean(scores))
    assert probability.low <= probability.value <= probability.high


def test_pairs_of_one_seed_are_no_independent_witnesses():
    scores = [1.0, 1.0, 1.0, 0.0, 1.0]
    alone, often = improvement(scores, range(5)), improvement(scores * 10, [*range(5)] * 10)
    assert vars(often) == pytest.approx(vars(alone))
    assert often.p_value == 12 / 32
    always = improvement([1.0] * 50, [*range(5)] * 10)
    assert always.p_value == 2 / 32
    assert wilson(1.0, 5)[0] < always.low < wilson(1.0, 50)[0]


def test_pairs_that_differ_within_their_seed_count_nearly_in_full():
    mixed = [float((pair + seed) % 2) for seed in range(5) for pair in range(10)]
    seeds = [seed for seed in range(5) for _ in range(10)]
    assert clustered_wilson(mixed, seeds) == wilson(0.5, 50)
    assert clustered_wilson([1.0, 0.0, 1.0], [7, 7, 7]) == wilson(2 / 3, 1)
    assert clustered_wilson([], []) == (0.0, 1.0)


@pytest.mark.parametrize("alike", [0.0, 0.3])
def test_shares_cover_in_grids_whether_or_not_seeds_decide(alike):
    """Six contexts, five seeds; plain Wilson holds the truth in 81 % where seeds decide a third."""
    rng = np.random.default_rng(8)
    seeds = [seed for seed in range(5) for _ in range(6)]
    hits = []
    for _ in range(1500):
        luck = np.sqrt(alike) * rng.normal(size=(5, 1))
        own = np.sqrt(1.0 - alike) * rng.normal(size=(5, 6))
        scores = (luck + own < stats.norm.ppf(0.7)).astype(float).ravel()
        low, high = clustered_wilson(scores.tolist(), seeds)
        hits.append(low <= 0.7 <= high)
    assert 0.93 <= np.mean(hits) <= 0.99


@given(st.lists(st.integers(-6, 6), min_size=1, max_size=9))
def test_flips_are_counted_exactly(margins):
    seen = abs(sum(margins))
    sums = [
        abs(sum(sign * margin for sign, margin in zip(signs, margins, strict=True)))
        for signs in product((-1, 1), repeat=len(margins))
    ]
    assert sign_flip(margins) == pytest.approx(np.mean([total >= seen for total in sums]))


def test_flips_are_those_of_wilcoxon_s_signed_ranks():
    differences = np.array([0.3, -0.1, 0.7, 0.9, 1.1, -0.2, 1.6])
    ranks = stats.rankdata(np.abs(differences)) * np.sign(differences)
    expected = stats.wilcoxon(differences, mode="exact").pvalue
    assert sign_flip([int(rank) for rank in ranks]) == pytest.approx(expected)


def test_scores_are_checked():
    with pytest.raises(ValueError, match=r"0, 0\.5 or 1"):
        improvement([0.3], [0])
    nothing = improvement([], [])
    assert (nothing.low, nothing.high) == (0.0, 1.0)
    assert math.isnan(nothing.value)


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_scipy_s_and_that_of_the_detectors(case):
    hits, n = case
    low, high = wilson(hits / n, n)
    reference = stats.binomtest(hits, n).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((reference.low, reference.high), abs=1e-9)
    assert (low, high) == pytest.approx(statistics.wilson(hits, n), abs=1e-9)


def test_nothing_drawn_says_nothing():
    assert wilson(0.0, 0) == (0.0, 1.0)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values):
    adjusted = holm_adjusted(p_values)
    rejected = statistics.holm(p_values, 0.05)
    for p, q, gone in zip(p_values, adjusted, rejected, strict=True):
        assert p <= q <= 1.0
        assert (q <= 0.05) == gone or q == pytest.approx(0.05)


def test_holm_is_that_of_statsmodels():
    p_values = np.random.default_rng(0).uniform(0, 0.1, 9)
    expected = multipletests(p_values, method="holm")[1]
    assert holm_adjusted(p_values.tolist()) == pytest.approx(expected.tolist())


def test_holm_by_hand():
    adjusted = holm_adjusted([0.01, math.nan, 0.04, 0.03])
    assert adjusted == pytest.approx([0.03, math.nan, 0.06, 0.06], nan_ok=True)


def test_the_chosen_interval_covers_where_the_bootstrap_does_not():
    """Decision 9 in small: 95 % intervals of a mean of five normal differences."""
    draws = np.random.default_rng(5).normal(size=(1500, 5))
    ours = [one_context(values.tolist()) for values in draws]
    covered = np.mean([interval.low <= 0.0 <= interval.high for interval in ours])
    assert 0.93 <= covered <= 0.97
    rng = np.random.default_rng(6)
    bca = stats.bootstrap(
        (draws[:400],), np.mean, axis=1, n_resamples=999, method="BCa", rng=rng
    ).confidence_interval
    assert np.mean((bca.low <= 0.0) & (bca.high >= 0.0)) < 0.90


def test_newcombes_worked_example_of_paired_shares():
    """Newcombe 1998: 36 both, 12 level only, 2 baseline only, none neither; method 10."""
    level = [True] * 36 + [True] * 12 + [False] * 2
    baseline = [True] * 36 + [False] * 12 + [True] * 2
    risk = risk_difference(level, baseline, list(range(50)))
    assert risk.value == pytest.approx(0.2)
    assert (risk.low, risk.high) == pytest.approx((0.0569, 0.3404), abs=5e-4)
    assert risk.test == "McNemar"
    assert risk.p_value == pytest.approx(stats.binomtest(2, 14).pvalue)


@pytest.mark.parametrize(("n", "p"), [(3, 2 / 2**6), (5, 2 / 2**10)])
def test_all_against_none_is_tested_by_boschloo(n, p):
    """Under any common share q both extremes have probability (q (1 - q))^n <= 1 / 4^n."""
    risk = risk_difference([False] * n, [True] * n, list(range(n)))
    assert (risk.value, risk.test) == (-1.0, "Boschloo")
    assert risk.p_value == pytest.approx(p, rel=1e-3)
    assert risk.low == -1.0 < risk.high < 0.0


@pytest.mark.parametrize("table", [(1, 5, 4, 5), (2, 10, 9, 10), (3, 7, 1, 4), (20, 25, 9, 30)])
def test_boschloo_is_that_of_scipy(table):
    hits, n, other_hits, other_n = table
    reference = stats.boschloo_exact([[hits, other_hits], [n - hits, other_n - other_hits]])
    assert boschloo(*table) == pytest.approx(reference.pvalue, rel=1e-4)
    assert boschloo(other_hits, other_n, hits, n) == pytest.approx(boschloo(*table))


def test_whole_seeds_are_permuted_where_a_seed_has_several_pairs():
    seeds = [seed for seed in range(4) for _ in range(3)]
    risk = risk_difference([False] * 12, [True] * 12, seeds)
    assert risk.test == "permutation of seeds"
    assert risk.p_value == pytest.approx(2 / math.comb(8, 4))
    drawn = np.random.default_rng(0).integers(0, 4, (2, 5)).tolist()
    reference = stats.permutation_test(
        drawn, lambda sample, other: np.sum(sample) - np.sum(other), permutation_type="independent"
    )
    assert permuted(*drawn) == pytest.approx(reference.pvalue)


def test_equivalence_is_two_one_sided_t_tests():
    values = np.array([0.1, -0.05, 0.02, 0.04, -0.03])
    made = paired_effect(values, range(5), [0] * 5)
    for smallest in (0.03, 0.1, 0.5):
        below = stats.ttest_1samp(values, -smallest, alternative="greater").pvalue
        above = stats.ttest_1samp(values, smallest, alternative="less").pvalue
        assert equivalence(made, smallest) == pytest.approx(max(below, above))
