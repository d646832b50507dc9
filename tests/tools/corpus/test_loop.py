"""The tasks train, record what detectors read, keep the hidden split hidden, and break as told."""

import functools
import math

import pytest

from docs.tools.corpus import workloads
from docs.tools.corpus.corpus import HIDDEN
from docs.tools.corpus.faults import TASKS
from docs.tools.corpus.report.judging import built_in
from sickbay.trials.contract import Context, FindingState, Severity
from sickbay.trials.diagnosis.diagnose import look
from sickbay.trials.history import History

EPOCHS = 3


@functools.cache
def run(task, fault="none", variant="none", seed=0):
    """A short run: its facts and its rows."""
    workload = getattr(workloads, task.upper())
    config = {"fault": fault, "variant": variant, "epochs": EPOCHS}
    context = Context(seed, EPOCHS, "cpu", "", lambda: None, lambda make: None)
    return workload.facts(config, context), list(workload.train(config, context))


def signal(name, task, fault="none", epoch=-1, **how):
    return run(task, fault, **how)[1][epoch].signals[name]


# No kind of task says that there are several labels at once.
@pytest.mark.parametrize("task", [task for task in TASKS if task != "multilabel"])
def test_a_task_records_what_the_fatal_detectors_read(task):
    facts, rows = run(task)
    seen = look(History(rows, facts, EPOCHS, finished=True), built_in())
    lacking = {
        finding.detector: finding.reason
        for finding in seen.findings
        if finding.state is FindingState.MISSING_SIGNAL and finding.severity is Severity.FATAL
    }
    assert not lacking


@pytest.mark.parametrize("task", TASKS)
def test_the_hidden_split_is_judged_once_at_the_end(task):
    _, rows = run(task)
    hidden = [[name for name in row.signals if name.startswith(HIDDEN)] for row in rows]
    assert [len(names) for names in hidden] == [0, 0, 3]


@pytest.mark.parametrize("task", TASKS)
def test_the_floor_is_near_the_loss_of_an_untrained_net_or_below(task):
    facts, rows = run(task)
    first = rows[0].signals["val_loss"]
    assert facts.floor_loss < first + 2.0 * abs(first)
    assert facts.loss_minimum is None or facts.floor_loss > facts.loss_minimum
    # 100 validation samples, under a mean that outliers make or quantiles at the edges
    apart = {"heavy_tails": 0.5, "quantiles": 0.3}.get(task, 0.2)
    assert facts.floors["val_loss"] == pytest.approx(
        facts.floors.get("train_loss", facts.floor_loss), rel=apart
    )


def test_the_same_seed_gives_the_same_rows_and_another_one_others():
    _, rows = run("regression")
    run.cache_clear()
    _, again = run("regression")
    _, other = run("regression", seed=1)
    assert [row.signals["val_loss"] for row in rows] == [row.signals["val_loss"] for row in again]
    assert rows[-1].signals["val_loss"] != other[-1].signals["val_loss"]


def test_no_detector_reads_the_hidden_split():
    facts, rows = run("regression")
    whole = look(History(rows, facts, EPOCHS, finished=True), built_in())
    for row in rows:
        assert (
            not set(row.signals)
            - set(rows[0].signals)
            - {f"{HIDDEN}{n}" for n in ("score", "lower", "finite")}
            - {"target_change"}
        )
    bare = [
        row.__class__(
            row.epoch, row.step, {n: v for n, v in row.signals.items() if not n.startswith(HIDDEN)}
        )
        for row in rows
    ]
    assert look(History(bare, facts, EPOCHS, finished=True), built_in()) == whole


def test_an_unknown_fault_is_an_error():
    with pytest.raises(KeyError, match="unheld_groups-1"):
        run("sequence", "unheld_groups-1")


def test_groups_that_the_optimizer_does_not_hold_stay():
    assert signal("group_update_norm", "regression", "unheld_groups-1")[-1] == 0.0
    assert signal("group_update_norm", "regression", "unheld_groups-1")[0] > 0.0
    assert not any(signal("group_update_norm", "regression", "unheld_groups-3"))


def test_masked_targets_leave_no_gradient():
    assert signal("supervised_targets", "weight_map", "masked_targets-3") == 0.0
    assert signal("zero_grad_share", "weight_map", "masked_targets-3") == 1.0


