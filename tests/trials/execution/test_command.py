"""A training script as a trial: real processes, read while they run, ended as asked."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import toy_sweeps

from sickbay.trials import registry
from sickbay.trials.contract import Health, TrialState
from sickbay.trials.diagnosis.failures import Failure
from sickbay.trials.execution import command as scripts
from sickbay.trials.execution.inline import run_to_end
from sickbay.trials.execution.trial import RunPolicy, TrialJob, job_from_text, job_text, run_trial
from sickbay.trials.spec import load_spec, plan
from sickbay.trials.spec.command import command_of
from sickbay.trials.store import open_store, request
from sickbay.trials.store.reader import read_output

HEAD = """
import json, os, signal, subprocess, sys, time
from pathlib import Path
lr, seed, epochs = float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
folder = Path(os.environ["SICKBAY_TRIAL_DIR"])
losses = [2.0 * (1 - lr) ** epoch + seed / 1000 for epoch in range(1, epochs + 1)]
"""
PRINTS = """
for epoch, loss in enumerate(losses, 1):
    print(f"epoch {epoch}/{epochs} train_loss={loss:.6f} val_loss={loss + 0.01:.6f}")
"""
FACTS = {"task": "multiclass", "classes": [50, 50, 50], "floor": "cross_entropy", "val_n": 150}


def job(tmp_path, body, *, epochs=6, lr=0.3, policy=None, **keys) -> TrialJob:
    """The one trial of a script with this body."""
    (tmp_path / "train.py").write_text(HEAD + textwrap.dedent(body))
    raw = {
        "name": "script",
        "command": [sys.executable, "train.py", "{lr}", "{seed}", "{epochs}"],
        "factors": {"lr": [lr]},
        "fixed": {"epochs": epochs},
        "seeds": 1,
        "working_dir": str(tmp_path),
        "facts": FACTS,
        **keys,
    }
    spec, workload = load_spec(raw, registry.workload)
    return TrialJob(
        store=str(tmp_path / "store"),
        sweep_id="s",
        trial=plan.plan(spec, workload).trials[0],
        arm="baseline",
        objective=workload.objective,
        workdir=str(tmp_path / "work"),
        policy=policy or RunPolicy(control_seconds=0.0),
        command=command_of(spec),
    )


def rows(tmp_path, record):
    return [row for _, row in toy_sweeps.stored_rows(tmp_path / "store", record.trial.trial_id)]


def test_what_a_script_prints_is_its_evaluations(tmp_path):
    record = run_to_end(job(tmp_path, PRINTS))
    assert record.state is TrialState.COMPLETED
    assert record.error is None
    evaluations = rows(tmp_path, record)
    assert [row.epoch for row in evaluations] == [1, 2, 3, 4, 5, 6]
    assert evaluations[-1].signals["train_loss"] == pytest.approx(2 * 0.7**6, abs=1e-6)
    assert record.objective == pytest.approx(2 * 0.7**6 + 0.01, abs=1e-6)
    assert record.label is not None
    assert record.facts.class_counts == (50, 50, 50)
    printed = read_output(open_store(str(tmp_path / "store")), "s", record.trial.trial_id)
    assert printed.startswith(b"epoch 1/6 train_loss=")
    assert not (tmp_path / "work").exists()


def ended(run):
    while True:
        try:
            next(run)
        except StopIteration as end:
            return end.value


WRITES = {
    "json lines": "print(json.dumps({'epoch': epoch, 'loss': loss, 'val_loss': loss + 0.01}))",
    "a dictionary": "print({'loss': loss, 'eval_loss': loss + 0.01, 'epoch': float(epoch)})",
    "keras": "print(f'Epoch {epoch}/6\\n9/9 - 1s - loss: {loss:.6f} - val_loss: {loss+.01:.6f}')",
    "csv": """
    (folder / "metrics.csv").open("a").write(
        ("epoch,train_loss,val_loss\\n" if epoch == 1 else "") + f"{epoch},{loss},{loss + 0.01}\\n")
    print(f"epoch {epoch} loss {loss}")""",
    "json lines in a file": """
    with (folder / "logs.jsonl").open("a") as log:
        line = {"epoch": epoch, "train/loss": loss, "val/loss": loss + 0.01}
        print(json.dumps(line), file=log)""",
}


@pytest.mark.parametrize("form", WRITES)
def test_the_logs_that_scripts_write_are_read(tmp_path, form):
    body = "for epoch, loss in enumerate(losses, 1):\n    " + WRITES[form].strip()
    record = run_to_end(job(tmp_path, body))
    evaluations = rows(tmp_path, record)
    assert record.error is None
    assert [row.epoch for row in evaluations] == [1, 2, 3, 4, 5, 6]
    want = [2 * 0.7**epoch + 0.01 for epoch in range(1, 7)]
    assert [row.signals["val_loss"] for row in evaluations] == pytest.approx(want, abs=1e-6)
    assert [row.signals["train_loss"] for row in evaluations] == pytest.approx(
        [value - 0.01 for value in want], abs=1e-6
    )


TRACKERS = {
    "mlflow": """
