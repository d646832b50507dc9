"""A sequential sweep from its spec to its effects: in this process, stopped and resumed."""

import io

import pytest
import toy_sweeps
from rich.console import Console

from sickbay.service.analysis.study import load_effects, with_sequential_verdicts
from sickbay.service.reports.tables import effects_table
from sickbay.service.sweeps.plan_view import describe_plan, print_plan, sequential_lines
from sickbay.service.sweeps.runner import Options, Stopper, prepare, run
from sickbay.trials.errors import SpecError
from sickbay.trials.search.sequential import Progress, progress_of_sweep
from sickbay.trials.spec.model import spec_to_json
from sickbay.trials.store import open_store
from sickbay.trials.store.reader import read_sweep
from sickbay.trials.store.tables import load_tables

SPEC = toy_sweeps.spec(
    name="sequential",
    design="one_factor",
    factors={"lr": [0.1, 0.02, 0.0]},
    fixed={"epochs": 8},
    seeds={"until": "resolved", "at_most": 12},
)
HERE = Options(in_process=True)


def stored(store):
    rows = load_tables(open_store(str(store)), ["trials"]).tables["trials"].to_pylist()
    return {(row["arm"], row["seed"]): row["label"] for row in rows}


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    store = tmp_path_factory.mktemp("sequential")
    first = prepare(SPEC, str(store))
    assert (first.planned, first.left) == (36, 36)
    return store, run(SPEC, str(store), HERE)


def test_arms_get_seeds_until_they_are_settled_and_nothing_is_run_again(swept):
    store, result = swept
    rows = stored(store)
    assert (result.state, result.ran, result.planned) == ("finished", len(rows), len(rows))
    counts = {arm: [seed for one, seed in rows if one == arm] for arm, _ in rows}
    assert all(sorted(seeds) == list(range(len(seeds))) for seeds in counts.values())
    assert len(counts["lr=0.0"]) == 5  # 3 / 4^5 after five; .015 / 2 is asked for
    assert read_sweep(open_store(str(store)), result.sweep_id).libraries.startswith("python 3.")
    assert len(counts["baseline"]) == max(map(len, counts.values())) < 12
    again = prepare(SPEC, str(store))
    assert (again.planned, again.left) == (len(rows), 0)
    assert run(SPEC, str(store), HERE).ran == 0


def test_its_effects_are_those_of_the_sequential_test(swept):
    store, result = swept
    opened = open_store(str(store))
    spec = prepare(SPEC, str(store)).spec.model_dump() | {
        "objective": {"signal": "val_loss", "goal": "minimize"}
    }
    arms = {one.arm: one for one in progress_of_sweep(opened, result.sweep_id, spec).verdicts}
    table = load_effects(opened, result.sweep_id).table
    slow, still = table.effects
    assert slow.verdict == "worse"
    assert (slow.difference.low, slow.difference.p_value) == (
        arms["lr=0.02"].low,
        arms["lr=0.02"].p_value,
    )
    assert still.health_verdict == "less healthy"
    assert still.conclusion.startswith("broken (5 of 5 pathological")
    assert "sequential" in table.notes[-1]


def test_a_level_that_no_arm_changes_alone_is_unknown_and_can_be_shown(swept):
    store, result = swept
    table = load_effects(open_store(str(store)), result.sweep_id).table
    shown = effects_table(with_sequential_verdicts(table, Progress(())))
    verdicts = [row[shown.columns.index("verdict")] for row in shown.rows]
    assert verdicts == ["? unknown"] * len(table.effects)


def test_plan_and_status_show_how_far_it_is(swept, tmp_path):
    store, result = swept
    console = Console(width=200, record=True, file=io.StringIO())
    print_plan(console, describe_plan(prepare(SPEC, str(tmp_path))))
    assert "the number of trials shown is the maximum" in console.export_text()
    plan = describe_plan(prepare(SPEC, str(store)))
    assert [one["effect"] for one in plan["sequential"]["verdicts"]] == ["worse", "unknown"]
    spec = {"seeds": SPEC["seeds"], "objective": {"signal": "val_loss", "goal": "minimize"}}
    lines = sequential_lines(open_store(str(store)), result.sweep_id, spec)
    assert lines[0].startswith("sequential: 2 of 2 arms are settled")
    assert "less healthy, 5 of 5 pathological, reference 0" in lines[1]


def test_a_stopped_sweep_goes_on_to_the_same_trials(swept, tmp_path):
    store, _ = swept
    while (left := prepare(SPEC, str(tmp_path)).left) > 0:
        stopper, seen = Stopper(), []

        def watch(event, stopper=stopper, seen=seen):
            seen.append(event)
            if len(seen) >= 10:  # a start and an end a trial
                stopper.stop()

        run(SPEC, str(tmp_path), HERE, watch, stopper)
        assert prepare(SPEC, str(tmp_path)).left < left
    assert stored(tmp_path) == stored(store)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"seeds": {"until": "significant", "at_most": 9}}, "seeds.until"),
        ({"seeds": {"until": "resolved", "at_most": 2}}, "seeds.at_most"),
        ({"seeds": {"until": "resolved", "atmost": 9}}, "seeds.atmost"),
        ({"seeds": {"until": "resolved", "at_most": 9, "smallest_effect": 0}}, "smallest_effect"),
        ({"design": "tpe", "budget": {"trials": 90}}, "seeds.until"),
        ({"early_stop": {"scheduler": "asha"}}, "early_stop.scheduler"),
        ({"budget": {"trials": 20}}, "budget.trials"),
        ({"seeds": {"confirm": 5}}, "seeds.confirm"),
    ],
)
def test_what_a_sequential_sweep_cannot_have_is_named(changes, key, tmp_path):
    with pytest.raises(SpecError) as caught:
        prepare(SPEC | changes, str(tmp_path))
    assert any(one.key.endswith(key) for one in caught.value.problems)


def test_a_stored_spec_is_read_back_as_it_was(tmp_path):
    spec = prepare(SPEC, str(tmp_path)).spec
    assert prepare(spec_to_json(spec), str(tmp_path)).spec == spec
