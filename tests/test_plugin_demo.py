"""The toy workload fails in exactly the ways that other tests rely on."""

import math
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from sickbay.trials.conformance.dry_run import context_for, rehearse
from sickbay_demo.task import WORKLOAD


def config_of(**settings):
    return {**WORKLOAD.defaults, "epochs": 5, **settings}


def last(signal="val_loss", **settings):
    return rehearse(WORKLOAD, config_of(**settings), 0).rows[-1].signals[signal]


def test_it_learns_diverges_and_stands_still():
    floor = rehearse(WORKLOAD, config_of(), 0).facts.floor_loss
    assert last() < 0.02 * floor
    assert last(lr=10.0) > 1e6 * floor
    assert last("group_update_norm", lr=0.0) == [0.0, 0.0]


def test_its_floor_is_the_loss_of_the_best_constant():
    """With a step of zero, zero parameters and centred targets, the loss is at least the floor."""
    run = rehearse(WORKLOAD, config_of(lr=0.0, init="zeros"), 0)
    floor = run.facts.floor_loss
    assert floor < run.rows[-1].signals["val_loss"] < floor + 1.0  # the mean is 0.5, squared


def test_nan_begins_at_its_epoch():
    losses = [row.signals["val_loss"] for row in rehearse(WORKLOAD, config_of(fault="nan"), 0).rows]
    assert [math.isnan(loss) for loss in losses] == [False, False, True, True, True]


def test_epochs_and_objective_can_be_wrong():
    epochs = [row.epoch for row in rehearse(WORKLOAD, config_of(fault="decreasing"), 0).rows]
    assert epochs == [1, 2, 1, 4, 5]
    assert rehearse(WORKLOAD, config_of(fault="no_rows"), 0).rows == []
    assert "val_loss" not in rehearse(WORKLOAD, config_of(fault="no_objective"), 0).rows[0].signals


def test_it_raises_in_every_attempt_but_runs_out_of_memory_once():
    for fault, error, again in (("raise", RuntimeError, True), ("oom", MemoryError, False)):
        config = config_of(fault=fault)
        with context_for(config, 0) as context:
            with pytest.raises(error, match="in epoch 3"):
                list(WORKLOAD.train(config, context))
            if again:
                with pytest.raises(error):
                    list(WORKLOAD.train(config, context))
            else:
                assert len(list(WORKLOAD.train(config, context))) == 5


def test_it_kills_its_process_in_the_first_attempts_only(tmp_path):
    code = (
        "from sickbay_demo.task import WORKLOAD as W; from sickbay.trials.contract import Context;"
        "c = {**W.defaults, 'epochs': 4, 'fault': 'die', 'fault_times': 2};"
        f"x = Context(0, 4, 'cpu', {str(tmp_path)!r}, lambda: None, lambda make: None);"
        "print(len(list(W.train(c, x))))"
    )
    done = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        for _ in range(3)
    ]
    assert [each.returncode for each in done] == [-9, -9, 0]
    assert done[-1].stdout == "4\n"


def test_finally_runs_when_it_is_stopped():
    config = config_of()
    with context_for(config, 0) as context:
        running = WORKLOAD.train(config, context)
        assert len(list(islice(running, 2))) == 2
        closed = Path(context.workdir) / "closed"
        assert not closed.exists()
        running.close()
        assert closed.exists()


def test_a_checkpoint_is_made_only_when_it_is_asked_for():
    config = config_of()
    with context_for(config, 0) as context:
        offered = []
        list(WORKLOAD.train(config, replace(context, save=offered.append)))
    assert len(offered) == 5
    assert all(callable(make) for make in offered)
