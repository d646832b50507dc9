import pickle
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sickbay.trials.contract import TRIAL_COLUMNS
from sickbay.trials.spec import (
    DESIGNS,
    SpecError,
    SweepSpec,
    check_spec,
    load_spec,
    parse_spec,
    plan,
    spec_hash,
    spec_to_json,
)
from sickbay.trials.spec.model import SEARCHES
from sickbay_demo.task import WORKLOAD

GOOD = {"name": "toy", "workload": "toy_quadratic", "factors": {"lr": [0.1, 0.05]}}


def toy(name):
    if name != "toy_quadratic":
        raise ValueError(f"no workload {name!r}")
    return WORKLOAD


def problems_of(source, find=toy):
    """Every problem by its key."""
    with pytest.raises(SpecError) as caught:
        load_spec(source, find)
    problems = {problem.key: str(problem) for problem in caught.value.problems}
    assert len(problems) == len(caught.value.problems), "one key, one problem"
    return problems


def only_problem(changes):
    problems = problems_of({**GOOD, **changes})
    assert len(problems) == 1, problems
    return next(iter(problems.values()))


def test_the_spec_of_the_interface_reads_as_written():
    spec = parse_spec(
        textwrap.dedent("""
            name: mvm-initialization
            workload: mvm_orientation
            design: one_factor
            factors:
              initialization: [zeros, preset, random]
            seeds: 5
            fixed: {epochs: 20, dataset: synthetic}
            objective: {signal: val_loss, goal: minimize}
            early_stop: {pathology: true, audit: 0.05, scheduler: none}
            resources: {cpu: 1, gpu: auto, gpu_memory: null}
            budget: {trials: null, hours: null, gpu_hours: null}
            retries: 2
        """)
    )
    assert spec.factors == {"initialization": ("zeros", "preset", "random")}
    assert spec.seeds == (0, 1, 2, 3, 4)
    assert spec.fixed == {"epochs": 20, "dataset": "synthetic"}


def test_defaults():
    spec = parse_spec(GOOD)
    assert spec.design == "one_factor"
    assert spec.seeds == (0, 1, 2)
    assert spec.objective is None
    assert (spec.early_stop.pathology, spec.early_stop.audit) == (True, 0.05)
    assert (spec.resources.cpu, spec.resources.gpu) == (None, "auto")
    assert (spec.retries, spec.budget.trials) == (2, None)


