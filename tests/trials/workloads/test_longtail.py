"""System 5 as a sweep sees it: rows, facts, determinism, and the failures it exists to show.

All runs are tiny; whole trials are trained in the slow tests below. Pretrained encoders are kept in
a folder of the test run, not in the user's.
"""

import math

import numpy as np
import pytest
from workload_runs import SYSTEMS

from sickbay.trials.diagnosis.diagnose import diagnose
from sickbay.trials.execution.trial import detectors
from sickbay.trials.history import History
from sickbay.trials.store import pretrained as pretraining
from sickbay.trials.workloads.declarations.longtail import WORKLOAD

RUNS = SYSTEMS["longtail"]
context = RUNS.context
facts = RUNS.facts
run = RUNS.run
same = RUNS.same
settings = RUNS.settings


@pytest.mark.parametrize("imbalance", [1.0, 20.0, 40.0])
def test_an_untrained_classifier_is_never_healthy(imbalance):
    """Whatever the training classes' shares: its floor is that of the images that are scored."""
    still = {"head_lr": 1e-6, "encoder_lr": 0.0, "lambda_sem": 0.0, "val_images": 50}
    rows = run(epochs=12, imbalance=imbalance, **still)
    known = facts(imbalance=imbalance, **still)
    label = diagnose(History(rows, known, 12, finished=True), detectors()).label
    assert label.health != "healthy", label.reason


def test_the_levels_of_wcdas_change_something_where_it_is_the_head():
    seen = []
    for changes in ({}, {"wcdas_s_init": 30.0}, {"wcdas_g": -1.0}, {"wcdas_g": 1.0}):
        rows = run(epochs=1, classifier="wcdas", **changes)
        assert not any(same(rows, others) for others in seen)
        seen.append(rows)


def test_every_signal_of_the_shared_names_is_recorded():
    row = run(epochs=2)[1]
    scalars = """train_loss train_loss_se val_loss val_loss_se val_n val_floor_gap_se train_steps
        nonfinite_loss_steps nonfinite_grad_steps nonfinite_grad_run nonfinite_params
        grad_norm_p50 grad_norm_p90 grad_norm_max clipped_share zero_grad_share
        supervised_targets output_variance_ratio val_accuracy val_accuracy_head
        val_accuracy_middle val_accuracy_tail val_label_shift_accuracy val_ncm_accuracy
        train_accuracy logit_span encoder_reference_skill encoder_reference_skill_start
        encoder_reference_n encoder_reference_drop_se encoder_cka encoder_weight_change
        feature_rank feature_rank_start feature_std_start feature_drift feature_std fisher_ratio
        loss_gradient_cosine loss_gradient_cosine_se loss_gradient_batches diffusion_loss
        prototype_loss radius_loss semantic_capped_share diffusion_gradient_norm"""
    for name in scalars.split():
        assert isinstance(row.signals[name], float), name
        assert math.isfinite(row.signals[name]), name
    sizes = {"val_confusion": 16, "class_gradient_share": 4, "task_losses": 2}
    for name, size in (sizes | {"loss_gradient_norms": 2}).items():
        assert len(row.signals[name]) == size, name
    for name in ("grad_max", "update_norm", "weight_norm", "update_ratio"):
        assert len(row.signals[f"group_{name}"]) == 3
    assert row.signals["val_n"] == sum(row.signals["val_confusion"]) == 32
    assert row.signals["train_steps"] == 4
    assert row.step == 8
    assert sum(row.signals["class_gradient_share"]) == pytest.approx(1.0)


def test_what_does_not_apply_is_not_recorded():
    still = run(epochs=2, encoder_lr=0.0)[1]
    assert "loss_gradient_cosine" not in still.signals
    assert len(still.signals["group_grad_max"]) == 2
    alone = run(epochs=2, lambda_sem=0.0)[1]
    assert "task_losses" not in alone.signals
    assert "wcdas_scale" not in alone.signals
    assert facts(encoder_lr=0.0).groups == ("diffusion", "head")
    assert facts(lambda_sem=0.0).groups == ("encoder", "head")
    assert facts().groups == ("encoder", "diffusion", "head")


def test_facts_say_what_the_shares_of_the_classes_are_worth():
    known = facts()
    assert known.class_counts == (40, 14, 5, 2)  # int(40 · 0.05^(c / 3))
    shares = np.array(known.class_counts) / 61
    assert known.floors["val_loss"] == pytest.approx(math.log(4))  # the images are balanced
    assert known.floors["train_loss"] == pytest.approx(float(-(shares * np.log(shares)).sum()))
    assert known.n == {"train": 61, "val": 32}
    lines = {(line.signal, line.name): line.value for line in known.reference_lines}
    assert lines["val_loss", "uniform"] == pytest.approx(math.log(4))
    assert lines["train_loss", "floor"] == known.floors["train_loss"]
    assert ("train_loss", "wcdas_floor") not in lines