import mlflow
mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
with mlflow.start_run():
    for epoch, loss in enumerate(losses, 1):
        mlflow.log_metrics({"train_loss": loss, "val_loss": loss + 0.01}, step=epoch)
""",
    "torch.utils.tensorboard": """
from torch.utils.tensorboard import SummaryWriter
with SummaryWriter(folder / "runs") as writer:
    for epoch, loss in enumerate(losses, 1):
        writer.add_scalar("train/loss", loss, epoch)
        writer.add_scalar("val/loss", loss + 0.01, epoch)
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("tracker", TRACKERS)
def test_what_trackers_write_is_read(tmp_path, tracker):
    pytest.importorskip(tracker)
    record = run_to_end(job(tmp_path, TRACKERS[tracker]))
    assert record.error is None
    evaluations = rows(tmp_path, record)
    assert [row.epoch for row in evaluations] == [1, 2, 3, 4, 5, 6]
    want = [2 * 0.7**epoch for epoch in range(1, 7)]
    assert [row.signals["train_loss"] for row in evaluations] == pytest.approx(want, abs=1e-6)
    assert record.objective == pytest.approx(want[-1] + 0.01, abs=1e-6)


LOGS_TEXT = """
import logging
logging.basicConfig(filename=folder / "NAME", level="INFO", format="%(asctime)s %(message)s")
print("training on a quiet machine")
for epoch, loss in enumerate(losses, 1):
    logging.info("epoch %d train_loss=%.6f val_loss=%.6f", epoch, loss, loss + 0.01)
"""


@pytest.mark.parametrize("name", ["train.log", "history.txt"])
def test_a_single_text_file_is_read_where_nothing_else_has_metrics(tmp_path, name):
    record = run_to_end(job(tmp_path, LOGS_TEXT.replace("NAME", name)))
    assert [row.epoch for row in rows(tmp_path, record)] == [1, 2, 3, 4, 5, 6]
    assert record.objective == pytest.approx(2 * 0.7**6 + 0.01, abs=1e-6)


def test_of_two_text_files_none_is_guessed(tmp_path):
    other = '(folder / "b.log").write_text("epoch=1 val_loss=9")'
    record = run_to_end(job(tmp_path, other + LOGS_TEXT.replace("NAME", "a.log")))
    assert rows(tmp_path, record) == []


def test_names_of_ones_own_are_mapped_and_files_chosen(tmp_path):
    body = """
    print("epoch=1 val_loss=9.0")
    with (folder / "mine.txt").open("w") as log:
        print("epoch,err\\n1,0.5\\n2,0.25", file=log)
    """
    keys = {"facts": {**FACTS, "map": {"err": "val_loss"}}, "metrics": ["*.txt"]}
    record = run_to_end(job(tmp_path, body, **keys))
    assert [row.signals["val_loss"] for row in rows(tmp_path, record)] == [0.5, 0.25]


