"""The detectors over a sweep, on sweeps small enough to be read at a glance."""

import math
from dataclasses import replace

import pytest

from sickbay.trials.contract import FindingState, Goal, Objective
from sickbay.trials.diagnosis.sweep_detectors import SWEEP_DETECTORS
from sickbay.trials.diagnosis.sweep_findings import (
    SweepTrial,
    SweepView,
    shown_findings,
    sweep_findings,
)

BY_NAME = {detector.name: detector for detector in SWEEP_DETECTORS}


def trial(number, seed=0, health="healthy", causes=(), objective=0.5, curves=None, **levels):
    curve = tuple(1.0 / (epoch + number + 1.5) for epoch in range(12))
    return SweepTrial(
        trial_id=f"t{number:02}",
        seed=seed,
        levels=levels,
        health=health,
        causes=causes,
        objective=objective,
        curves={"val_loss": curve} if curves is None else curves,
    )


def ask(name, *trials, objective=None):
    return BY_NAME[name](SweepView(tuple(trials), objective))


def curves(*values):
    return {"train_loss": values}


SAME = curves(0.9, 0.7, 0.5, math.nan, 0.4)


def test_a_factor_that_is_not_wired_is_named():
    finding = ask(
        "duplicate_trials",
        trial(1, lr=0.1, dropout=0.0, curves=SAME),
        trial(2, lr=0.1, dropout=0.5, curves=SAME),
        trial(3, lr=0.2, dropout=0.0, curves=curves(0.8, 0.6, 0.5)),
        trial(4, lr=0.2, dropout=0.5, curves=curves(0.8, 0.6, 0.5)),
    )
    assert (finding.state, finding.severity) == ("fired", "warning")
    assert finding.trials == ("t01", "t02", "t03", "t04")
    assert "`dropout` never had an effect" in finding.reason
    assert "lr" not in finding.reason


def test_a_factor_that_matters_elsewhere_is_information():
    finding = ask(
        "duplicate_trials",
        trial(1, cap=1, clip="off", curves=SAME),
        trial(2, cap=2, clip="off", curves=SAME),
        trial(3, cap=1, clip="on", curves=curves(0.8, 0.6, 0.5)),
        trial(4, cap=2, clip="on", curves=curves(0.8, 0.6, 0.51)),
    )
    assert (finding.state, finding.severity) == ("fired", "info")


@pytest.mark.parametrize(
    "other",
    [
        trial(2, lr=0.2, curves=curves(0.9, 0.7, 0.5, math.nan, 0.4 * (1 + 3e-6))),
        trial(2, lr=0.1, curves=SAME),  # the same configuration
        trial(2, lr=0.2, seed=1, curves=SAME),  # another seed
    ],
)
def test_trials_that_may_be_equal_or_are_not_are_let_pass(other):
    finding = ask("duplicate_trials", trial(1, lr=0.1, curves=SAME), other)
    assert finding.state == "clear"


def test_runs_that_are_equal_but_for_a_gpu_s_rounding_are_one_run():
    nearly = curves(*(value * (1 + 1e-7) for value in SAME["train_loss"]))
    found = ask("duplicate_trials", trial(1, lr=0.1, curves=SAME), trial(2, lr=0.2, curves=nearly))
    assert (found.state, found.trials) == ("fired", ("t01", "t02"))


def test_a_seed_that_changes_nothing_is_named():
    copies = [trial(n, seed=n, lr=0.1, curves=SAME) for n in range(10)]
    found = ask("duplicate_trials", *copies)
    assert (found.state, found.severity) == ("fired", "warning")
    assert found.reason.startswith("10 trials of different seeds have the same loss")


def test_curves_that_say_nothing_are_not_compared():
    flat = curves(0.7, 0.7, 0.7, 0.7)
    finding = ask("duplicate_trials", trial(1, lr=0.1, curves=flat), trial(2, lr=0.2, curves=flat))
    assert finding.state == "insufficient_evidence"


def test_five_configurations_without_skill_accuse_the_data():
    ill = [
        trial(n, health="pathological", causes=("constant_output", "no_skill"), lr=n)
        for n in range(5)
    ]
    finding = ask("all_trials_no_skill", *ill)
    assert (finding.state, finding.severity, finding.statistic) == ("fired", "warning", 5.0)
    assert "data" in finding.remedy
    assert "1 more" in ask("all_trials_no_skill", *ill[:4]).reason
    assert ask("all_trials_no_skill", *ill, trial(9, lr=9)).state == "clear"
    open_one = trial(9, lr=9, health="inconclusive")
    assert "1 more could not be judged" in ask("all_trials_no_skill", *ill, open_one).reason
    many = [replace(open_one, trial_id=f"u{n}") for n in range(5)]
    assert ask("all_trials_no_skill", *ill, *many).state == "insufficient_evidence"
    blown = replace(ill[0], causes=("divergence",))
    assert ask("all_trials_no_skill", *ill[1:], blown).state == "clear"


