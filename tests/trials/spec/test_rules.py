"""Mistakes in the keys that shape a space: all at once, each with key, value and what to do."""

import pytest
import toy_sweeps

from sickbay.service.sweeps import run
from sickbay.trials.errors import SpecError
from sickbay.trials.spec import load_spec, parse_spec, spec_to_json
from sickbay_demo.task import WORKLOAD

GRID = {"lr": [0.1, 0.05], "momentum": [0.0, 0.5], "init": ["random", "zeros"]}
LR = {"low": 1e-3, "high": 1.0, "log": True}


def problems_of(**changes):
    raw = {"name": "toy", "workload": "toy_quadratic", "design": "grid", "factors": GRID, **changes}
    with pytest.raises(SpecError) as caught:
        load_spec(raw, lambda name: WORKLOAD)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"zip": [["lr"]]}, ["zip[0] = ['lr']", "at least two"]),
        ({"zip": ["lr"]}, ["zip[0] = 'lr'", "a list of groups"]),
        ({"zip": [["lr", "momntum"]]}, ["'momntum' is not a factor", "Did you mean 'momentum'?"]),
        ({"zip": [["lr", "init"], ["momentum", "lr"]]}, ["'lr' is in `zip` twice"] * 1),
        (
            {"zip": [["lr", "init"]], "factors": {**GRID, "lr": [0.1]}},
            ["equally many levels, and have lr 1, init 2"],
        ),
        (
            {"zip": [["lr", "init"]], "baseline": {"lr": 0.05, "init": "random"}},
            ["no row of the group has"],
        ),
        ({"constraints": ["lr <"]}, ["constraints[0] = 'lr <'", "at column 5"]),
        ({"constraints": ["lr < 1", "1 < 2"]}, ["constraints[1] = '1 < 2'", "names no setting"]),
        ({"constraints": ["learn < 1"]}, ["'learn' is not a setting", "There are: lr"]),
        ({"constraints": ["init == zeros"]}, ['Write words in quotes: "zeros"']),
        (
            {"constraints": ["lr < 0.1"]},
            ["the baseline breaks it (lr=0.1)", "another in `baseline`, such as {lr: 0.05}"],
        ),
        (
            {"constraints": ["lr > 7"], "design": "tpe", "budget": {"trials": 9}}
            | {"factors": {"lr": {"low": 0.01, "high": 5}}},
            ["nothing in the sweep meets it: of lr from 0.01 to 5, 4,096 combinations"],
        ),
        (
            {"constraints": ["lr * momentum > 1"], "factors": {"lr": [0.1, 1.0]}},
            ["nothing in the sweep meets it: of lr in [0.1, 1.0], 2 combinations"],
        ),
        (
            {"constraints": ["epochs > 99"]},
            ["no trial can meet it", "no factor of this sweep (epochs="],
        ),
        ({"constraints": ["init < 3"]}, ["'random' and 3 cannot be ordered"]),
        ({"constraints": "lr < 1"}, ["constraints = 'lr < 1'", "a list of conditions"]),
        ({"constraints": [3]}, ["constraints[0] = 3"]),
        ({"conditions": {"lrr": {"init": ["zeros"]}}}, ["conditions.lrr", "mean 'lr'?"]),
        ({"conditions": {"lr": {"inti": ["zeros"]}}}, ["conditions.lr.inti", "mean 'init'?"]),
        ({"conditions": {"lr": {"init": ["zeroes"]}}}, ["conditions.lr.init[0] = 'zeroes'"]),
        ({"conditions": {"lr": {"init": []}}}, ["conditions.lr.init = []", "give one"]),
        ({"conditions": {"lr": {"init": "zeros"}}}, ["a list of the levels with which it"]),
        ({"conditions": {"lr": {}}}, ["names no other factor"]),
        ({"design": "leave_k_out", "k": 4}, ["k = 4", "the 3 factors"]),
        ({"design": "leave_k_out", "k": 0}, ["k = 0", "at least 1"]),
        ({"design": "fractional", "resolution": "VII"}, ["resolution = 'VII'", "III, IV, V"]),
        ({"design": "fractional", "resolution": 2}, ["resolution = 2"]),
        (
            {"design": "fractional", "factors": {**GRID, "lr": [0.1, 0.05, 1.0]}},
            ["factors.lr: fractional needs two levels of every factor, and this has 3"],
        ),
        ({"design": "fractional", "constraints": ["lr < 1"]}, ["constraints", "use grid"]),
        ({"design": "tpe"}, ["budget.trials = null", "when to end", "3 (one a seed)"]),
        ({"design": "tpe", "budget": {"trials": 2}}, ["budget.trials = 2", "3 seeds"]),
        ({"design": "tpe", "budget": {"trials": 9}, "factors": {}}, ["needs a factor"]),
        (
            {"design": "tpe", "budget": {"trials": 9}, "zip": [["lr", "init"]]},
            ["zip[0]", "tpe draws them"],
        ),
        (
            {"design": "boundary", "budget": {"trials": 9}, "factors": {"init": GRID["init"]}},
            ["factors.init", "over ranges {low, high, log} only"],
        ),
        (
            {
                "design": "tpe",
                "budget": {"trials": 9},
                "factors": {"lr": LR},
                "baseline": {"lr": 5},
            },
            ["baseline.lr = 5", "outside the range 0.001 to 1"],
        ),
        ({"design": "boundry", "budget": {"trials": 9}}, ["mean 'boundary'?"]),
        (
            {"design": "tpe", "budget": {"trials": 9}, "factors": {"init": {"low": 0, "high": 1}}},
            ["factors.init", "has no range in toy_quadratic"],
        ),
        (
            {"design": "cmaes", "budget": {"trials": 9}, "factors": {"init": GRID["init"]}},
            ["factors.init", "cmaes searches over ranges", "or use tpe"],
        ),
        ({"objective": []}, ["objective = []", "no objective"]),
        (
            {"objective": [{"signal": "a", "goal": "minimize"}, {"signal": "b", "goal": "up"}]},
            ["objective[1].goal = 'up'", "minimize or maximize"],
        ),
        (
            {"objective": [{"signal": s, "goal": "minimize"} for s in "ab"]},
            ["objective", "several objectives are for the searches random, tpe, gp, nsga2"],
        ),
        (
            {
                "design": "tpe",
                "budget": {"trials": 9},
                "objective": [{"signal": "a", "goal": "minimize"}] * 2,
            },
            ["the same signal twice"],
        ),
    ],
    ids=str,
)
def test_one_mistake_gives_one_problem(changes, says):
    problems = problems_of(**changes)
    assert len(problems) == (2 if "twice" in says[0] and "zip" in says[0] else 1), problems
    for part in says:
        assert part in problems[0]


