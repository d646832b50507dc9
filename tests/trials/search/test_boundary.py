"""The boundary sampler and the frontier that is read from its trials."""

import warnings
from statistics import median

import frontier_races as races
import numpy as np
import optuna
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import RBF

from sickbay.trials.search.boundary_model import estimate_frontier, fit, from_unit, to_unit
from sickbay.trials.search.boundary_sampler import (
    BoundarySampler,
    Observed,
    next_point,
    observed,
    wrong_side,
)
from sickbay.trials.spec.model import RangeSpec

LR = RangeSpec(low=1e-4, high=1.0, log=True)
SHARE = RangeSpec(low=0.0, high=2.0)
NOTHING = np.zeros((0, 2))


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.mark.parametrize(
    "name", ["diagonal, log-log", pytest.param("circle", marks=pytest.mark.slow)]
)
def test_it_finds_a_frontier_with_a_fifth_of_the_trials_of_a_grid(name):
    """Two of the truths of `make bench`, two seeds; there are twenty."""
    truth = races.TRUTHS[name]()
    limit = races.error(races.grid(truth), truth, nearest=True)
    for seed in (0, 1):
        points = races.sampled(truth, BoundarySampler(seed=seed), races.TRIALS[truth.dimensions])
        assert 5 * len(points) <= len(races.grid(truth))
        assert races.error(points, truth) <= limit


@pytest.mark.slow
def test_a_thin_closed_frontier_is_found_by_the_sampler():
    """Without a prior on the lengths the map was constant (0.34 wrong) in most seeds."""
    truth = races.TRUTHS["annulus"]()
    points = [races.sampled(truth, BoundarySampler(seed=seed), 45) for seed in range(4)]
    errors = [races.error(tried, truth) for tried in points]
    nearest = [races.error(tried, truth, nearest=True) for tried in points]
    assert median(errors) < min(0.15, median(nearest))


def test_the_same_seed_asks_for_the_same_points_and_another_for_others():
    truth = races.TRUTHS["circle"]()
    runs = [races.sampled(truth, BoundarySampler(seed=seed), 14) for seed in (3, 3, 4)]
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


def test_a_batch_spreads_out_and_costs_little():
    """Four at a time, none told before the fourth is asked for."""
    truth = races.TRUTHS["circle"]()
    points = races.sampled(truth, BoundarySampler(seed=0), 28, batch=4)
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    assert distance[np.triu_indices(len(points), 1)].min() > 1e-4
    assert races.error(points, truth) < 0.08


def test_an_annulus_is_seen_and_left_out_trials_say_what_a_frontier_is_worth():
    """A likelihood without a prior on the lengths took it for noise: P = .33 everywhere."""
    truth = races.TRUTHS["annulus"]()
    points = np.random.default_rng(0).random((90, 2))
    labels = np.where(truth.sick(points), "pathological", "healthy")
    unit = [RangeSpec(low=0.0, high=1.0)] * 2
    found = estimate_frontier(points, labels, unit)
    cells = np.stack(np.meshgrid(*found.axes, indexing="ij"), axis=-1).reshape(-1, 2)
    wrong = (found.probability.ravel() > 0.5) != truth.sick(cells)
    assert wrong.mean() < 0.1
    assert (found.errors.classifier < found.errors.constant, found.warning) == (True, "")
    shuffled = np.random.default_rng(1).permutation(labels)
    noise = estimate_frontier(points, shuffled, unit)
    assert noise.errors.classifier >= min(noise.errors.constant, noise.errors.nearest - 0.05)
    assert "of trials left out of the fit" in noise.warning
    few = estimate_frontier(points[:9], labels[:9], unit)
    assert (few.errors, few.warning) == (None, "")


def test_points_lie_in_their_ranges_whole_numbers_where_they_are_whole():
    study = optuna.create_study(sampler=BoundarySampler(seed=0))
    space = {
        "lr": optuna.distributions.FloatDistribution(1e-4, 1.0, log=True),
        "width": optuna.distributions.IntDistribution(2, 64, log=True),
    }
    study.enqueue_trial({"lr": 0.1, "width": 8})
    for _ in range(14):
        trial = study.ask(fixed_distributions=space)
        assert 1e-4 <= trial.params["lr"] <= 1.0
        assert isinstance(trial.params["width"], int)
        assert 2 <= trial.params["width"] <= 64
        study.tell(trial, float(trial.params["lr"] * trial.params["width"] > 1))


def test_inconclusive_trials_are_evidence_for_neither_side_and_are_put_off():
    rng = np.random.default_rng(0)
    points = rng.random((30, 2))
    sick = points[:, 0] > 0.5
    unsure = np.array([[0.5, y] for y in np.linspace(0.0, 0.4, 12)])
    model = fit(points, sick)
    line = np.array([[0.5, 0.2], [0.5, 0.9]])
    without = wrong_side(model, line, Observed(points, sick, NOTHING, NOTHING))
    beside = wrong_side(model, line, Observed(points, sick, unsure, NOTHING))
    assert beside[0] < without[0] - 0.3
    assert abs(beside[1] - without[1]) < 0.1
    chosen = next_point(
        Observed(points, sick, unsure, NOTHING), 2, rng, explore=False, score=wrong_side
    )
    assert chosen[1] > 0.4


