import json
import time
from dataclasses import replace

import numpy as np
import pytest
from golden_histories import GOLDEN, load

from sickbay.trials.contract import (
    Finding,
    FindingState,
    Health,
    Row,
    Severity,
    TaskFacts,
    TaskKind,
)
from sickbay.trials.detector import as_detector, clear, detector, fired
from sickbay.trials.diagnosis.cause_graph import EXPLAINS, primary_cause
from sickbay.trials.diagnosis.diagnose import (
    diagnose,
    labeller_version,
    look,
    may_be_pathological,
    online_stop,
)
from sickbay.trials.history import History

NAN = float("nan")
FACTS = TaskFacts(
    kind=TaskKind.DENSITY,
    floors={"val_loss": 0.72, "val_density_kl": 0.1306},
    n={"train": 768, "val": 192},
    groups=("encoder", "head_pi", "head_mu"),
    components=4,
    loss_minimum=0.0,
)
EVEN, ONE = [0.25] * 4, [0.9997, 0.0001, 0.0001, 0.0001]


def healthy(i):
    """The signals of a mixture that learns: what system 1 records under the uniform loss."""
    fall = np.exp(-i / 4.0)
    return {
        "train_loss": 0.06 + 0.7 * fall,
        "train_loss_se": 0.01,
        "val_loss": 0.03 + 0.6 * fall,
        "val_loss_se": 0.004,
        "val_n": 192.0,
        "train_steps": 24.0,
        "nonfinite_loss_steps": 0.0,
        "nonfinite_grad_steps": 0.0,
        "nonfinite_grad_run": 0.0,
        "nonfinite_params": 0.0,
        "grad_norm_p50": 0.8,
        "grad_norm_p90": 1.2 + 0.1 * (i % 3),
        "grad_norm_max": 2.0,
        "clipped_share": 0.3,
        "zero_grad_share": 0.0,
        "group_grad_max": [0.1, NAN, 0.2],
        "group_update_norm": [0.1, 0.0, 0.2],
        "group_weight_norm": [5.0, 1.0, 1.0],
        "group_update_ratio": [1e-3, 0.0, 2e-3],
        "supervised_targets": 3072.0,
        "output_variance_ratio": 0.9,
        "mixture_weights": EVEN,
        "mixture_weights_entropy": 1.386,
        "component_distance": 0.8,
        "component_gradient_cosine": -0.1,
        "val_density_kl": 0.02 + 0.1 * fall,
        "val_density_kl_se": 0.002,
        "peak_coverage": 0.97,
    }


def collapsed(i):
    return healthy(i) | {
        "mixture_weights": ONE if i > 2 else EVEN,
        "val_density_kl": 6.2,
        "val_density_kl_se": 0.05,
        "peak_coverage": 0.245,
    }


def dead_head(i):
    """Zero initialisation under predicted weights."""
    return collapsed(i) | {
        "train_loss": 0.74 + 0.001 * (i % 3),
        "val_loss": 0.74 + 0.001 * (i % 2),
        "val_loss_se": 0.01,
        "mixture_weights": ONE,
        "peak_coverage": 0.083,
        "group_grad_max": [0.1, 0.1, 0.0],
        "group_update_norm": [0.1, 0.1, 0.0],
        "group_update_ratio": [1e-3, 1e-3, 0.0],
    }


def dense(i):
    """The dense divergence drives every concentration to zero: a uniform density comes out."""
    return healthy(i) | {
        "train_loss": 0.1306 + 1e-5 * (i % 3),
        "val_loss": 0.1306,
        "val_loss_se": 1e-6,
        "val_density_kl": 0.1306,
        "val_density_kl_se": 1e-6,
        "output_variance_ratio": 1e-9,
        "peak_coverage": 0.1,
    }


def make(signals, n=20, facts=FACTS, *, finished=True, planned=20):
    rows = [Row(i + 1, 24 * (i + 1), signals(i)) for i in range(n)]
    return History(rows, facts, planned, finished=finished)