def test_the_line_of_wcdas_is_the_known_one():
    lines = WORKLOAD.facts({**WORKLOAD.defaults, "classifier": "wcdas"}, context()).reference_lines
    (line,) = [line for line in lines if line.name == "wcdas_floor"]
    assert line.value == pytest.approx(1.684, abs=0.002)


def test_a_run_is_the_same_whether_its_encoder_was_kept_or_made(
    pretrained_states, monkeypatch, tmp_path
):
    rows = run(seed=3)
    assert list(pretrained_states.glob("longtail_diffusion-*.pt"))
    monkeypatch.setattr(pretraining, "kept_in", lambda: tmp_path)
    assert same(run(seed=3), rows)
    assert len(list(tmp_path.glob("*.pt"))) == 1
    assert same(run(seed=3), rows)


def test_other_seeds_and_splits_pretrain_others(monkeypatch, tmp_path):
    monkeypatch.setattr(pretraining, "kept_in", lambda: tmp_path)
    run(epochs=1)
    for changes in ({"seed": 1}, {"pretrain_split": "lt"}, {"pretrain_steps": 5}, {"width": 16}):
        before = len(list(tmp_path.glob("*.pt")))
        run(epochs=1, **changes)
        assert len(list(tmp_path.glob("*.pt"))) == before + 1, changes
    run(epochs=1, encoder_lr=1e-2, warmup=0.5, batch_size=8)  # what does not touch pretraining
    assert len(list(tmp_path.glob("*.pt"))) == before + 1


def test_the_encoder_rests_for_a_share_of_the_run():
    rows = run(epochs=4, warmup=0.5)
    changes = [row.signals["encoder_weight_change"] for row in rows]
    assert changes[0] == changes[1] == 0.0
    assert 0.0 < changes[2] < changes[3]
    assert rows[1].signals["encoder_cka"] == pytest.approx(1.0)
    assert math.isnan(rows[1].signals["group_grad_max"][0])


def test_a_capped_semantic_loss_is_dead_and_is_found():
    """The trap of Strategy A's code: a clamp passes no gradient above its bound."""
    rows = run(epochs=4, loss_cap=5.0)
    for row in rows:
        assert row.signals["semantic_capped_share"] == 1.0
        assert row.signals["group_grad_max"][1] == 0.0
        assert row.signals["diffusion_gradient_norm"] == 0.0
    verdict = diagnose(History(rows, facts(), 4, finished=True), detectors()).label
    assert (verdict.health, verdict.pathology) == ("pathological", "no_parameter_update")
    assert "`diffusion` is exactly zero in every step" in verdict.reason


def test_the_full_size_has_its_own_settings_and_trains():
    full = {**settings(), **WORKLOAD.sizes["full"], "size": "full"}
    assert (full["n_max"], full["epochs"], full["batch_size"], full["ddim_steps"]) == (
        5000,
        400,
        256,
        50,
    )
    shrunk = full | {"n_max": 12, "imbalance": 3.0, "val_images": 2, "pretrain_images": 2}
    shrunk |= {"pretrain_steps": 1, "pretrain_batch": 4, "batch_size": 16, "width": 16}
    row = next(iter(WORKLOAD.train(shrunk, context(epochs=1))))
    assert row.signals["val_n"] == 8.0
    assert min(row.signals["group_weight_norm"]) > 0.0


def whole_trial(**changes):
    config = {**WORKLOAD.defaults, **changes}
    rows = list(WORKLOAD.train(config, context(0, 20)))
    known = WORKLOAD.facts(config, context(0, 20))
    return rows, diagnose(History(rows, known, 20, finished=True), detectors()).label


@pytest.mark.slow
def test_a_rate_of_a_hundredth_makes_the_encoder_forget():
    rows, label = whole_trial(encoder_lr=1e-2)
    last = rows[-1].signals
    assert last["encoder_reference_skill"] < last["encoder_reference_skill_start"] - 0.05
    assert (label.health, label.pathology) == ("pathological", "catastrophic_forgetting")


@pytest.mark.slow
def test_a_small_rate_is_healthy_and_forgets_nothing():
    rows, label = whole_trial(encoder_lr=1e-4)
    last = rows[-1].signals
    assert label.health == "healthy"
    assert last["encoder_reference_skill"] > last["encoder_reference_skill_start"] - 0.03
