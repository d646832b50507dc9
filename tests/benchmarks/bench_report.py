"""Figures of reports: `python tests/benchmarks/bench_report.py [TRIALS]`, 10,000 by default.

A sweep of four factors x 50 epochs x 8 signals, a third of it pathological. Each verb is timed as a
whole process, start-up and imports included, with its peak of resident memory. Exit code 1 if a
figure is over its limit; give it a quiet machine.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from figures import Figure, tell
from report_samples import large, write_sample

from sickbay.trials.store import Store
from sickbay.trials.store.files import table_file

EPOCHS = 50
TABLES = ("trials", "epochs", "findings", "labels")
SEED_BLOCK = 80  # arms of the sample: one seed of each
SWEEP = "sample-abc123"
SIGNALS = ("val_loss_se", "grad_norm_max", "group_norm", "clipped_share", "supervised_targets")
RUN = "import sys; from sickbay.service.cli.app import main; sys.exit(main())"
SPEC = {
    "name": "sample",
    "factors": {
        "f1": [1, 2, 3, 4, 5],
        "f2": ["a", "b"],
        "f3": [0.1, 0.2, 0.4, 0.8],
        "f4": [False, True],
    },
    "objective": {"signal": "val_loss", "goal": "minimize"},
}


def write_large(
    folder: Path, trials: int, tables: tuple[str, ...] = TABLES, epochs: int = EPOCHS
) -> Store:
    """Write one seed of every arm by the store's writer, and repeat its rows under new seeds."""
    store = write_sample(folder, large(SEED_BLOCK, epochs), spec=SPEC, planned=trials)
    for name in tables:
        path = Path(store.root) / table_file(store, name, SWEEP).removeprefix(f"{store.root}/")
        table = pq.read_table(path)
        blocks = [_block(name, table, seed) for seed in range(trials // SEED_BLOCK)]
        keys = [(key, "ascending") for key in ("trial_id", "epoch") if key in table.column_names]
        whole = pa.concat_tables(blocks).sort_by(keys)
        pq.write_table(whole, path, row_group_size=50_000)
    return store


def _block(name: str, table: pa.Table, seed: int) -> pa.Table:
    ids = pa.array([f"{seed:04x}{trial_id[4:]}" for trial_id in table["trial_id"].to_pylist()])
    table = table.set_column(
        table.column_names.index("trial_id"), table.schema.field("trial_id"), ids
    )
    if name == "trials":
        seeds = pa.array([seed] * table.num_rows, pa.int64())
        table = table.set_column(table.column_names.index("seed"), "seed", seeds)
    if name == "epochs":
        for signal in SIGNALS:
            table = table.append_column(signal, table["val_loss"])
    return table


def process(arguments: list[str]) -> tuple[float, float]:
    """Seconds and peak resident megabytes of one call of the command line."""
    began = time.perf_counter()
    child = os.posix_spawn(
        sys.executable,
        [sys.executable, "-c", RUN, *arguments],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
    )
    _, status, usage = os.wait4(child, 0)
    assert status == 0, arguments
    return time.perf_counter() - began, usage.ru_maxrss / 1024


def main(n: int) -> int:
    """Make two stores, time every verb of reading that draws or compares, print one line each."""
    code = 0
    with tempfile.TemporaryDirectory() as folder:
        for trials, megabytes in ((n, None), (1000, 5.0)):
            store = write_large(Path(folder) / str(trials), trials - trials % SEED_BLOCK)
            page = Path(folder) / f"{trials}.html"
            for what, verb in {
                "effects": ["effects", SWEEP],
                "report": ["report", SWEEP, "-o", str(page)],
                "report in LaTeX": ["report", SWEEP, "--format", "latex", "-o", f"{page}.tex"],
            }.items():
                seconds, memory = process([*verb, "--store", store.uri])
                named = f"{what} of {trials:,} trials x {EPOCHS} epochs"
                code |= tell(
                    [
                        Figure(named, seconds, "s", 10.0),
                        Figure(f"{named}, memory", memory, "MB", 1000.0),
                    ]
                )
            size = page.stat().st_size / 1e6
            code |= tell([Figure(f"page of {trials:,} trials", size, "MB", megabytes)])
    return code


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000))
