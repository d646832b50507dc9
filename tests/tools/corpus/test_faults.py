"""The table of operators: size, sense, and that each one changes what it says."""

from dataclasses import replace

import pytest
import torch

from docs.tools.corpus.faults import (
    CALIBRATION,
    FURTHER,
    GROUPS,
    HELD_OUT,
    TASKS,
    faults_of,
    operator_of,
    operators,
    strengths_of,
)
from docs.tools.corpus.generate import ROUNDS, planned, seeds_of, specs
from docs.tools.corpus.training.nets import perceptron, spoil_start
from docs.tools.corpus.training.settings import Settings, replaced
from docs.tools.corpus.training.spoil import reordered, spoil_gradients, spoiled
from docs.tools.corpus.training.task import Data, Split
from docs.tools.corpus.workloads import TASKS as KNOWN
from sickbay.trials.contract import TaskKind
from sickbay.trials.registry import all_detectors

OPERATORS = operators()


def test_the_corpus_is_as_large_as_planned():
    assert len(OPERATORS) >= 30
    assert len(TASKS) >= 8
    assert planned("fault") >= 1500
    assert planned("hard") >= 200
    assert planned("control") + planned("hard") >= 600
    assert all(seeds_of(task)["control"] >= 10 for task in TASKS)


def test_every_task_is_in_one_half():
    assert sorted(CALIBRATION + HELD_OUT) == sorted(TASKS) == sorted(KNOWN)


@pytest.mark.parametrize(
    "operator", [operator for operator, _ in OPERATORS], ids=lambda operator: operator.name
)
def test_the_strengths_of_an_operator_differ(operator):
    plain = Settings()
    variants = [replaced(plain, changes) for changes in operator.levels]
    assert len({plain, *variants}) == 1 + len(operator.levels)
    assert len(operator.onset) >= len(operator.levels)


def test_causes_are_detectors():
    known = {detector.name for detector in all_detectors()}
    blamed = {cause for operator, _ in OPERATORS for cause in operator.causes}
    planned = {"accumulated_gradient", "dead_part", "double_activation", "impossible_loss"}
    assert blamed - known <= {"underfitting", *planned}  # underfitting: a label, no detector


def test_no_skill_of_classes_is_a_ranking_like_chance():
    by_name = {operator.name: operator for operator, _ in OPERATORS}
    assert by_name["tiny_start"].may_cause("chance_level_ranking")
    assert by_name["tiny_start"].may_cause("no_skill")
    assert not by_name["redrawn_labels"].may_cause("chance_level_ranking")
    assert not by_name["tiny_start"].may_cause(None)


def test_a_level_leads_back_to_its_operator():
    for task in TASKS:
        for level in faults_of(task):
            operator, strength = operator_of(level)
            assert faults_of(task)[level] == operator.levels[strength - 1]
            assert strength in strengths_of(operator, task)


def test_further_tasks_are_spread_over_families_and_halves():
    assert len(FURTHER.tasks) >= 8
    assert len(HELD_OUT) >= 4
    assert all(len(faults_of(task)) >= 15 for group in GROUPS[1:] for task in group.tasks)


def test_specs_are_sweeps_of_ordinary_workloads_a_round_at_a_time():
    found = list(specs("cnn", 0))
    assert [one["name"] for one in found[:2]] == ["corpus-control-cnn-0", "corpus-control-cnn-1"]
    of_faults = [one for one in found if "fault" in one["factors"]]
    assert [one["seeds"] for one in of_faults] == [[0]]
    assert of_faults[0]["factors"]["fault"] == list(faults_of("cnn"))
    assert of_faults[0]["workload"].endswith("workloads:CNN")
    assert [one["seeds"] for one in specs("cnn", 1) if "fault" in one["factors"]] == [[1]]
    assert all(one["early_stop"] == {"pathology": False} for one in found)


def test_rounds_cover_the_plan_and_leave_out_what_is_known():
    runs = [
        (task, seed, len(one["factors"].get("fault", one["factors"].get("variant", [""]))))
        for task in TASKS
        for number in range(ROUNDS)
        for one in specs(task, number)
        for seed in one["seeds"]
    ]
    assert sum(count for *_, count in runs) == sum(map(planned, ("control", "fault", "hard")))
    first = [("cnn", fault, "none", 0) for fault in faults_of("cnn")]
    assert not [one for one in specs("cnn", 0, first) if "fault" in one["factors"]]


def numbers(n=40):
    x = torch.arange(4.0 * n).view(n, 4)
    return Data(*(Split(x + 1000 * i, x[:, 0] + i) for i in range(3)))


def changed(kind=TaskKind.REGRESSION, data=None, **settings):
    return spoiled(data or numbers(), replace(Settings(), **settings), kind, seed=3)


def test_nothing_is_spoiled_by_default():
    plain, same = numbers(), changed()
    for name in ("train", "val", "test"):
        assert torch.equal(getattr(plain, name).x, getattr(same, name).x)
        assert torch.equal(getattr(plain, name).y, getattr(same, name).y)


