import numpy as np
import pytest
from scipy import stats

from sickbay.trials.evidence import statistics as own


def placements(positive, negative):
    """DeLong's two sets of placement values, by comparing each pair."""
    wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    return wins.mean(axis=1), wins.mean(axis=0)


def histograms(positive, negative, bins):
    return [
        np.bincount(binned, minlength=bins)[None, :].astype(float)
        for binned in (positive, negative)
    ]


@pytest.mark.parametrize("shift", [0, 1, 4])
def test_histograms_give_auroc_and_delong_s_error(shift):
    rng = np.random.default_rng(shift)
    positive = rng.integers(shift, 16, size=60)
    negative = rng.integers(0, 16 - shift, size=300)
    auroc, error, _ = own.histogram_ranking(*histograms(positive, negative, 16))
    of_positives, of_negatives = placements(positive, negative)
    assert auroc[0] == pytest.approx(of_positives.mean())
    expected = np.sqrt(of_positives.var(ddof=1) / 60 + of_negatives.var(ddof=1) / 300)
    assert error[0] == pytest.approx(expected)


def test_histograms_give_average_precision():
    positive, negative = np.array([5, 3, 3]), np.array([4, 3, 0, 0])
    *_, precision = own.histogram_ranking(*histograms(positive, negative, 6))
    # thresholds 5, 4, 3: one of one, one of two, three of five
    assert precision[0] == pytest.approx((1.0 + 2 * 3 / 5) / 3)


def test_a_class_without_samples_has_no_ranking():
    with np.errstate(all="ignore"):
        auroc, error, precision = own.histogram_ranking(np.zeros((1, 4)), np.ones((1, 4)))
    assert np.isnan([auroc[0], error[0], precision[0]]).all()


@pytest.mark.parametrize(("positives", "negatives"), [(20, 80), (50, 50)])
def test_the_error_of_a_random_ranking(positives, negatives):
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(4000, positives + negatives))
    ranks = stats.rankdata(scores, axis=1)[:, :positives].sum(axis=1)
    areas = (ranks - positives * (positives + 1) / 2) / (positives * negatives)
    expected = own.chance_ranking_error(positives, negatives)
    assert areas.std() == pytest.approx(float(expected), rel=0.05)
    near = own.hanley_mcneil_error(np.array([0.5]), positives, negatives)
    assert near[0] == pytest.approx(float(expected), rel=0.02)


@pytest.mark.parametrize("base", [0.03, 0.1, 0.3])
@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_the_error_of_an_average_precision_near_chance(base, shift):
    rng = np.random.default_rng(1)
    positives = 100
    n = round(positives / base)
    scores = rng.normal(size=(300, n))
    scores[:, :positives] += shift
    hits = np.argsort(-scores, axis=1) < positives
    precision = np.cumsum(hits, axis=1) / np.arange(1, n + 1)
    precisions = (precision * hits).sum(axis=1) / positives
    expected = own.average_precision_error(np.array([precisions.mean()]), positives, base)[0]
    assert 0.75 * precisions.std() <= expected <= 1.6 * precisions.std()


def test_matthews_of_two_classes_is_the_phi_coefficient():
    table = np.array([[[70.0, 10.0], [5.0, 15.0]]])
    expected = (70 * 15 - 10 * 5) / np.sqrt(80 * 20 * 75 * 25)
    assert own.matthews(table)[0] == pytest.approx(expected)
    swapped = table[:, ::-1, ::-1]
    assert own.matthews(swapped)[0] == pytest.approx(expected)


def test_matthews_of_one_predicted_class_is_zero_and_of_none_wrong_is_one():
    tables = np.array([[[90.0, 0.0], [10.0, 0.0]], [[90.0, 0.0], [0.0, 10.0]]])
    assert own.matthews(tables) == pytest.approx([0.0, 1.0])
    assert own.matthews(np.diag([3.0, 4.0, 5.0])[None]) == pytest.approx([1.0])


def test_student_quantiles_are_those_of_scipy():
    assert own.student_quantiles(0.05, [7, 1]) == pytest.approx(stats.t.isf(0.05, [7, 1]))


def test_rank_correlation_is_spearman_s():
    rng = np.random.default_rng(2)
    series, other = rng.normal(size=30), rng.integers(0, 5, size=30).astype(float)
    assert own.rank_correlation(series, other) == pytest.approx(
        stats.spearmanr(series, other).statistic
    )
    series[3] = np.nan
    kept = np.delete(np.arange(30), 3)
    expected = stats.spearmanr(series[kept], other[kept]).statistic
    assert own.rank_correlation(series, other) == pytest.approx(expected)
    assert np.isnan(own.rank_correlation(series, np.ones(30)))


def test_wilson_bounds_are_wilson_for_arrays():
    low, high = own.wilson_bounds([3, 0, 0], [10, 0, 10])
    expected = stats.binomtest(3, 10).proportion_ci(method="wilson")
    assert (low[0], high[0]) == pytest.approx((expected.low, expected.high))
    assert (low[1], high[1]) == (0.0, 1.0)
    assert own.wilson(0, 10) == pytest.approx((low[2], high[2]))
