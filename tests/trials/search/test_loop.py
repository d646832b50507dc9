"""Searches without Ray: what is suggested, what the sampler is told, what a kill leaves behind."""

import math
from dataclasses import replace

import pytest
import toy_sweeps
from sequential_sweeps import ended
from toy_searches import HERE, RANGES, drive, raw, study_of, table, task_of

from sickbay.service.sweeps.runner import prepare, run
from sickbay.trials.contract import Goal, Objective, TrialState
from sickbay.trials.errors import SpecError
from sickbay.trials.execution.inline import open_search
from sickbay.trials.execution.trial import TrialJob
from sickbay.trials.search.outcomes import aggregate
from sickbay.trials.search.samplers import StudyView
from sickbay.trials.search.study import is_configuration


@pytest.mark.parametrize("sampler", ["random", "tpe", "gp", "cmaes", "nsga2", "boundary"])
def test_each_search_runs_its_configurations_with_every_seed_the_baseline_first(tmp_path, sampler):
    factors = {"lr": RANGES["lr"]} if sampler in ("boundary", "cmaes") else RANGES
    keys = {"design": sampler, "factors": factors}
    result = run(raw(**keys), str(tmp_path), HERE)
    assert (result.state, result.ran, result.planned) == ("finished", 20, 20)
    rows = table(tmp_path)
    configs = {(row["lr"], row["init"]) for row in rows}
    assert len(rows) == 2 * len(configs) == 20
    assert (0.1, "random") in configs
    assert all(1e-3 <= row["lr"] <= 10 for row in rows)
    study = study_of(tmp_path, **keys)
    first = study.trials[0]
    assert first.params["lr"] == 0.1
    suggestions = [suggestion for suggestion in study.trials if is_configuration(suggestion)]
    assert len(suggestions) == 10
    assert {suggestion.state.name for suggestion in suggestions} == {"COMPLETE"}
    assert prepare(raw(**keys), str(tmp_path)).left == 0


def test_ids_are_those_of_a_design_and_what_it_ran_is_not_run_again(tmp_path):
    levels = {"init": ["random", "zeros"], "momentum": [0.0, 0.5]}
    grid = run(raw(design="grid", factors=levels, budget={}), str(tmp_path), HERE)
    searched = run(raw(design="tpe", factors=levels, budget={"trials": 8}), str(tmp_path), HERE)
    assert grid.sweep_id == searched.sweep_id
    assert (grid.ran, searched.ran, searched.state) == (8, 0, "finished")
    assert len(table(tmp_path)) == 8


def test_a_space_that_is_used_up_ends_the_search(tmp_path):
    result = run(raw(factors={"init": ["random", "zeros"]}), str(tmp_path), HERE)
    assert (result.state, result.ran) == ("finished", 4)


def test_a_pathological_configuration_is_infeasible_and_never_lucky_nor_nan(tmp_path):
    """lr 10 diverges; the fault `nan` gives NaN: neither may look good to the sampler."""
    keys = {"factors": {"lr": [0.1, 0.05, 10.0], "fault": ["none", "nan"]}, "seeds": 2}
    run(raw(**keys, budget={"trials": 12}), str(tmp_path), HERE)
    rows = table(tmp_path)
    sick = {(row["lr"], row["fault"]) for row in rows if row["label"] == "pathological"}
    assert {(10.0, "none"), (0.1, "nan")} <= sick
    sound = [row["objective"] for row in rows if row["label"] == "healthy"]
    study = study_of(tmp_path, **keys, budget={"trials": 12})
    suggestions = [suggestion for suggestion in study.trials if is_configuration(suggestion)]
    assert len(suggestions) == 6
    for suggestion in suggestions:
        is_sick = (suggestion.params["lr"], suggestion.params["fault"]) in sick
        assert (suggestion.constraints["pathological"] > 0) == is_sick
        assert math.isfinite(suggestion.value)
        assert suggestion.user_attrs["stand_in"] == is_sick
        if is_sick:
            assert suggestion.value >= max(
                sound
            )  # the worst that is known to be sound, or no skill
            assert suggestion.user_attrs["pathologies"]
    assert study.best_trial.params["fault"] == "none"  # Optuna itself leaves the infeasible out


