"""System 3 as a sweep sees it: rows, facts, determinism, and the failures it exists to show.

All runs are tiny; whole trials are in the slow tests below.
"""

import math
from pathlib import Path

import pytest
import yaml
from workload_runs import SYSTEMS

from sickbay.datasets.formats.anovox_voxels import TRANSFORMS
from sickbay.datasets.pointwise import synthetic
from sickbay.models.pointwise import losses, network
from sickbay.trials.contract import TaskKind
from sickbay.trials.workloads.declarations.pointwise import WORKLOAD

RIGHT = {"label_source": "transform", "loss": "bce"}


RUNS = SYSTEMS["pointwise"]
context = RUNS.context
facts = RUNS.facts
run = RUNS.run
same = RUNS.same
settings = RUNS.settings


def test_every_source_of_labels_and_the_truth_differ():
    sources = WORKLOAD.factor("label_source").levels
    runs = [run(1, 1, train_scenes=40, points=256, label_source=name) for name in sources]
    for index, rows in enumerate(runs):
        assert not any(same(rows, other) for other in runs[:index])


def test_the_transform_matters_only_where_labels_come_from_voxels():
    assert same(run(epochs=1), run(epochs=1, transform="muvo_v2"))
    right, wrong, other = (
        run(epochs=1, train_scenes=40, transform=name, **RIGHT)[0].signals
        for name in ("anovox", "muvo_v2", "wrong_res")
    )
    assert right["label_truth_recall"] == 1.0
    assert wrong["label_truth_recall"] == other["label_truth_recall"] == 0.0
    assert wrong["label_positive_rate"] == 0.0


@pytest.mark.parametrize("plan", ["A", "B", "C", "Ctop5"])
def test_every_signal_of_the_shared_names_is_recorded(plan):
    row = run(epochs=2, plan=plan, label_source="sem", train_scenes=20, val_scenes=20)[1]
    scalars = """train_loss train_loss_se val_loss val_loss_se val_floor_gap_se val_n train_steps
        nonfinite_loss_steps nonfinite_grad_steps nonfinite_grad_run nonfinite_params
        grad_norm_p50 grad_norm_p90 grad_norm_max clipped_share zero_grad_share
        supervised_targets output_variance_ratio val_accuracy val_auroc val_auroc_se val_auprc
        val_mcc val_predicted_positive_share val_mean_probability train_accuracy train_auroc
        train_recall val_recall label_flip_rate label_flip_n label_truth_recall
        label_truth_precision label_positive_rate val_truth_auroc val_scene_auroc score_std
        attention_entropy"""
    for name in scalars.split():
        assert isinstance(row.signals[name], float), name
        assert math.isfinite(row.signals[name]), name
    lengths = {"val_confusion": 4, "val_scores_hist_pos": 256, "val_scores_hist_neg": 256}
    lengths |= {"class_gradient_share": 2, "branch_gradient_norm": 2}
    for name, length in lengths.items():
        assert len(row.signals[name]) == length, name
    for name in ("grad_max", "update_norm", "weight_norm", "update_ratio"):
        assert len(row.signals[f"group_{name}"]) == 4
    units = 64 if plan == "A" else 1
    assert row.signals["val_n"] == 20 * units
    assert row.signals["supervised_targets"] == row.signals["label_flip_n"] == 20 * units
    assert row.signals["train_steps"] == 7
    assert row.signals["label_flip_rate"] == 0.0
    assert row.signals["label_truth_recall"] == row.signals["label_truth_precision"] == 1.0


def test_random_labels_flip_and_fixed_ones_do_not():
    first, second, _ = run(train_scenes=30)
    assert "label_flip_rate" not in first.signals
    assert second.signals["label_flip_rate"] == pytest.approx(2 * 0.15 * 0.85, abs=0.04)
    assert second.signals["label_positive_rate"] == pytest.approx(0.15, abs=1e-3)
    assert run(label_source="random_fixed")[1].signals["label_flip_rate"] == 0.0


def test_facts_are_the_closed_forms_of_noise():
    wide = {"val_scenes": 25}  # 1600 points: 240 positives, exactly 15 %
    focal = facts(**wide)
    assert focal.kind is TaskKind.BINARY
    assert focal.floors["val_loss"] == pytest.approx(0.01221, abs=5e-6)
    assert focal.reference_lines[0].value == pytest.approx(0.2528, abs=5e-5)
    for weight, floor, recall in ((1.0, 0.4227, 0.0), (3.0, 0.8385, 0.0), (10.0, 1.5378, 1.0)):
        known = facts(loss="bce", pos_weight=weight, **wide)
        assert known.floors["val_loss"] == pytest.approx(floor, abs=5e-5)
        lines = {line.signal: line for line in known.reference_lines}
        assert lines["val_recall"].value == recall
        assert "5.667" in lines["val_recall"].text
    assert focal.class_counts == (640 - 96, 96)
    assert focal.n == {"train": 640, "val": 1600}
    assert focal.groups == ("points", "image", "attention", "head")


