"""The page of the five reports: its claims, its specs, its figures, and that it is up to date."""

import json
import math
from pathlib import Path

import pytest
import yaml
from scipy import stats
from store_samples import START

from docs.tools import reports_page
from docs.tools.claims import (
    VERDICTS,
    Claim,
    Measure,
    Measured,
    load_claims,
    load_results,
    measure,
    results_text,
)
from sickbay.trials import registry
from sickbay.trials.contract import Row, TrialConfig, TrialState
from sickbay.trials.spec import load_spec, plan
from sickbay.trials.store import (
    EpochRecord,
    SweepRecord,
    TrialRecord,
    open_store,
    start_attempt,
    write_epochs,
    write_sweep,
    write_trial,
)
from sickbay.trials.store.merge import consolidate

ROOT = Path(__file__).parents[2]
REPORTS = load_claims(ROOT / "docs/claims.yaml")
RESULTS = load_results(ROOT / "docs/claims-measured.json")
CLAIMS = [claim for report in REPORTS for claim in report.claims]
MEASURED = [claim for claim in CLAIMS if claim.spec]


def test_the_page_is_what_the_generator_writes_from_what_was_measured():
    page = (ROOT / "docs/reports.md").read_text(encoding="utf-8")
    assert page == reports_page.page(REPORTS, RESULTS), "python -m docs.tools.reports_page"


def test_all_five_reports_have_claims_with_verdicts():
    assert [report.number for report in REPORTS] == [1, 2, 3, 4, 5]
    for report in REPORTS:
        assert report.claims
        assert all(claim.id.startswith(f"{report.number}.") for claim in report.claims)
    assert {claim.verdict for claim in CLAIMS} == set(VERDICTS)
    assert all(claim.claim and claim.figure and claim.truth for claim in CLAIMS)


@pytest.mark.parametrize("claim", MEASURED, ids=lambda claim: claim.id)
def test_a_claim_s_spec_exists_and_is_sound(claim, monkeypatch):
    monkeypatch.chdir(ROOT)
    path = ROOT / "examples/reports" / claim.spec
    spec, workload = load_spec(path, registry.workload)
    assert spec.name.startswith(f"report-{claim.id[0]}-")
    assert workload.name == next(r for r in REPORTS if claim in r.claims).workload
    assert len(plan.plan(spec, workload).trials) >= 3
    assert claim.measures


def test_every_spec_of_a_report_measures_a_claim():
    there = {path.name for path in (ROOT / "examples/reports").glob("*.yaml")}
    assert there == {claim.spec for claim in MEASURED}
    names = [
        yaml.safe_load((ROOT / "examples/reports" / spec_file).read_text())["name"]
        for spec_file in there
    ]
    assert len(set(names)) == len(names)


def test_what_is_kept_belongs_to_a_measure():
    for claim, some in RESULTS.items():
        (known,) = (candidate for candidate in CLAIMS if candidate.id == claim)
        assert set(some) == {quantity.name for quantity in known.measures}


def test_every_measure_has_a_bound_within_which_its_verdict_holds():
    for claim in CLAIMS:
        for one in claim.measures:
            assert one.expect is not None, (claim.id, one.name)
            low, high = one.expect
            assert low <= RESULTS[claim.id][one.name].mean <= high, (claim.id, one.name)


def test_no_verdict_stands_against_what_was_measured():
    for claim in CLAIMS:
        assert "to be judged anew" not in reports_page.verdict(claim, RESULTS), claim.id


def test_results_survive_their_file(tmp_path):
    results = {
        "1.1": {"a": Measured(0.1, None, None, 5, "s"), "µ": Measured(1.0, 0.5, 1.5, 3, "s")}
    }
    path = tmp_path / "results.json"
    path.write_text(results_text(results))
    assert load_results(path) == results
    assert load_results(tmp_path / "none.json") == {}


# --- measuring


