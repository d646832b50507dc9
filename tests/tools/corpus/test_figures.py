"""The figures on a handful of judged cases whose answers can be counted by hand, and the page."""

import json
from dataclasses import replace

import pytest

from docs.tools.corpus.report import figures, founding, freezing
from docs.tools.corpus.report.baselines import BASELINES
from docs.tools.corpus.report.evaluate import SIGNAL_TABLES, ablated, left_out
from docs.tools.corpus.report.figures import Judged
from docs.tools.corpus.report.judging import Verdict
from docs.tools.corpus.report.page import Results, page
from docs.tools.corpus.samples import case
from docs.tools.corpus.truth import Truth
from sickbay.trials.contract import Finding, FindingState, Severity

ILL, WELL = Truth(pathological=True, why="no_skill"), Truth(pathological=False, why="")


def judged(truth=WELL, primary=None, stop=None, confidence=None, **which):
    """A judged case; `primary` alone fired, as fatal."""
    one = case(**which)
    findings = ()
    if primary:
        findings = (
            Finding(primary, "1", FindingState.FIRED, Severity.FATAL, "because", onset_epoch=1),
        )
    verdict = Verdict(
        key=one.key,
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
    return Judged(one, truth, verdict)


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
    found = figures.headline(table)
    assert (found["recall"].value, found["recall"].n) == (0.75, 4)
    assert found["false positives"].n == 10  # controls and the equivalent mutant
    assert found["false positives"].value == pytest.approx(0.1)
    assert found["false positives, hard but healthy"].value == 0.5
    assert found["precision"].value == pytest.approx(3 / 5)
    assert found["false stops of healthy trials"].value == pytest.approx(1 / 12)
    assert found["primary cause right, of those found"].value == pytest.approx(2 / 3)
    assert found["primary cause right, of all ill"].value == 0.5
    assert found["ill and called healthy"].value == 0.25


def test_latency_counts_from_the_fault(table):
    found = figures.headline(table)
    assert found["numeric faults stopped within 1 epoch"].value == 1.0
    assert found["latency of the others, share of the budget, median"].value == 0.25
    assert found["compute saved on ill trials"].value == pytest.approx(
        (0.75 + 0.75 + 23 / 40 + 0.0) / 4
    )


def test_calibration_error_reads_the_findings(table):
    # two at 0.9, both ill in truth: the gap is 0.1
    assert figures.headline(table)["calibration error"].value == pytest.approx(0.1)


def test_a_baseline_is_judged_like_us(table):
    found = figures.baseline(table, "6 sigma of 128 steps")
    assert found["recall"].value == 0.75
    assert found["false positives"].value == pytest.approx(0.1)


def test_a_detector_is_told_by_what_it_fired_on(table):
    found = figures.of_detector(table, "divergence")
    assert found["fired"] == 2
    assert found["precision, any"].value == 0.5
    assert found["primary right"].value == 1.0
    assert found["recall of its own"].value == 1.0


def test_founding_pathologies_have_twins(table):
    found = founding.found([*table, judged(seed=0)], "i")
    assert found["found"].value == 1.0
    assert found["found"].n == 2
    assert found["twin clear"].value == 1.0


def test_leaving_out_a_detector_costs_its_recall(table):
    found = left_out(table)
    recall, alarm = found["divergence"]
    assert recall.value == 0.5
    assert alarm.value == pytest.approx(1 / 12)


def test_dropped_tables_are_judged_anew():
    held = [replace(one, case=replace(one.case, task="shared")) for one in [judged(), judged(ILL)]]
    found = ablated(held, processes=1)
    assert set(found) == {"nothing", *SIGNAL_TABLES}
    assert found["training loss"]["inconclusive"].value == 1.0  # two evaluations prove nothing


def test_the_page_names_everything(table):
    held = [replace(one, case=replace(one.case, task="shared")) for one in table]
    both = [*table, *held]
    results = Results(
        table=both,
        killed={("regression", "lr_too_high-2"): True},
        frozen={"fingerprint": "abc", "labeller_version": "2-1", "margins_version": "1"},
        fingerprint="abc",
        labeller="2-1",
        left_out=left_out(both),
        ablated=ablated(both, processes=1),
    )
    text = page(results)
    for word in (
        "## The figures",
        "Ray TrialPlateauStopper",
        "(j) overfitting",
        "`shared`",
        "`lr_too_high`",
        "## Weak spots",
        "they are those frozen",
        "75.0 %",
    ):
        assert word in text
    assert "they differ" in page(replace(results, fingerprint="other"))


def test_thresholds_are_frozen_by_value(tmp_path, monkeypatch):
    record = freezing.freeze(tmp_path / "f.json")
    assert record == json.loads((tmp_path / "f.json").read_text())
    assert freezing.frozen(tmp_path / "f.json")["fingerprint"] == freezing.fingerprint()
    assert freezing.frozen(tmp_path / "none.json") is None
    skill = replace(freezing.MARGINS["skill_gain"], value=0.03)
    monkeypatch.setattr(freezing, "MARGINS", {**freezing.MARGINS, "skill_gain": skill})
    assert freezing.fingerprint() != record["fingerprint"]
