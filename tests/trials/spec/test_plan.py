import hashlib
import itertools
import json
import random
import time
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sickbay.trials.contract import Factor
from sickbay.trials.spec import check_spec, parse_spec
from sickbay.trials.spec.plan import (
    arm_name,
    objective_of,
    plan,
    summary,
    sweep_identity,
    trial_count,
)
from sickbay_demo.task import WORKLOAD

READY = ["grid", "one_factor", "leave_one_out", "add_one_in"]  # for any number of levels
LEVELS = {
    "lr": [0.1, 0.05, 10.0, 0.0],
    "momentum": [0.0, 0.5],
    "init": ["random", "zeros"],
    "note": ["", "a", "b"],
    "features": [4, 8],
}


def spec_of(**keys):
    keys = {"name": "toy", "workload": "toy_quadratic", **keys}
    return check_spec(parse_spec(keys), WORKLOAD)


def arms_of(**keys):
    return [arm.name for arm in plan(spec_of(**keys), WORKLOAD).arms]


TWO_BY_THREE = {"init": ["random", "zeros"], "lr": [0.1, 0.05, 10.0]}


@pytest.mark.parametrize(
    ("design", "arms"),
    [
        (
            "grid",
            [
                "baseline",
                "init=zeros",
                "lr=0.05",
                "lr=0.05, init=zeros",
                "lr=10.0",
                "lr=10.0, init=zeros",
            ],
        ),
        ("one_factor", ["baseline", "lr=0.05", "lr=10.0", "init=zeros"]),
        ("leave_one_out", ["baseline", "lr=10.0, init=zeros", "init=zeros", "lr=10.0"]),
        ("add_one_in", ["baseline", "lr=10.0", "init=zeros", "lr=10.0, init=zeros"]),
    ],
)
def test_the_arms_of_each_design(design, arms):
    assert arms_of(design=design, factors=TWO_BY_THREE) == arms


def test_leave_one_out_of_three_takes_one_thing_away_at_a_time():
    factors = {"lr": [0.1, 0.05], "momentum": [0.0, 0.5], "init": ["random", "zeros"]}
    assert arms_of(design="leave_one_out", factors=factors) == [
        "baseline",
        "lr=0.05, momentum=0.5, init=zeros",
        "momentum=0.5, init=zeros",
        "lr=0.05, init=zeros",
        "lr=0.05, momentum=0.5",
    ]


def test_no_factors_leave_the_baseline():
    assert arms_of(factors={}) == ["baseline"]


def test_one_factor_with_two_levels_is_two_arms_in_every_design():
    for design in READY:
        assert arms_of(design=design, factors={"init": ["random", "zeros"]}) == [
            "baseline",
            "init=zeros",
        ]


def test_the_baseline_is_the_first_level_or_the_one_named():
    factors = {"lr": [0.05, 10.0], "init": ["zeros", "random"]}
    first = plan(spec_of(factors=factors), WORKLOAD).trials[0]
    assert (first.config["lr"], first.config["init"]) == (0.05, "zeros")
    named = plan(spec_of(factors=factors, baseline={"lr": 0.1}), WORKLOAD)
    assert named.trials[0].config["lr"] == 0.1
    assert [arm.name for arm in named.arms] == ["baseline", "lr=0.05", "lr=10.0", "init=random"]


def test_settings_are_laid_over_one_another_defaults_size_fixed_levels():
    workload = replace(WORKLOAD, sizes={"small": {}, "full": {"features": 16, "lr": 0.05}})
    spec = spec_of(factors={"init": ["random"]}, fixed={"size": "full", "features": 8})
    config = plan(spec, workload).trials[0].config
    assert (config["features"], config["lr"], config["init"]) == (8, 0.05, "random")
    assert set(config) == set(WORKLOAD.defaults)


def test_the_size_may_be_a_factor():
    made = plan(spec_of(factors={"size": ["small", "full"]}, seeds=1), WORKLOAD)
    assert [trial.config["features"] for trial in made.trials] == [4, 16]


def test_epochs_come_from_the_configuration():
    made = plan(spec_of(factors={"epochs": [4, 8]}, seeds=1), WORKLOAD)
    assert [trial.epochs for trial in made.trials] == [4, 8]


def test_an_id_is_the_hash_of_what_the_trial_is():
    """Pinned: an id that changes by accident makes every stored sweep run again."""
    made = plan(spec_of(factors={"init": ["zeros", "random"]}, seeds=[7]), WORKLOAD)
    config = {**WORKLOAD.defaults, "init": "zeros"}
    what = json.dumps(
        ["toy_quadratic", "1", config, 16, "", 7], sort_keys=True, separators=(",", ":")
    )
    assert made.trials[0].trial_id == hashlib.sha256(what.encode()).hexdigest()[:16]
    assert [trial.trial_id for trial in made.trials] == ["caf8b18e83ab40ce", "ebfae52ac444abac"]