def test_a_spec_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        parse_spec(GOOD).name = "other"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sedes": 3}, ["sedes: unknown key", "Did you mean 'seeds'?"]),
        ({"budget": {"trails": 3}}, ["budget.trails: unknown", "Did you mean 'trials'?"]),
        ({"name": "No Spaces"}, ["name = 'No Spaces'", "a-z, 0-9 and -"]),
        ({"name": "x" * 64}, ["1 to 63"]),
        ({"design": "one_factr"}, ["design = 'one_factr'", "Did you mean 'one_factor'?"]),
        ({"early_stop": {"scheduler": "ahsa"}}, ["unknown", "none, asha", "mean 'asha'?"]),
        ({"early_stop": {"audit": 1.5}}, ["early_stop.audit = 1.5", "a share from 0 to 1"]),
        ({"early_stop": {"pathology": "yes"}}, ["true or false"]),
        ({"factors": [1]}, ["factors = [1]", "a mapping of factors"]),
        ({"factors": {"lr": 0.1}}, ["factors.lr = 0.1", "a list of levels, or a range"]),
        ({"factors": {"lr": []}}, ["factors.lr = []", "has no levels"]),
        ({"factors": {"lr": [0.1, None]}}, ["factors.lr[1] = null", "a number, a word"]),
        ({"factors": {"lr": [0.1, float("nan")]}}, ["factors.lr[1] = nan"]),
        ({"factors": {"lr": [0.1, 0.05, 0.1]}}, ["factors.lr[2] = 0.1", "first as factors.lr[0]"]),
        ({"factors": {"lr": [1, 1.0]}}, ["factors.lr[1] = 1.0: is listed twice"]),
        ({"factors": {"lr": ["0.1", 0.1]}}, ["factors.lr[1] = 0.1: is listed twice"]),
        ({"factors": {"lerning": [1]}}, ["factors.lerning: unknown factor", "lr, momentum"]),
        ({"factors": {"momntum": [0.5]}}, ["Did you mean 'momentum'?"]),
        ({"factors": {"init": ["random", "zeroes"]}}, ["factors.init[1]", "mean 'zeros'?"]),
        ({"factors": {"init": ["random", 3]}}, ["factors.init[1] = 3", "'random', 'zeros'"]),
        ({"factors": {"lr": [0.1, "fast"]}}, ["factors.lr[1] = 'fast'", "not a number"]),
        ({"factors": {"lr": [0.1, True]}}, ["factors.lr[1] = true", "not a number"]),
        ({"factors": {"lr": [0.1, 1e6]}}, ["1000000.0", "outside the range 0.0001 to 100.0"]),
        ({"factors": {"epochs": [4, 2.5]}}, ["factors.epochs[1] = 2.5", "a whole number"]),
        ({"factors": {"epochs": [4, 0]}}, ["factors.epochs[1] = 0", "at least 1"]),
        ({"factors": {"size": ["small", "huge"]}}, ["not a size of toy_quadratic", "small, full"]),
        ({"factors": {"lr": {"low": 1, "high": 2}}}, ["one_factor needs a list of levels"]),
        ({"baseline": {"init": "zeros"}}, ["baseline.init: not a factor of this sweep", "`fixed`"]),
        ({"baseline": {"lr": "high"}}, ["baseline.lr = 'high'", "not a number"]),
        ({"fixed": {"lr": 0.1}}, ["factors.lr: is in `fixed` too"]),
        ({"fixed": {"epoch": 3}}, ["fixed.epoch: unknown setting", "Did you mean 'epochs'?"]),
        ({"fixed": {"note": 3}}, ["fixed.note = 3", "a word"]),
        ({"fixed": {"features": "4x"}}, ["fixed.features = '4x'", "a whole number"]),
        ({"fixed": {"init": ["zeros"]}}, ["fixed.init = ['zeros']", "a number, a word"]),
        ({"seeds": 0}, ["seeds = 0", "at least one seed is needed"]),
        ({"seeds": []}, ["seeds = []", "at least one seed is needed"]),
        ({"seeds": [3, 1, 3]}, ["seeds[2] = 3", "first as seeds[0]"]),
        ({"seeds": -1}, ["seeds = -1"]),
        ({"seeds": True}, ["seeds = true"]),
        ({"seeds": "5"}, ["seeds = '5'", "without quotes"]),
        ({"seeds": [0, 2**32]}, ["seeds[1] = 4294967296"]),
        ({"budget": {"trials": 0}}, ["budget.trials = 0", "at least 1"]),
        ({"budget": {"hours": 0}}, ["budget.hours = 0", "above 0"]),
        ({"budget": {"gpu_hours": -2.0}}, ["budget.gpu_hours = -2.0"]),
        ({"objective": {"signal": "", "goal": "minimize"}}, ["objective.signal = ''"]),
        ({"objective": {"signal": "val_loss"}}, ["objective.goal: this key is required"]),
        ({"objective": {"signal": "x", "goal": "minimise"}}, ["Did you mean 'minimize'?"]),
        ({"resources": {"gpu": "many"}}, ["resources.gpu = 'many'", "auto, pack, 0, a number"]),
        ({"resources": {"cpu": 0}}, ["resources.cpu = 0", "above 0"]),
        ({"retries": -1}, ["retries = -1", "0 to 100"]),
        ({"priority": 0}, ["priority = 0", "1 to 100"]),
        ({"priority": 2.5}, ["priority = 2.5", "whole number"]),
        ({"prioritiy": 3}, ["prioritiy", "Did you mean 'priority'?"]),
        ({"workload": "toy_cubic"}, ["workload = 'toy_cubic'", "no workload 'toy_cubic'"]),
        ({3: 4}, ["a key must be a word"]),
    ],
    ids=str,
)
def test_one_mistake_gives_one_problem(changes, says):
    text = only_problem(changes)
    for part in says:
        assert part in text


@pytest.mark.parametrize("name", [*TRIAL_COLUMNS, "epoch", "step", "detector", "severity", "Seed"])
def test_a_factor_may_not_bear_a_reserved_name(name):
    problems = problems_of({**GOOD, "factors": {name: [1, 2]}})
    assert "a column of the result tables" in str(list(problems.values()))


def test_all_problems_come_at_once_from_both_stages():
    problems = problems_of("""
        name: Bad Name
        design: one_facto
        wrkload: x
        workload: toy_quadratic
        factors:
          lr: [null, 0.1, fast]
          momntum: [0.5]
          init: []
          seed: [1, 2]
          features: [4, four]
        baseline: {init: yes}
        seeds: 0
        fixed: {features: 3, sleep_ms: x}
        budget: {trials: 0}
    """)
    assert set(problems) == {
        "name",
        "design",
        "wrkload",
        "factors.lr[0]",
        "factors.lr[1]",
        "factors.momntum",
        "factors.init",
        "factors.seed",
        "factors.features",
        "factors.features[1]",
        "baseline.init",
        "seeds",
        "fixed.sleep_ms",
        "budget.trials",
    }


def test_an_unknown_workload_hides_no_other_problem():
    problems = problems_of({**GOOD, "workload": "toy_cubic", "seeds": 0, "factors": {"lr": []}})
    assert set(problems) == {"workload", "seeds", "factors.lr"}


def test_a_missing_workload_is_one_problem():
    problems = problems_of({"name": "toy", "factors": {"lr": [0.1]}})
    assert set(problems) == {"workload"}
    assert "required" in problems["workload"]


def test_the_error_numbers_its_problems_and_survives_pickling():
    with pytest.raises(SpecError) as caught:
        parse_spec({**GOOD, "seeds": 0, "retries": -1})
    text = str(caught.value)
    assert text.startswith("the spec has 2 problems:\n  1. seeds")
    assert "\n  2. retries" in text
    assert str(pickle.loads(pickle.dumps(caught.value))) == text


