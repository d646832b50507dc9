"""The figures on a handful of judged cases whose answers can be counted by hand, and the page."""

import json
from dataclasses import replace

import pytest

from docs.tools.corpus.report import figures, founding, freezing, peers
from docs.tools.corpus.report.baselines import BASELINES
from docs.tools.corpus.report.figures import Judged
from docs.tools.corpus.report.judging import Verdict
from docs.tools.corpus.report.page import Results, page
from docs.tools.corpus.samples import case
from docs.tools.corpus.telemetry import Level
from docs.tools.corpus.truth import Truth
from sickbay.trials.contract import Finding, FindingState, Severity

ILL, WELL = Truth(pathological=True, why="no_skill"), Truth(pathological=False, why="")


def judged(truth=WELL, primary=None, stop=None, confidence=None, **which):
    """A judged case; `primary` alone fired, as fatal."""
    run = case(**which)
    findings = ()
    if primary:
        findings = (
            Finding(primary, "1", FindingState.FIRED, Severity.FATAL, "because", onset_epoch=1),
        )
    verdict = Verdict(
        key=run.key,
        health="pathological" if primary else "healthy",
        primary=primary,
        coverage=1.0,
        confidence=confidence,
        findings=findings,
        stop_epoch=stop,
        stop_cause=primary if stop else None,
        seconds=0.01,
        planned=40,
        watched=True,
        alarms=dict.fromkeys(BASELINES, stop),
    )
    return Judged(run, truth, verdict)


@pytest.fixture
def table():
    return [
        *[judged(seed=i) for i in range(8)],  # controls
        judged(seed=8, primary="divergence", stop=30),  # a false alarm, and a false stop
        judged(seed=9, variant="low_snr", primary="no_skill"),  # one of a hard one
        judged(seed=10, variant="low_snr"),
        judged(fault="lr_too_high-1"),  # an equivalent mutant
        judged(ILL, "divergence", stop=10, fault="lr_too_high-2", confidence=0.9),
        judged(ILL, "no_skill", stop=10, fault="redrawn_labels-3", confidence=0.9),  # wrong cause
        judged(ILL, "non_finite", stop=17, fault="nan_inputs-2"),  # began at 0.4 of 40
        judged(ILL, fault="tiny_start-3"),  # missed
    ]


def test_rates_are_counted_over_the_right_runs(table):
    measures = figures.headline(table)
    assert (measures["recall, no skill"].value, measures["recall, no skill"].n) == (0.75, 4)
    assert measures["recall, worse than its controls"].n == 0
    assert measures["false alarms"].n == 10  # controls and the equivalent mutant
    assert measures["false alarms"].value == pytest.approx(0.1)
    assert measures["false alarms, hard but healthy"].value == 0.5
    assert measures["precision"].value == pytest.approx(3 / 5)
    assert measures["false stops"].value == pytest.approx(1 / 12)
    assert measures["cause named rightly, of those found"].value == pytest.approx(2 / 3)
    assert measures["`healthy` that is wrong"].value == pytest.approx(1 / 11)


def test_a_run_that_is_merely_worse_stands_apart(table):
    worse = judged(Truth(pathological=True, why="worse"), fault="tiny_start-1")
    measures = figures.headline([*table, worse])
    assert (measures["recall, worse than its controls"].value, measures["recall, no skill"].n) == (
        0,
        4,
    )
    assert measures["`healthy` that is wrong"].value == pytest.approx(2 / 12)
    kept = measures["`healthy` that is wrong, the merely worse not counted"]
    assert kept.value == pytest.approx(1 / 11)


def test_what_a_stop_saves_is_a_share_of_the_plan(table):
    measures = figures.headline(table)
    assert measures["numeric faults stopped within an epoch"].value == 1.0
    assert measures["epochs of pathological runs saved"].value == pytest.approx(
        (0.75 + 0.75 + 23 / 40 + 0.0) / 4
    )
    possible = measures["epochs that could be saved, from the fault's onset"]
    assert possible.value == pytest.approx((1.0 + 1.0 + 0.6 + 1.0) / 4)


