"""System 1 as a sweep sees it: rows, facts, determinism, and the failures it exists to show.

All runs are tiny; the figures of whole trials are in docs/reports.md and in the slow tests below.
"""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from workload_runs import SYSTEMS

from sickbay.trials.store.checkpoints import Progress
from sickbay.trials.workloads import orientation
from sickbay.trials.workloads.declarations.orientation import WORKLOAD

DATA = os.environ.get("SICKBAY_DATA")


RUNS = SYSTEMS["orientation"]
context = RUNS.context
run = RUNS.run
same = RUNS.same
settings = RUNS.settings


def group(row, name, signal="group_grad_max", **changes):
    names = WORKLOAD.facts(settings(**changes), context()).groups
    return row.signals[signal][names.index(name)]


def test_the_guard_is_innocent():
    """With and without the guard, a zero head is as dead; elsewhere the guard does nothing."""
    where = run(epochs=1)
    assert same(where, run(epochs=1, atan2_guard="none"))
    shifted = run(epochs=1, atan2_guard="eps-shift")
    assert not same(where, shifted)
    assert group(where[0], "head_mu") == 0.0
    assert group(shifted[0], "head_mu") > 0.0


def test_every_signal_of_the_shared_names_is_recorded():
    row = run(epochs=1, initialization="random")[0]
    scalars = """train_loss train_loss_se val_loss val_loss_se val_n train_steps
        nonfinite_loss_steps nonfinite_grad_steps nonfinite_grad_run nonfinite_params
        grad_norm_p50 grad_norm_p90 grad_norm_max clipped_share zero_grad_share
        supervised_targets output_variance_ratio mixture_weights_entropy component_distance
        component_gradient_cosine component_separation val_density_kl val_density_kl_se
        peak_coverage peak_coverage_unweighted val_matched_kl val_uniform_kl top_weight_error"""
    for name in scalars.split():
        assert isinstance(row.signals[name], float), name
        assert math.isfinite(row.signals[name]), name
    for name in ("mixture_weights", "kappa"):
        assert len(row.signals[name]) == 4
    for name in ("grad_max", "update_norm", "weight_norm", "update_ratio"):
        assert len(row.signals[f"group_{name}"]) == 6
    assert row.signals["val_n"] == 12
    assert row.signals["train_steps"] == row.step == 3
    assert row.signals["supervised_targets"] == 4 * 12 * 4


@pytest.mark.parametrize("loss", ["pred_w", "uniform", "pred_w+wl", "dense"])
def test_zeros_leave_the_head_dead_and_every_other_start_does_not(loss):
    dead = run(epochs=2, loss=loss)[-1]
    assert group(dead, "head_mu") == 0.0
    assert group(dead, "head_mu", "group_update_norm") == 0.0
    assert dead.signals["component_separation"] == 0.0
    assert group(dead, "head_kappa") > 0.0
    alive = run(epochs=1, loss=loss, initialization="preset")[-1]
    assert group(alive, "head_mu") > 0.0


def test_under_the_uniform_loss_the_weights_stay_even_and_have_no_gradient():
    row = run(loss="uniform", initialization="random")[-1]
    assert row.signals["mixture_weights"] == pytest.approx([0.25] * 4, abs=1e-7)
    assert math.isnan(group(row, "head_pi"))
    assert group(row, "head_pi", "group_update_norm") == 0.0


def test_idle_heads_are_not_among_the_groups_that_should_train():
    assert "head_pi" not in WORKLOAD.facts(settings(kfold=1), context()).groups
    flat = WORKLOAD.facts(settings(kfold=0), context())
    assert "head_mu" not in flat.groups
    row = run(epochs=1, kfold=0, initialization="random")[0]
    assert all(value != 0.0 for value in row.signals["group_grad_max"])
    assert math.isnan(row.signals["peak_coverage"])


@pytest.mark.slow
def test_facts_are_measured_through_the_trained_loss():
    wide = {"val_shapes": 24, "val_rotations": 12}
    for loss, floor in (("pred_w", 0.7429), ("uniform", 0.7429), ("dense", 0.1306)):
        facts = WORKLOAD.facts(settings(loss=loss, **wide), context())
        # With turns of 30° the sample matters: 0.666 for aligned shapes, 0.743 for a uniform yaw.
        assert facts.floors["val_loss"] == pytest.approx(floor, abs=0.08), loss
        assert facts.floors["val_density_kl"] == pytest.approx(0.1306, abs=1e-3)
    assert facts.components == 4
    assert facts.loss_minimum == 0.0
    assert facts.n == {"train": 48, "val": 288}
    lines = {(line.signal, round(line.value, 4)) for line in facts.reference_lines}
    assert ("val_matched_kl", 0.7429) in lines
    assert ("val_density_kl", 0.1306) in lines
    assert ("val_density_kl", 6.1887) in lines