def states(diagnosis):
    return {finding.detector: finding.state for finding in diagnosis.findings[:-1]}


def test_a_model_that_learns_is_healthy(built_in):
    diagnosis = diagnose(make(healthy), built_in)
    assert diagnosis.label.health is Health.HEALTHY, diagnosis.label.reason
    assert diagnosis.label.pathology is None
    assert diagnosis.label.contributing == ()
    assert diagnosis.label.coverage == 1.0
    assert "validation loss improves" in diagnosis.label.reason


def test_a_dead_head_is_the_cause_of_all_the_rest(built_in):
    label = diagnose(make(dead_head), built_in).label
    assert (label.health, label.pathology, label.onset_epoch) == (
        Health.PATHOLOGICAL,
        "no_parameter_update",
        1,
    )
    assert set(label.contributing) == {"mixture_collapse", "no_skill"}
    assert "`head_mu` is exactly zero" in label.reason
    assert "initialisation" in label.remedy


def test_a_dead_head_may_be_stopped_after_two_epochs(built_in):
    stops = [
        online_stop(diagnose(make(dead_head, n, finished=False), built_in), built_in)
        for n in range(1, 4)
    ]
    assert stops == [False, True, True]


def test_a_cheated_loss_is_a_mixture_collapse(built_in):
    label = diagnose(make(collapsed), built_in).label
    assert (label.pathology, label.onset_epoch) == ("mixture_collapse", 4)
    assert "1.00 of 4" in label.reason


def test_the_dense_loss_ends_at_a_constant(built_in):
    facts = replace(FACTS, floors={"val_loss": 0.1306, "val_density_kl": 0.1306})
    label = diagnose(make(dense, facts=facts), built_in).label
    assert label.pathology == "constant_output"
    assert label.contributing == ("no_skill",)


def test_a_healthy_trial_is_never_stopped(built_in):
    for n in range(1, 21):
        assert not online_stop(diagnose(make(healthy, n, finished=False), built_in), built_in)


@pytest.mark.parametrize("state", [FindingState.INSUFFICIENT_EVIDENCE, FindingState.CLEAR])
def test_the_judge_waits_for_a_detector_that_may_name_the_cause(built_in, state):
    """Half of the plan: a trial that is stopped without a cause teaches nobody anything."""
    judged = next(
        one
        for n in range(3, 20)
        for one in [diagnose(make(collapsed, n, finished=False), built_in)]
        if online_stop(one, built_in)
    )
    assert judged.label.pathology == "mixture_collapse"
    fired = replace(judged.findings[-1], state=FindingState.FIRED)
    assert online_stop(replace(judged, findings=(fired,), done=0.1), built_in)
    open_one = next(one for one in judged.findings if one.detector == "mixture_collapse")
    early = replace(judged, findings=(replace(open_one, state=state), fired), done=0.49)
    assert not online_stop(early, built_in)
    assert online_stop(replace(early, done=0.5), built_in)


def test_a_running_trial_is_pathological_only_where_a_look_need_be_made(built_in):
    paths = sorted(GOLDEN.glob("*/*.json"))[::4]
    histories = [load(path).history for path in paths if "facts" in json.loads(path.read_text())]
    said = [
        (may_be_pathological(part, built_in), look(part, built_in).label.health)
        for part in (whole.prefix(n) for whole in histories for n in (2, 12) if n <= len(whole))
    ]
    assert {may for may, health in said if health is Health.PATHOLOGICAL} == {True}
    assert {may for may, health in said if health is not Health.PATHOLOGICAL} == {False}


def test_a_cause_that_may_not_stop_stops_nothing(built_in):
    offline = [replace(rule, online=False) for rule in built_in]
    diagnosis = diagnose(make(dead_head, 2, finished=False), built_in)
    assert online_stop(diagnosis, built_in)
    assert not online_stop(diagnosis, offline)


