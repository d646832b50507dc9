"""How long a verdict takes: `python tests/benchmarks/bench_diagnosis.py [TRIALS]`.

Histories of 100 epochs and 31 signals under every installed detector, in seconds of one core; then
a store of such trials (200 unless told) is judged again, everything included: reading, diagnosing
and writing the new labels. Exit code 1 if a figure is over its limit.
"""

import math
import random
import statistics
import sys
import tempfile
import time

from figures import Figure, tell

from sickbay.trials import registry
from sickbay.trials.contract import Health, Label, Row, TaskFacts, TaskKind, TrialConfig, TrialState
from sickbay.trials.diagnosis.diagnose import diagnose
from sickbay.trials.execution.relabel import relabel
from sickbay.trials.history import History
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

EPOCHS = 100
ONE = 0.020  # seconds of one diagnosis
MANY = 120.0  # seconds of 10,000 trials
NOW = 1_760_000_000.0
FACTS = TaskFacts(
    kind=TaskKind.BINARY,
    floors={"val_loss": 0.65},
    class_counts=(7400, 600),
    n={"train": 8000, "val": 2000},
    groups=("body", "neck", "head"),
    loss_minimum=0.0,
)


def rows(seed: int) -> list[Row]:
    """A training that goes well, with every signal that a binary task records."""
    draw = random.Random(seed)
    series = []
    for epoch in range(1, EPOCHS + 1):
        decay, wobble = math.exp(-epoch / 20.0), draw.gauss(1.0, 0.03)
        signals = {
            "train_loss": (0.1 + 0.5 * decay) * draw.gauss(1.0, 0.03),
            "train_loss_se": 0.01,
            "val_loss": (0.15 + 0.5 * decay) * wobble,
            "val_loss_se": 0.01,
            "val_n": 2000.0,
            "train_steps": 50.0,
            "nonfinite_loss_steps": 0.0,
            "nonfinite_grad_steps": 0.0,
            "nonfinite_grad_run": 0.0,
            "nonfinite_params": 0.0,
            "grad_norm_p50": wobble,
            "grad_norm_p90": 2.0 * wobble,
            "grad_norm_max": 4.0 * wobble,
            "clipped_share": 0.1,
            "zero_grad_share": 0.0,
            "group_grad_max": [0.1 * wobble, 0.1, 0.1],
            "group_update_norm": [0.1, 0.1 * wobble, 0.1],
            "group_weight_norm": [1.0, 1.0, wobble],
            "group_update_ratio": [1e-3, 1e-3 * wobble, 1e-3],
            "supervised_targets": 8000.0,
            "output_variance_ratio": 0.8 * wobble,
            "val_confusion": [1800.0, 50.0, 30.0, 120.0],
            "val_accuracy": 0.96,
            "val_auroc": 0.9,
            "val_auroc_se": 0.01,
            "val_auprc": 0.6,
            "class_gradient_share": [0.6, 0.4],
            "label_flip_rate": 0.0,
            "label_flip_n": 256.0,
            "feature_rank": 20.0 * wobble,
            "dead_unit_share": [0.1, 0.2],
        }
        series.append(Row(epoch, 50 * epoch, signals))
    return series


def fill(store: Store, trials: int) -> None:
    """Write a sweep whose labels another version gave."""
    old = Label(Health.HEALTHY, "It was so.", labeller_version="old", label_hash="old")
    for seed in range(trials):
        trial = TrialConfig(f"t{seed:05}", "bench", {}, seed, EPOCHS)
        attempt = start_attempt(store, "bench", trial.trial_id, device="cpu", started_at=NOW)
        records = [EpochRecord(attempt, float(row.epoch), row) for row in rows(seed)]
        write_epochs(store, "bench", trial.trial_id, records)
        record = TrialRecord(
            "bench",
            trial,
            "1",
            "baseline",
            TrialState.COMPLETED,
            attempt,
            label=old,
            facts=FACTS,
            objective=0.2,
            best_objective=0.2,
            epochs_run=EPOCHS,
            wall_seconds=1.0,
            device="cpu",
            started_at=NOW,
            finished_at=NOW + 1.0,
        )
        write_trial(store, record, [])
    consolidate(store, "bench")


def main() -> int:
    """Measure, print, judge."""
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    detectors = registry.all_detectors()
    spent = []
    for seed in range(60):
        history = History(rows(seed), FACTS, EPOCHS, finished=True)
        start = time.process_time()
        diagnose(history, detectors)
        spent.append(time.process_time() - start)
    median_seconds = statistics.median(spent)
    signals = len(rows(0)[0].signals)
    what = f"{EPOCHS} epochs, {signals} signals, {len(detectors)} detectors"
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(folder)
        fill(store, trials)
        start = time.process_time()
        report = relabel(store, "bench", detectors)
        seconds = time.process_time() - start
        assert report.written == trials, report
    many = 10_000 * seconds / trials
    return tell(
        [
            Figure(f"diagnose a trial ({what}), CPU", 1e3 * median_seconds, "ms", 1e3 * ONE),
            Figure(f"relabel 10,000 trials (from {trials}), CPU", many, "s", MANY),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
