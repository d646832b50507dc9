"""Each published rule on tiny histories made for it, at its threshold and beside it."""

import math

import pytest

from docs.tools.corpus.report import baselines
from docs.tools.corpus.samples import history
from sickbay.trials.contract import TaskFacts, TaskKind


def log(n=12, **columns):
    """A history that no rule minds: losses fall by 10 % an epoch, gradients are usual."""
    fall = [0.9**i for i in range(n)]
    usual = {
        "train_loss": fall,
        "val_loss": [1.05 * value for value in fall],
        "nonfinite_params": [0.0] * n,
        "group_grad_max": [[0.1, 0.2]] * n,
        "group_update_ratio": [[1e-3, 1e-3]] * n,
        "train_loss_steps": [[value, 0.99 * value] for value in fall],
    }
    return history(planned=n, **(usual | columns))


@pytest.mark.parametrize("name", baselines.BASELINES)
def test_a_quiet_log_raises_no_alarm(name):
    assert baselines.BASELINES[name](log()) is None


@pytest.mark.parametrize(
    "broken",
    [
        {"train_loss": [1.0, math.nan] + [0.5] * 10},
        {"group_grad_max": [[0.1, 0.1], [9e-8, 0.1]] + [[0.1, 0.1]] * 10},
        {"group_update_ratio": [[1e-3, 1e-3], [11.0, 1e-3]] + [[1e-3, 1e-3]] * 10},
        {"dead_unit_share": [[0.0], [0.51]] + [[0.0]] * 10},
        {"val_loss": [1.0, 1.1] + [0.9**i for i in range(2, 12)]},
    ],
)
def test_sagemaker_fires_in_the_epoch_of_each_rule(broken):
    assert baselines.sagemaker_debugger(log(**broken)) == 2


def test_sagemaker_waits_ten_steps_for_a_loss_to_fall():
    steps = [[1.0, 1.0]] * 12  # the tenth step is no lower than the first
    assert baselines.sagemaker_debugger(log(train_loss_steps=steps)) == 6


def test_sagemaker_minds_classes_of_more_than_ten_to_one():
    facts = TaskFacts(kind=TaskKind.BINARY, class_counts=(110, 10))
    assert baselines.sagemaker_debugger(log(facts=facts)) == 1


def test_autotrainer_waits_for_thirty_percent_of_the_plan():
    assert baselines.autotrainer(log(train_loss=[1e3] * 12)) == 4
    assert baselines.autotrainer(log(train_loss=[999.0] * 12)) is None


def test_autotrainer_knows_vanishing_exploding_and_dying():
    assert baselines.autotrainer(log(group_grad_max=[[9e-5, 0.1]] * 12)) == 4
    assert baselines.autotrainer(log(group_grad_max=[[2e-4, 0.1]] * 12)) is None
    assert baselines.autotrainer(log(group_grad_max=[[7.1, 0.1]] * 12)) == 4
    assert baselines.autotrainer(log(dead_unit_share=[[0.7]] * 12)) == 4


def test_autotrainer_knows_flat_and_oscillating_accuracy():
    assert baselines.autotrainer(log(train_accuracy=[0.5] * 12)) == 4
    assert baselines.autotrainer(log(train_accuracy=[0.61] * 12)) is None
    assert baselines.autotrainer(log(train_accuracy=[0.8, 0.84] * 6)) == 4


def test_umlaut_needs_one_epoch_of_overfitting():
    val = [1.0, 0.9, 0.8, 0.85] + [0.7] * 8
    assert baselines.umlaut_overfitting(log(val_loss=val)) == 4


def test_ray_looks_at_four_results_after_a_grace_of_four():
    assert baselines.ray_plateau(log(val_loss=[1.0] * 12)) == 5
    assert baselines.ray_plateau(log(val_loss=[float(-i) for i in range(12)])) is None


def test_lightning_waits_three_evaluations():
    val = [1.0, 0.5, 0.5, 0.5, 0.5] + [0.4] * 7
    assert baselines.lightning_patience(log(val_loss=val)) == 5
    assert baselines.lightning_patience(log(val_loss=[1.0, math.inf] + [0.1] * 10)) == 2


def stepped(spikes, n=60, each=4):
    """A log of n epochs whose step losses are near 1 but for these steps."""
    flat = [1.0 + 0.01 * (i % 3) for i in range(n * each)]
    for place, value in spikes.items():
        flat[place] = value
    steps = [flat[each * i : each * (i + 1)] for i in range(n)]
    return log(n=n, train_loss_steps=steps)


def test_llm_foundry_wants_five_in_a_row_after_its_window():
    four = dict.fromkeys(range(120, 124), 2.5)
    assert baselines.llm_foundry_spike(stepped(four)) is None
    assert baselines.llm_foundry_spike(stepped(four | {124: 2.5})) == 124 // 4 + 1


def test_llm_foundry_minds_half_a_window_over_its_cap():
    high = dict.fromkeys(range(100, 240), 1.5)  # over the first window's maximum, under twice
    assert baselines.llm_foundry_spike(stepped(high)) == 151 // 4 + 1


def test_six_sigma_needs_sixty_four_steps():
    assert baselines.six_sigma(stepped({63: 5.0})) is None
    assert baselines.six_sigma(stepped({70: 5.0})) == 70 // 4 + 1
