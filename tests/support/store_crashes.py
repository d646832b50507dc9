"""What the store's tests do to a store, and how to die while doing it; quick to start."""

import sys
from pathlib import Path

from store_samples import START, config, ended, finding, label, record_of, run_through

from sickbay.trials.contract import FindingState, Health, TrialState
from sickbay.trials.store import (
    Relabelled,
    start_attempt,
    write_checkpoint,
    write_epochs,
    write_trial,
)
from sickbay.trials.store import files as store_files
from sickbay.trials.store.merge import consolidate, write_labels


def fill(store):
    """Two ended trials in the merged files, one of them run again since, and three in parts."""
    run_through(store, trial_id="t1", lr=1)
    run_through(store, trial_id="t2", state=TrialState.FAILED)
    consolidate(store, "s1")
    run_through(store, trial_id="t2", epochs=4)
    run_through(store, trial_id="t3", lr=0.5, extra="x")
    run_through(store, trial_id="t4", state=TrialState.CANCELLED)
    write_checkpoint(store, "s1", "t4", epoch=2, payload=b"weights")
    start_attempt(store, "s1", "t5", device="cpu", started_at=START)
    write_epochs(store, "s1", "t5", [record_of(1), record_of(2)])


def relabelled(trial_id, version, health=Health.PATHOLOGICAL):
    fired = finding("late_collapse", state=FindingState.FIRED)
    verdict = label(version, health, pathology="late_collapse", onset_epoch=2)
    return Relabelled(trial_id, verdict, (fired,))


def die_at(dying):
    """Put a way to die before each change: writing a file, renaming, syncing, removing."""
    store_files.os.fsync = dying(store_files.os.fsync)
    Path.replace = dying(Path.replace)
    Path.unlink = dying(Path.unlink)
    for name in ("remove_file", "remove_folder", "write_file"):
        step = dying(getattr(store_files, name))
        for module in [
            loaded for key, loaded in sys.modules.items() if key.startswith("sickbay.trials")
        ]:
            if hasattr(module, name):
                setattr(module, name, step)


def merge(store):
    consolidate(store, "s1")


def relabel(store):
    write_labels(store, "s1", [relabelled("t1", "v2"), relabelled("t2", "v2")])


def end_a_trial(store):
    write_epochs(store, "s1", "t5", [record_of(1), record_of(2), record_of(3)])
    write_trial(store, ended(trial=config("t5")), [finding()])
