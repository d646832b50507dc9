"""What every built-in system keeps: contract, determinism, facts of the task, clear refusals."""

import re
from dataclasses import replace
from itertools import islice

import pytest
import torch
from workload_runs import SYSTEMS

from sickbay.trials.conformance import check_workload

# Their levels differ only with more data or at an edge: the systems' own files test them.
APART = {"orientation": {"atan2_guard"}, "pointwise": {"transform", "label_source"}}

# Settings far from the defaults, under which a second trial runs beside the first.
NEIGHBOURS = {
    "orientation": {"initialization": "preset"},
    "crossmodal": {"label_source": "random10", "fusion": "none"},
    "pointwise": {"plan": "B"},
    "reweighting": {"kernel_norm": "peak", "map_norm": "clamp1.5"},
    "longtail": {"grad_mode": "decoupled", "classifier": "wcdas"},
}

# Settings that are the trial's and not the task's.
TUNING = {
    "orientation": {"initialization": "preset", "lr": 0.1, "dropout": 0.0, "pi_temp": 2.0},
    "crossmodal": {"lr": 0.1, "dropout": 0.0, "point_select": "first", "batch_size": 4},
    "pointwise": {"lr": 0.1, "batch_size": 5, "epochs": 7},
    "longtail": {"warmup": 0.5, "head_lr": 0.1, "grad_mode": "decoupled", "loss_cap": 5.0},
}


# Of a setting: a wrong value, and what is said of it.
WRONG = {
    "crossmodal": [
        ("fusion", "img", "is not known; choose one of full"),
        ("loss", "hinge", "is not known; choose one of bce"),
        ("label_source", "pseudo", "is not known; choose one of true"),
        ("point_select", "last", "is not known"),
        ("sampling", "even", "is not known; choose one of shuffled, balanced"),
        ("decision_threshold", 1.0, "is not between 0 and 1"),
        ("patience", -1, "is below 0"),
        ("size", "huge", "is not known; choose one of small, full"),
        ("dataset", "anovox", "is not a folder. Use 'synthetic'"),
    ],
    "longtail": [
        ("classifier", "svm", "is not known; choose one of ce, wcdas"),
        ("grad_mode", "both", "is not known; choose one of joint"),
        ("bn_mode", "off", "is not known; choose one of train, eval"),
        ("warmup_until", "end", "is not known; choose one of share, diffusion"),
        ("radius", "l1", "is not known; choose one of mse, hinge"),
        ("pretrain_split", "all", "is not known; choose one of balanced"),
        ("size", "huge", "is not known; choose one of small, full"),
        ("dataset", "cifar", "is not a folder. Use 'synthetic'"),
    ],
    "orientation": [
        ("initialization", "zeroes", "is not known"),
        ("loss", "huber", "is not known; choose one of pred_w"),
        ("atan2_guard", "eps_shift", "is not known"),
        ("size", "huge", "is not known; choose one of small, full"),
        ("kfold", 7, "has no generated shape"),
        ("classes", "table", "is not generated; choose from bottle"),
        ("initial_angles", "free", "is not known; choose one of learned, fixed"),
        ("lr_schedule", "linear", "is not known; choose one of constant, cos"),
        ("dataset", "/no/such/folder", "is not a folder"),
    ],
    "pointwise": [
        ("label_source", "truth", "is not known; choose one of random15"),
        ("transform", "muvo", "is not known; choose one of anovox, muvo_v2"),
        ("loss", "hinge", "is not known; choose one of focal, bce"),
        ("plan", "D", "is not known; choose one of A, B, C, Ctop5"),
        ("fusion", "late", "is not known; choose one of full, full_residual, po"),
        ("size", "huge", "is not known; choose one of small, full"),
        ("dataset", "/anovox", "is not a folder. Use 'synthetic'"),
    ],
    "reweighting": [
        ("kernel_norm", "max", "is not known; choose one of sum, peak"),
        ("map_norm", "clamp9", "is not known"),
        ("invalid_query", "keep", "is not known; choose one of pile"),
        ("residual_form", "gate", "is not known; choose one of add, mix"),
        ("residual_schedule", "up", "is not known; choose one of constant, falling"),
        ("detach_weight", "no", "is not known; choose one of grad, item"),
        ("reweighting", "maybe", "is not known; choose one of on, off"),
        ("perspective_norm", "x", "is not known; choose one of present"),
        ("gaussian_sigma", -1.0, "is not over 0"),
        ("size", "huge", "is not known; choose one of small, medium, full"),
        ("dataset", "kitti", "is not a folder. Use 'synthetic'"),
    ],
}


