"""What a sweep as a whole shows: read from a store, printed, reported."""

import io
import json

import pytest
from report_samples import SampleTrial, write_sample
from rich.console import Console
from typer.testing import CliRunner

from sickbay.service.cli.app import app
from sickbay.service.reports.explain import explanation, print_explanation
from sickbay.service.reports.html import render_markdown, render_report
from sickbay.service.summary.sweep_findings import print_advice_lines, sweep_advice
from sickbay.trials.contract import Health
from sickbay.trials.diagnosis.sweep_findings import shown_findings

SWEEP = "sample-abc123"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A dead factor, and a level that is healthy with one seed only."""
    curve = (0.9, 0.6, 0.4, 0.3)
    trials = [
        SampleTrial({"lr": lr, "dead": dead}, seed, tuple(lr * value for value in curve))
        for lr in (1.0, 2.0)
        for dead in ("a", "b")
        for seed in (0,)
    ]
    ill = {"pathology": "no_skill", "onset": 1, "label": Health.PATHOLOGICAL}
    trials.append(SampleTrial({"lr": 2.0, "dead": "b"}, 1, (0.9, 0.91, 0.92, 0.9), **ill))
    return write_sample(tmp_path_factory.mktemp("store") / "s", trials)


def test_findings_come_from_the_stored_trials(store):
    by_detector = {finding.detector: finding for finding in sweep_advice(store, SWEEP)}
    assert by_detector["duplicate_trials"].state == "fired"
    assert "`dead` never had an effect" in by_detector["duplicate_trials"].reason
    assert len(by_detector["duplicate_trials"].trials) == 4
    assert by_detector["seed_instability"].state == "fired"
    assert by_detector["all_trials_no_skill"].state == "clear"
    assert by_detector["oscillation"].state == "insufficient_evidence"


def test_lines_for_a_person(store):
    out = io.StringIO()
    print_advice_lines(Console(file=out, width=300), sweep_advice(store, SWEEP))
    lines = out.getvalue().splitlines()
    assert [line.split(": ")[1] for line in lines] == ["duplicate_trials", "seed_instability"]


def test_results_as_json_say_it_of_each_trial(store):
    done = CliRunner().invoke(app, ["results", SWEEP, "--json", "--store", store.uri])
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    by_trial = {(row["lr"], row["dead"], row["seed"]): row["sweep_findings"] for row in rows}
    names = {
        key: [finding["detector"] for finding in findings] for key, findings in by_trial.items()
    }
    assert names[1.0, "a", 0] == ["duplicate_trials"]
    assert names[2.0, "b", 1] == ["seed_instability"]
    assert all(
        finding["reason"] and finding["remedy"]
        for findings in by_trial.values()
        for finding in findings
    )


def test_explain_shows_what_concerns_the_trial(store):
    findings = sweep_advice(store, SWEEP)
    pair = next(finding for finding in findings if finding.detector == "seed_instability").trials
    explained = explanation(store, pair[0])
    names = [
        finding["detector"]
        for finding in explained["sweep_findings"]
        if finding["state"] == "fired"
    ]
    assert "seed_instability" in names
    json.dumps(explained["sweep_findings"])
    out = io.StringIO()
    print_explanation(Console(file=out, width=300), explained)
    assert "sweep warning: seed_instability" in out.getvalue()


def test_status_prints_those_that_fired(store):
    shown = CliRunner().invoke(app, ["status", SWEEP, "--store", store.uri]).output
    fired = {finding.detector for finding in shown_findings(sweep_advice(store, SWEEP))}
    assert {"duplicate_trials", "seed_instability"} <= fired
    assert all(f": {name}: " in shown for name in fired)


def test_the_report_has_them_beside_its_verdicts(store):
    page, text = render_report(store, SWEEP), render_markdown(store, SWEEP)
    assert "<b>duplicate_trials</b> (warning, over the whole sweep)" in page
    assert "- **duplicate_trials** (warning):" in text