def test_an_id_depends_on_everything_that_a_trial_is():
    spec = spec_of(factors={"init": ["random"]}, seeds=1)
    ids = {
        plan(*pair).trials[0].trial_id
        for pair in (
            (spec, WORKLOAD),
            (spec, replace(WORKLOAD, version="2")),
            (spec, replace(WORKLOAD, name="other")),
            (spec, replace(WORKLOAD, data_identity=lambda config: "other data")),
            (spec_of(factors={"init": ["zeros"]}, seeds=1), WORKLOAD),
            (spec_of(factors={"init": ["random"]}, seeds=[1]), WORKLOAD),
            (spec_of(factors={"init": ["random"]}, seeds=1, fixed={"epochs": 3}), WORKLOAD),
        )
    }
    assert len(ids) == 7


def test_an_id_does_not_depend_on_how_the_sweep_is_written():
    spec = spec_of(factors={"lr": [1, 0.1]}, seeds=1)
    other = spec_of(
        name="else", design="grid", factors={"lr": [0.1, "1.0", 10]}, seeds=2, retries=0
    )
    ids = {trial.trial_id for trial in plan(other, WORKLOAD).trials}
    assert {trial.trial_id for trial in plan(spec, WORKLOAD).trials} <= ids


def test_arm_names():
    assert arm_name({"a": 1, "b": True, "c": "x y"}, ("b", "c")) == "b=true, c=x y"
    assert arm_name({"a": 1}, ()) == "baseline"


def test_a_budget_cuts_between_seed_blocks():
    made = plan(spec_of(factors=TWO_BY_THREE, seeds=5, budget={"trials": 11}), WORKLOAD)
    assert (len(made.trials), made.dropped, made.fair) == (8, 12, True)
    assert made.seeds == (0, 1)
    assert set(summary(made).per_arm.values()) == {2}


def test_a_budget_below_one_block_says_that_it_is_not_fair():
    made = plan(spec_of(factors=TWO_BY_THREE, seeds=5, budget={"trials": 3}), WORKLOAD)
    assert (len(made.trials), made.dropped, made.fair) == (3, 17, False)
    assert summary(made).per_arm == {"baseline": 1, "lr=0.05": 1, "lr=10.0": 1, "init=zeros": 0}


def test_summary_counts_by_arm_and_seed():
    counts = summary(plan(spec_of(factors=TWO_BY_THREE, seeds=[7, 9]), WORKLOAD))
    assert counts.total == 8
    assert counts.per_seed == {7: 4, 9: 4}
    assert counts.per_arm == {"baseline": 2, "lr=0.05": 2, "lr=10.0": 2, "init=zeros": 2}


def test_more_seeds_levels_and_another_design_stay_the_same_sweep():
    base = spec_of(factors={"lr": [0.1, 0.05]}, fixed={"epochs": 3})
    same = spec_of(
        factors={"lr": [0.1, 0.0], "init": ["random"]},
        fixed={"epochs": 3},
        seeds=9,
        design="grid",
        budget={"trials": 5},
        retries=0,
    )
    name = sweep_identity(base, WORKLOAD)
    assert name == sweep_identity(same, WORKLOAD)
    assert name.startswith("toy-")
    assert len(name) == len("toy-") + 6


def test_what_makes_trials_incomparable_makes_another_sweep():
    base = spec_of(factors={"lr": [0.1]}, fixed={"epochs": 3})
    names = {
        sweep_identity(base, WORKLOAD),
        sweep_identity(base, replace(WORKLOAD, version="2")),
        sweep_identity(base.model_copy(update={"fixed": {"epochs": 4}}), WORKLOAD),
        sweep_identity(base.model_copy(update={"name": "toys"}), WORKLOAD),
        sweep_identity(
            spec_of(
                factors={"lr": [0.1]},
                fixed={"epochs": 3},
                objective={"signal": "train_loss", "goal": "minimize"},
            ),
            WORKLOAD,
        ),
    }
    assert len(names) == 5


def test_naming_the_workloads_own_objective_changes_nothing():
    said = spec_of(objective={"signal": "val_loss", "goal": "minimize"})
    assert objective_of(said, WORKLOAD) == WORKLOAD.objective
    assert sweep_identity(said, WORKLOAD) == sweep_identity(spec_of(), WORKLOAD)


def test_a_plan_that_is_too_large_is_refused():
    spec = spec_of(factors={"lr": LEVELS["lr"]}).model_copy(
        update={"design": "grid", "seeds": tuple(range(300_000))}
    )
    with pytest.raises(ValueError, match="1,200,000 trials, and at most 1,000,000"):
        plan(spec, WORKLOAD)


@pytest.mark.slow
def test_a_hundred_thousand_trials_are_planned_in_seconds():
    sizes = {"features": list(range(1, 251)), "epochs": list(range(1, 201))}
    spec = spec_of(design="grid", factors={"init": ["random", "zeros"], **sizes}, seeds=1)
    start = time.perf_counter()
    made = plan(spec, WORKLOAD)
    assert time.perf_counter() - start < 20  # 2.3 s on one busy core; CI machines are slower
    assert len({trial.trial_id for trial in made.trials}) == 100_000


