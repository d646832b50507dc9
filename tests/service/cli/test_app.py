"""The command line as a person types it: what it prints, where errors go, what it exits with."""

import csv
import io
import json
import os
import re
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import toy_sweeps
import yaml

from sickbay.service.cli.app import main

SICKBAY = Path(sys.executable).parent / "sickbay"


@dataclass(frozen=True)
class Done:
    stdout: str
    stderr: str


def sickbay(*arguments, code=0):
    """Run the command line in this process: seconds quicker than in one of its own."""
    out, err = io.StringIO(), io.StringIO()
    before, sys.argv = sys.argv, ["sickbay", *map(str, arguments)]
    try:
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as end:
            main()
    finally:
        sys.argv = before
    done = Done(out.getvalue(), err.getvalue())
    assert (end.value.code or 0) == code, done
    return done


def process(*arguments, cwd=None, code=0, stdin=None, text=True, **environ):
    """Run the installed command as a shell would."""
    done = subprocess.run(
        [SICKBAY, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=text,
        input=stdin,
        timeout=120,
        check=False,
        env={**os.environ, "COLUMNS": "160", **environ},
    )
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done


def write_spec(folder, **changes):
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(toy_sweeps.spec(**changes)))
    return path


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A store with one finished sweep of four trials, and what `run` printed."""
    folder = tmp_path_factory.mktemp("swept")
    spec = write_spec(folder)
    return folder, process("run", spec, "--store", folder / "store", "--in-process")


def read(swept, *arguments, by=sickbay, **options):
    return by(*arguments, "--store", swept[0] / "store", **options)


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")


def test_run_prints_progress_causes_and_remedies(swept):
    folder, done = swept
    assert "4/4 done · 2 healthy · 2 pathological · 2 stopped early (non_finite 2)" in done.stderr
    assert len(re.findall("✗ pathological +non_finite +epoch 3", done.stdout)) == 2
    assert len(re.findall("✓ healthy", done.stdout)) == 2
    assert "  why     At epoch 3 the training loss is nan" in done.stdout
    assert "  change  " in done.stdout
    assert f"{folder}/store/trials/toy-" in done.stdout
    report = re.search(r"report +(\S+\.html)", done.stdout)[1]
    assert "<html" in Path(report).read_text()
    commands = done.stdout.partition("next:\n")[2].strip().splitlines()
    assert len(commands) == 3


@pytest.mark.slow
def test_the_next_commands_work_as_they_stand(swept):
    import shlex

    commands = swept[1].stdout.partition("next:\n")[2].strip().splitlines()
    for command in commands:
        assert process(*shlex.split(command)[1:]).stdout


def test_run_again_says_that_nothing_is_missing(swept):
    done = sickbay("run", swept[0] / "spec.yaml", "--store", swept[0] / "store")
    assert "all 4 trials are stored, nothing is missing" in done.stdout


def test_resume_finds_the_spec_in_the_store(swept):
    assert "nothing is missing" in read(swept, "resume", "toy").stdout


def test_list_and_status(swept):
    assert re.search(r"toy-\w{6} +finished .* 4 of 4 .*2 pathological", read(swept, "list").stdout)
    [sweep] = json.loads(read(swept, "list", "--json").stdout)
    assert (sweep["state"], sweep["ended"], sweep["labels"]["healthy"]) == ("finished", 4, 2)
    status = json.loads(read(swept, "status", "toy", "--json").stdout)
    assert status["pathologies"] == {"non_finite": 2}
    assert status["running"] == 0
    assert "finished, 4 of 4 ended" in read(swept, "status", "toy").stdout


def test_results_in_every_format(swept):
    assert read(swept, "results", "toy").stdout.count("pathological") == 2
    rows = json.loads(read(swept, "results", "toy", "--json").stdout)
    assert {row["objective"] for row in rows if row["fault"] == "nan"} == {"NaN"}
    table = list(
        csv.DictReader(io.StringIO(read(swept, "results", "toy", "--format", "csv").stdout))
    )
    assert [row["fault"] for row in table].count("none") == 2
    raw = read(swept, "results", "toy", "--format", "parquet", by=process, text=False).stdout
    assert pq.read_table(io.BytesIO(raw)).num_rows == 4


def test_results_with_filters(swept):
    rows = json.loads(read(swept, "results", "toy", "--label", "healthy", "--json").stdout)
    assert {row["label"] for row in rows} == {"healthy"}
    rows = json.loads(read(swept, "results", "toy", "--where", "seed = 1", "--json").stdout)
    assert {row["seed"] for row in rows} == {1}
    done = read(swept, "results", "toy", "--label", "ill", code=2)
    assert "'ill'" in done.stderr
    assert "healthy" in done.stderr


def test_query_takes_the_documented_question(swept):
    sql = "SELECT fault, label, count(*) FROM trials GROUP BY ALL ORDER BY ALL"
    rows = json.loads(read(swept, "query", sql, "--json").stdout)
    assert [tuple(row.values()) for row in rows] == [
        ("nan", "pathological", 2),
        ("none", "healthy", 2),
    ]
    assert "healthy" in read(swept, "query", sql).stdout


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELECT labl FROM trials", "label"),
        ("DROP TABLE trials", "SELECT"),
        ("SELECT * FROM read_text('/etc/passwd')", "disabled"),
    ],
)
def test_query_refuses_with_a_reason(swept, sql, words):
    done = read(swept, "query", sql, code=2)
    assert words in done.stderr
    assert done.stdout == ""


def test_explain_names_cause_evidence_and_the_smallest_fix(swept):
    rows = json.loads(read(swept, "results", "toy", "--label", "pathological", "--json").stdout)
    trial = rows[0]["trial_id"]
    text = read(swept, "explain", trial[:8]).stdout
    assert "non_finite, since epoch 3" in text
    assert "fault nan -> none: healthy in 2/2" in text
    explained = json.loads(read(swept, "explain", trial, "--json").stdout)
    assert explained["fixes"] == [
        {"change": {"fault": {"from": "nan", "to": "none"}}, "healthy": 2, "of": 2}
    ]
    fired = [
        finding["detector"] for finding in explained["findings"] if finding["state"] == "fired"
    ]
    assert "non_finite" in fired
    assert "begins with 'zz'" in read(swept, "explain", "zz", code=2).stderr


def test_report_is_written_where_it_is_wanted(swept, tmp_path):
    target = tmp_path / "deep" / "report.html"
    assert read(swept, "report", "toy", "-o", target).stdout.strip() == str(target)
    assert target.read_text().lstrip().lower().startswith("<!doctype html>")


def test_relabel_changes_nothing_under_the_same_detectors(swept):
    done = read(swept, "relabel", "toy")
    assert "4 trials judged" in done.stdout
    assert "4 as before, 0 changed, 0 labels written" in done.stdout
    [report] = json.loads(read(swept, "relabel", "--json").stdout)
    assert report["changes"] == []


def test_plan_shows_every_trial_and_runs_nothing(tmp_path):
    spec = write_spec(tmp_path)
    text = sickbay("plan", spec, "--store", tmp_path / "store").stdout
    assert "4 trials = 2 arms x 2 seeds, grid; 4 to run, 0 stored" in text
    plan = json.loads(sickbay("plan", spec, "--store", tmp_path / "store", "--json").stdout)
    assert [(t["arm"], t["seed"]) for t in plan["trials"]] == [
        ("baseline", 0),
        ("fault=nan", 0),
        ("baseline", 1),
        ("fault=nan", 1),
    ]
    assert not (tmp_path / "store").exists()


def test_plan_estimates_hours_from_stored_trials(swept):
    plan = json.loads(read(swept, "plan", write_spec(swept[0], seeds=4), "--json").stdout)
    write_spec(swept[0])
    assert plan["missing"] == 4
    assert 0 < plan["estimated_core_hours"] < 1


BAD = {
    "unknown key": ({"nme": "x"}, "nme"),
    "unknown factor": ({"factors": {"fualt": ["none"]}}, "fault"),
    "level of the wrong type": ({"factors": {"lr": ["big"]}}, "'big'"),
    "empty levels": ({"factors": {"fault": []}}, "factors.fault"),
    "duplicate levels": ({"factors": {"fault": ["nan", "nan"]}}, "factors.fault"),
    "reserved column": ({"factors": {"label": [1, 2]}}, "label"),
    "zero seeds": ({"seeds": 0}, "seeds"),
    "no room in the budget": ({"budget": {"trials": 0}}, "budget.trials"),
    "unknown workload": ({"workload": "mvm_orientaton"}, "mvm_orientation"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("verb", ["validate", "plan", "run"])
def test_a_bad_spec_is_exit_code_2_names_the_place_and_writes_nothing(
    tmp_path, monkeypatch, verb, case
):
    monkeypatch.chdir(tmp_path)
    changes, message = BAD[case]
    spec = write_spec(tmp_path, **changes)
    done = sickbay(verb, spec, code=2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == [spec]


def test_all_problems_are_reported_at_once(tmp_path):
    spec = write_spec(tmp_path, nme="x", seeds=0, factors={"fault": [], "label": [1]})
    done = sickbay("validate", spec, code=2)
    for key in ("nme", "seeds", "factors.fault", "factors.label"):
        assert key in done.stderr
    problems = json.loads(sickbay("validate", spec, "--json", code=2).stdout)["problems"]
    assert len(problems) >= 4


@pytest.mark.parametrize(
    ("text", "words"),
    [("- a\n- b\n", "mapping"), ("name: [", "line"), ("x: 1\n" * 2_000_000, "at most 1 mib")],
    ids=["no mapping", "no YAML", "10 MB"],
)
def test_nonsense_is_refused(tmp_path, text, words):
    (tmp_path / "spec.yaml").write_text(text)
    done = sickbay("validate", tmp_path / "spec.yaml", code=2)
    assert words in done.stderr.lower()
    assert "Traceback" not in done.stderr


def test_a_spec_may_come_from_standard_input(tmp_path):
    text = yaml.safe_dump(toy_sweeps.spec())
    assert "4 trials" in process("validate", "-", stdin=text).stdout


def test_a_file_that_is_not_there_is_a_usage_error():
    assert "there is no file" in sickbay("validate", "nowhere.yaml", code=2).stderr


def test_a_store_that_is_not_there_is_said_so(tmp_path):
    done = sickbay("list", "--store", tmp_path / "none", code=1)
    assert "there is no store at" in done.stderr
    assert not (tmp_path / "none").exists()


def test_a_failed_run_exits_with_1_and_shows_the_traceback(tmp_path):
    spec = write_spec(tmp_path, factors={"fault": ["raise"]}, seeds=5)
    done = sickbay("run", spec, "--store", tmp_path / "store", "--in-process", code=1)
    assert "RuntimeError: planted: the toy raises in epoch 3" in done.stderr
    assert "3 trials in a row" in done.stderr


def test_workloads_and_detectors_are_listed_and_described():
    names = [entry["name"] for entry in json.loads(sickbay("workloads", "--json").stdout)]
    assert "mvm_orientation" in names
    described = json.loads(sickbay("workloads", toy_sweeps.TOY, "--json").stdout)
    assert described["factors"][0]["name"] == "lr"
    assert "Step size; 10.0 diverges" in sickbay("workloads", toy_sweeps.TOY).stdout
    names = [entry["name"] for entry in json.loads(sickbay("detectors", "--json").stdout)]
    assert len(names) >= 13
    for name in names:
        described = json.loads(sickbay("detectors", name, "--json").stdout)
        assert described["rule"]
        assert described["source"]
        assert described["remedy"]
    text = sickbay("detectors", "mixture_collapse").stdout
    assert "threshold" in text
    assert "Did you mean 'no_skill'" in sickbay("detectors", "no_skil", code=2).stderr


def test_doctor_looks_at_everything(tmp_path):
    checks = json.loads(sickbay("doctor", "--store", tmp_path, "--json").stdout)
    assert {"Python", "torch", "ray", "GPU", "store"} <= {check["what"] for check in checks}
    assert all(check["ok"] for check in checks)
    assert (
        "does not exist yet and can be created"
        in sickbay("doctor", "--store", tmp_path / "x").stdout
    )
    (tmp_path / "file").touch()
    done = sickbay("doctor", "--store", tmp_path / "file", code=1)
    assert "FIX  store" in done.stdout


def test_a_workload_in_the_present_folder_is_found(tmp_path):
    (tmp_path / "mine.py").write_text("from sickbay_demo.task import WORKLOAD\n")
    spec = write_spec(tmp_path, workload="mine:WORKLOAD")
    assert "4 trials" in process("validate", spec, cwd=tmp_path).stdout


READS = [
    ["--help"],
    ["list"],
    ["status", "toy"],
    ["results", "toy"],
    ["query", "SELECT count(*) FROM epochs"],
    ["workloads"],
]


@pytest.mark.parametrize("words", READS, ids=" ".join)
def test_reading_imports_neither_torch_nor_ray(swept, words):
    code = """
import atexit, sys
from sickbay.service.cli.app import main
loaded = lambda: {"torch", "ray", "matplotlib", "scipy"} & set(sys.modules)
atexit.register(lambda: loaded() and (print(loaded(), file=sys.stderr), sys.stderr.flush(),
    __import__("os")._exit(99)))
main()
"""
    store = [] if words[0] in ("--help", "workloads") else ["--store", swept[0] / "store"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words, *store], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