def test_the_value_is_the_median_over_the_seeds(tmp_path):
    keys = {"factors": {"lr": [0.1, 0.05]}, "seeds": 3, "budget": {"trials": 6}}
    run(raw(**keys), str(tmp_path), HERE)
    for suggestion in study_of(tmp_path, **keys).trials[:1]:
        values = sorted(row["objective"] for row in table(tmp_path) if row["lr"] == 0.1)
        assert suggestion.value == values[1]


def test_a_failed_seed_is_left_out_and_a_configuration_without_any_fails(tmp_path):
    keys = {"factors": {"fault": ["none", "raise"]}, "budget": {"trials": 4}}
    run(raw(**keys), str(tmp_path), HERE)
    suggestions = [
        suggestion
        for suggestion in study_of(tmp_path, **keys).trials
        if is_configuration(suggestion)
    ]
    states = {suggestion.params["fault"]: suggestion.state.name for suggestion in suggestions}
    assert states == {"none": "COMPLETE", "raise": "FAIL"}


def test_several_objectives_are_reported_together(tmp_path):
    goals = [
        {"signal": "val_loss", "goal": "minimize"},
        {"signal": "output_variance_ratio", "goal": "maximize"},
    ]
    keys = {"design": "nsga2", "objective": goals}
    run(raw(**keys), str(tmp_path), HERE)
    study = study_of(tmp_path, **keys)
    assert [direction.name for direction in study.directions] == ["MINIMIZE", "MAXIMIZE"]
    assert all(
        len(suggestion.values) == 2 for suggestion in study.trials if is_configuration(suggestion)
    )
    again = run(raw(**keys), str(tmp_path), HERE)
    assert again.ran == 0


def test_constraints_and_conditions_hold_in_a_search(tmp_path):
    keys = {
        "factors": {**RANGES, "momentum": {"low": 0.0, "high": 0.9}},
        "constraints": ["lr < 1 or momentum < 0.1"],
    }
    run(raw(**keys), str(tmp_path), HERE)
    rows = table(tmp_path)
    assert len(rows) == 20
    assert all(row["lr"] < 1 or row["momentum"] < 0.1 for row in rows)
    nested = {"conditions": {"lr": {"init": ["zeros"]}}}
    run(raw(name="nested", **nested), str(tmp_path), HERE)
    rows = [row for row in table(tmp_path) if row["sweep_id"].startswith("nested")]
    assert {row["lr"] for row in rows if row["init"] == "random"} == {0.1}


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["boundary", "tpe", "gp", "nsga2", "cmaes"])
def test_a_search_that_was_killed_goes_on_as_if_it_had_not_been(tmp_path, sampler):
    """Half-way through a configuration, in a new process's eyes: same suggestions, none twice."""
    factors = {"lr": RANGES["lr"], "momentum": {"low": 0.0, "high": 0.9}}
    keys = {"design": sampler, "factors": factors, "budget": {"trials": 40}}
    whole_task = task_of(tmp_path / "whole", **keys)
    whole = drive(open_search(whole_task, lambda _: False), whole_task, tmp_path / "whole", 24)
    task = task_of(tmp_path / "cut", **keys)
    first = drive(open_search(task, lambda _: False), task, tmp_path / "cut", 11)
    done = {trial.trial_id for trial in first}
    rest = drive(open_search(task, done.__contains__), task, tmp_path / "cut", 13)
    assert [trial.trial_id for trial in whole] == [trial.trial_id for trial in first + rest]
    assert len({trial.trial_id for trial in first + rest}) == 24


def test_half_a_line_and_a_lock_that_a_killed_driver_left_are_removed(tmp_path):
    run(raw(budget={"trials": 6}), str(tmp_path), HERE)
    [journal] = (tmp_path / "_studies").glob("*.journal")
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code": 4, "worker')
    (journal.parent / f"{journal.name}.lock").symlink_to(journal)
    result = run(raw(budget={"trials": 12}), str(tmp_path), HERE)
    assert (result.state, result.ran) == ("finished", 6)
    assert journal.read_bytes().startswith(whole)


