"""A search that begins with the trials of earlier sweeps: which of them, and what they tell it."""

from dataclasses import replace
from statistics import median

import pytest
import yaml
from toy_searches import HERE, drive, raw, study_of, table, task_of
from typer.testing import CliRunner

from sickbay.service.cli.app import app
from sickbay.service.query.lookup import find_sweep
from sickbay.service.reports.html import render_markdown, render_report
from sickbay.service.sweeps.prepare import prepare
from sickbay.service.sweeps.runner import run
from sickbay.trials.errors import SpecError
from sickbay.trials.execution.inline import open_search
from sickbay.trials.search.samplers import StudyView
from sickbay.trials.search.warm_start import is_earlier
from sickbay.trials.store import open_store, write_sweep
from sickbay.trials.store.reader import list_sweeps

SHORT = {"epochs": 4}
LR = {"lr": {"low": 0.02, "high": 6.0, "log": True}}
SECOND = {"name": "second", "factors": LR, "seeds": 1, "fixed": SHORT, "warm_start": "first"}


def first(store, **changes):
    """An earlier sweep: three rates of learning, the third of which diverges."""
    keys = {"name": "first", "design": "grid", "factors": {"lr": [0.1, 0.05, 5.0]}, "budget": {}}
    return run(raw(**keys | {"fixed": SHORT} | changes), str(store), HERE)


def warm_task(store, **keys):
    """The task of a search with the id of its earlier sweep."""
    return task_of(store, **keys | {"warm_start": prepare(raw(**keys), str(store)).spec.warm_start})


def earlier_of(store, **keys):
    return [trial for trial in study_of(store, **keys).trials if is_earlier(trial)]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """An earlier sweep of eight rates and a fault, and a search that begins with it."""
    folder = tmp_path_factory.mktemp("warm")
    levels = {"lr": [0.1, 0.05, 5.0, 9.0], "fault": ["none", "raise"]}
    first(folder, factors=levels)
    run(raw(**SECOND, budget={"trials": 3}), str(folder), HERE)
    return folder


def test_earlier_trials_inside_the_search_are_used_and_the_others_counted(store):
    earlier = prepare(raw(**SECOND, budget={"trials": 5}), str(store)).earlier
    assert (earlier.trials, len(earlier.configurations)) == (6, 3)
    assert dict(earlier.left_out) == {
        "with lr outside the search space": 4,
        "with other settings (fault)": 6,
    }
    assert earlier.line.startswith("6 trials (3 configurations) of first-")
    assert "10 are not: 6 with other settings (fault), 4 with lr outside" in earlier.line


def test_what_was_used_is_said_after_the_search_too(store):
    opened, line = open_store(str(store)), "6 trials (3 configurations) of first-"
    sweep_id = find_sweep(opened, "second").sweep_id
    for verb in (["plan", "-"], ["status", sweep_id], ["results", sweep_id]):
        text = yaml.safe_dump(raw(**SECOND, budget={"trials": 5})) if verb[0] == "plan" else None
        shown = CliRunner().invoke(app, [*verb, "--store", str(store)], input=text)
        assert line in shown.output, verb
    assert line in render_report(opened, sweep_id)
    assert "- warm start: 6 trials" in render_markdown(opened, sweep_id)


def test_they_come_first_as_a_running_search_would_report_them(store):
    rows = [row for row in table(store) if row["sweep_id"].startswith("first")]
    for trial in earlier_of(store, **SECOND):
        mine = [r for r in rows if r["lr"] == trial.params["lr"] and r["fault"] == "none"]
        is_pathological = trial.params["lr"] == 5.0
        assert trial.user_attrs["stand_in"] == is_pathological
        assert trial.constraints["pathological"] == float(is_pathological)
        if not is_pathological:
            assert trial.value == pytest.approx(median(r["objective"] for r in mine))
    trials = study_of(store, **SECOND).trials
    assert [is_earlier(trial) for trial in trials] == [True] * 3 + [False] * 3
    assert trials[3].params["lr"] == 0.1  # the baseline runs here, too: all is compared with it
    assert {trial.params["lr"] for trial in trials[4:]}.isdisjoint({0.1, 0.05, 5.0})


