"""System 4 as a sweep sees it: rows, facts, determinism, and the failures it exists to show.

All runs are tiny; whole trials, pretraining included, are trained in the slow tests below.
"""

import math
from pathlib import Path

import pytest
from workload_runs import SYSTEMS

from sickbay.trials.workloads.declarations.reweighting import WORKLOAD

# A narrow kernel makes the pile-up high enough for every clamp to matter.

RUNS = SYSTEMS["reweighting"]
context = RUNS.context
facts = RUNS.facts
run = RUNS.run
same = RUNS.same
settings = RUNS.settings

PAIRS = """map_mean_before map_mean_raw map_mean_after map_max map_min map_overlap_sum
    map_effective_support map_zero_share map_hottest_queries feature_energy_ratio
    feature_relative_change modulated_mean modulated_std loss_gradient_norms task_losses"""


def test_every_signal_of_the_shared_names_is_recorded():
    row = run(epochs=2)[1]
    scalars = """train_loss train_loss_se val_loss val_loss_se val_n val_floor_gap_se train_steps
        nonfinite_loss_steps nonfinite_grad_steps nonfinite_grad_run nonfinite_params
        grad_norm_p50 grad_norm_p90 grad_norm_max clipped_share zero_grad_share
        supervised_targets output_variance_ratio val_loss_unmodulated val_loss_unmodulated_se
        val_modulation_gap_se feature_energy_ratio_se val_map val_nds val_map_start val_nds_start
        val_map_pretrained val_nds_pretrained val_error_translation val_error_scale
        val_error_orientation val_error_velocity val_error_attribute encoder_reference_skill
        encoder_reference_skill_start encoder_reference_n encoder_reference_drop_se encoder_cka
        loss_gradient_batches"""
    for name in scalars.split():
        assert isinstance(row.signals[name], float), name
        assert math.isfinite(row.signals[name]), name
    for name in PAIRS.split():
        assert len(row.signals[name]) == 2, name
        assert all(math.isfinite(value) for value in row.signals[name]), name
    assert len(row.signals["loss_gradient_cosine"]) == row.signals["loss_gradient_batches"] == 2
    assert len(row.signals["val_class_ap"]) <= 3
    for name in ("grad_max", "update_norm", "weight_norm", "update_ratio"):
        assert len(row.signals[f"group_{name}"]) == 4
    assert row.signals["val_n"] == 8
    assert row.step == 4


def test_parts_that_do_not_train_are_no_groups():
    assert facts().groups == ("generator", "references", "decoder", "heads")
    assert facts(reweighting="off").groups == ("references", "decoder", "heads")
    assert facts(encoder_lr=1e-5).groups[:3] == ("grid_encoder", "view_encoder", "generator")
    moved = run(epochs=1, encoder_lr=1e-5)[0].signals["group_update_norm"]
    assert len(moved) == 6
    assert min(moved) > 0.0


def test_a_detached_weight_is_a_gradient_of_exactly_zero_in_a_part_that_should_train():
    for level, dead in (("item", True), ("grad", False)):
        for row in run(epochs=2, detach_weight=level):
            generator, *others = row.signals["group_grad_max"]
            assert (generator == 0.0) is dead
            assert min(others) > 0.0
            assert (row.signals["group_update_norm"][0] == 0.0) is dead


def test_without_reweighting_there_is_no_map_and_nothing_to_compare():
    row = run(epochs=1, reweighting="off")[0].signals
    assert not any(name.startswith(("map_", "feature_")) for name in row)
    assert row["val_loss"] == row["val_loss_unmodulated"]
    assert facts(reweighting="off").bounds == {}
    assert facts(reweighting="off").reference_lines == ()


def test_frozen_encoders_are_what_they_were():
    for row in run(epochs=2):
        assert row.signals["encoder_reference_drop_se"] == 0.0
        assert row.signals["encoder_cka"] == pytest.approx(1.0)


