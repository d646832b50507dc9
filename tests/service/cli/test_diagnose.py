"""`sickbay diagnose` as it is typed."""

import json

import pytest
from typer.testing import CliRunner

from sickbay.service.cli.app import app

LOG = "epoch,loss,val_loss\n" + "".join(f"{e},0.7,0.693{e % 2}\n" for e in range(40))


FALLING = "epoch,loss,val_loss\n" + "".join(
    f"{e},{1 / (e + 1)},{1.1 / (e + 1)}\n" for e in range(9)
)


def call(*arguments):
    return CliRunner().invoke(app, ["diagnose", *map(str, arguments)])


@pytest.fixture
def falling(tmp_path):
    path = tmp_path / "falling.csv"
    path.write_text(FALLING)
    return path


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(LOG)
    return path


def test_the_screen_says_what_was_taken_and_what_stays_open(falling):
    result = call(falling)
    assert result.exit_code == 0
    assert "loss as train_loss" in result.output
    assert "inconclusive" in result.output
    assert "no_parameter_update" in result.output


def test_json_and_flags(log):
    flags = ["--classes", "500,500", "--floor", "cross_entropy", "--val-n", 10_000, "--json"]
    judged = json.loads(call(log, *flags).stdout)
    assert (judged["label"], judged["pathology"]) == ("pathological", "no_skill")
    assert judged["facts"]["task"] == "binary"
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
def test_bad_flags_are_reported_with_what_is_allowed(log, flags, message):
    result = call(log, *flags)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_missing_file_is_a_usage_error(tmp_path):
    result = call(tmp_path / "none.csv")
    assert result.exit_code == 2
    assert "there is no file" in result.stderr


def nan_after(n):
    rows = (f"{e},{1 / (e + 1)},{'nan' if e > n else 1.1 / (e + 1)}\n" for e in range(9))
    return "epoch,loss,val_loss\n" + "".join(rows)


def test_several_logs_give_a_table_or_a_line_of_json_each(falling, tmp_path):
    (tmp_path / "bad.csv").write_text(nan_after(3))
    screen = call(falling, tmp_path / "bad.csv")
    assert screen.exit_code == 0
    assert "non_finite" in screen.output
    assert "2 runs: 1 pathological, 1 inconclusive" in screen.output
    lines = [
        json.loads(line)
        for line in call(falling, tmp_path / "bad.csv", "--json").stdout.splitlines()
    ]
    assert [
        (verdict["file"], verdict["label"], verdict["pathology"], verdict["onset_epoch"])
        for verdict in lines
    ] == [
        (str(falling), "inconclusive", None, None),
        (str(tmp_path / "bad.csv"), "pathological", "non_finite", 4),
    ]
    assert {"confidence", "reason", "run"} <= lines[0].keys()


def test_a_log_that_cannot_be_read_does_not_hide_the_others(falling, tmp_path):
    (tmp_path / "prose.txt").write_text("nothing here\n")
    result = call(tmp_path / "none.csv", falling, tmp_path / "prose.txt", "--json")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [verdict["label"] for verdict in lines] == [None, "inconclusive", None]
    assert "there is no file" in lines[0]["error"]
    assert result.exit_code == 2
    assert "prose.txt holds no named numbers" in result.stderr


def test_a_folder_is_all_runs_in_it_and_run_chooses_one(tmp_path):
    for name, n in (("a", 99), ("b", 3)):
        (tmp_path / name / "version_0").mkdir(parents=True)
        (tmp_path / name / "version_0" / "metrics.csv").write_text(nan_after(n))
        (tmp_path / name / "version_0" / "hparams.yaml").write_text("lr: 0.1\n")
    lines = [json.loads(line) for line in call(tmp_path, "--json").stdout.splitlines()]
    assert [(verdict["run"], verdict["pathology"]) for verdict in lines] == [
        ("a/version_0", None),
        ("b/version_0", "non_finite"),
    ]
    assert (
        json.loads(call(tmp_path, "--run", "b/version_0", "--json").stdout)["run"] == "b/version_0"
    )
    (tmp_path / "empty").mkdir()
    result = call(tmp_path / "empty")
    assert result.exit_code == 2
    assert "without a log. Looked, here and below, for TensorBoard events" in result.stderr


@pytest.mark.parametrize("name", ["log.facts.yaml", "log.csv.facts.yaml"])
def test_facts_beside_a_log_count_and_flags_win(log, tmp_path, name):
    (tmp_path / name).write_text(
        "task: binary\nclasses: [500, 500]\nfloor: {val_loss: 0.6931, train_loss: 0.7}\n"
        "val_n: 10000\nepochs: 40\nmap: {loss: '-'}\n"
    )
    judged = json.loads(call(log, "--json").stdout)
    assert judged["pathology"] == "no_skill"
    assert judged["facts"]["floors"] == {"val_loss": 0.6931, "train_loss": 0.7}
    assert judged["taken"] == {"val_loss": "val_loss"}
    stated = json.loads(call(log, "--floor", "0.9", "--json").stdout)
    assert stated["facts"]["floors"]["val_loss"] == 0.9


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clases: [1, 2]", "did you mean 'classes'?"),
        ("val_n: many", "give a whole number of at least 1"),
        ("floor: {val_los: 1.0}", "did you mean 'val_loss'?"),
        ("- 1", "expected a mapping"),
        ("{", "log.facts.yaml"),
        ("components: 1", "at least 2"),
    ],
)
def test_a_bad_sidecar_names_its_file_and_key(log, tmp_path, text, message):
    (tmp_path / "log.facts.yaml").write_text(text)
    result = call(log)
    assert result.exit_code == 2
    assert "log.facts.yaml" in result.stderr
    assert message in result.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--map", "loss=val_los"], "no signal 'val_los' (did you mean 'val_loss'?)"),
        (["--floor", "val_accuracy=0.5"], "no detector reads a floor of 'val_accuracy'"),
        (["--val-n", "0"], "at least 1"),
        (["--components", "1"], "at least 2"),
        (["--classes", "5,5", "--task", "regression"], "class counts do not apply"),
        (["--run", "x"], "none is called 'x'"),
    ],
)
def test_flags_that_make_no_sense_are_refused(log, flags, message):
    result = call(log, *flags)
    assert result.exit_code == 2
    assert message in result.stderr


def test_flags_that_nothing_reads_on_this_log_are_said(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("step,loss\n" + "".join(f"{i},{1 / i}\n" for i in range(1, 9)))
    flags = ["--floor", "val_density_kl=1", "--val-n", "9", "--epochs", "3", "--components", "4"]
    remarks = " ".join(json.loads(call(path, *flags, "--json").stdout)["remarks"])
    for flag in ("--floor val_density_kl", "--val-n", "--epochs", "--components"):
        assert flag in remarks


def test_names_are_printed_as_they_were_written(tmp_path):
    path = tmp_path / "run [v2].csv"
    path.write_text("epoch,loss [train],[/acc],[red]x[/red]\n1,nan,0.5,1\n2,nan,0.5,1\n")
    output = call(path).output
    assert "loss [train] as train_loss" in output
    assert "[/acc] as train_accuracy" in output
    assert "[red]x[/red]" in output
    assert "run [v2].csv" in output
    assert call(path, path).output.count("run [v2].csv") == 3
