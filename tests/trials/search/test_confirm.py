"""A search by one seed, its winners confirmed by fresh ones: in this process, stopped, resumed."""

from collections import Counter

import pytest
import toy_sweeps

from sickbay.service.reports.best import selection_lines
from sickbay.service.reports.html import render_markdown, render_report
from sickbay.service.summary.formatting import short_arm
from sickbay.service.sweeps.runner import Options, Stopper, prepare, run
from sickbay.trials.errors import SpecError
from sickbay.trials.store import open_store
from sickbay.trials.store.tables import load_tables

SPEC = toy_sweeps.spec(
    name="confirm",
    design="tpe",
    factors={"lr": {"low": 1e-3, "high": 10.0, "log": True}},
    fixed={"epochs": 6},
    seeds={"search": 1, "confirm": 3, "top": 2},
    budget={"trials": 18},
)
HERE = Options(in_process=True)


def stored(store):
    return load_tables(open_store(str(store)), ["trials"]).tables["trials"].to_pylist()


def test_the_best_and_the_baseline_get_seeds_that_chose_nothing(tmp_path):
    assert prepare(SPEC, str(tmp_path)).planned == 18
    result = run(SPEC, str(tmp_path), HERE)
    assert (result.state, result.ran, result.planned) == ("finished", 18, 18)
    rows = stored(tmp_path)
    searched = [row for row in rows if row["seed"] == 0]
    fresh = Counter(row["arm"] for row in rows if row["seed"] > 0)
    assert len(searched) == 9  # 18 - 3 x (2 + 1)
    healthy = [row for row in searched if row["label"] != "pathological" and row["changed"]]
    best = sorted(healthy, key=lambda row: row["objective"])[:2]
    assert fresh == {"baseline": 3, **{row["arm"]: 3 for row in best}}
    assert {row["seed"] for row in rows} == {0, 1, 2, 3}
    assert (prepare(SPEC, str(tmp_path)).left, run(SPEC, str(tmp_path), HERE).ran) == (0, 0)
    spec = {"seeds": SPEC["seeds"], "objective": {"signal": "val_loss", "goal": "minimize"}}
    head, *lines = selection_lines(rows, spec)
    assert "chosen among 9 configurations by 1 of their seeds" in head
    assert {line.split(":")[0].strip() for line in lines} == set(map(short_arm, fresh))
    assert all("over 3 of 3 healthy (searching: " in line for line in lines)
    page = render_report(open_store(str(tmp_path)), result.sweep_id)
    assert "chosen among 9 configurations by 1 of their seeds" in page
    text = render_markdown(open_store(str(tmp_path)), result.sweep_id)
    assert "- selection: chosen among 9 configurations" in text
    assert text.count("of 3 healthy \\(searching") + text.count("of 3 healthy (searching") == 3


@pytest.mark.slow
def test_a_stopped_confirmation_goes_on_with_the_same_winners(tmp_path):
    run(SPEC, str(tmp_path / "straight"), HERE)
    store = tmp_path / "stopped"
    left = prepare(SPEC, str(store)).left
    while left:
        stopper, events = Stopper(), []

        def watch(event, stopper=stopper, events=events):
            events.append(event)
            if len(events) == 10:  # the start and the end of five trials
                stopper.stop()

        run(SPEC, str(store), HERE, watch, stopper)
        assert prepare(SPEC, str(store)).left < left
        left = prepare(SPEC, str(store)).left
    ids = [{row["trial_id"] for row in stored(one)} for one in (tmp_path / "straight", store)]
    assert ids[0] == ids[1]


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"budget": {"trials": 11}}, "budget.trials"),  # 3 x 3 + 3 are 12
        ({"design": "nsga2"}, "seeds.confirm"),
        ({"seeds": {"confirm": 3, "best": 2}}, "seeds.best"),
    ],
)
def test_what_does_not_fit_is_named(changes, key, tmp_path):
    with pytest.raises(SpecError) as caught:
        prepare(SPEC | changes, str(tmp_path))
    assert [one.key for one in caught.value.problems] == [key]
