"""Figures of effects: `python tests/benchmarks/bench_effects.py [TRIALS]`, 10,000 by default.

The sweep of `bench_report`: four factors (80 arms) x 125 seeds x 50 epochs x 8 signals, a third of
it pathological. Each verb is timed as a whole process, start-up and imports included, with its peak
of resident memory. Exit code 1 if a figure is over its limit; give it a quiet machine.
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from bench_report import SEED_BLOCK, SWEEP, process, write_large
from figures import Figure, tell

from sickbay.service.query.engine import query

SECONDS, MEGABYTES = 10.0, 1000.0
VERBS = {
    "effects": ["effects", SWEEP],
    "effects --interactions --main-effects": ["effects", SWEEP, "--interactions", "--main-effects"],
    "effects --all --json": ["effects", SWEEP, "--all", "--json"],
    "compare": ["compare", SWEEP, SWEEP],
}


def main(n: int) -> int:
    """Make a store, time the verbs that compare, print one line each."""
    code = 0
    with tempfile.TemporaryDirectory() as folder:
        store = write_large(Path(folder) / "store", n - n % SEED_BLOCK)
        sick = "SELECT min(trial_id) FROM trials WHERE label = 'pathological'"
        trial = query(store, sick).rows[0][0]
        verbs = {**VERBS, "explain": ["explain", trial]}
        for name, verb in verbs.items():
            seconds, memory = process([*verb, "--store", store.uri])
            named = f"{name} of {n:,} trials"
            code |= tell(
                [
                    Figure(named, seconds, "s", SECONDS),
                    Figure(f"{named}, memory", memory, "MB", MEGABYTES),
                ]
            )
    return code


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000))