@pytest.mark.parametrize(
    "fault",
    [
        {"shuffled": 1.0},
        {"misaligned": 1.0},
        {"kept_samples": 0.2},
        {"one_label": 1.0},
        {"off_by_one": "step"},
    ],
)
def test_faults_of_training_data_leave_the_other_splits_alone(fault):
    plain, bad = numbers(), changed(**fault)
    assert len(bad.train) != len(plain.train) or not torch.equal(bad.train.y, plain.train.y)
    for name in ("val", "test"):
        assert torch.equal(getattr(plain, name).x, getattr(bad, name).x)
        assert torch.equal(getattr(plain, name).y, getattr(bad, name).y)


def test_labels_are_permuted_not_invented():
    y = torch.arange(100.0)
    generator = torch.Generator().manual_seed(0)
    half = reordered(y, 0.5, generator)
    assert torch.equal(half.sort().values, y)
    assert 30 <= int((half != y).sum()) <= 50
    assert torch.equal(reordered(y, 0.0, generator), y)


def test_misaligned_targets_come_from_the_neighbour():
    y = changed(misaligned=1.0).train.y
    assert torch.equal(y, numbers().train.y.roll(1))


def test_a_mismatched_pipeline_shows_in_validation_and_in_deployment():
    bad = changed(mismatched=1.0)
    assert torch.equal(bad.train.x, numbers().train.x)
    assert torch.equal(bad.val.x, numbers().val.x.flip(-1))
    assert torch.equal(bad.test.x, numbers().test.x.flip(-1))


def test_one_label_is_the_mean_or_the_commonest_class_and_padding_stays():
    assert changed(one_label=1.0).train.y.unique().tolist() == [78.0]  # of 0, 4, ..., 156
    y = torch.tensor([[0, 2, -100], [2, 1, -100]])
    data = Data(*(Split(torch.zeros(2, 3, 4), y) for _ in range(3)))
    bad = changed(TaskKind.MULTICLASS, data, one_label=1.0)
    assert bad.train.y.tolist() == [[2, 2, -100], [2, 2, -100]]


def test_labels_off_by_one_are_those_of_the_next_class_or_step():
    y = torch.tensor([[0, 2, -100], [2, 1, -100]])
    data = Data(*(Split(torch.zeros(2, 3, 4), y) for _ in range(3)))
    of_class = changed(TaskKind.MULTICLASS, data, off_by_one="class").train.y
    of_step = changed(TaskKind.MULTICLASS, data, off_by_one="step").train.y
    assert of_class.tolist() == [[1, 0, -100], [0, 2, -100]]
    assert of_step.tolist() == [[2, -100, 0], [1, -100, 2]]


def test_splits_may_be_swapped_or_validation_be_the_training_data():
    plain, both, val = numbers(), changed(swapped_splits="both"), changed(swapped_splits="val")
    assert torch.equal(both.train.x, plain.val.x)
    assert torch.equal(both.val.x, plain.train.x)
    assert torch.equal(val.train.x, plain.train.x)
    assert torch.equal(val.val.x, plain.train.x)
    assert torch.equal(both.test.x, plain.test.x)


def test_augmented_validation_is_noisier_than_what_is_deployed():
    bad, plain = changed(augmented_val=1.0), numbers()
    noise = bad.val.x - plain.val.x
    assert float(noise.std() / plain.val.x.std()) == pytest.approx(1.0, abs=0.2)
    assert torch.equal(bad.test.x, plain.test.x)


def test_all_inputs_may_be_lost():
    bad = changed(inputs_lost=1.0)
    assert not bad.train.x.any()
    assert not bad.test.x.any()
    assert int((changed(inputs_lost=0.5).val.x == 0.0).all(0).sum()) == 2


def test_positives_may_be_dropped_but_for_one():
    y = (torch.arange(40) % 4 == 0).float()
    data = Data(*(Split(torch.randn(40, 4), y) for _ in range(3)))
    bad = changed(TaskKind.BINARY, data, positives_dropped=1.0)
    assert float(bad.train.y.sum()) == 1.0
    assert float(bad.val.y.sum()) == 10.0


def test_initial_weights_are_zeroed_scaled_and_shifted():
    settings = Settings(zeroed="hidden")
    net = perceptron(4, 1, settings)
    spoil_start(net, settings)
    assert not any(
        parameter.any()
        for name, group in net.groups().items()
        if name != "head"
        for parameter in group
    )
    assert net.head.weight.any()
    settings = Settings(hidden_bias=-5.0)
    spoil_start(net, settings)
    assert net.blocks[0].bias.unique().tolist() == [-5.0]


def test_gradients_are_turned_round_and_overflow_in_half_precision():
    weight = torch.nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([1.0, -2.0])
    spoil_gradients([weight], Settings(), ascend=True)
    assert weight.grad.tolist() == [-1.0, 2.0]
    spoil_gradients([weight], Settings(half_overflow=4e4), ascend=False)
    assert weight.grad.isinf().tolist() == [False, True]
