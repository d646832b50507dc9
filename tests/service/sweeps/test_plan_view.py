"""What `plan` says before anything runs: counts, aliases, hours, budget; of a search its space."""

import io
import time

import pytest
import toy_sweeps
from rich.console import Console

from sickbay.service.sweeps.plan_view import budget_holds, describe_plan, estimated, print_plan
from sickbay.service.sweeps.runner import Options, prepare, run

HERE = Options(in_process=True)
FACTORS = {
    "lr": [0.1, 0.05],
    "momentum": [0.0, 0.5],
    "init": ["random", "zeros"],
    "features": [4, 8],
}


def printed(prepared):
    console = Console(file=io.StringIO(), width=120)
    print_plan(console, describe_plan(prepared))
    return console.file.getvalue()


def test_a_fraction_names_its_aliases(tmp_path):
    raw = toy_sweeps.spec(design="fractional", factors=FACTORS, resolution="IV")
    prepared = prepare(raw, str(tmp_path / "s"))
    described = describe_plan(prepared)
    assert described["total"] == 16
    assert described["resolution"] == 4
    assert described["aliases"]["lr:momentum"] == ["init:features"]
    assert described["defining_words"] == ["lr:momentum:init:features"]
    text = printed(prepared)
    assert "resolution 4: I = lr:momentum:init:features" in text
    assert "lr:momentum = init:features" in text
    assert not (tmp_path / "s").exists()


def test_what_constraints_leave_out_is_counted(tmp_path):
    raw = toy_sweeps.spec(factors=FACTORS, constraints=["lr + momentum < 0.6"])
    prepared = prepare(raw, str(tmp_path / "s"))
    described = describe_plan(prepared)
    assert described["excluded_by_constraint"] == {"lr + momentum < 0.6": 4}
    assert described["total"] == 24
    assert "the constraint 'lr + momentum < 0.6' leaves out 4 configurations" in printed(prepared)


def test_hours_come_from_stored_trials_of_the_same_workload_and_size(tmp_path):
    store = str(tmp_path / "s")
    raw = toy_sweeps.spec(factors={"lr": [0.1]}, fixed={"sleep_ms": 5.0}, seeds=3)
    assert estimated(prepare(raw, store)) is None
    assert "no estimate of hours" in printed(prepare(raw, store))
    run(raw, store, HERE)
    more = prepare({**raw, "seeds": 30}, store)
    estimate = estimated(more)
    assert estimate.n == 3
    assert 0.005 < estimate.seconds < 1
    assert estimate.trial_seconds == pytest.approx(16 * estimate.seconds)
    assert estimate.core_hours == pytest.approx(27 * estimate.trial_seconds / 3600)
    assert estimate.core_hours / estimate.slots <= estimate.hours <= estimate.core_hours
    assert "the median of 3 stored trials" in printed(more)
    other_size = {**raw, "fixed": {"size": "full"}}
    assert estimated(prepare(other_size, store)) is None


def test_the_budget_is_held_against_the_estimate(tmp_path):
    store = str(tmp_path / "s")
    raw = toy_sweeps.spec(factors={"lr": [0.1]}, seeds=2)
    run(raw, store, HERE)
    for hours, holds in ((10.0, True), (1e-9, False)):
        prepared = prepare({**raw, "seeds": 9, "budget": {"hours": hours, "trials": 9}}, store)
        holding = describe_plan(prepared)["budget_holds"]
        assert holding == {"trials": True, "hours": holds}
    cut = prepare({**raw, "seeds": 9, "budget": {"trials": 4}}, store)
    assert budget_holds(cut, None) == {"trials": False}
    assert "budget.trials 4: the sweep does NOT fit" in printed(cut)


def test_a_search_shows_its_size_and_space_and_then_what_it_has_suggested(tmp_path):
    raw = toy_sweeps.spec(
        design="tpe",
        factors={"lr": {"low": 0.001, "high": 10.0, "log": True}, "init": ["random", "zeros"]},
        seeds=2,
        budget={"trials": 9},
        fixed={"epochs": 4},
    )
    store = str(tmp_path / "s")
    described = describe_plan(prepare(raw, store))
    assert (described["total"], described["missing"], described["trials"]) == (8, 8, [])
    assert described["search"]["configurations"] == 4
    assert described["search"]["baseline"] == {"lr": 0.1, "init": "random"}
    text = printed(prepare(raw, store))
    assert "tpe, 4 configurations x 2 seeds = 8 trials" in text
    assert "lr: 0.001 to 10, log scale; starts at 0.1" in text
    assert not (tmp_path / "s").exists()
    run(raw, store, HERE)
    after = describe_plan(prepare(raw, store))
    assert (after["total"], after["missing"], after["search"]["suggested"]) == (8, 0, 4)
    assert len(after["trials"]) == 8
    assert all(trial["stored"] for trial in after["trials"])


@pytest.mark.slow
def test_a_plan_of_a_hundred_thousand_trials_takes_seconds(tmp_path):
    levels = {"features": list(range(1, 251)), "epochs": list(range(1, 201))}
    raw = toy_sweeps.spec(factors={"init": ["random", "zeros"], **levels}, seeds=1)
    start = time.process_time()
    prepared = prepare(raw, str(tmp_path / "s"))
    printed(prepared)
    assert len(prepared.plan.trials) == 100_000
    assert time.process_time() - start < 5