def test_seeds_that_disagree_count_one_by_one():
    study = optuna.create_study()
    space = {"x": optuna.distributions.FloatDistribution(0, 1)}
    for attrs in (
        {"healthy": 2, "pathological": 1, "inconclusive": 0},
        {"healthy": 3, "pathological": 0, "inconclusive": 0},
        {"healthy": 0, "pathological": 0, "inconclusive": 3},
    ):
        trial = study.ask(fixed_distributions=space)
        for key, value in attrs.items():
            trial.set_user_attr(key, value)
        study.tell(trial, 0.5)
    study.ask(fixed_distributions=space)
    observations = observed(study.get_trials(), ["x"], [space["x"]])
    assert (len(observations.decided), int(observations.pathological.sum())) == (4, 1)
    assert (len(observations.unsure), len(observations.running)) == (1, 1)


def test_the_estimate_has_a_band_that_holds_the_frontier_and_is_wide_where_nothing_was_tried():
    rng = np.random.default_rng(1)
    points = np.column_stack([10 ** rng.uniform(-4, -1, 60), rng.uniform(0, 2, 60)])
    labels = ["pathological" if lr > 1e-2 else "healthy" for lr, _ in points]
    frontier = estimate_frontier(points.tolist(), labels, [LR, SHARE])
    assert frontier.probability.shape == (64, 64) == frontier.lower.shape
    assert np.allclose(frontier.axes[0][[0, -1]], [1e-4, 1.0])
    assert (frontier.lower <= frontier.upper).all()
    guess = frontier.probability.mean(axis=1) > 0.5
    assert abs(np.log10(frontier.axes[0][int(np.argmax(guess))]) + 2) < 0.25
    at = int(
        np.argmin(np.abs(np.log10(frontier.axes[0]) + 2))
    )  # the true frontier lies in the band
    assert ((frontier.lower[at] < 0.5) & (frontier.upper[at] > 0.5)).mean() > 0.9
    untried = (frontier.upper - frontier.lower)[-1].mean()
    assert untried > (frontier.upper - frontier.lower)[at + 8].mean()
    assert (frontier.healthy, frontier.pathological, frontier.unsure) == (
        labels.count("healthy"),
        labels.count("pathological"),
        0,
    )


def test_inconclusive_trials_change_no_probability_and_are_reported():
    points = [[0.1, 0.5], [0.2, 0.9], [0.001, 0.4], [0.002, 1.5]]
    labels = ["pathological", "pathological", "healthy", "healthy"]
    plain = estimate_frontier(points, labels, [LR, SHARE])
    more = estimate_frontier(
        [*points, [1e-4, 0.0], [0.5, 0.1]], [*labels, "inconclusive", None], [LR, SHARE]
    )
    assert np.array_equal(plain.probability, more.probability)
    assert (plain.inconclusive.max(), more.unsure) == (0.0, 1)
    assert more.inconclusive[0, 0] == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("labels", [[], ["healthy"] * 3, ["pathological"], ["inconclusive"]])
def test_trials_of_one_kind_have_no_frontier_and_the_estimate_says_so(labels):
    points = [[0.1, 0.5]] * len(labels)
    frontier = estimate_frontier(points, labels, [LR, SHARE])
    assert not frontier.fitted
    sick = labels.count("pathological")
    n = sick + labels.count("healthy")
    assert frontier.probability[0, 0] == pytest.approx((sick + 1) / (n + 2))
    assert (frontier.lower.max(), frontier.upper.min()) == (0.0, 1.0)


def test_a_label_that_is_none_is_refused():
    with pytest.raises(ValueError, match="one label a point"):
        estimate_frontier([[0.1, 0.5]], ["ill"], [LR, SHARE])


def test_probabilities_agree_with_monte_carlo_over_the_latent_function():
    """Another way to the average of the logistic over the Gaussian: draw from it."""
    rng = np.random.default_rng(2)
    points = rng.random((40, 2))
    model = fit(points, points.sum(axis=1) > 1)
    where = rng.random((6, 2))
    mean, sd = model.latent(where)
    drawn = mean + sd * rng.normal(size=(200_000, 1))
    assert model.probability(where) == pytest.approx(
        (1 / (1 + np.exp(-drawn))).mean(axis=0), abs=0.01
    )


def test_the_fit_agrees_with_another_kernel_on_what_is_clear():
    rng = np.random.default_rng(3)
    points = rng.random((60, 2))
    sick = points[:, 0] > 0.5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        other = GaussianProcessClassifier(10.0 * RBF([0.5, 0.5])).fit(points, sick)
    where = np.array([[0.1, 0.5], [0.9, 0.5]])
    assert ((fit(points, sick).probability(where) > 0.5) == other.predict(where)).all()


def test_units_and_values_are_inverse():
    values = np.array([[1e-4, 0.0], [0.01, 0.5], [1.0, 2.0]])
    units = to_unit(values, [LR, SHARE])
    assert np.allclose(units, [[0, 0], [0.5, 0.25], [1, 1]])
    assert np.allclose(from_unit(units[:, 0], LR), values[:, 0])
