"""Sweeps of training scripts, and sweeps whose code is changed in between."""

import sys

import pytest

from sickbay.service.analysis.fixes import fixes_for
from sickbay.service.analysis.follow_up import follow_up
from sickbay.service.query.engine import query
from sickbay.service.query.lookup import SweepError, stored_spec
from sickbay.service.sweeps import run
from sickbay.service.sweeps.prepare import prepare
from sickbay.service.sweeps.runner import Options, run_prepared
from sickbay.trials.store import open_store

SCRIPT = """
import sys
lr, seed, epochs = float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
for epoch in range(1, epochs + 1):
    loss = 2.0 * (1 - lr) ** epoch + seed / 1000
    print(f"epoch {epoch} train_loss={loss} val_loss={loss + 0.01}")
"""


@pytest.fixture
def raw(tmp_path):
    (tmp_path / "train.py").write_text(SCRIPT)
    return {
        "name": "script",
        "command": [sys.executable, "train.py", "{lr}", "{seed}", "{epochs}"],
        "factors": {"lr": [0.1, 0.3]},
        "fixed": {"epochs": 4},
        "seeds": 2,
        "working_dir": str(tmp_path),
    }


def run_here(raw, store, **options):
    return run_prepared(prepare(raw, store, **options), Options(in_process=True))


def epochs(store, sweep_id):
    sql = "SELECT trial_id, epoch, train_loss, val_loss FROM epochs ORDER BY ALL"
    return query(open_store(store), sql, sweep_ids=[sweep_id]).rows


def test_a_sweep_of_a_script_runs_once_and_is_extended(raw, tmp_path):
    store = str(tmp_path / "store")
    first = run_here(raw, store)
    assert (first.state, first.ran, set(first.states.values())) == ("finished", 4, {"completed"})
    assert run_here(raw, store).ran == 0
    more = run_here({**raw, "seeds": 3}, store)
    assert (more.sweep_id, more.ran) == (first.sweep_id, 2)


@pytest.mark.slow
def test_a_script_gives_the_same_rows_on_ray(raw, tmp_path):
    here, there = str(tmp_path / "here"), str(tmp_path / "there")
    result = run_here(raw, here)
    other = run(raw, there, Options(cpus=2))
    assert other.states == result.states
    assert epochs(here, result.sweep_id) == epochs(there, other.sweep_id)


def test_changed_code_makes_other_trials_unless_it_is_trusted(raw, tmp_path):
    store = str(tmp_path / "store")
    first = run_here(raw, store)
    (tmp_path / "train.py").write_text(SCRIPT + "# a remark\n")
    with pytest.raises(SweepError, match=r"has changed since this sweep began .* --trust-code"):
        prepare(stored_spec(open_store(store), first.sweep_id), store, resumed=True)
    trusted = run_here({**raw, "seeds": 3}, store, trust_code=True)
    assert (trusted.sweep_id, trusted.ran) == (first.sweep_id, 2)
    codes = "SELECT seed, count(DISTINCT code) FROM trials GROUP BY ALL ORDER BY ALL"
    assert query(open_store(store), codes).rows == [(0, 1), (1, 1), (2, 1)]
    assert query(open_store(store), "SELECT count(DISTINCT code) FROM trials").rows == [(2,)]
    other = run_here(raw, store)
    assert (other.ran, other.sweep_id == first.sweep_id) == (4, False)


def test_the_fix_of_a_scripts_trial_is_a_spec_of_the_same_script(raw, tmp_path):
    (tmp_path / "train.py").write_text(SCRIPT.replace("2.0 *", "(2.0 if lr < 1 else 1e400) *"))
    store = str(tmp_path / "store")
    facts = {"task": "regression", "floor": 2.0, "val_n": 100}
    sweep = run_here({**raw, "factors": {"lr": [0.3, 2.0]}, "facts": facts}, store)
    [(trial_id,)] = query(
        open_store(store), "SELECT trial_id FROM trials WHERE lr = 2.0 AND seed = 0"
    ).rows
    assert sweep.failed == 0
    made = follow_up(open_store(store), fixes_for(open_store(store), trial_id))
    assert made.has_trial
    assert list(made.spec["command"]) == raw["command"]
    assert made.spec["factors"] == {"lr": [2.0, 0.3]}