def test_facts_of_the_other_plans_count_scenes():
    known = facts(plan="Ctop5", label_source="sem", loss="bce", train_scenes=40, val_scenes=40)
    assert sum(known.class_counts) == known.n["train"] == known.n["val"] == 40
    row = run(1, 1, plan="Ctop5", label_source="sem", train_scenes=40, val_scenes=40)[0]
    share = row.signals["label_positive_rate"]
    assert 0.2 < share < 0.7
    noise = facts(plan="B")
    assert noise.class_counts == (0, 10)  # fifteen percent of the points: every scene has some
    assert noise.floors["val_loss"] == 0.0


def test_a_wrong_transform_leaves_one_class_and_a_floor_of_zero():
    known = facts(transform="muvo_v3", **RIGHT)
    assert known.class_counts == (640, 0)
    assert known.floors == {"val_loss": 0.0, "train_loss": 0.0}
    row = run(epochs=1, transform="muvo_v3", **RIGHT)[0]
    assert math.isnan(row.signals["val_auroc"])
    assert math.isfinite(row.signals["val_loss"])


def test_the_full_size_has_its_own_settings_and_trains():
    full = {**settings(), **WORKLOAD.sizes["full"], "size": "full"}
    assert (full["points"], full["batch_size"], full["epochs"], full["lr"]) == (2048, 4, 30, 1e-3)
    shrunk = full | {"train_scenes": 2, "val_scenes": 2, "points": 64, "batch_size": 2}
    row = next(iter(WORKLOAD.train(shrunk, context())))
    assert len(row.signals["group_grad_max"]) == 3
    assert math.isnan(row.signals["branch_gradient_norm"][1])  # the image net is frozen
    assert WORKLOAD.facts(shrunk, context()).groups == ("points", "attention", "head")


def test_the_examples_are_of_this_workload_and_within_its_factors():
    for path in sorted((Path(__file__).parents[3] / "examples").glob("pointwise-*.yaml")):
        spec = yaml.safe_load(path.read_text())
        assert spec["workload"] == WORKLOAD.name
        assert spec["fixed" if "fixed" in spec else "factors"].keys() <= WORKLOAD.defaults.keys()
        for name, levels in spec["factors"].items():
            assert set(levels) <= set(WORKLOAD.factor(name).levels)


def whole_trial(seed=0, **changes):
    config = {**WORKLOAD.defaults, **changes}
    rows = list(WORKLOAD.train(config, context(seed, int(config["epochs"]))))
    return rows[-1].signals


@pytest.mark.slow
def test_random_labels_end_at_the_report_s_loss_and_find_nothing():
    last = whole_trial()
    assert last["train_loss"] == pytest.approx(0.0122, abs=5e-4)
    assert last["val_recall"] == 0.0
    assert last["val_mean_probability"] == pytest.approx(0.2528, abs=0.02)
    assert last["val_auroc"] == pytest.approx(0.5, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("weight", "recall"), [(3.0, 0.0), (10.0, 1.0)])
def test_on_noise_the_weight_of_positives_moves_nothing_but_the_threshold(weight, recall):
    last = whole_trial(loss="bce", pos_weight=weight)
    assert last["val_recall"] == recall
    assert last["val_auroc"] == pytest.approx(0.5, abs=0.02)


@pytest.mark.slow
def test_with_the_right_labels_a_weight_of_one_ranks():
    last = whole_trial(**RIGHT)
    assert last["label_truth_recall"] == 1.0
    assert last["val_truth_auroc"] > 0.99


@pytest.mark.slow
def test_a_wrong_transform_is_perfectly_accurate_and_blind():
    last = whole_trial(transform="muvo_v3", **RIGHT)
    assert last["val_accuracy"] == 1.0
    assert last["label_truth_recall"] == 0.0
    assert last["val_predicted_positive_share"] == 0.0


@pytest.mark.slow
def test_five_instances_of_a_scene_are_found_from_its_label():
    """From points alone; with the picture the small net learns the scenes by heart instead."""
    changes = {"plan": "Ctop5", "fusion": "points", "lr": 1e-3, "batch_size": 4, **RIGHT}
    assert whole_trial(**changes)["val_truth_auroc"] > 0.95


def test_what_is_declared_is_what_training_knows():
    levels = {name: WORKLOAD.factor(name).levels for name in ("loss", "plan", "fusion")}
    assert levels == {"loss": losses.LOSSES, "plan": losses.PLANS, "fusion": network.FUSIONS}
    assert WORKLOAD.factor("label_source").levels == synthetic.LABEL_SOURCES
    assert WORKLOAD.factor("transform").levels == tuple(TRANSFORMS)


def test_facts_say_what_the_labels_are_before_training():
    lines = {
        (line.signal, line.name): line
        for line in facts(label_source="transform", transform="anovox").reference_lines
    }
    agreement = lines["label_truth_recall", "agreement"]
    assert (
        agreement.value == run(epochs=1, label_source="transform")[0].signals["label_truth_recall"]
    )
    assert "labelled points a scene: " in lines["label_positive_rate", "labels"].text
    scenes = facts(label_source="sem", plan="B").reference_lines
    assert any(line.text.startswith("positive scenes: ") for line in scenes)
