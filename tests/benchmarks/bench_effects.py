"""Figures of effects: `python tests/benchmarks/bench_effects.py [TRIALS]`, 10,000 by default.

The sweep of `bench_report`: four factors (80 arms) x 125 seeds x 50 epochs x 8 signals, a third of
it pathological. Each verb is timed as a whole process, start-up and imports included, with its peak
of resident memory. Exit code 1 if a figure is over its limit; give it a quiet machine.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from bench_report import SEED_BLOCK, SWEEP, write_large

from sickbay.service.query.engine import query

SICKBAY = str(Path(sys.executable).parent / "sickbay")
SECONDS, MEGABYTES = 10.0, 1000.0
VERBS = {
    "effects": ["effects", SWEEP],
    "effects --interactions --main-effects": [
        "effects",
        SWEEP,
        "--interactions",
        "--main-effects",
    ],
    "effects --all --json": ["effects", SWEEP, "--all", "--json"],
    "compare": ["compare", SWEEP, SWEEP],
}


def process(arguments: list[str]) -> tuple[float, float, float]:
    """Seconds, seconds of a core, and peak resident megabytes of one call of the command line."""
    began = time.perf_counter()
    child = os.posix_spawn(
        SICKBAY,
        [SICKBAY, *arguments],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
    )
    _, status, usage = os.wait4(child, 0)
    assert status == 0, arguments
    cpu = usage.ru_utime + usage.ru_stime
    return time.perf_counter() - began, cpu, usage.ru_maxrss / 1024


def main(n: int) -> int:
    """Make a store, time the verbs that compare, print one line each."""
    over = False
    with tempfile.TemporaryDirectory() as folder:
        store = write_large(Path(folder) / "store", n - n % SEED_BLOCK)
        sick = "SELECT min(trial_id) FROM trials WHERE label = 'pathological'"
        trial = query(store, sick).rows[0][0]
        verbs = {**VERBS, "explain": ["explain", trial]}
        for name, verb in verbs.items():
            seconds, cpu, memory = process([*verb, "--store", store.uri])
            late = seconds > SECONDS or memory > MEGABYTES
            over |= late
            print(
                f"{name:38} {n:6} trials x 50: {seconds:6.2f} s (limit {SECONDS:g}; of a core"
                f" {cpu:.1f}),"
                f" {memory:6.0f} MB (limit {MEGABYTES:g}){'  OVER' if late else ''}",
                flush=True,
            )
    return int(over)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000))