def test_more_budget_and_more_seeds_extend_a_search(tmp_path):
    run(raw(budget={"trials": 6}), str(tmp_path), HERE)
    more = run(raw(budget={"trials": 10}), str(tmp_path), HERE)
    assert (more.ran, more.planned) == (4, 10)
    seeds = run(raw(seeds=3, budget={"trials": 15}), str(tmp_path), HERE)
    assert (seeds.ran, seeds.planned) == (5, 15)


@pytest.mark.slow
def test_two_runs_of_one_spec_suggest_the_same(tmp_path):
    tables = []
    for name in ("a", "b"):
        run(raw(budget={"trials": 26}), str(tmp_path / name), HERE)
        tables.append(sorted(row["trial_id"] for row in table(tmp_path / name)))
    assert tables[0] == tables[1]


def test_a_scheduler_needs_trials_side_by_side(tmp_path):
    with pytest.raises(ValueError, match="leave out --in-process, or set `scheduler: none`"):
        run(raw(early_stop={"scheduler": "asha"}), str(tmp_path / "s"), HERE)
    assert not (tmp_path / "s").exists()


def test_a_pruned_trial_has_its_own_state_and_no_label_unless_it_is_pathological(tmp_path):
    from sickbay.trials.execution.trial import Pruned, run_trial

    for fault, label in (("none", None), ("nan", "pathological")):
        job: TrialJob = toy_sweeps.job(tmp_path / "store", fault=fault)
        job = replace(job, policy=replace(job.policy, stop_pathological=False))
        running = run_trial(job)
        for _ in range(6):
            next(running)
        with pytest.raises(StopIteration) as end:
            running.throw(Pruned())
        record = end.value.value
        assert record.state is TrialState.PRUNED
        assert record.epochs_run == 6
        assert (record.label and str(record.label.health)) == label


@pytest.mark.slow
@pytest.mark.parametrize("design", ["gp", "boundary"])
def test_a_driver_killed_inside_a_suggestion_changes_no_suggestion(tmp_path, design):
    factors = {"lr": RANGES["lr"], "momentum": {"low": 0.0, "high": 0.9}}
    keys = {"design": design, "factors": factors, "seeds": 1, "fixed": {"epochs": 4}}
    keys["budget"] = {"trials": 14}  # a gp draws the first ten at random
    run(raw(**keys), str(tmp_path / "straight"), HERE)
    killed = str(tmp_path / "killed")
    for trials, drawn in ((3, False), (12, True)):
        run(raw(**keys | {"budget": {"trials": trials}}), killed, HERE)
        suggestion = study_of(killed, **keys).ask()  # before its first parameter, or after it
        if drawn:
            suggestion.suggest_float("lr", 1e-3, 10.0, log=True)
    assert run(raw(**keys), killed, HERE).state == "finished"
    params = [
        [one.params for one in study_of(store, **keys).trials if is_configuration(one)]
        for store in (tmp_path / "straight", killed)
    ]
    assert params[0] == params[1]


def test_enqueued_configurations_are_tried_first_and_once(tmp_path):
    points = [{"lr": 0.05, "init": "zeros"}, {"lr": 0.02}]
    keys = {"seeds": 1, "budget": {"trials": 4}, "enqueue": points, "fixed": {"epochs": 4}}
    assert run(raw(**keys), str(tmp_path), HERE).ran == 4
    assert run(raw(**keys | {"budget": {"trials": 5}}), str(tmp_path), HERE).ran == 1
    tried = [one.params for one in study_of(tmp_path, **keys).trials if is_configuration(one)]
    assert tried[:3] == [
        {"lr": 0.1, "init": "random"},
        {"lr": 0.05, "init": "zeros"},
        {"lr": 0.02, "init": "random"},
    ]
    assert len({tuple(one.items()) for one in tried}) == 5


@pytest.mark.parametrize(
    ("point", "key"),
    [({"lr": 99.0}, "lr"), ({"init": "ones"}, "init"), ({"momentun": 0.5}, "momentun")],
)
def test_a_point_outside_of_the_search_is_named(point, key, tmp_path):
    with pytest.raises(SpecError) as caught:
        prepare(raw(enqueue=[{"lr": 0.2}, point]), str(tmp_path))
    assert {one.key for one in caught.value.problems} == {f"enqueue[1].{key}"}


