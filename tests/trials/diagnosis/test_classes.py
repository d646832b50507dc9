"""Verdicts on tasks with classes, weight maps and encoders: skill by ranking, and causes."""

from dataclasses import replace

import pytest

from sickbay.trials.contract import (
    Finding,
    FindingState,
    Health,
    Row,
    Severity,
    TaskFacts,
    TaskKind,
)
from sickbay.trials.diagnosis.cause_graph import primary_cause
from sickbay.trials.diagnosis.diagnose import diagnose, online_stop
from sickbay.trials.history import History

NAN = float("nan")
CLASSES = TaskFacts(
    kind=TaskKind.BINARY,
    floors={"val_loss": 0.325},
    class_counts=(900, 100),
    n={"train": 1000, "val": 1000},
    groups=("body",),
    loss_minimum=0.0,
)


def make(signals, n=20, facts=CLASSES):
    rows = [Row(i + 1, 24 * (i + 1), signals(i)) for i in range(n)]
    return History(rows, facts, n, finished=True)


def states(diagnosis):
    return {finding.detector: finding.state for finding in diagnosis.findings}


def finding(name, onset):
    return Finding(name, "1", FindingState.FIRED, Severity.FATAL, "It is so.", onset)


def classifier(i):
    """A classifier whose loss proves nothing yet, but whose ranking does."""
    return {
        "train_steps": 24.0,
        "nonfinite_loss_steps": 0.0,
        "nonfinite_grad_steps": 0.0,
        "nonfinite_grad_run": 0.0,
        "nonfinite_params": 0.0,
        "zero_grad_share": 0.0,
        "supervised_targets": 768.0,
        "train_loss": 0.31 - 0.002 * i,
        "train_loss_se": 0.01,
        "val_loss": 0.316,
        "val_loss_se": 0.02,
        "val_n": 1000.0,
        "grad_norm_p90": 1.0,
        "clipped_share": 0.0,
        "group_grad_max": [0.1],
        "group_update_norm": [0.1],
        "group_update_ratio": [1e-3],
        "output_variance_ratio": 0.1,
        "val_confusion": [895.0, 5.0, 60.0, 40.0],
        "val_auroc": 0.80,
        "val_auroc_se": 0.02,
        "val_auprc": 0.4,
        "label_flip_rate": 0.0,
        "label_flip_n": 256.0,
        "class_gradient_share": [0.6, 0.4],
    }


def test_a_ranking_over_chance_proves_skill_where_there_are_classes(built_in):
    label = diagnose(make(classifier), built_in).label
    assert label.health is Health.HEALTHY, label.reason
    assert "The AUROC is at least 0.7" in label.reason

    def unranked(i):
        return {k: v for k, v in classifier(i).items() if k != "val_auroc"}

    label = diagnose(make(unranked), built_in).label
    assert label.health is Health.INCONCLUSIVE
    assert "validation loss improves" in label.reason


def test_a_ranking_proves_nothing_where_there_are_no_classes(built_in):
    facts = replace(CLASSES, kind=TaskKind.REGRESSION, class_counts=())
    assert diagnose(make(classifier, facts=facts), built_in).label.health is Health.INCONCLUSIVE


def test_labels_drawn_anew_each_epoch_are_the_cause_of_all_the_rest(built_in):
    def noise(i):
        return classifier(i) | {
            "train_loss": 0.325 + 0.001 * (i % 3),
            "val_loss": 0.326,
            "val_loss_se": 0.001,
            "val_floor_gap_se": 0.0005,
            "output_variance_ratio": 1e-7,
            "val_confusion": [900.0, 0.0, 100.0, 0.0],
            "val_auroc": 0.5,
            "val_auprc": 0.1,
            "class_gradient_share": [0.95, 0.05],
            "label_flip_rate": 0.18 if i else NAN,
        }

    label = diagnose(make(noise), built_in).label
    assert label.pathology == "label_instability"
    assert label.onset_epoch == 2
    assert {
        "chance_level_ranking",
        "constant_output",
        "majority_class_collapse",
        "minority_gradient_starvation",
        "no_skill",
    } <= set(label.contributing)


