"""`sickbay init`: a spec from the source of a script, which is never run."""

import textwrap

import pytest

from sickbay.service.query.lookup import SweepError
from sickbay.service.sweeps.script_spec import script_spec
from sickbay.trials import registry
from sickbay.trials.spec import load_spec, plan

SOURCE = """
import argparse
raise SystemExit("never run")
p = argparse.ArgumentParser()
p.add_argument("data")
p.add_argument("--lr", "-l", type=float, default=0.01)
p.add_argument("--init", choices=["he", "no", "zeros"], default="he")
p.add_argument("--amp", action="store_true")
p.add_argument("--batch-size", type=int, default=32)
p.add_argument("--num-epochs", type=int, default=7)
p.add_argument("--random-seed", dest="seed", type=int)
print(f"train/loss={1} eval_loss={2}")
"""


def made(tmp_path, source=SOURCE):
    (tmp_path / "my_Train.py").write_text(textwrap.dedent(source))
    return script_spec(tmp_path / "my_Train.py")


def test_options_become_factors_and_the_spec_is_sound(tmp_path):
    draft = made(tmp_path)
    spec, workload = load_spec(draft.text, registry.workload)
    assert spec.name == "my-train"
    options = "--lr {lr} --init {init} {amp} --num-epochs {epochs} --random-seed {seed}"
    assert " ".join(spec.command) == f"python my_Train.py {options}"
    assert spec.working_dir == str(tmp_path)
    assert spec.factors == {
        "lr": (0.01, 0.001, 0.1),
        "init": ("he", "no", "zeros"),
        "amp": ("", "--amp"),
    }
    assert spec.fixed == {"epochs": 7}
    assert len(plan.plan(spec, workload).trials) == 3 * (1 + 2 + 2 + 1)
    assert "--batch-size (32)" in draft.text
    assert draft.remarks == ("metrics: train/loss as train_loss, eval_loss as val_loss",)


@pytest.mark.parametrize(
    ("source", "remark"),
    [
        ("print('hello')", "the script has no --seed option"),
        ("print('hello')", "the script has no --epochs option"),
        ("print('hello')", "found no validation metric in its source: print val_loss=…"),
        ("w.add_scalar('loss/val', 1)", "metrics: loss/val as val_loss"),
        ("print('va_loss=1')", "or say facts: {map: {va_loss: val_loss}}"),
    ],
)
def test_what_is_missing_is_said(tmp_path, source, remark):
    assert any(remark in line for line in made(tmp_path, source).remarks)


def test_a_script_that_logs_accuracy_alone_is_compared_by_it(tmp_path):
    text = made(tmp_path, "print('val_acc=0.5')").text
    assert "objective: {signal: val_accuracy, goal: maximize}" in text


def test_what_is_no_python_is_refused(tmp_path):
    with pytest.raises(SweepError, match="cannot be read as a Python script"):
        made(tmp_path, "def (")


@pytest.mark.parametrize(
    ("source", "stated", "lines"),
    [
        (
            "net = Sequential(nn.Linear(64, 32), nn.Linear(32, 3))\nloss = nn.CrossEntropyLoss()",
            {"task": "multiclass"},
            [
                "classes: [100, 100, 100] # samples of each of the 3 classes",
                "floor: cross_entropy # the loss of the best constant",
            ],
        ),
        (
            "NUM_CLASSES = 4\nF.cross_entropy(out, y, weight=w, label_smoothing=0.1)",
            {"task": "multiclass"},
            [
                "classes: [100, 100, 100, 100] #",
                "floor: cross_entropy # differs with label_smoothing and weight: see sickbay.TaskF",
            ],
        ),
        ("loss = BCEWithLogitsLoss(pos_weight=w)", {"task": "binary"}, ["differs with pos_weight"]),
        ("loss = torch.nn.MSELoss()", {"task": "regression"}, ["floor: 1.0 #", "the variance"]),
        ("model.compile('adam', loss='mse')", {"task": "regression"}, ["val_n: 100 #"]),
        ("F.mse_loss(a, b) + F.cross_entropy(c, d)", None, ["task: multiclass or regression #"]),
        ("print('val_loss=1')", None, ["# facts: {task: multiclass, classes: [50, 50]"]),
    ],
)
def test_facts_are_stated_where_the_losses_agree_and_commented_else(
    tmp_path, source, stated, lines
):
    text = made(tmp_path, source).text
    spec, _ = load_spec(text, registry.workload)
    assert spec.facts.model_dump(exclude_defaults=True) == (stated or {})
    for line in lines:
        assert line in " ".join(text.split())


def test_the_commented_facts_can_be_taken_as_they_stand(tmp_path):
    text = made(tmp_path, "head = nn.Linear(8, 2)\nloss = nn.CrossEntropyLoss()").text
    start, facts = text.split("facts:")
    spec, _ = load_spec(f"{start}facts:{facts.replace('#   ', '  ')}", registry.workload)
    assert spec.facts.classes == (100, 100)
    assert (spec.facts.floor, spec.facts.val_n) == ("cross_entropy", 100)
