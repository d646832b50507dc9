"""Ranking and decision measures against slow formulas that share nothing with them."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sickbay.models.shared.classification_metrics import (
    auprc,
    auroc_with_error,
    binary_metrics,
    class_gradient_share,
    confusion,
    histogram,
    label_flip_rate,
    matthews,
    midranks,
)


def sample(n=60, p=0.3, levels=None, seed=0):
    rng = np.random.default_rng(seed)
    targets = rng.random(n) < p
    scores = np.clip(0.25 * targets + 0.7 * rng.random(n), 0.0, 1.0)
    return (np.round(scores * levels) / levels if levels else scores), targets


def wins(scores, targets):
    """The matrix of 1, 1/2, 0 of every positive against every negative."""
    above, below = scores[targets][:, None], scores[~targets][None, :]
    return (above > below) + 0.5 * (above == below)


@pytest.mark.parametrize("levels", [None, 5])
def test_auroc_is_the_share_of_pairs_in_the_right_order(levels):
    scores, targets = sample(levels=levels)
    assert auroc_with_error(scores, targets)[0] == pytest.approx(wins(scores, targets).mean())


@pytest.mark.parametrize("levels", [None, 5])
def test_its_error_is_delong_s_of_the_pair_matrix(levels):
    scores, targets = sample(levels=levels)
    pairs = wins(scores, targets)
    variance = pairs.mean(axis=1).var(ddof=1) / pairs.shape[0]
    variance += pairs.mean(axis=0).var(ddof=1) / pairs.shape[1]
    assert auroc_with_error(scores, targets)[1] == pytest.approx(math.sqrt(variance))


def test_the_error_is_the_spread_over_repeated_samples():
    runs = [auroc_with_error(*sample(n=200, seed=seed)) for seed in range(300)]
    spread = np.std([auroc for auroc, _ in runs])
    assert np.mean([error for _, error in runs]) == pytest.approx(spread, rel=0.12)


def test_on_noise_the_error_is_that_of_the_rank_sum():
    """The report's 420 of 4,200 random labels: sqrt((n1 + n0 + 1) / (12 n1 n0)) = 0.0148."""
    rng = np.random.default_rng(1)
    targets = np.arange(4200) < 420
    error = auroc_with_error(rng.random(4200), targets)[1]
    assert error == pytest.approx(math.sqrt(4201 / (12 * 420 * 3780)), rel=0.05)
    assert error == pytest.approx(0.0148, abs=1e-3)


@pytest.mark.parametrize("levels", [None, 4])
def test_average_precision_sums_precision_over_the_steps_of_recall(levels):
    scores, targets = sample(levels=levels)
    area, recall_before = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        called = scores >= threshold
        recall = (called & targets).sum() / targets.sum()
        area += (recall - recall_before) * targets[called].mean()
        recall_before = recall
    assert auprc(scores, targets) == pytest.approx(area)


def test_constant_scores_rank_nothing():
    _, targets = sample()
    scores = np.full(len(targets), 0.2)
    assert auroc_with_error(scores, targets) == (0.5, 0.0)
    assert auprc(scores, targets) == pytest.approx(targets.mean())
    assert matthews(confusion(scores, targets)) == 0.0


def test_perfect_and_inverted_scores():
    _, targets = sample()
    assert auroc_with_error(targets.astype(float), targets) == (1.0, 0.0)
    assert auroc_with_error(1.0 - targets, targets)[0] == 0.0
    assert auprc(targets.astype(float), targets) == 1.0


def test_matthews_is_the_correlation_of_calls_and_truth():
    scores, targets = sample()
    counts = confusion(scores, targets)
    assert counts == [
        float(((scores > 0.5) == called)[targets == truth].sum())
        for truth, called in itertools.product([False, True], [False, True])
    ]
    assert matthews(counts) == pytest.approx(np.corrcoef(scores > 0.5, targets)[0, 1])


