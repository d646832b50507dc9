"""One trial in this process: every way it can end, and the same rows every time."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import toy_sweeps

from sickbay.trials.contract import Health, TrialState
from sickbay.trials.execution.inline import run_to_end
from sickbay.trials.execution.trial import RunPolicy, audited, looks_online, run_trial
from sickbay.trials.store import open_store, request
from sickbay.trials.store.reader import load_history, trial_states


def test_a_good_run_is_completed_healthy_and_stored(tmp_path):
    record = toy_sweeps.run(tmp_path / "store")
    assert record.state is TrialState.COMPLETED
    assert record.label.health is Health.HEALTHY
    assert record.epochs_run == 16
    assert record.objective == pytest.approx(0.01, abs=0.005)  # the noise's variance
    history = load_history(open_store(tmp_path / "store"), "s", record.trial.trial_id)
    assert history.finished
    assert history.epochs.tolist() == list(range(1, 17))


@pytest.mark.parametrize(
    ("fault", "state", "words"),
    [
        ("raise", TrialState.FAILED, "RuntimeError: planted: the toy raises in epoch 3"),
        ("no_rows", TrialState.FAILED, "yielded no row"),
        ("decreasing", TrialState.FAILED, "a row for epoch 1 came after the one for epoch 2"),
        ("no_objective", TrialState.FAILED, "objective 'val_loss' was never recorded"),
    ],
)
def test_a_broken_workload_has_failed_with_its_traceback_and_no_label(
    tmp_path, fault, state, words
):
    record = toy_sweeps.run(tmp_path / "store", fault=fault)
    assert record.state is state
    assert record.label is None
    assert words in record.error
    assert record.error.startswith("Traceback")
    assert trial_states(open_store(tmp_path / "store"), "s") == {record.trial.trial_id: "failed"}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("yield Row(1, 1, {'epoch': 1.0})", "RowError"),
        ("yield Row(1, 1, {'val_loss': [1.0, 2.0]})", "is a vector of 2"),
    ],
)
def test_whatever_training_code_does_ends_as_one_failed_trial(tmp_path, monkeypatch, body, words):
    source = "from dataclasses import replace\nfrom sickbay.trials.contract import Row\n"
    source += "from sickbay_demo.task import WORKLOAD as TOY\n"
    source += f"def train(config, context):\n    {body}\n    yield Row(2, 2, {{'val_loss': 1.0}})\n"
    name = f"odd_{abs(hash(body))}"
    (tmp_path / f"{name}.py").write_text(
        f"{source}WORKLOAD = replace(TOY, name='odd', train=train)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    job = toy_sweeps.job(tmp_path / "store", epochs=2)
    record = run_to_end(replace(job, trial=replace(job.trial, workload=f"{name}:WORKLOAD")))
    assert (record.state, record.label) == (TrialState.FAILED, None)
    assert words in record.error


def test_a_trial_s_folder_is_gone_at_its_end_and_from_the_disk_by_the_end_of_the_next(tmp_path):
    folders = tmp_path / "work"
    for name in ("first", "second"):
        run_to_end(toy_sweeps.job(tmp_path / name, folders / name, fault="none"))
        assert not (folders / name).exists()
    assert not list(folders.glob("first*"))


def test_nan_is_a_result_and_no_failure(tmp_path):
    record = toy_sweeps.run(tmp_path / "store", fault="nan")
    assert record.state is TrialState.STOPPED
    assert record.label.pathology == "non_finite"
    assert record.label.onset_epoch == 3
    assert record.objective != record.objective
    assert record.best_objective == pytest.approx(0.113, abs=0.01)


def test_rows_before_an_exception_are_kept(tmp_path):
    record = toy_sweeps.run(tmp_path / "store", fault="raise")
    rows = toy_sweeps.stored_rows(tmp_path / "store", record.trial.trial_id)
    assert [row.epoch for _, row in rows] == [1, 2]


def test_running_out_of_memory_is_raised_so_that_the_caller_may_retry(tmp_path):
    job = toy_sweeps.job(tmp_path / "store", fault="oom")
    with pytest.raises(MemoryError):
        run_to_end(job)
    record = run_to_end(job)
    assert (record.state, record.attempt) == (TrialState.COMPLETED, 2)
    rows = toy_sweeps.stored_rows(tmp_path / "store", record.trial.trial_id)
    assert [(attempt, row.epoch) for attempt, row in rows] == [(2, e) for e in range(1, 17)]


def test_a_pathology_is_not_stopped_where_the_policy_says_so(tmp_path):
    policy = RunPolicy(stop_pathological=False)
    record = toy_sweeps.run(tmp_path / "store", fault="nan", policy=policy)
    assert record.state is TrialState.COMPLETED
    assert record.epochs_run == 16
    assert (record.label.pathology, record.online_pathology) == ("non_finite", "non_finite")
    assert record.online_epoch == 3
    assert not record.audited


def test_the_audit_lets_a_would_be_stop_run_on_and_says_so(tmp_path):
    record = toy_sweeps.run(tmp_path / "store", fault="nan", policy=RunPolicy(audit=1.0))
    assert record.state is TrialState.COMPLETED
    assert record.audited
    assert record.online_epoch == 3


def test_the_audit_draws_its_share_by_the_trial_s_id():
    chosen = [audited(f"trial-{n}", 0.05) for n in range(20_000)]
    assert 0.045 < sum(chosen) / len(chosen) < 0.055
    assert chosen == [audited(f"trial-{n}", 0.05) for n in range(20_000)]
    assert not any(audited(f"trial-{n}", 0.0) for n in range(100))
    assert all(audited(f"trial-{n}", 1.0) for n in range(100))


def test_looks_thin_out_with_the_number_of_evaluations():
    looks = [n for n in range(1, 257) if looks_online(n)]
    assert looks[:64] == list(range(1, 65))
    assert looks[64:] == [*range(66, 129, 2), *range(132, 257, 4)]


def test_a_cancelled_trial_keeps_its_rows_and_goes_on_later(tmp_path):
    store = open_store(str(tmp_path / "store"))
    policy = RunPolicy(control_seconds=0.0)
    job = toy_sweeps.job(tmp_path / "store", policy=policy)
    running = run_trial(job)
    assert [next(running) for _ in range(5)] == [1, 2, 3, 4, 5]
    request(store, "s", "cancel")
    with pytest.raises(StopIteration) as end:
        next(running)
    assert end.value.value.state is TrialState.CANCELLED
    assert end.value.value.label is None
    request(store, "s", None)
    record = run_to_end(job)
    assert (record.state, record.attempt) == (TrialState.COMPLETED, 2)
    rows = toy_sweeps.stored_rows(tmp_path / "store", job.trial.trial_id)
    assert [(attempt, row.epoch) for attempt, row in rows] == [
        *((1, epoch) for epoch in range(1, 6)),
        *((2, epoch) for epoch in range(6, 17)),
    ]


def test_a_run_that_goes_on_from_a_checkpoint_equals_the_straight_one(tmp_path):
    straight = toy_sweeps.run(tmp_path / "straight")
    job = toy_sweeps.job(tmp_path / "cut", policy=RunPolicy(checkpoint_seconds=0.0))
    running = run_trial(job)
    for _ in range(7):
        next(running)
    running.close()  # as if the process had ended here
    run_to_end(job)
    rows = [
        toy_sweeps.comparable(toy_sweeps.stored_rows(tmp_path / name, straight.trial.trial_id))
        for name in ("straight", "cut")
    ]
    assert rows[0] == rows[1]


def test_the_same_seed_gives_the_same_bits_and_another_does_not(tmp_path):
    rows = []
    for store, seed in (("a", 3), ("b", 3), ("c", 4)):
        record = toy_sweeps.run(tmp_path / store, seed=seed)
        rows.append(
            toy_sweeps.comparable(toy_sweeps.stored_rows(tmp_path / store, record.trial.trial_id))
        )
    assert rows[0] == rows[1]
    assert rows[0] != rows[2]


@pytest.mark.slow
@pytest.mark.parametrize("by_facts", [False, True])
def test_a_workload_that_imports_torch_while_it_runs_is_seeded_all_the_same(by_facts, tmp_path):
    """The first trial of a process, in which torch arrives late, equals the second."""
    (tmp_path / "late_torch.py").write_text(
        f"""
