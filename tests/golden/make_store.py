"""How the golden store was made: `python tests/golden/make_store.py FOLDER`.

A version's store is made once, when its schema is new, and is then kept for good: a changed schema
gets a folder of its own (store-v2) beside it.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from store_samples import START, label, plain_rows, record_of, run_through

from sickbay.trials.contract import Health, TrialState
from sickbay.trials.store import (
    Relabelled,
    SweepRecord,
    open_store,
    start_attempt,
    write_epochs,
    write_sweep,
)
from sickbay.trials.store.merge import consolidate, write_labels
from sickbay.trials.store.reader import trial_states


def make(folder: Path) -> None:
    store = open_store(str(folder / "store"))
    spec = json.dumps({"name": "golden", "workload": "toy"})
    write_sweep(store, SweepRecord("golden", "golden", "toy", "grid", spec, "running", START))
    run_through(store, "golden", "t1", level="é", flag=True, n=1)
    run_through(store, "golden", "t2", level="b", flag=False, n=2)
    consolidate(store, "golden")
    verdict = label("v2", Health.PATHOLOGICAL, pathology="late_collapse", onset_epoch=2)
    write_labels(store, "golden", [Relabelled("t2", verdict, ())])
    run_through(store, "golden", "t3", state=TrialState.FAILED, level="c", flag=True, n=3)
    start_attempt(store, "golden", "t4", device="cpu", started_at=START)
    write_epochs(store, "golden", "t4", [record_of(1)])
    expected = {"tables": plain_rows(store), "states": trial_states(store, "golden")}
    text = json.dumps(expected, indent=1, ensure_ascii=False)
    (folder / "expected.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    make(Path(sys.argv[1]))