@pytest.fixture(params=SYSTEMS)
def system(request):
    return request.param


@pytest.fixture
def runs(system):
    return SYSTEMS[system]


@pytest.mark.slow
def test_it_keeps_the_contract_and_every_level_changes_something(system, runs):
    factors = [
        factor.name for factor in runs.workload.factors if factor.name not in APART.get(system, ())
    ]
    check_workload(runs.workload, {**runs.small, "epochs": 2}, levels=factors)


# What changes the shares of the classes that are scored.
BALANCES = {
    "orientation": [{"kfold": 2}],
    "crossmodal": [{"label_source": "random10"}, {"loss": "focal", "pos_weight": 9.0}],
    "pointwise": [{"label_source": "sem", "loss": "bce"}, {"plan": "B", "label_source": "sem"}],
    "reweighting": [{"extent": 12.0}],
    "longtail": [{"imbalance": 1.0}, {"val_imbalance": 8.0}],
}


@pytest.mark.slow
def test_a_model_that_sees_nothing_is_never_healthy(system, runs):
    check_workload(
        runs.workload,
        {**runs.small, "epochs": 2},
        levels=False,
        blind={"inputs": "blank", "epochs": 12},
        balances=BALANCES[system],
    )


def test_a_trial_s_cores_reach_torch(runs):
    context = replace(runs.context(), threads=2)
    before = torch.get_num_threads()
    next(runs.workload.train(runs.settings(), context))
    threads = torch.get_num_threads()
    torch.set_num_threads(before)
    assert threads == 2


def test_rows_come_one_at_a_time(runs):
    assert len(list(islice(runs.workload.train(runs.settings(), runs.context(epochs=500)), 2))) == 2


def test_interleaved_trials_do_not_disturb_each_other(system, runs):
    alone = runs.run(seed=1)
    first = runs.workload.train(runs.settings(), runs.context(1))
    second = runs.workload.train(runs.settings(**NEIGHBOURS[system]), runs.context(2))
    assert runs.same([row for row, _ in zip(first, second, strict=True)], alone)


@pytest.mark.parametrize(
    ("system", "changes"),
    [
        ("orientation", {"initialization": "random"}),
        ("orientation", {"initialization": "random", "lr_schedule": "plateau"}),
        ("crossmodal", {"label_source": "random10", "fusion": "full_residual_pos"}),
        ("pointwise", {"label_source": "random15"}),
        ("pointwise", {"label_source": "transform"}),
        ("reweighting", {"encoder_lr": 1e-5, "kernel_norm": "peak"}),
        ("longtail", {"grad_mode": "joint", "augment": True}),
        ("longtail", {"grad_mode": "decoupled", "augment": True}),
    ],
)
def test_a_restored_run_goes_on_bit_for_bit_from_any_epoch(runs, changes):
    kept = []
    settings, train = runs.settings(**changes), runs.workload.train
    straight = list(train(settings, runs.context(kept=kept)))
    assert len(kept) == 3
    for epoch in (1, 2):
        assert runs.same(
            list(train(settings, runs.context(restored=kept[epoch - 1]))), straight[epoch:]
        )
    assert list(train(settings, runs.context(restored=kept[2]))) == []


@pytest.mark.parametrize("system", TUNING)
def test_facts_know_nothing_of_the_configuration_beyond_the_task(system, runs):
    assert runs.facts(**TUNING[system]) == runs.facts()


def test_a_wrong_setting_is_refused_with_what_is_allowed(system, runs):
    for name, value, message in WRONG[system]:
        with pytest.raises(ValueError, match=rf"{name}: '?{re.escape(str(value))}'? {message}"):
            runs.run(epochs=1, **{name: value})


def test_a_damaged_file_of_real_data_is_named_with_its_key(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split / "cat").mkdir(parents=True)
        (tmp_path / split / "cat" / "bad.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=f"^dataset: {re.escape(str(tmp_path))}/.*bad.png: "):
        SYSTEMS["longtail"].run(epochs=1, dataset=str(tmp_path))