def test_numbers_take_the_type_of_their_setting():
    spec = check_spec(
        parse_spec(
            {
                **GOOD,
                "factors": {"lr": [1, "1e-3"], "features": [4.0, 8]},
                "fixed": {"sleep_ms": 1},
                "baseline": {"lr": 2},
            }
        ),
        WORKLOAD,
    )
    assert repr(spec.factors) == repr({"lr": (1.0, 0.001), "features": (4, 8)})
    assert repr(spec.fixed) == repr({"sleep_ms": 1.0})
    assert repr(spec.baseline) == repr({"lr": 2.0})


def test_any_number_in_a_declared_range_is_a_level():
    spec, _ = load_spec({**GOOD, "factors": {"lr": [0.1, 0.3, 99.9, 0.0]}}, toy)
    assert spec.factors["lr"] == (0.1, 0.3, 99.9, 0.0)  # 0.0 is outside, but a declared level


def test_a_setting_that_is_no_factor_may_be_swept():
    spec, _ = load_spec({**GOOD, "factors": {"note": ["a", "b"], "size": ["small", "full"]}}, toy)
    assert spec.factors["note"] == ("a", "b")


def test_a_sweep_that_is_far_too_large_is_refused_before_it_is_listed():
    many = list(range(1, 2001))
    text = only_problem({"design": "grid", "factors": {"features": many, "epochs": many}})
    assert "makes 12,000,000 trials, but at most 1,000,000" in text


def test_every_design_of_the_interface_is_known():
    assert DESIGNS == (
        "grid",
        "one_factor",
        "leave_one_out",
        "add_one_in",
        "leave_k_out",
        "fractional",
        "random",
        "tpe",
        "gp",
        "cmaes",
        "nsga2",
        "boundary",
    )


def test_the_source_mapping_is_left_alone():
    source = {**GOOD, "sedes": 1, "factors": {"lr": [0.1, None]}}
    before = repr(source)
    with pytest.raises(SpecError):
        load_spec(source, toy)
    assert repr(source) == before


def test_equal_specs_have_one_json_and_one_hash():
    spec = parse_spec("name: a\nworkload: w\nfactors: {x: [1, 2], b: [u]}\nseeds: 2")
    other = parse_spec(
        '{"seeds": [0, 1], "workload": "w", "factors": {"b": ["u"], "x": [1, 2]}, "name": "a"}'
    )
    assert spec_to_json(spec) == spec_to_json(other)
    assert spec_hash(spec) == spec_hash(other)
    assert spec_hash(spec) != spec_hash(spec.model_copy(update={"retries": 3}))
    assert "\n" not in spec_to_json(spec)


scalars = st.one_of(
    st.booleans(),
    st.integers(-(2**40), 2**40),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
)


@given(
    factors=st.dictionaries(
        st.from_regex(r"f_[a-z]{1,6}", fullmatch=True),
        st.lists(scalars, min_size=1, max_size=4, unique_by=lambda v: (isinstance(v, bool), v)),
        max_size=4,
    ),
    seeds=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=5, unique=True),
)
def test_a_spec_survives_its_own_json(factors, seeds):
    spec = parse_spec({"name": "a", "workload": "w", "factors": factors, "seeds": seeds})
    assert parse_spec(spec_to_json(spec)) == spec
    assert repr(parse_spec(spec_to_json(spec)).factors.items() ^ spec.factors.items()) == "set()"


nonsense = st.recursive(
    st.one_of(st.none(), scalars, st.just(float("nan")), st.just(10**400)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.text(max_size=4), st.integers(0, 3)), inner, max_size=3),
    ),
    max_leaves=6,
)
keys = st.one_of(
    st.sampled_from([*SweepSpec.model_fields, "sedes"]), st.text(max_size=4), st.integers()
)
nested = st.dictionaries(
    st.sampled_from(["lr", "init", "epochs", "low", "goal", "trials", "gpu", "seed", "size"]),
    nonsense,
    max_size=3,
)


@settings(max_examples=300)
@given(st.dictionaries(keys, st.one_of(nonsense, nested), max_size=6))
def test_nonsense_gives_problems_and_never_another_error(changes):
    try:
        spec, _ = load_spec({**GOOD, **changes}, toy)
    except SpecError as error:
        problems = error.problems
    else:
        problems = ()
        assert plan.plan(spec, WORKLOAD).trials or spec.design in SEARCHES
    assert all(problem.message for problem in problems)


def test_a_mapping_that_is_nested_too_deep_is_refused():
    deep = []
    for _ in range(5000):
        deep = [deep]
    assert "nested deeper than 12" in only_problem({"tags": deep})


def test_thousands_of_problems_are_reported_briefly():
    with pytest.raises(SpecError) as caught:
        parse_spec({**GOOD, "seeds": [-1] * 5000})
    assert len(caught.value.problems) == 5000
    assert str(caught.value).endswith("\n  … and 4900 more")
