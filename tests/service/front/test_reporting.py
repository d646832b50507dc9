"""`sickbay.start` in a real script: alone it labels and stores, under a sweep its trial gets it."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

import sickbay
from sickbay.service.query.engine import query
from sickbay.service.sweeps.prepare import prepare
from sickbay.service.sweeps.runner import Options, run_prepared
from sickbay.trials.execution.recorder import RowError
from sickbay.trials.store import open_store

LEARNS = """
import sys
import torch
import sickbay

torch.manual_seed(0)
x = torch.randn(600, 6)
y = (x[:, 0] + 0.3 * torch.randn(600) > 0).long()
model = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=float(sys.argv[1]))
loss_of = torch.nn.CrossEntropyLoss()
counts = y[:400].bincount().tolist()
run = sickbay.start(task="binary", classes=counts, floor="cross_entropy", val_n=200)
run.watch(model)
for epoch in range(1, 11):
    for i in range(0, 400, 40):
        optimizer.zero_grad()
        loss = loss_of(model(x[i : i + 40]), y[i : i + 40])
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        out = model(x[400:])
        val = loss_of(out, y[400:])
    run.log(epoch=epoch, train_loss=loss.detach(), val_loss=val, outputs=out, targets=y[400:])
"""


def script(tmp_path, body, *arguments, **variables):
    """Run a script in a process of its own."""
    (tmp_path / "learn.py").write_text(textwrap.dedent(body))
    environment = {**os.environ, "SICKBAY_STORE": str(tmp_path / "store"), **variables}
    return subprocess.run(
        [sys.executable, "-W", "error", "learn.py", *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def rows_of(tmp_path, sql):
    return query(open_store(str(tmp_path / "store")), sql).rows


def test_alone_a_run_is_labelled_and_stored_without_being_finished(tmp_path):
    done = script(tmp_path, LEARNS, "0.02")
    assert done.returncode == 0, done.stderr
    assert "sickbay: healthy: The validation loss improves" in done.stderr
    sql = "SELECT state, label, epochs_run, length(code) FROM trials"
    assert rows_of(tmp_path, sql) == [("completed", "healthy", 10, 12)]
    [(names,)] = rows_of(tmp_path, "SELECT spec FROM sweeps")
    assert json.loads(names)["name"] == "learn"
    recorded = (
        "SELECT count(grad_norm_p50), count(dead_unit_share), count(val_confusion) FROM epochs"
    )
    assert rows_of(tmp_path, recorded) == [(10, 10, 10)]


def test_a_script_that_ends_with_an_exception_is_a_failed_trial(tmp_path):
    body = """
    import sickbay
    run = sickbay.start(config={"lr": 0.1, "seed": 3})
    run.log(val_loss=1.0)
    raise ValueError("no more [/INST]")
    """
    assert script(tmp_path, body).returncode == 1
    [(state, label, error, seed, lr)] = rows_of(
        tmp_path, "SELECT state, label, error, seed, lr FROM trials"
    )
    assert (state, label, seed, lr) == ("failed", None, 3, 0.1)
    assert error.rstrip().endswith("ValueError: no more [/INST]")


def test_only_the_first_process_of_a_data_parallel_run_reports(tmp_path):
    body = (
        "import sickbay\nrun = sickbay.start()\nrun.log(val_loss=1.0)\nprint(run.finish().health)"
    )
    done = script(tmp_path, body, RANK="1")
    assert done.stdout.strip() in {"inconclusive", "healthy", "pathological"}
    assert not (tmp_path / "store").exists()


@pytest.mark.slow
def test_under_a_sweep_the_trial_gets_the_rows_and_facts(tmp_path):
    (tmp_path / "learn.py").write_text(LEARNS)
    spec = {
        "name": "learn",
        "command": [sys.executable, "learn.py", "{lr}"],
        "factors": {"lr": [0.02, 0.0]},
        "fixed": {"epochs": 10},
        "seeds": 1,
        "working_dir": str(tmp_path),
    }
    store = str(tmp_path / "store")
    result = run_prepared(prepare(spec, store), Options(in_process=True))
    assert result.error == ""
    labels = dict(rows_of(tmp_path, "SELECT lr, label FROM trials"))
    assert labels == {0.02: "healthy", 0.0: "pathological"}
    [(facts,)] = rows_of(tmp_path, "SELECT facts FROM trials WHERE lr = 0.02")
    assert json.loads(facts)["groups"] == ["0", "2"]
    assert len(rows_of(tmp_path, "SELECT sweep_id FROM sweeps")) == 1


def test_what_is_no_fact_or_no_number_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("SICKBAY_TRIAL_DIR", str(tmp_path))
    with pytest.raises(TypeError, match="no fact is called 'clases'; there are task"):
        sickbay.start(clases=[1, 2])
    with sickbay.start(kind="regression") as run:
        with pytest.raises(RowError, match="holds a str"):
            run.log(val_loss="0.5")
        run.log(acc=0.5, loss=0.25)
    assert [row.signals for row in run.rows] == [{"train_accuracy": 0.5, "train_loss": 0.25}]


def test_importing_sickbay_brings_nothing_heavy():
    code = (
        "import sys, sickbay; dir(sickbay); heavy = {'torch', 'ray', 'pandas', 'pyarrow', 'numpy'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="no attribute 'swep'"):
        sickbay.swep  # noqa: B018