def test_the_same_script_gives_the_same_rows_however_they_are_timed(tmp_path):
    quick = run_to_end(job(tmp_path, PRINTS))
    slow = PRINTS.replace("print(", "time.sleep(0.15); print(")
    (tmp_path / "other").mkdir()
    slowly = run_to_end(job(tmp_path / "other", slow))
    left, right = rows(tmp_path, quick), rows(tmp_path / "other", slowly)
    assert repr(left) == repr(right)


def test_a_file_that_comes_late_and_says_more_replaces_what_was_read(tmp_path):
    body = """
    for epoch, loss in enumerate(losses, 1):
        print(f"epoch {epoch} train_loss={loss}", flush=True)
        time.sleep(0.3)
    (folder / "log.csv").write_text("epoch,train_loss,val_loss\\n" + "".join(
        f"{epoch},{loss},{loss + 0.01}\\n" for epoch, loss in enumerate(losses, 1)))
    """
    record = run_to_end(job(tmp_path, body, epochs=3))
    assert [sorted(row.signals) for row in rows(tmp_path, record)] == [
        ["train_loss", "val_loss"]
    ] * 3


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("print('about to fail'); sys.exit(3)", ["exit status 3", "about to fail"]),
        ("raise RuntimeError('no data [/INST]')", ["exit status 1", "no data [/INST]"]),
        ("os.kill(os.getpid(), signal.SIGSEGV)", ["signal SIGSEGV"]),
        ("sys.exit(137)", ["exit status 137 (signal SIGKILL)"]),
        ("print('hello')", ["could be read as evaluations", "SICKBAY_TRIAL_DIR"]),
    ],
)
def test_a_script_that_fails_says_how(tmp_path, body, words):
    record = run_to_end(job(tmp_path, body))
    assert record.state is TrialState.FAILED
    assert record.label is None
    for word in words:
        assert word in record.error


def test_an_objective_that_the_spec_names_must_be_recorded(tmp_path):
    objective = {"signal": "val_accuracy", "goal": "maximize"}
    record = run_to_end(job(tmp_path, "print('epoch=1 train_loss=1')", objective=objective))
    assert record.state is TrialState.FAILED
    assert "'val_accuracy' was never recorded" in record.error
    assert "its rows hold: train_loss." in record.error  # not what the runner has measured


def test_without_one_a_script_that_logs_training_alone_is_labelled_all_the_same(tmp_path):
    body = """
    for epoch in range(1, 9):
        print(f"epoch={epoch} train_loss={1 / epoch if epoch < 5 else float('nan')}")
    """
    record = run_to_end(job(tmp_path, body))
    assert (record.label.health, record.label.pathology) == (Health.PATHOLOGICAL, "non_finite")
    assert record.objective is None


def test_a_command_that_is_not_there_is_named(tmp_path):
    record = run_to_end(job(tmp_path, "", command=["no-such-program", "{lr}"]))
    assert "'no-such-program' cannot be started in" in record.error


def test_the_script_sees_its_seed_its_folder_and_its_variables(tmp_path):
    body = """
    print(json.dumps({"epoch": 1, "val_loss": 1.0}))
    names = ("PYTHONHASHSEED", "MINE", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
    print({name: os.environ.get(name) for name in names}, os.getcwd(), folder.is_dir())
    """
    record = run_to_end(job(tmp_path, body, env={"MINE": "lr is {lr}"}))
    printed = read_output(open_store(str(tmp_path / "store")), "s", record.trial.trial_id).decode()
    assert "'PYTHONHASHSEED': '0', 'MINE': 'lr is 0.3'" in printed
    assert "'CUDA_VISIBLE_DEVICES': '', 'OMP_NUM_THREADS': '1'" in printed
    assert f"{tmp_path} True" in printed