def test_an_infinite_loss_is_seen_in_its_epoch():
    assert signal("nonfinite_loss_steps", "tabular_200", "infinite_loss-3", epoch=0) > 0
    assert signal(f"{HIDDEN}finite", "tabular_200", "infinite_loss-3") == 0.0


def test_a_loss_that_applies_an_activation_hardly_falls_behind_another():
    plain, double = (
        signal("val_loss", "digits", fault) for fault in ("none", "double_activation-1")
    )
    assert signal("val_loss", "digits", "double_activation-1", epoch=0) <= math.log(10.0)
    assert double > plain


def test_an_improper_loss_falls_below_what_a_loss_can_be():
    assert signal("val_loss", "text", "negated_loss-1") < 0.0
    assert -1.0 <= signal("val_loss", "digits", "forgotten_logarithm-1") < 0.0
    assert signal("val_loss", "series", "forgotten_square-1") < 0.0


def test_a_summed_loss_is_as_large_as_its_batch():
    first = {
        fault: signal("train_loss", "text", fault, epoch=0) for fault in ("none", "summed_loss-1")
    }
    assert first["summed_loss-1"] / first["none"] == pytest.approx(100.0, rel=0.2)


def test_groups_frozen_by_mistake_are_known_to_the_facts_and_do_not_move():
    facts, rows = run("digits", "frozen_by_mistake-1")
    assert len(facts.groups) == 4
    moved = rows[-1].signals["group_update_norm"]
    assert moved[:2] == [0.0, 0.0]
    assert min(moved[2:]) > 0.0


def test_nan_inputs_reach_the_parameters():
    assert signal("nonfinite_params", "tabular_20", "nan_inputs-3") > 0


def test_gradients_that_are_not_cleared_are_seen():
    assert signal("uncleared_grad_share", "tabular_200") == 0.0
    assert signal("uncleared_grad_share", "tabular_200", "no_zero_grad-3") == 1.0


def test_what_enters_the_loss_is_watched():
    assert signal("logit_row_sum_deviation", "long_tail") > 0.1
    assert signal("logit_row_sum_deviation", "long_tail", "double_activation-1") < 1e-4
    assert signal("logit_min", "hinge", "double_activation-1") >= 0.0
    assert signal("logit_max", "hinge", "double_activation-1") <= 1.0


def test_features_are_compared_with_their_start():
    spread, start = (signal(name, "cnn") for name in ("feature_std", "feature_std_start"))
    assert start == signal("feature_std_start", "cnn", epoch=0)
    assert spread > start > 0.0


def test_redrawn_labels_flip():
    assert signal("label_flip_rate", "sequence", "redrawn_labels-3") > 0.5
    assert signal("label_flip_rate", "sequence") == 0.0


def test_tied_components_stay_one():
    assert signal("component_distance", "mixture", "components_tied-3") == 0.0
    assert signal("component_distance", "mixture") > 0.1


def test_a_divided_map_keeps_a_tenth():
    ratio = signal("map_mean_after", "weight_map", "map_divided-1") / signal(
        "map_mean_before", "weight_map", "map_divided-1"
    )
    assert ratio == pytest.approx(0.1)
    assert signal("map_max", "weight_map", "map_out_of_range-1") > 1.0


def test_opposed_losses_pull_apart():
    cosines = signal("loss_gradient_cosine", "shared", "losses_opposed-3")
    assert sum(cosines) / len(cosines) < -0.5
    assert signal("encoder_reference_skill", "shared") > 0.7


def test_skipped_steps_of_a_loss_scaler_are_counted_and_harmless():
    rows = run("tabular_20", variant="loss_scaler_skips")[1]
    assert rows[0].signals["nonfinite_grad_steps"] == 4.0
    assert rows[-1].signals["nonfinite_params"] == 0.0


def test_frozen_on_purpose_is_no_group_that_trains():
    facts, rows = run("cnn", variant="frozen_on_purpose")
    assert len(facts.groups) == 3
    assert len(rows[-1].signals["group_update_norm"]) == 3
    assert not math.isnan(rows[-1].signals["val_loss"])