def suggestions_of(store, **keys):
    """Every ask of a study, refused ones included, and those that are configurations."""
    asked = study_of(store, **keys).trials
    return asked, [one for one in asked if is_configuration(one)]


@pytest.mark.parametrize("sampler", ["random", "tpe", pytest.param("gp", marks=pytest.mark.slow)])
def test_no_ask_is_refused_where_constraints_leave_little(tmp_path, sampler):
    """The constraint leaves some .2 % of the ranges: the sampler is never asked in vain."""
    factors = {"lr": RANGES["lr"], "momentum": {"low": 0.0, "high": 0.9}}
    rule = "momentum <= 0.01 and abs(lr - 0.1) < 0.05"
    keys = {"factors": factors, "design": sampler, "constraints": [rule], "seeds": 1}
    keys |= {"budget": {"trials": 14}, "fixed": {"epochs": 3}, "baseline": {"momentum": 0.0}}
    assert run(raw(**keys), str(tmp_path), HERE).ran == 14
    asked, configurations = suggestions_of(tmp_path, **keys)
    assert len(asked) == len(configurations) == 14
    points = [(one.params["lr"], one.params["momentum"]) for one in asked]
    assert all(0.05 < lr < 0.15 and momentum <= 0.01 for lr, momentum in points)
    assert len(set(points)) == 14


def test_a_finite_space_is_used_up_without_an_ask_in_vain(tmp_path):
    factors = {"lr": [0.1, 0.05, 0.02], "momentum": [0.0, 0.5], "init": ["random", "zeros"]}
    keys = {"factors": factors, "constraints": ["lr < 0.1 or momentum == 0.0"], "seeds": 1}
    keys |= {"budget": {"trials": 30}, "fixed": {"epochs": 3}}
    result = run(raw(**keys), str(tmp_path), HERE)
    assert result.ran == 10  # 12 but for the two that it forbids
    assert result.note.startswith("the search ended after 10 of 30 trials: it found no further")
    asked, configurations = suggestions_of(tmp_path, **keys)
    assert len(configurations) == 10
    assert len(asked) == 11  # the last finds nothing new, and ends the search


def test_seeds_that_are_added_later_reach_the_sampler(tmp_path):
    """The sampler of a resumed search knows the median of all seeds, in the study as it sees it."""
    factors = {"lr": {"low": 0.01, "high": 0.2}}
    keys = {"factors": factors, "seeds": 1, "fixed": {"epochs": 4}}
    run(raw(**keys, budget={"trials": 3}), str(tmp_path), HERE)
    more = keys | {"seeds": 3, "budget": {"trials": 9}}
    assert run(raw(**more), str(tmp_path), HERE).ran == 6
    task = task_of(tmp_path, **more)
    search = open_search(task, lambda _: True)
    seen = StudyView(search._port.study, search._updates).trials
    for one in seen:
        values = [row["objective"] for row in table(tmp_path) if row["lr"] == one.params["lr"]]
        assert len(values) == 3
        assert one.value == sorted(values)[1]
        assert one.user_attrs["healthy"] + one.user_attrs["inconclusive"] == 3
    reported = [one.value for one in search.known]
    firsts = {row["lr"]: row["objective"] for row in table(tmp_path) if row["seed"] == 0}
    assert reported == [firsts[one.params["lr"]] for one in search.known]


def test_a_loss_of_another_definition_is_reported_in_the_unit_of_the_baseline():
    """A weighted loss of 0.6 over a floor of 3 gains 80 %, as does 0.2 over a floor of 1."""
    loss = Objective("val_loss", Goal.MINIMIZE)
    baseline = {seed: ended(0.5, floor=1.0) for seed in range(3)}
    weighted = {0: ended(0.6, floor=3.0), 1: ended(0.9, floor=3.0), 2: ended(9.9, ill=True)}
    made = aggregate(weighted, baseline, [loss], [])
    assert made.values == pytest.approx((0.25,))  # the median of 0.2 and 0.3
    assert made.constraint == pytest.approx(1 / 3)
    broken = {0: ended(9.9, ill=True, floor=3.0)}
    assert aggregate(broken, baseline, [loss], [[0.7]]).values == pytest.approx((1.0,))
