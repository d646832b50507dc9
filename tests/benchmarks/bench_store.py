"""Figures of the store and of SQL over it: `python tests/benchmarks/bench_store.py [TRIALS]`.

1,000 trials x 50 epochs x 30 signals. Reading is timed as a whole process, start-up and imports
included, best of five. Exit code 1 if a figure is over its limit; give it a quiet machine.
"""

import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from figures import Figure, tell

from sickbay.trials.contract import (
    Finding,
    FindingState,
    Health,
    Label,
    Row,
    Severity,
    TrialConfig,
    TrialState,
)
from sickbay.trials.store import (
    EpochRecord,
    Store,
    TrialRecord,
    open_store,
    start_attempt,
    write_epochs,
    write_trial,
)
from sickbay.trials.store.merge import consolidate
from sickbay.trials.store.reader import iter_histories, trial_states

EPOCHS = 50
SIGNALS = 30
DETECTORS = 13
NOW = 1_760_000_000.0

OPEN = "from sickbay.trials.store import open_store; s = open_store({root!r}, create=False)"
TRIALS = "from sickbay.service.query.engine import trials; print(len(trials(s, 'sweep').records()))"
GROUP = (
    "from sickbay.service.query.engine import query; print(query(s, 'SELECT epoch, avg(signal_3),"
    " max(signal_7), count(*) FROM epochs GROUP BY epoch').rows[0])"
)


def records(trial: int) -> list[EpochRecord]:
    """One trial's evaluations: 28 scalars and two vectors of four."""
    rows = []
    for epoch in range(1, EPOCHS + 1):
        values = {f"signal_{k}": math.sin(trial + epoch * k) for k in range(SIGNALS - 2)}
        vectors = {"weights": [0.25 * epoch] * 4, "kappa": [math.nan, 1.0, 2.0, trial / epoch]}
        rows.append(EpochRecord(1, 0.1 * epoch, Row(epoch, 100 * epoch, {**values, **vectors})))
    return rows


def write_one(store: Store, trial: int, rows: list[EpochRecord]) -> float:
    """Write all of one trial; gives the seconds that took."""
    name = f"{trial:06x}"
    findings = [
        Finding(f"detector_{k}", "1", FindingState.CLEAR, Severity.FATAL, "0.1 < 0.5: " + "x" * 80)
        for k in range(DETECTORS)
    ]
    settings = {"initialization": ("zeros", "preset")[trial % 2], "loss": "uniform", "lr": 0.1}
    config = TrialConfig(name, "toy", settings, trial % 5, EPOCHS)
    label = Label(Health.HEALTHY, "skill 0.9", labeller_version="v1", label_hash=name)
    done = TrialState.COMPLETED
    record = TrialRecord("sweep", config, "1", "arm", done, 1, label, started_at=NOW, objective=0.1)
    started = time.perf_counter()
    start_attempt(store, "sweep", name, device="cpu", started_at=NOW)
    write_epochs(store, "sweep", name, rows)
    write_trial(store, record, findings)
    return time.perf_counter() - started


def timed(work: Callable[[], object]) -> float:
    """Seconds that the work took."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def process(root: str, code: str, times: int = 5) -> float:
    """The seconds of a whole process that runs the code over a store; the best, least disturbed."""
    command = [sys.executable, "-c", f"{OPEN.format(root=root)}; {code}"]
    run = lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: E731
    return min(timed(run) for _ in range(times))


def main(n: int) -> int:
    """Make a store, time everything, print one line a figure."""
    figures: list[tuple[str, float, float | None]] = []
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(str(Path(folder) / "store"))
        writes = [write_one(store, trial, records(trial)) for trial in range(n)]
        figures.append(("write one trial whole (median)", statistics.median(writes), 0.005))
        figures.append(
            ("write one trial whole (95 %)", statistics.quantiles(writes, n=20)[-1], None)
        )
        figures.append(
            ("parts: trials of the sweep, as a process", process(store.root, TRIALS, 1), None)
        )
        figures.append(
            ("parts: GROUP BY over all epochs, as a process", process(store.root, GROUP, 1), None)
        )
        figures.append(("parts: states", timed(lambda: trial_states(store, "sweep")), None))
        figures.append(("consolidate", timed(lambda: consolidate(store, "sweep")), None))
        figures.append(("trials of the sweep, as a process", process(store.root, TRIALS), 1.0))
        figures.append(("GROUP BY over all epochs, as a process", process(store.root, GROUP), 1.0))
        figures.append(("states", timed(lambda: trial_states(store, "sweep")), None))
        figures.append(("all histories", timed(lambda: list(iter_histories(store, "sweep"))), None))
        size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(folder)
        for trial in range(10 * n):
            write_one(store, trial, [])
        seconds = timed(lambda: trial_states(store, "sweep"))
        figures.append((f"parts: states of {10 * n} trials", seconds, 2.0 * n / 1000))
    print(f"{n} trials x {EPOCHS} epochs x {SIGNALS} signals, {size / 1e6:.1f} MB merged")
    return tell(Figure(name, seconds, "s", limit) for name, seconds, limit in figures)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000))