def test_the_best_value_beside_a_diverging_one_is_reported():
    def sweep(best, gone):
        return [
            trial(1, objective=0.5, lr=0.01),
            trial(2, objective=best, lr=0.1),
            trial(3, health="pathological", causes=(gone,), objective=math.nan, lr=1.0),
            trial(4, health="pathological", causes=(gone,), objective=math.nan, lr=1.0, seed=1),
        ]

    finding = ask("edge_of_stability", *sweep(0.2, "divergence"))
    assert (finding.state, finding.severity) == ("fired", "info")
    assert "lr = 0.1, and the next value, 1.0, diverges in 2 of 2" in finding.reason
    assert ask("edge_of_stability", *sweep(0.9, "divergence")).state == "clear"
    assert ask("edge_of_stability", *sweep(0.2, "no_skill")).state == "clear"
    most = Objective("val_accuracy", Goal.MAXIMIZE)
    assert ask("edge_of_stability", *sweep(0.9, "non_finite"), objective=most).state == "fired"
    assert ask("edge_of_stability", trial(1, lr=1)).state == "insufficient_evidence"
    cancelled = [trial(5, health=None, lr=0.1, seed=1), trial(6, health=None, lr=0.5)]
    assert ask("edge_of_stability", *sweep(0.2, "divergence"), *cancelled).state == "fired"


def test_a_verdict_that_depends_on_the_seed_is_reported():
    mixed = [trial(n, seed=n, lr=0.1, health=SICK[n > 2]) for n in range(5)]
    steady = [trial(10 + n, seed=n, lr=0.2) for n in range(5)]
    finding = ask("seed_instability", *mixed, *steady)
    assert (finding.state, finding.trials) == ("fired", ("t00", "t01", "t02", "t03", "t04"))
    assert "1 of 2 configurations" in finding.reason
    assert "pathological in 2 of 5" in finding.reason
    open_one = [replace(one, health="inconclusive") for one in mixed[3:]]
    assert ask("seed_instability", *mixed[:3], *open_one).state == "clear"
    assert ask("seed_instability", mixed[0], trial(2, lr=0.2)).state == "insufficient_evidence"


SICK = ("healthy", "pathological")


def test_wrong_labels_are_no_instability():
    """250 healthy trials of 50 configurations, 2 % of them with a wrong label."""
    trials = [trial(n, seed=n % 5, lr=n // 5, health=SICK[n % 50 == 7]) for n in range(250)]
    found = ask("seed_instability", *trials)
    assert found.state == "clear"
    assert "5 of 250 trials" in found.reason


def test_small_validation_sets_do_not_oscillate():
    """Accuracies of 0.9 over 100 samples have a standard error of 0.03 by themselves."""
    noise = tuple(0.9 + 0.03 * math.sin(9.0 * epoch) for epoch in range(30))
    one = trial(1, curves={"val_accuracy": noise})
    assert ask("oscillation", one).state == "fired"
    assert ask("oscillation", replace(one, val_n=100)).state == "clear"
    assert ask("oscillation", replace(one, val_n=10_000)).state == "fired"


def test_an_accuracy_that_swings_is_information():
    def accuracy(*values):
        return {"val_accuracy": values}

    swings = accuracy(*(0.8 + 0.03 * (-1) ** epoch for epoch in range(12)))
    small = accuracy(*(0.8 + 0.01 * (-1) ** epoch for epoch in range(12)))
    rises = accuracy(*(0.5 + 0.04 * epoch for epoch in range(12)))
    finding = ask("oscillation", trial(1, curves=swings), trial(2, curves=small))
    assert (finding.state, finding.severity, finding.trials) == ("fired", "info", ("t01",))
    assert ask("oscillation", trial(1, curves=small), trial(2, curves=rises)).state == "clear"
    assert ask("oscillation", trial(1)).state == "insufficient_evidence"


def test_every_rule_is_pure_whatever_the_order_and_explains_itself():
    trials = tuple(
        trial(n, seed=n % 3, lr=n // 3, health=("healthy", "pathological")[n % 2], curves=SAME)
        for n in range(9)
    )
    for detector in SWEEP_DETECTORS:
        assert detector(SweepView(trials)) == detector(SweepView(trials[::-1]))
        assert detector(SweepView(())).state is FindingState.INSUFFICIENT_EVIDENCE
        assert all(
            (
                detector.rule,
                detector.formula,
                detector.source,
                detector.remedy,
                detector.false_alarms,
            )
        ), detector.name


def test_a_person_is_shown_what_fired_warnings_first():
    pair = [trial(n, seed=n, lr=0.1, health=SICK[n > 2]) for n in range(5)]
    findings = sweep_findings(SweepView(tuple(pair)), SWEEP_DETECTORS)
    assert len(findings) == len(SWEEP_DETECTORS)
    assert [finding.detector for finding in shown_findings(findings)] == ["seed_instability"]
    assert all(not finding.remedy for finding in findings if finding.state != "fired")