import sys
from dataclasses import replace
from sickbay.trials.contract import Row, TaskFacts
from sickbay_demo.task import WORKLOAD as TOY

def facts(config, context):
    if {by_facts}:
        import torch
        torch.rand(())
    return TaskFacts()

def train(config, context):
    import torch
    for epoch in range(1, context.epochs + 1):
        yield Row(epoch, epoch, {{"val_loss": torch.rand(()).item()}})

WORKLOAD = replace(TOY, name="late", train=train, facts=facts)
"""
    )
    code = """
import json, sys
from dataclasses import replace
from pathlib import Path
import toy_sweeps
from sickbay.trials.execution.inline import run_to_end
assert "torch" not in sys.modules
losses = []
for store in ("first", "second"):
    job = toy_sweeps.job(Path(sys.argv[1]) / store, epochs=4)
    trial = replace(job.trial, workload="late_torch:WORKLOAD")
    run_to_end(replace(job, trial=trial))
    rows = toy_sweeps.stored_rows(Path(sys.argv[1]) / store, trial.trial_id)
    losses.append([row.signals["val_loss"] for _, row in rows])
print(json.dumps(losses))
"""
    path = [str(tmp_path), *sys.path]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}\n{code}", str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    first, second = json.loads(done.stdout)
    assert len(first) == 4
    assert first == second


PROBED = """
import torch
from sickbay.trials.contract import Row, TaskFacts
from sickbay.trials.probes import Probe
from dataclasses import replace
from sickbay_demo.task import WORKLOAD as TOY

def train(config, context):
    model = torch.nn.Sequential()
    model.add_module("encoder", torch.nn.Linear(4, 3))
    model.add_module("head", torch.nn.Linear(3, 1))
    probe = Probe(model)
    for epoch in (1, 2):
        loss = model(torch.ones(2, 4)).sum()
        loss.backward()
        probe.step(loss)
        yield Row(epoch, epoch, {"val_loss": 1.0 / epoch, **probe.evaluation()})
"""


@pytest.mark.parametrize(
    ("stated", "names"), [((), ("encoder", "head")), (("mine", "too"), ("mine", "too"))]
)
def test_a_probe_names_its_groups_unless_the_workload_does(tmp_path, monkeypatch, stated, names):
    module = f"probed_{len(stated)}"
    facts = f"facts=lambda config, context: TaskFacts(groups={stated})"
    made = f"WORKLOAD = replace(TOY, name='probed', train=train, {facts})\n"
    (tmp_path / f"{module}.py").write_text(PROBED + made)
    monkeypatch.syspath_prepend(tmp_path)
    job = toy_sweeps.job(tmp_path / "store", epochs=2)
    record = run_to_end(replace(job, trial=replace(job.trial, workload=f"{module}:WORKLOAD")))
    assert (record.state, record.facts.groups) == (TrialState.COMPLETED, names)