@pytest.mark.parametrize(
    ("facts", "drop", "words"),
    [
        (replace(FACTS, floors={}), (), "best constant predictor"),
        (FACTS, ("val_loss",), "no validation loss"),
    ],
)
def test_without_proof_a_trial_is_inconclusive_and_says_why(built_in, facts, drop, words):
    def signals(i):
        return {k: v for k, v in healthy(i).items() if not (drop and k.startswith(drop))}

    label = diagnose(make(signals, facts=facts), built_in).label
    assert label.health is Health.INCONCLUSIVE
    assert words in label.reason


def test_proven_skill_is_enough_whatever_else_was_not_recorded(built_in):
    dropped = ("group_", "grad_norm", "mixture", "output", "component")
    label = diagnose(
        make(lambda i: {k: v for k, v in healthy(i).items() if not k.startswith(dropped)}), built_in
    ).label
    assert (label.health, label.coverage < 0.8) == (Health.HEALTHY, True)


def test_a_loss_that_falls_while_the_density_is_worse_than_a_constant_is_not_healthy(built_in):
    def signals(i):
        return healthy(i) | {"mixture_weights": [0.5, 0.5, 0, 0], "val_density_kl": 2.3}

    label = diagnose(make(signals), built_in).label
    assert label.health is not Health.HEALTHY


def test_an_empty_history_is_inconclusive(built_in):
    diagnosis = diagnose(History([], FACTS, 20), built_in)
    assert diagnosis.label.health is Health.INCONCLUSIVE
    assert diagnosis.label.coverage == 0.0
    # what there are no classes for does not apply, whatever is recorded later
    assert set(states(diagnosis).values()) == {
        FindingState.INSUFFICIENT_EVIDENCE,
        FindingState.NOT_APPLICABLE,
    }


def test_a_detector_that_raises_ends_nothing(built_in):
    def broken(history):
        raise KeyError("an_absent_signal")

    diagnosis = diagnose(make(dead_head), [*built_in, as_detector("broken", broken)])
    finding = diagnosis.findings[-2]  # the judge's own comes last
    assert diagnosis.label.pathology == "no_parameter_update"
    assert finding.state is FindingState.INSUFFICIENT_EVIDENCE
    assert "KeyError: 'an_absent_signal'" in finding.reason


def test_a_detector_that_returns_nonsense_ends_nothing():
    finding = diagnose(make(healthy), [as_detector("odd", lambda history: "fine")]).findings[0]
    assert finding.state is FindingState.INSUFFICIENT_EVIDENCE
    assert "str" in finding.reason


def test_a_plain_function_is_known_by_its_registered_name():
    def judge(history):
        return Finding("own_name", "7", FindingState.FIRED, Severity.FATAL, "It is bad.", 3)

    label = diagnose(make(healthy), [as_detector("my_alarm", judge)]).label
    assert (label.pathology, label.onset_epoch) == ("my_alarm", 3)


def test_as_detector_refuses_what_cannot_be_called():
    with pytest.raises(ValueError, match="my_alarm"):
        as_detector("my_alarm", 3)


def test_two_detectors_of_one_name_are_refused(built_in):
    with pytest.raises(ValueError, match="no_skill"):
        diagnose(make(healthy), [*built_in, next(d for d in built_in if d.name == "no_skill")])


def test_equal_histories_have_equal_labels_and_hashes(built_in):
    first, second = (diagnose(make(healthy), built_in) for _ in range(2))
    assert first == second
    other = diagnose(make(healthy, 19), built_in)
    assert other.label.label_hash != first.label.label_hash
    assert other.label.labeller_version == first.label.labeller_version


def test_the_labeller_version_follows_detectors_but_not_their_order(built_in):
    version = labeller_version(built_in)
    assert version == labeller_version(built_in[::-1])
    assert version != labeller_version(built_in[1:])
    newer = [replace(built_in[0], version="9.0"), *built_in[1:]]
    assert version != labeller_version(newer)
    assert version.startswith("10-")