def test_metrics_that_contradict_each_other_forbid_the_word_healthy(built_in):
    def odd(i):
        return classifier(i) | {"probe_loss_train": 0.01, "probe_loss_val": 0.5}

    label = diagnose(make(odd), built_in).label
    assert label.health is Health.INCONCLUSIVE
    assert label.contributing == ("metric_inconsistency",)
    assert "are not sound: The loss of the same samples" in label.reason


def test_detectors_without_a_subject_do_not_lower_the_coverage(built_in):
    elsewhere = {"weight_map_attenuation", "feature_energy_loss", "catastrophic_forgetting"}
    elsewhere |= {"gradient_conflict", "representation_collapse"}
    of_classes = {"chance_level_ranking", "majority_class_collapse", "label_instability"}
    of_classes |= {"minority_gradient_starvation"}

    def losses(i):
        return {"train_loss": 0.3 - 0.01 * i, "val_loss": 0.3 - 0.01 * i}

    for kind in TaskKind:
        said = states(diagnose(make(losses, facts=replace(CLASSES, kind=kind)), built_in))
        absent = {name for name, state in said.items() if state is FindingState.NOT_APPLICABLE}
        assert elsewhere <= absent
        if kind is TaskKind.BINARY:
            assert not of_classes & absent
        elif kind is not TaskKind.MULTICLASS:
            assert of_classes <= absent


@pytest.mark.parametrize(
    ("fatal", "primary"),
    [
        ([("chance_level_ranking", 1), ("no_skill", 1)], "chance_level_ranking"),
        ([("chance_level_ranking", 12), ("late_collapse", 12)], "late_collapse"),
        (
            [("memorisation_without_generalisation", 9), ("overfitting", 8), ("no_skill", 9)],
            "memorisation_without_generalisation",
        ),
        ([("catastrophic_forgetting", 6), ("divergence", 6)], "catastrophic_forgetting"),
        ([("weight_map_attenuation", 1), ("feature_energy_loss", 1)], "weight_map_attenuation"),
        (
            [("minority_gradient_starvation", 1), ("majority_class_collapse", 2)],
            "minority_gradient_starvation",
        ),
        ([("zero_supervision", 2), ("chance_level_ranking", 1)], "zero_supervision"),
    ],
)
def test_one_primary_cause_of_what_classes_maps_and_encoders_suffer(fatal, primary):
    findings = [finding(name, onset) for name, onset in fatal]
    for order in (findings, findings[::-1]):
        assert primary_cause(make(classifier), order).detector == primary


@pytest.mark.parametrize(("accuracy", "health"), [(0.9, "inconclusive"), (0.26, "pathological")])
def test_an_activation_applied_twice_condemns_only_who_has_not_learnt(accuracy, health, built_in):
    facts = replace(CLASSES, kind=TaskKind.MULTICLASS, class_counts=(250,) * 4)
    facts = replace(facts, floors={"val_loss": 1.386})
    seen = {"logit_min": 0.0, "logit_max": 1.0, "logit_row_sum_deviation": 0.0, "val_n": 1000.0}

    def twice(i):  # log(e + 3) - 1 = 0.744 is the least that a second softmax leaves
        loss = 1.744 - max(0.3, accuracy * (1.0 - 0.5**i))
        return seen | {"val_loss": loss, "train_loss": loss, "val_accuracy": accuracy}

    diagnosis = diagnose(make(twice, facts=facts), built_in)
    assert diagnosis.label.health == health
    assert states(diagnosis)["double_activation"] is FindingState.FIRED


def test_a_loss_that_is_impossible_ends_no_running_trial_that_provably_learns(built_in):
    facts = replace(CLASSES, kind=TaskKind.MULTICLASS, class_counts=(250,) * 4)

    def probabilities(i):  # -p instead of -log p: it trains, under a loss that cannot be
        return {"val_loss": -0.3 - 0.03 * i, "val_accuracy": 0.5 + 0.02 * i, "val_n": 1000.0}

    history = make(probabilities, facts=facts)
    running = diagnose(history.prefix(1), built_in)
    assert not online_stop(running, built_in)
    assert diagnose(history, built_in).label.pathology == "impossible_loss"
    lost = make(lambda i: probabilities(i) | {"val_accuracy": 0.25}, facts=facts)
    assert online_stop(diagnose(lost.prefix(1), built_in), built_in)