# What holds for every plan -------------------------------------------------------------------

factor_maps = st.lists(st.sampled_from(sorted(LEVELS)), max_size=4, unique=True).flatmap(
    lambda names: st.fixed_dictionaries(
        {
            name: st.permutations(LEVELS[name]).flatmap(
                lambda levels: st.integers(1, len(levels)).map(lambda n, levels=levels: levels[:n])
            )
            for name in names
        }
    )
)
seed_lists = st.lists(st.integers(0, 50), min_size=1, max_size=4, unique=True)
specs = st.builds(
    lambda design, factors, seeds: spec_of(design=design, factors=factors, seeds=seeds),
    st.sampled_from(READY),
    factor_maps,
    seed_lists,
)


@given(specs)
def test_ids_are_unique_and_the_count_is_an_upper_bound(spec):
    made = plan(spec, WORKLOAD)
    ids = [trial.trial_id for trial in made.trials]
    assert len(set(ids)) == len(ids) == len(made.arms) * len(spec.seeds)
    assert len(ids) <= trial_count(spec, WORKLOAD)


@given(specs)
def test_the_baseline_stands_once_per_seed_and_first(spec):
    made = plan(spec, WORKLOAD)
    baseline = {name: levels[0] for name, levels in spec.factors.items()}
    seeds = [
        trial.seed
        for trial in made.trials
        if all(trial.config[name] == level for name, level in baseline.items())
    ]
    assert seeds == list(spec.seeds)
    assert made.arms[0].changed == ()


@given(specs)
def test_every_block_holds_every_arm_once(spec):
    made = plan(spec, WORKLOAD)
    width = len(made.arms)
    blocks = [made.trials[start : start + width] for start in range(0, len(made.trials), width)]
    for seed, block in zip(spec.seeds, blocks, strict=True):
        assert {trial.seed for trial in block} == {seed}
        assert [trial.changed for trial in block] == [arm.changed for arm in made.arms]


@given(specs, st.integers(0, 80))
def test_every_prefix_is_balanced_to_one(spec, length):
    made = plan(spec, WORKLOAD)
    counts = Counter(arm_name(trial.config, trial.changed) for trial in made.trials[:length])
    held = [counts[arm.name] for arm in made.arms]
    assert max(held) - min(held) <= 1


@given(specs, st.randoms(use_true_random=False))
def test_the_order_of_keys_means_nothing(spec, rng):
    names = list(spec.factors)
    rng.shuffle(names)
    shuffled = spec.model_copy(update={"factors": {name: spec.factors[name] for name in names}})
    assert plan(spec, WORKLOAD) == plan(shuffled, WORKLOAD)


@given(specs, seed_lists)
def test_more_seeds_keep_every_old_trial(spec, more):
    longer = spec.model_copy(update={"seeds": tuple(dict.fromkeys([*spec.seeds, *more]))})
    old = plan(spec, WORKLOAD).trials
    assert plan(longer, WORKLOAD).trials[: len(old)] == old


@given(specs)
def test_changed_names_exactly_the_factors_off_their_baseline(spec):
    for trial in plan(spec, WORKLOAD).trials:
        off = {name for name, levels in spec.factors.items() if trial.config[name] != levels[0]}
        assert set(trial.changed) == off


@given(factor_maps, seed_lists)
def test_the_grid_is_every_combination(factors, seeds):
    made = plan(spec_of(design="grid", factors=factors, seeds=seeds), WORKLOAD)
    configurations = {tuple(trial.config[name] for name in factors) for trial in made.trials}
    assert configurations == set(itertools.product(*factors.values()))


@given(factor_maps)
def test_every_design_is_part_of_the_grid(factors):
    grid = {
        trial.trial_id for trial in plan(spec_of(design="grid", factors=factors), WORKLOAD).trials
    }
    for design in READY:
        made = plan(spec_of(design=design, factors=factors), WORKLOAD)
        assert {trial.trial_id for trial in made.trials} <= grid


@given(factor_maps)
def test_one_factor_changes_one_thing(factors):
    made = plan(spec_of(factors=factors), WORKLOAD)
    assert all(len(trial.changed) <= 1 for trial in made.trials)
    assert len(made.arms) == 1 + sum(len(levels) - 1 for levels in factors.values())


def test_planning_draws_no_random_numbers():
    state = random.getstate()
    plan(spec_of(factors=TWO_BY_THREE), WORKLOAD)
    assert random.getstate() == state


def test_true_and_one_are_two_settings():
    workload = replace(
        WORKLOAD,
        defaults={**WORKLOAD.defaults, "flag": True},
        factors=(Factor("flag", (True, False), "A switch."),),
    )
    spec = parse_spec({"name": "a", "workload": "b", "factors": {"flag": [True, False]}})
    assert [arm.name for arm in plan(spec, workload).arms] == ["baseline", "flag=false"]