def finding(name, onset=1, severity=Severity.FATAL, state=FindingState.FIRED, **evidence):
    return Finding(name, "1", state, severity, "It is so.", onset, evidence=evidence)


@pytest.mark.parametrize(
    ("fatal", "primary"),
    [
        (
            [("no_skill", 1), ("no_parameter_update", 1), ("mixture_collapse", 1)],
            "no_parameter_update",
        ),
        ([("non_finite", 9), ("divergence", 7), ("exploding_gradient", 6)], "exploding_gradient"),
        ([("non_finite", 9), ("divergence", 7)], "divergence"),
        ([("no_skill", 1), ("mixture_collapse", 4)], "mixture_collapse"),  # seen a little later
        ([("no_skill", 1), ("non_finite", 18)], "no_skill"),  # too late to be its cause
        ([("zero_supervision", 1), ("no_parameter_update", 1)], "zero_supervision"),
        ([("late_collapse", 12), ("divergence", 11)], "divergence"),
        ([("no_parameter_update", 22), ("dead_units", 21)], "dead_units"),
        ([("a_stranger", 5), ("no_skill", 5)], "no_skill"),  # known ones first
        ([("a_stranger", 2), ("no_skill", 5)], "a_stranger"),  # but the earliest before
    ],
)
def test_one_primary_cause(fatal, primary):
    findings = [finding(name, onset) for name, onset in fatal]
    for order in (findings, findings[::-1]):
        assert primary_cause(make(healthy), order).detector == primary


def test_a_warning_causes_nothing_fatal():
    findings = [finding("mixture_collapse", severity=Severity.WARNING), finding("no_skill")]
    assert primary_cause(make(healthy), findings).detector == "no_skill"
    assert primary_cause(make(healthy), findings[:1]) is None


def test_the_graph_of_causes_has_no_cycle():
    order = list(EXPLAINS)
    for cause, effects in EXPLAINS.items():
        assert all(order.index(cause) < order.index(effect) for effect in effects), cause


def test_the_graph_knows_every_built_in_detector(built_in):
    assert {rule.name for rule in built_in} == set(EXPLAINS)


def with_p_value(name, p_value):
    @detector(name=name, version="1", severity=Severity.FATAL, online=True, signals=())
    def detect(history):
        return fired("It is so.", onset=1, evidence={"p_value": p_value})

    return detect


def test_p_values_must_hold_jointly():
    judges = [with_p_value("first", 0.004), with_p_value("second", 0.009)]
    both = states(diagnose(make(healthy), judges))
    assert both == {"first": FindingState.FIRED, "second": FindingState.FIRED}
    judges = [with_p_value("first", 0.006), with_p_value("second", 0.009)]
    neither = states(diagnose(make(healthy), judges))
    assert neither == {"first": FindingState.SUSPECT, "second": FindingState.SUSPECT}
    assert states(diagnose(make(healthy), judges[1:])) == {"second": FindingState.FIRED}


def test_a_detector_for_another_kind_of_task_does_not_apply():
    @detector(
        name="roc",
        version="1",
        severity=Severity.FATAL,
        online=False,
        signals=("val_auroc",),
        kinds=(TaskKind.BINARY,),
    )
    def detect(history):
        return clear("Fine.")

    assert detect(make(healthy)).state is FindingState.NOT_APPLICABLE
    assert detect(make(healthy, facts=TaskFacts())).state is FindingState.MISSING_SIGNAL


def test_a_diagnosis_after_every_epoch_is_affordable(built_in):
    for n, limit in ((20, 0.005), (100, 0.020)):
        times = []
        for _ in range(15):
            history = make(healthy, n, planned=n)
            start = time.process_time()
            diagnose(history, built_in)
            times.append(time.process_time() - start)
        # three times the goal, so that a slow machine does not fail the test
        assert min(times) <= 3 * limit