@given(st.lists(st.integers(0, 6), min_size=1, max_size=20))
def test_midranks_count_those_below_and_half_of_the_equal(values):
    array = np.array(values, dtype=float)
    below = (array[:, None] > array).sum(axis=1) + ((array[:, None] == array).sum(axis=1) + 1) / 2
    assert np.array_equal(midranks(array), below)


@given(st.integers(0, 10_000))
def test_a_monotone_change_of_scores_changes_no_ranking(seed):
    scores, targets = sample(n=30, levels=7, seed=seed)
    assert auroc_with_error(scores**3, targets) == auroc_with_error(scores, targets) or (
        not 0 < targets.sum() < 30
    )


def test_without_both_classes_ranking_is_not_defined():
    for targets in (np.zeros(8), np.ones(8)):
        metrics = binary_metrics(np.linspace(0.0, 1.0, 8), targets)
        for name in ("val_auroc", "val_auroc_se", "val_auprc", "val_mcc"):
            assert math.isnan(metrics[name]), name
        assert metrics["val_accuracy"] == 0.5
    only = auroc_with_error(np.array([0.1, 0.9, 0.4]), np.array([0, 1, 0]))
    assert only[0] == 1.0
    assert math.isnan(only[1])


def test_scores_that_are_not_finite_make_everything_nan():
    metrics = binary_metrics(np.array([0.1, math.nan, 0.9]), np.array([0, 1, 1]))
    for name, value in metrics.items():
        values = value if isinstance(value, list) else [value]
        assert name == "val_scores_hist_neg" or all(math.isnan(entry) for entry in values), name


def test_histograms_hold_every_score_once_and_rebuild_the_auroc():
    scores, targets = sample(n=500)
    metrics = binary_metrics(torch.tensor(scores), torch.tensor(targets))
    positives, negatives = (np.array(metrics[f"val_scores_hist_{side}"]) for side in ("pos", "neg"))
    assert len(positives) == len(negatives) == 256
    assert (positives.sum(), negatives.sum()) == (targets.sum(), (~targets).sum())
    below = np.cumsum(negatives) - negatives / 2.0
    rebuilt = (positives * below).sum() / (positives.sum() * negatives.sum())
    assert rebuilt == pytest.approx(metrics["val_auroc"], abs=2e-3)
    assert histogram(np.array([0.0, 1.0]))[0] == histogram(np.array([0.0, 1.0]))[255] == 1.0


def test_shares_and_means():
    metrics = binary_metrics(torch.tensor([[0.6, 0.2], [0.7, 0.1]]), torch.tensor([[1, 0], [0, 0]]))
    assert metrics["val_confusion"] == [2.0, 1.0, 0.0, 1.0]
    assert metrics["val_accuracy"] == 0.75
    assert metrics["val_predicted_positive_share"] == 0.5
    assert metrics["val_mean_probability"] == pytest.approx(0.4)


def test_labels_drawn_anew_flip_at_twice_p_times_one_minus_p():
    rng = np.random.default_rng(0)
    before, now = rng.random((2, 40_000)) < 0.1
    assert label_flip_rate(before, now) == pytest.approx(0.18, abs=0.01)
    assert label_flip_rate(before, before) == 0.0
    assert math.isnan(label_flip_rate([], []))


def test_gradient_shares_by_class():
    assert class_gradient_share([0.1, -0.3, 0.4], [0, 1, 1]) == pytest.approx([0.125, 0.875])
    assert class_gradient_share([1.0, -1.0, 2.0], [0, 1, 2], classes=3) == [0.25, 0.25, 0.5]
    assert all(math.isnan(share) for share in class_gradient_share([0.0, 0.0], [0, 1]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: binary_metrics([1.5], [1]), "must be probabilities in"),
        (lambda: binary_metrics([], []), "0 scores and 0 targets"),
        (lambda: auprc([0.5], [1, 0]), "1 scores and 2 targets"),
        (lambda: label_flip_rate([1], [1, 0]), "1 before and 2 now"),
    ],
)
def test_what_cannot_be_measured_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