NEVER_ENDS = """
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
(folder.parent / "pids").write_text(f"{os.getpid()} {child.pid}")
for epoch in range(1, 10_000):
    print(f"epoch {epoch} train_loss={value} val_loss={value}", flush=True)
    time.sleep(0.02)
"""


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def gone(tmp_path) -> bool:
    pids = [int(word) for word in (tmp_path / "pids").read_text().split()]
    deadline = time.monotonic() + 10
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(alive, pids))


def test_a_pathological_script_is_stopped_with_all_its_children(tmp_path):
    body = NEVER_ENDS.replace("{value}", "{'nan' if epoch > 3 else 1.0}")
    policy = RunPolicy(audit=0.0)
    record = run_to_end(job(tmp_path, body, epochs=10_000, policy=policy))
    assert record.state is TrialState.STOPPED
    assert record.label.health is Health.PATHOLOGICAL
    assert record.label.pathology == "non_finite"
    assert gone(tmp_path)


def test_a_cancelled_script_ends_and_keeps_its_folder_for_the_next_attempt(tmp_path):
    body = """
    kept = folder / "checkpoint"
    start = int(kept.read_text()) + 1 if kept.exists() else 1
    for epoch in range(start, epochs + 1):
        loss = losses[epoch - 1]
        print(f"epoch={epoch} train_loss={loss} val_loss={loss}", flush=True)
        kept.write_text(str(epoch))
        if start == 1 and epoch == 3:
            time.sleep(600)
    """
    made = job(tmp_path, body, epochs=5)
    store = open_store(made.store)
    run = run_trial(made)
    while next(run) < 2:  # the third is complete once a fourth begins
        pass
    request(store, "s", "cancel")
    assert ended(run).state is TrialState.CANCELLED
    request(store, "s", None)
    record = run_to_end(made)
    assert record.state is TrialState.COMPLETED
    assert [row.epoch for row in rows(tmp_path, record)] == [1, 2, 3, 4, 5]


def test_a_script_that_says_nothing_any_more_is_ended_by_sigterm(tmp_path):
    """What it prints is a sign of life, be it no evaluation."""
    body = """
    signal.signal(signal.SIGTERM, lambda *a: (print("asked to end", flush=True), sys.exit(3)))
    for tick in range(8):
        print("loading data", tick)
        time.sleep(0.2)
    time.sleep(3600)
    """
    policy = RunPolicy(silence_seconds=1.0)
    made = job(tmp_path, body, policy=policy)
    record = run_to_end(made)
    assert (record.state, record.failure) == (TrialState.FAILED, Failure.TIMEOUT)
    assert "silent for 1 s" in record.error
    printed = read_output(open_store(made.store), "s", made.trial.trial_id).decode()
    assert "loading data 7" in printed
    assert "asked to end" in printed


def test_a_script_that_ignores_sigterm_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(scripts, "GRACE", 0.5)
    body = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + NEVER_ENDS.replace("{value}", "1.0")
    run = run_trial(job(tmp_path, body, epochs=10_000))
    while next(run) < 1:
        pass
    run.close()
    assert gone(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="a promise of Linux")
def test_a_script_dies_with_a_worker_that_is_killed(tmp_path):
    made = job(tmp_path, NEVER_ENDS.replace("{value}", "1.0"), epochs=10_000)
    code = (
        "import sys; from sickbay.trials.execution import inline, trial;"
        "inline.run_to_end(trial.job_from_text(sys.argv[1]))"
    )
    worker = subprocess.Popen([sys.executable, "-c", code, job_text(made)])
    deadline = time.monotonic() + 60
    while not (tmp_path / "pids").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.2)
    script, child = (int(word) for word in (tmp_path / "pids").read_text().split())
    worker.kill()
    worker.wait()
    deadline = time.monotonic() + 10
    while alive(script) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(script)
    os.kill(child, signal.SIGKILL)  # what a script leaves behind is its own


def test_a_script_on_its_way_to_a_worker_is_plain_data(tmp_path):
    made = job(tmp_path, PRINTS, env={"A": "1"})
    assert job_from_text(job_text(made)) == made
    assert json.loads(job_text(made))["command"]["env"] == {"A": "1"}
