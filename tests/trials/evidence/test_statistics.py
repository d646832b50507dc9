from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from sickbay.trials.evidence import statistics as own

NAN = float("nan")


def kendall_p(values, *, rising):
    side = "greater" if rising else "less"
    return stats.kendalltau(np.arange(len(values)), values, alternative=side, method="exact").pvalue


@pytest.mark.parametrize("rising", [True, False])
@pytest.mark.parametrize("n", [2, 3, 5, 8, 12])
def test_mann_kendall_is_exact_for_short_series(n, rising):
    values = np.random.default_rng(n).normal(size=n)
    expected = kendall_p(values, rising=rising)
    assert own.mann_kendall(values, rising=rising) == pytest.approx(expected, abs=1e-12)


def test_mann_kendall_of_a_long_series_is_near_the_exact_value():
    rng = np.random.default_rng(1)
    for n in (13, 20, 60):
        values = rng.normal(size=n) + 0.02 * np.arange(n)
        exact = kendall_p(values, rising=True)
        assert own.mann_kendall(values, rising=True) == pytest.approx(exact, abs=0.005)


def test_mann_kendall_variance_under_ties_is_that_of_all_permutations():
    values = np.array([1.0, 1.0, 2.0, 3.0, 3.0, 3.0, 4.0])
    scores = [
        sum(np.sign(b - a) for i, a in enumerate(order) for b in order[i + 1 :])
        for order in permutations(values)
    ]
    score = sum(np.sign(b - a) for i, a in enumerate(values) for b in values[i + 1 :])
    z = (score - 1) / np.std(scores)
    assert own.mann_kendall(values, rising=True) == pytest.approx(stats.norm.sf(z), rel=1e-9)


def test_mann_kendall_of_nothing_or_a_constant_is_one():
    assert own.mann_kendall(np.array([]), rising=True) == 1.0
    assert own.mann_kendall(np.array([NAN, 1.0, NAN]), rising=True) == 1.0
    assert own.mann_kendall(np.full(9, 3.0), rising=False) == 1.0


def test_mann_kendall_leaves_gaps_out_and_orders_infinities():
    gappy = np.array([1.0, NAN, 2.0, 3.0, NAN, np.inf])
    assert own.mann_kendall(gappy, rising=True) == pytest.approx(1 / 24)


@pytest.mark.parametrize("width", [4, 10, 15])
def test_windows_equal_the_single_tests(width):
    rng = np.random.default_rng(width)
    values = np.round(rng.normal(size=40), 1)
    values[17] = NAN
    x = np.arange(40.0) * 2.0
    trends = own.mann_kendall_windows(values, width, rising=True)
    slopes = own.theil_sen_windows(x, values, width)
    assert np.isnan(trends[: width - 1]).all()
    for end in range(width, 41):
        part = slice(end - width, end)
        assert trends[end - 1] == own.mann_kendall(values[part], rising=True)
        assert slopes[end - 1] == own.theil_sen(x[part], values[part])


def test_theil_sen_equals_scipy():
    rng = np.random.default_rng(3)
    x, y = np.sort(rng.uniform(size=25)), rng.normal(size=25)
    assert own.theil_sen(x, y) == pytest.approx(stats.theilslopes(y, x).slope)
    assert np.isnan(own.theil_sen(np.array([1.0, 1.0]), np.array([0.0, 5.0])))


@pytest.mark.parametrize(("hits", "n"), [(0, 29), (1, 30), (13, 24), (24, 24)])
def test_bounds_of_a_share_equal_scipy(hits, n):
    upper = stats.binomtest(hits, n, alternative="less").proportion_ci(0.95).high
    lower = stats.binomtest(hits, n, alternative="greater").proportion_ci(0.95).low
    assert own.clopper_pearson_upper(hits, n) == pytest.approx(upper)
    assert own.clopper_pearson_lower(hits, n) == pytest.approx(lower)
    wilson = stats.binomtest(hits, n).proportion_ci(0.95, method="wilson")
    assert own.wilson(hits, n) == pytest.approx((wilson.low, wilson.high), abs=1e-12)


def test_bounds_of_a_share_without_draws_say_nothing():
    assert own.clopper_pearson_upper(0, 0) == 1.0
    assert own.clopper_pearson_lower(0, 0) == 0.0
    assert own.wilson(0, 0) == (0.0, 1.0)