def test_calibration_reads_the_stated_probability_of_being_pathological():
    # three healthy labels at 0.9, of which one is wrong, and a right alarm at 0.8
    table = [
        judged(confidence=0.9),
        judged(confidence=0.9, seed=1),
        judged(ILL, confidence=0.9, fault="tiny_start-3"),
        judged(ILL, "no_skill", confidence=0.8, fault="tiny_start-2"),
        judged(),  # states nothing
    ]
    (low, healthy), (high, alarm) = figures.reliability(table)
    assert (low, healthy.value, healthy.n) == (pytest.approx(0.1), pytest.approx(1 / 3), 3)
    assert (high, alarm.value, alarm.n) == (pytest.approx(0.8), 1.0, 1)
    error = figures.headline(table)["calibration error"]
    assert error.value == pytest.approx(0.75 * (1 / 3 - 0.1) + 0.25 * 0.2)


def test_a_rule_is_counted_like_us(table):
    no_skill, _, _, alarms, hard = figures.baseline(table, "6 sigma of 128 steps")
    assert no_skill.value == 0.75
    assert alarms.value == pytest.approx(0.1)
    assert hard.value == 0.0


def test_peers_are_counted_by_group():
    cases = [
        *[case(seed=i) for i in range(10)],
        case(seed=10, variant="low_snr"),
        case(lower=-0.1, fault="tiny_start-3"),
        case(lower=-0.1, fault="nan_inputs-3"),
    ]

    def loud(history):
        return True, ("no_learning",)

    assert peers.counted(cases, loud) == {
        "no_skill": [2, 2],
        "healthy": [10, 10],
        "hard": [1, 1],
        "cause": [1, 2],
    }


def test_a_detector_is_named_by_what_it_fired_on(table):
    rates = figures.of_detector(table, "divergence")
    assert rates["fired"] == 2
    assert rates["precision, any"].value == 0.5
    assert rates["primary right"].value == 1.0
    assert rates["recall of its own"].value == 1.0


def test_founding_pathologies_have_twins(table):
    shares = founding.found([*table, judged(seed=0)], "i")
    assert shares["found"].value == 1.0
    assert shares["found"].n == 2
    assert shares["twin clear"].value == 1.0


def test_the_page_names_everything(table, monkeypatch):
    monkeypatch.setattr("docs.tools.corpus.report.page.HELD_OUT", ("duels",))
    held = [replace(run, case=replace(run.case, task="duels")) for run in table]
    results = Results(
        tables={level: [*table, *held] for level in Level},
        killed={("regression", "lr_too_high-2"): True},
        frozen={"fingerprint": "abc", "labeller_version": "2-1", "margins_version": "1"},
        fingerprint="abc",
        labeller="2-1",
        peers={"peer 1.0": {"duels": {"no_skill": [1, 3], "healthy": [0, 7]}}},
    )
    text = page(results)
    for word in (
        "## The figures",
        "| measure | goal | `probe` | `ordinary` | `bare` |",
        "Ray TrialPlateauStopper",
        "| peer 1.0, `ordinary` | 33.3 %",
        "(j) overfitting",
        "`duels`",
        "`lr_too_high`",
        "## Weak spots",
        "they are those frozen",
        "75.0 %",
    ):
        assert word in text
    assert "they differ" in page(replace(results, fingerprint="other"))


def test_what_judges_is_frozen_by_value(tmp_path, monkeypatch):
    record = freezing.freeze(tmp_path / "f.json")
    assert record == json.loads((tmp_path / "f.json").read_text())
    assert freezing.frozen(tmp_path / "f.json")["fingerprint"] == freezing.fingerprint()
    assert freezing.frozen(tmp_path / "none.json") is None
    skill = replace(freezing.MARGINS["skill_gain"], value=0.03)
    monkeypatch.setattr(freezing, "MARGINS", {**freezing.MARGINS, "skill_gain": skill})
    assert freezing.fingerprint() != record["fingerprint"]