VALUES = {"a": [0.70, 0.74, 0.69, 0.73, 0.71], "b": [0.9, 0.91, 0.95, 0.88, 0.93]}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Two arms, five seeds, two evaluations: the last one counts unless another is asked for."""
    store = open_store(str(tmp_path_factory.mktemp("store")))
    for sweep, shift in (("old", 5.0), ("new", 0.0)):
        spec = json.dumps({"name": "study"})
        moment = START + (1.0 if sweep == "new" else 0.0)
        write_sweep(store, SweepRecord(sweep, "study", "toy", "grid", spec, "finished", moment))
        for arm, values in VALUES.items():
            for seed, value in enumerate(values):
                trial = TrialConfig(f"{sweep}{arm}{seed}", "toy", {"arm_name": arm}, seed, 2)
                start_attempt(store, sweep, trial.trial_id, device="cpu", started_at=START)
                rows = [
                    EpochRecord(1, 1.0, Row(epoch, epoch, {"score": value + shift + 2 - epoch}))
                    for epoch in (1, 2)
                ]
                write_epochs(store, sweep, trial.trial_id, rows)
                record = TrialRecord(
                    sweep, trial, "1", arm, TrialState.COMPLETED, 1, objective=value
                )
                write_trial(store, record, ())
        consolidate(store, sweep)
    return store


def claim_of(*measures):
    return Claim("9.1", "c", "f", "t", "reproduced", "x.yaml", measures)


def test_a_mean_comes_with_its_interval_over_seeds_of_the_latest_sweep(store):
    quantity = Measure("m", "arm_name = 'a'", "score")
    measured = measure(store, claim_of(quantity), "study")["m"]
    low, high = stats.t.interval(0.95, 4, loc=sum(VALUES["a"]) / 5, scale=stats.sem(VALUES["a"]))
    assert (measured.mean, measured.low, measured.high) == pytest.approx(
        (sum(VALUES["a"]) / 5, low, high)
    )
    assert (measured.n, measured.sweep) == (5, "new")


def test_differences_are_paired_by_seed(store):
    quantity = Measure("m", "arm_name = 'b'", "score", minus="arm_name = 'a'")
    measured = measure(store, claim_of(quantity), "study")["m"]
    pairs = [b - a for a, b in zip(VALUES["a"], VALUES["b"], strict=True)]
    low, _ = stats.t.interval(0.95, 4, loc=sum(pairs) / 5, scale=stats.sem(pairs))
    assert (measured.mean, measured.low) == pytest.approx((sum(pairs) / 5, low))


def test_counts_and_other_evaluations(store):
    many = Measure("n", "arm_name = 'a'", count="score > 0.705")
    first = Measure("e", "arm_name = 'a'", "score", epoch=1)
    measured = measure(store, claim_of(many, first), "study")
    assert measured["n"] == Measured(pytest.approx(0.6), None, None, 5, "new")
    assert reports_page.figure(many, measured["n"]) == "3 of 5"
    assert measured["e"].mean == pytest.approx(sum(VALUES["a"]) / 5 + 1.0)


def test_a_change_is_taken_within_each_trial(store):
    change = Measure("c", "arm_name = 'a'", "score", epoch=2, since=1)
    assert measure(store, claim_of(change), "study")["c"].mean == pytest.approx(-1.0)


def test_an_absent_sweep_gives_nothing_and_an_empty_or_loose_condition_is_an_error(store):
    quantity = Measure("m", "arm_name = 'a'", "score")
    assert measure(store, claim_of(quantity), "another") == {}
    with pytest.raises(ValueError, match="no trial of new where arm_name = 'z'"):
        measure(store, claim_of(Measure("m", "arm_name = 'z'", "score")), "study")
    with pytest.raises(ValueError, match="several trials of one seed where true"):
        measure(store, claim_of(Measure("m", "true", "score")), "study")


# --- what is written


def test_a_value_out_of_its_bounds_takes_the_verdict_back():
    quantity = Measure("m", "true", "score", expect=(0.0, 0.5))
    known = claim_of(quantity)
    inside = {"9.1": {"m": Measured(0.4, 0.3, 0.5, 5, "s")}}
    assert reports_page.verdict(known, inside) == "reproduced"
    outside = {"9.1": {"m": Measured(0.6, 0.3, 0.9, 5, "s")}}
    assert reports_page.verdict(known, outside) == (
        "**to be judged anew**: m is not within 0 to 0.5000"
    )
    broken = {"9.1": {"m": Measured(math.nan, None, None, 5, "s")}}
    assert "to be judged anew" in reports_page.verdict(known, broken)
    assert reports_page.verdict(known, {}) == "reproduced (not measured yet)"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.0, "0"),
        (0.72614, "0.7261"),
        (5.28834, "5.288"),
        (0.0122149, "0.01221"),
        (2.3e-5, "2.3e-05"),
    ],
)
def test_numbers_have_four_digits(value, words):
    assert reports_page.number(value) == words


def test_figures_say_how_many_seeds():
    quantity = Measure("m", "true", "score")
    assert reports_page.figure(quantity, Measured(0.5, 0.4, 0.6, 5, "s")) == (
        "0.5000 [0.4000, 0.6000], 5 seeds"
    )
    assert (
        reports_page.figure(quantity, Measured(0.0, None, None, 5, "s"))
        == "0, 5 seeds, all the same"
    )
    assert reports_page.figure(quantity, Measured(1.5, None, None, 1, "s")) == "1.500, 1 seed"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"verdict": "plausible"}, "verdict 'plausible' is not known; choose one of reproduced;"),
        ({"measures": [{"name": "m", "where": "true"}]}, "give a value or a count"),
        ({"spec": ""}, "has measures and no spec"),
        ({"colour": "red"}, "colour"),
        ({"measures": [{"where": "true"}]}, "name"),
    ],
)
def test_a_malformed_claim_is_named(tmp_path, change, message):
    claim = {
        "id": "1.1",
        "claim": "c",
        "figure": "f",
        "truth": "t",
        "verdict": "reproduced",
        "spec": "x.yaml",
        "measures": [{"name": "m", "where": "true", "value": "score"}],
    }
    path = tmp_path / "claims.yaml"
    report = {"report": 1, "title": "t", "workload": "w"}
    path.write_text(yaml.safe_dump([{**report, "claims": [{**claim, **change}]}]))
    with pytest.raises(ValueError, match=r"claim 1\.1") as caught:
        load_claims(path)
    assert message in str(caught.value)


def test_a_claim_that_is_there_twice_is_refused(tmp_path):
    claim = {"id": "1.1", "claim": "c", "figure": "f", "truth": "t", "verdict": "reproduced"}
    path = tmp_path / "claims.yaml"
    path.write_text(
        yaml.safe_dump([{"report": 1, "title": "t", "workload": "w", "claims": [claim, claim]}])
    )
    with pytest.raises(ValueError, match=r"the claim 1.1 is there twice"):
        load_claims(path)


def test_the_command_measures_keeps_and_writes(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("docs", "examples/reports"):
        Path(folder).mkdir(parents=True)
    Path("examples/reports/x.yaml").write_text("name: study\n")
    measures = [{"name": "score", "where": "arm_name = 'a'", "value": "score"}]
    claim = {"id": "1.1", "claim": "c | d", "figure": "f", "truth": "t", "verdict": "reproduced"}
    claim |= {"spec": "x.yaml", "measures": measures}
    # A sweep of another name measures what the spec's own did not.
    Path("examples/reports/y.yaml").write_text("name: unknown\n")
    other = claim | {"id": "1.2", "spec": "y.yaml", "sweep": "study"}
    report = {"report": 1, "title": "a title", "workload": "w", "claims": [claim, other]}
    Path("docs/claims.yaml").write_text(yaml.safe_dump([report]))
    assert reports_page.main([]) == 0
    assert "not measured yet" in Path("docs/reports.md").read_text()
    assert reports_page.main([store.uri]) == 0
    text = Path("docs/reports.md").read_text()
    assert "## Report 1: a title" in text
    assert text.count("score: 0.7140 [0.6883, 0.7397], 5 seeds") == 2
    assert "c \\| d | f | t | score: 0.7140 [0.6883, 0.7397], 5 seeds<br>([x](../exam" in text
    before = Path("docs/claims-measured.json").read_text()
    assert reports_page.main([]) == 0
    assert Path("docs/claims-measured.json").read_text() == before