def test_rule_of_three():
    # no hit in 29 draws is the first to put the upper bound of the share under a tenth
    assert own.clopper_pearson_upper(0, 28) > 0.10 > own.clopper_pearson_upper(0, 29)


def test_variance_bound_equals_the_chi_square_quantile():
    bound = own.variance_upper(np.array([2.0, 2.0]), np.array([50.0, NAN]), np.array([0.01, 0.01]))
    assert bound[0] == pytest.approx(2.0 * 49 / stats.chi2.ppf(0.01, 49))
    assert bound[1] == 2.0  # nothing is known of n


def test_all_looks_together_spend_alpha():
    spent = own.spent_alpha(1e-3, np.arange(1.0, 200_001.0))
    assert spent.sum() == pytest.approx(1e-3, rel=1e-4)
    assert spent[0] == pytest.approx(1e-3 * 6 / np.pi**2)


def test_normal_quantiles():
    assert own.normal_quantile(0.025) == pytest.approx(1.959964, abs=1e-6)
    assert own.normal_quantiles(np.array([0.5, 0.01])) == pytest.approx([0.0, stats.norm.isf(0.01)])


def test_holm_rejects_step_by_step():
    assert own.holm([0.01, 0.04, 0.03], 0.05) == (True, False, False)
    assert own.holm([0.01, 0.02, 0.03], 0.05) == (True, True, True)
    assert own.holm([], 0.05) == ()


def test_spread_and_noise_are_robust():
    rng = np.random.default_rng(4)
    values = rng.normal(scale=2.0, size=4001)
    values[::50] = 1e6
    assert own.spread(values) == pytest.approx(2.0, rel=0.1)
    trend = np.linspace(0.0, 100.0, 4001) + rng.normal(scale=0.5, size=4001)
    assert own.noise(trend) == pytest.approx(0.5, rel=0.1)
    assert np.isnan(own.noise(np.array([1.0, 2.0])))
    assert np.isnan(own.spread(np.array([NAN])))


def test_effective_number_is_the_perplexity():
    shares = np.array([[0.25] * 4, [1.0, 0.0, 0.0, 0.0], [0.5, 0.3, 0.1, 0.1], [NAN] * 4])
    effective = own.effective_number(shares)
    assert effective[:3] == pytest.approx([4.0, 1.0, np.exp(stats.entropy(shares[2]))])
    assert np.isnan(effective[3])


def test_information_gain_of_squared_errors_is_r_squared():
    rng = np.random.default_rng(5)
    y, guess = rng.normal(size=500), rng.normal(size=500) * 0.1
    loss, floor = np.mean((y - guess) ** 2), np.var(y)
    r_squared = 1 - np.sum((y - guess) ** 2) / np.sum((y - y.mean()) ** 2)
    assert own.information_gain(np.array([loss]), floor, floor)[0] == pytest.approx(r_squared)


def bits(text):
    return np.array([letter == "1" for letter in text])


@pytest.mark.parametrize(
    ("enter", "leave", "gap", "onset"),
    [
        ("0011", "1100", "0000", None),  # two in a row are not enough
        ("00111", "11000", "00000", 2),
        ("01011", "10100", "00000", None),  # not in a row
        ("1110000", "0000000", "0000000", 0),  # between the margins: it stays
        ("1110000", "0001101", "0000000", 0),  # left for two and one only
        ("111000", "000111", "000000", None),  # left three in a row
        ("111000111", "000111000", "000000000", 6),  # and entered anew
        ("0100", "0000", "0010", 1),  # NaN closes a run of one
        ("01000000", "00011111", "00100000", 1),  # and latches
        ("0000", "1111", "0110", None),  # NaN before any run is nothing
        ("1101", "0000", "0010", 0),  # NaN in a run counts for it
        ("", "", "", None),
    ],
)
def test_persistence(enter, leave, gap, onset):
    assert own.persistent(bits(enter), bits(leave), bits(gap)) == onset


def test_persistence_of_one_enters_and_leaves_at_once():
    assert own.persistent(bits("0100"), bits("1011"), k=1) is None
    assert own.persistent(bits("0111"), bits("1000"), k=1) == 1
