"""`sickbay diagnose` as it is typed."""

import json

import pytest
from typer.testing import CliRunner

from sickbay.service.cli.app import app

LOG = "epoch,loss,val_loss\n" + "".join(f"{e},0.7,0.693{e % 2}\n" for e in range(40))


def call(*words):
    return CliRunner().invoke(app, ["diagnose", *map(str, words)])


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(LOG)
    return path


def test_the_screen_says_what_was_taken_and_what_stays_open(log):
    result = call(log)
    assert result.exit_code == 0
    assert "loss as train_loss" in result.output
    assert "inconclusive" in result.output
    assert "no_parameter_update" in result.output


def test_json_and_flags(log):
    flags = ["--classes", "500,500", "--floor", "cross_entropy", "--val-n", 10_000, "--json"]
    found = json.loads(call(log, *flags).stdout)
    assert (found["label"], found["pathology"]) == ("pathological", "no_skill")
    assert found["facts"]["task"] == "binary"
    mapped = json.loads(call(log, "--map", "loss=val_loss", "--map", "val_loss=-", "--json").stdout)
    assert mapped["taken"] == {"val_loss": "loss"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--map", "loss"], "write it as mine=val_loss"),
        (["--map", "x=val_loss"], "the log has no column 'x'"),
        (["--task", "ranking"], "it is one of binary, multiclass"),
        (["--classes", "90"], "separated by commas"),
        (["--classes", "a,b"], "separated by commas"),
        (["--floor", "low"], "give a number"),
        (["--floor", "cross_entropy"], "needs the class counts"),
        (["--floor", "nan"], "give a number"),
    ],
)
def test_bad_flags_are_told_with_what_is_allowed(log, flags, message):
    result = call(log, *flags)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_missing_file_is_a_usage_error(tmp_path):
    result = call(tmp_path / "none.csv")
    assert result.exit_code == 2
    assert "there is no file" in result.stderr