@pytest.mark.parametrize(
    "sampler", ["tpe", pytest.param("gp", marks=pytest.mark.slow), "nsga2", "cmaes", "boundary"]
)
def test_a_warm_search_that_was_killed_goes_on_as_if_it_had_not_been(tmp_path, sampler):
    """Twelve earlier configurations: the sampler has a model at its first suggestion."""
    keys = SECOND | {"design": sampler, "budget": {"trials": 40}, "fixed": {"epochs": 3}}
    given = {}
    for name, cuts in (("straight", [6]), ("killed", [0, 2, 4])):
        folder = tmp_path / name
        levels = {"lr": [0.1 * 1.2**k for k in range(12)]}
        first(folder, factors=levels, seeds=1, fixed={"epochs": 3})
        task = warm_task(folder, **keys)
        done = set()
        for trials in cuts:
            search = open_search(task, done.__contains__)
            done |= {trial.trial_id for trial in drive(search, task, folder, trials)}
        known = search.known
        given[name] = [trial.params for trial in known]
        assert sum(map(is_earlier, known)) == 12
    assert given["straight"] == given["killed"]
    assert len(given["straight"]) == 18


def test_seeds_that_the_earlier_sweep_got_later_are_reported(tmp_path):
    first(tmp_path)
    keys = SECOND | {"budget": {"trials": 2}}
    run(raw(**keys), str(tmp_path), HERE)
    first(tmp_path, seeds=3)
    task = warm_task(tmp_path, **keys)
    search = open_search(task, lambda _: True)
    seen = StudyView(search._port.study, search._updates).trials
    for trial in filter(is_earlier, seen):
        values = [
            row["objective"]
            for row in table(tmp_path)
            if row["lr"] == trial.params["lr"] and row["sweep_id"].startswith("first")
        ]
        assert len(values) == 3
        if not trial.user_attrs["stand_in"]:
            assert trial.value == median(values)


def test_a_wider_range_goes_on_from_the_trials_of_its_own_sweep(tmp_path):
    narrow = {"factors": {"lr": {"low": 0.05, "high": 0.2}}, "seeds": 1, "fixed": SHORT}
    one = run(raw(**narrow, budget={"trials": 4}), str(tmp_path), HERE)
    wide = narrow | {"factors": {"lr": {"low": 0.01, "high": 0.5}}, "warm_start": one.sweep_id}
    wide["budget"] = {"trials": 3}
    two = run(raw(**wide), str(tmp_path), HERE)
    assert one.sweep_id == two.sweep_id
    assert len(table(tmp_path)) == 4 + 2  # the baseline was there
    for trials in (3, 4):  # its own are no earlier ones
        prepared = prepare(raw(**wide | {"budget": {"trials": trials}}), str(tmp_path))
        assert prepared.earlier.trials == 3 + 1


def test_confirming_seeds_show_nothing_before(tmp_path):
    first(tmp_path, seeds=3)
    keys = SECOND | {"seeds": {"search": 1, "confirm": 2, "top": 1}, "budget": {"trials": 8}}
    earlier = prepare(raw(**keys), str(tmp_path)).earlier
    assert earlier.trials == 3
    assert dict(earlier.left_out) == {"with a seed that is kept for the confirmation": 6}


@pytest.mark.parametrize(
    ("changes", "key", "says"),
    [
        ({"warm_start": "frist"}, "warm_start", "no sweep 'frist'. Did you mean 'first'"),
        ({"warm_start": ["first", "other"]}, "warm_start[1]", "is a sweep of unlike"),
        ({"design": "grid", "factors": {"lr": [0.1]}}, "warm_start", "is for the searches random"),
        ({"warm_start": 3}, "warm_start", "the id or name of an earlier sweep"),
    ],
)
def test_what_cannot_be_begun_with_is_named(tmp_path, changes, key, says):
    first(tmp_path, factors={"lr": [0.1]}, seeds=1, fixed={"epochs": 2})
    opened = open_store(str(tmp_path))
    other = {"sweep_id": "other-123456", "name": "other", "workload": "unlike"}
    write_sweep(opened, replace(list_sweeps(opened)[0], **other))
    keys = SECOND | {"budget": {"trials": 4}} | changes
    with pytest.raises(SpecError) as caught:
        prepare(raw(**keys), str(tmp_path))
    [problem] = caught.value.problems
    assert problem.key == key
    assert says in str(problem)