def test_the_pile_up_is_seen_by_its_count_and_its_height():
    piled, dropped = (
        run(epochs=1, invalid_query=level)[0].signals for level in ("pile_to_origin", "drop")
    )
    assert piled["map_hottest_queries"][0] == 60.0
    assert dropped["map_hottest_queries"][0] == 1.0
    assert piled["map_hottest_queries"][1] > 60.0  # and the queries that no camera sees
    line = {line.name: line.value for line in facts().reference_lines}["pile_up"]
    assert piled["map_overlap_sum"][0] == pytest.approx(line, rel=0.1)
    assert dropped["map_mean_after"][0] > 3 * piled["map_mean_after"][0]


@pytest.mark.parametrize("sigma", [2.0, 1.0])
def test_the_mean_of_a_drawn_map_is_the_one_in_closed_form(sigma):
    for kernel in ("sum", "peak"):
        changes = {"kernel_norm": kernel, "gaussian_sigma": sigma, "dn_pad": 0}
        raw_mean = run(epochs=1, **changes)[0].signals["map_mean_raw"][0]
        line = {line.name: line.value for line in facts(**changes).reference_lines}["drawn_mean"]
        assert raw_mean == pytest.approx(line, rel=0.2)  # weights have moved, borders cut


def test_facts():
    known = facts()
    assert known.kind == "detection"
    assert known.n == {"train": 24, "val": 8}
    assert known.bounds == {"map_max": (0.0, 1.5)}
    assert known.loss_minimum == 0.0
    assert 0.5 < known.floor_loss < 2.5
    for line in known.reference_lines:
        assert line.name.isidentifier()
        assert line.text
        assert line.formula
    assert facts(lr=1e-3, lr_mult=0.8, batch_size=5, detach_weight="item") == known


def test_a_kept_pretraining_and_a_made_one_give_the_same_rows(pretrained_states):
    made = run(seed=5)
    files = {path: path.read_bytes() for path in pretrained_states.glob("*.pt")}
    kept = run(seed=5)
    assert {path: path.read_bytes() for path in pretrained_states.glob("*.pt")} == files
    for path in files:
        path.unlink()
    anew = run(seed=5)
    assert same(made, kept)
    assert same(made, anew)


def test_trials_that_differ_in_their_tuning_share_one_pretraining(pretrained_states):
    run(seed=6)
    before = set(pretrained_states.glob("*.pt"))
    run(seed=6, epochs=1, kernel_norm="peak", weight_bias=0.0, lr=1e-3, reweighting="off")
    assert set(pretrained_states.glob("*.pt")) == before
    run(seed=6, epochs=1, pretrain_steps=3)
    assert len(set(pretrained_states.glob("*.pt"))) == len(before) + 1


@pytest.mark.parametrize("size", ["medium", "full"])
def test_the_larger_sizes_have_their_own_settings(size):
    large = {**settings(), **WORKLOAD.sizes[size], "size": size}
    assert large["views"] == 6
    if size == "full":
        shape = (large["grid"], large["height"], large["width"], large["dn_pad"])
        assert shape == (180, 40, 100, 430)


@pytest.mark.slow
def test_the_medium_size_trains():
    tiny = {"train_samples": 2, "val_samples": 2, "steps": 1, "batch_size": 1}
    large = {**settings(), **WORKLOAD.sizes["medium"], **tiny, "size": "medium", "epochs": 1}
    row = next(iter(WORKLOAD.train({**large, "pretrain_batch": 1}, context(epochs=1))))
    assert math.isfinite(row.signals["val_loss"])


def test_examples_name_settings_that_exist():
    import yaml

    for path in (Path(__file__).parents[3] / "examples").glob("query-*.yaml"):
        spec = yaml.safe_load(path.read_text())
        assert spec["workload"] == "query_reweighting"
        for name, levels in spec.get("factors", {}).items():
            assert WORKLOAD.factor(name) is not None, (path, name)
            assert all(type(level) is type(WORKLOAD.defaults[name]) for level in levels), name
        assert set(spec.get("fixed", {})) <= set(WORKLOAD.defaults), path


def test_a_falling_residual_lets_everything_through_at_first():
    rows = run(epochs=4, residual_schedule="falling", residual_form="mix", residual_weight=0.5)
    change = [max(row.signals["feature_relative_change"]) for row in rows]
    assert change[0] == pytest.approx(0.0, abs=1e-6)
    assert change[0] < change[1] < change[2]
    assert change[3] == pytest.approx(
        change[2], rel=0.2
    )  # at the residual of 0.5 from half-time on