SCRIPT = """
import json, sys
from sickbay.trials.contract import Context
from sickbay.trials.store.checkpoints import Progress
from sickbay.trials.workloads import orientation
from sickbay.trials.workloads.declarations.orientation import WORKLOAD
context = Context(4, 2, "cpu", ".", lambda: None, lambda make: None)
for row in WORKLOAD.train(json.loads(sys.argv[1]), context):
    print(row.epoch, repr(sorted(row.signals.items())))
"""


@pytest.mark.slow
def test_a_second_trial_in_a_used_process_is_bit_identical_to_one_in_a_fresh_process():
    """This process has trained before, and in another seed: nothing of that may be left."""
    run(seed=3, epochs=1, initialization="preset")
    here = [
        f"{row.epoch} {sorted(row.signals.items())!r}"
        for row in run(seed=4, epochs=2, initialization="random")
    ]
    command = [sys.executable, "-c", SCRIPT, json.dumps(settings(initialization="random"))]
    fresh = subprocess.run(command, check=True, capture_output=True, text=True)
    assert fresh.stdout.splitlines() == here


def test_the_full_size_has_its_own_settings_and_trains():
    full = {**settings(), **WORKLOAD.sizes["full"], "size": "full"}
    assert (full["points"], full["batch_size"], full["epochs"], full["lr"]) == (10_000, 8, 50, 5e-4)
    shrunk = full | {"points": 256, "train_shapes": 1, "val_shapes": 1, "rotations": 6}
    row = next(iter(WORKLOAD.train(shrunk, context())))
    assert len(row.signals["group_grad_max"]) == 7
    assert len(WORKLOAD.facts(shrunk, context()).groups) == 7


@pytest.mark.data
@pytest.mark.skipif(DATA is None, reason="set SICKBAY_DATA to the folder with the small real data")
def test_real_clouds_train_and_have_an_identity():
    root = str(Path(DATA) / "modelnet40-clouds")
    rows = run(
        epochs=1, dataset=root, classes="door,chair", initialization="random", loss="uniform"
    )
    assert rows[0].signals["supervised_targets"] == 16 * 12 * 4
    identity = WORKLOAD.data_identity(settings(dataset=root))
    assert len(identity) == 64
    assert WORKLOAD.data_identity(settings()) == ""


def whole_trial(seed, **changes):
    config = {**WORKLOAD.defaults, **changes}
    return list(WORKLOAD.train(config, context(seed, 20)))


@pytest.mark.slow
def test_zeros_stay_at_the_best_constant():
    rows = whole_trial(0)
    assert rows[-1].signals["val_loss"] == pytest.approx(0.74, abs=0.03)
    assert all(group(row, "head_mu") == 0.0 for row in rows)


@pytest.mark.slow
def test_the_celebrated_loss_hides_a_collapsed_mixture():
    last = whole_trial(0, initialization="preset")[-1].signals
    assert last["val_loss"] < 0.1
    assert max(last["mixture_weights"]) > 0.95
    assert last["peak_coverage"] == pytest.approx(0.25, abs=0.05)
    assert last["val_density_kl"] > 3.0  # the best single constant has 0.13


@pytest.mark.slow
@pytest.mark.parametrize("initialization", ["preset", "random", "same"])
def test_the_uniform_loss_sees_every_peak_from_any_living_start(initialization):
    last = whole_trial(0, initialization=initialization, loss="uniform")[-1].signals
    assert last["val_uniform_kl"] < 0.1
    assert last["peak_coverage"] > 0.9
    assert np.ptp(last["mixture_weights"]) < 1e-6


@pytest.mark.slow
def test_the_dense_loss_ends_at_no_direction_at_all():
    last = whole_trial(0, initialization="random", loss="dense")[-1].signals
    assert last["val_loss"] == pytest.approx(0.1306, abs=5e-3)
    assert last["output_variance_ratio"] < 1e-2


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("step", {1: 1.0, 29: 1.0, 30: 0.5, 50: 0.5}),  # the report's: half from epoch 30 of 50
        ("constant", {1: 1.0, 50: 1.0}),
        ("cosine", {1: 1.0, 26: 0.5}),
    ],
)
def test_schedules_of_the_learning_rate(name, rates):
    net = torch.nn.Linear(1, 1)
    progress = Progress(net, torch.optim.Adam(net.parameters()))
    for epoch, share in rates.items():
        orientation._set_rate(progress, {"lr_schedule": name, "lr": 4e-4}, (epoch - 1) / 50)
        assert progress.optimizer.param_groups[0]["lr"] == pytest.approx(4e-4 * share)


def test_a_third_split_is_scored_after_the_last_epoch_alone():
    first, last = run(epochs=2, test_shapes=5)
    assert "test_loss" not in first.signals
    assert last.signals["test_n"] == 5
    assert last.signals["test_loss"] != last.signals["val_loss"]
    plain = run(epochs=2)[-1].signals
    assert repr({name: last.signals[name] for name in plain}) == repr(dict(plain))
