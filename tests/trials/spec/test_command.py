"""A spec with a command: what it may say, what is wrong with it, what makes its trials."""

import pytest

from sickbay.trials import registry
from sickbay.trials.spec import SpecError, load_spec, parse_spec, plan, spec_to_json
from sickbay.trials.spec.command import command_of, filled


@pytest.fixture
def raw(tmp_path):
    (tmp_path / "train.py").write_text("print('hello')\n")
    return {
        "name": "script",
        "command": "python train.py --lr {lr} --name 'a b' --epochs {epochs} {amp}",
        "factors": {"lr": [0.1, 1.0e-5], "amp": ["", "--amp"]},
        "fixed": {"epochs": 3},
        "seeds": 2,
        "working_dir": str(tmp_path),
    }


def test_a_command_is_split_into_words_and_its_settings_are_filled_in(raw):
    spec, workload = load_spec(raw, registry.workload)
    assert spec.command[3:6] == ("{lr}", "--name", "a b")
    assert spec.workload == workload.name == "command"
    trials = plan.plan(spec, workload).trials
    assert len(trials) == 6  # three arms, two seeds
    assert {trial.epochs for trial in trials} == {3}
    settings = {"seed": 1, "epochs": 3, "trial_dir": "/t"}
    config = {"lr": 1e-5, "amp": True}
    assert filled("{lr} {amp} {seed} {trial_dir} {", config, settings) == "1e-05 true 1 /t {"


def test_a_stored_spec_is_read_back_as_it_was(raw):
    spec, _ = load_spec(raw, registry.workload)
    assert parse_spec(spec_to_json(spec)) == spec


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"command": "python train.py {lrr} {amp}"}, ["{lrr} is not a factor", "mean 'lr'"]),
        ({"command": "python train.py {amp}"}, ["factors.lr", "the command never uses it"]),
        ({"command": "python 'train.py"}, ["command", "as one line or as a list of words"]),
        ({"command": "python trian.py {lr} {amp}"}, ["there is no file trian.py in"]),
        ({"working_dir": "/nowhere"}, ["working_dir", "there is no such folder"]),
        ({"workload": "mvm_orientation"}, ["a spec has a `workload` or a `command`, not both"]),
        ({"fixed": {}}, ["the command uses {epochs}", "fixed: {epochs: 20}"]),
        ({"facts": {"task": "binry"}}, ["facts.task", "binary, multiclass"]),
        ({"facts": {"flor": 1.0}}, ["facts.flor", "mean 'floor'"]),
        ({"env": {"A": "{b}"}}, ["env.A", "{b} is not a factor"]),
        ({"command": None, "workload": "mvm_orientation"}, ["working_dir: belongs to a `command`"]),
    ],
)
def test_what_is_wrong_with_a_command_is_said(raw, change, words):
    with pytest.raises(SpecError) as error:
        load_spec({**raw, **change}, registry.workload)
    for word in words:
        assert word in str(error.value)


def test_what_a_script_is_given_and_its_source_make_its_trials(raw, tmp_path):
    def ids(**changes):
        spec, workload = load_spec({**raw, **changes}, registry.workload)
        return {trial.trial_id for trial in plan.plan(spec, workload).trials}

    first = ids()
    assert ids() == first
    assert ids(seeds=3) > first
    assert not ids(env={"A": "1"}) & first
    assert not ids(facts={"task": "binary"}) & first
    (tmp_path / "train.py").write_text("print('changed')\n")
    assert not ids() & first


def test_a_range_of_a_script_may_be_searched(raw):
    search = {"design": "random", "budget": {"trials": 4}, "command": "python train.py {lr}"}
    factors = {"lr": {"low": 1e-5, "high": 0.1, "log": True}}
    spec, _ = load_spec({**raw, **search, "factors": factors}, registry.workload)
    assert command_of(spec).words == ("python", "train.py", "{lr}")