def test_a_circle_of_conditions_is_refused():
    problems = problems_of(conditions={"lr": {"init": ["zeros"]}, "init": {"lr": [0.05]}})
    assert all("depends on itself" in problem for problem in problems)
    assert len(problems) == 2


def test_every_mistake_is_reported_at_once_and_nothing_is_written(tmp_path):
    raw = toy_sweeps.spec(
        design="fractional",
        factors={"lr": [0.1, 0.05, 1.0], "momentum": [0.0, 0.5]},
        constraints=["lr <", "learn > 1"],
        conditions={"momentum": {"init": ["zeros"]}},
        zip=[["lr", "nothing"]],
        resolution="X",
        k=0,
    )
    with pytest.raises(SpecError) as caught:
        run(raw, str(tmp_path / "store"))
    keys = {problem.key for problem in caught.value.problems}
    assert keys == {
        "factors.lr", "constraints", "constraints[0]", "constraints[1]", "conditions",
        "conditions.momentum.init", "zip[0]", "resolution", "k",
    }  # fmt: skip
    assert not (tmp_path / "store").exists()


def test_a_list_of_objectives_survives_its_own_json():
    goals = [{"signal": "a", "goal": "minimize"}, {"signal": "b", "goal": "maximize"}]
    spec = parse_spec({"name": "a", "workload": "w", "design": "nsga2", "budget": {"trials": 9},
                       "factors": {"x": [1, 2]}, "objective": goals})  # fmt: skip
    assert (spec.objective.signal, spec.objective.also[0].signal) == ("a", "b")
    assert parse_spec(spec_to_json(spec)) == spec
