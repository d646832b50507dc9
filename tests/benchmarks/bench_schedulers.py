"""The best healthy result at equal epochs: health-aware schedulers against plain ones.

Five simulated toys in which the pathological half has the lowest early loss, 20 seeds each; every
race has 240 epochs, ten trials' worth. Two minutes; for less,

    python tests/benchmarks/bench_schedulers.py 5       # five seeds
"""

import statistics
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "support")]

import scheduler_races as races  # noqa: E402 - found by the line above
from figures import Figure, tell  # noqa: E402

SEEDS = 20
KINDS = ("asha", "hyperband", "median")


def main() -> int:
    """Measure, print, judge: 1 if a health-aware scheduler is behind the plain one anywhere."""
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else SEEDS
    worst = 0
    print(
        f"gain of the best healthy trial over the floor after {races.BUDGET} epochs, median over "
        f"{seeds} seeds [quartiles] (trials begun, healthy trials pruned)"
    )
    for toy in races.TOYS:
        streams = [races.stream(toy, seed) for seed in range(seeds)]
        print(f"{toy}: none {shown(streams, 'none', aware=False)[1]}", flush=True)
        for kind in KINDS:
            before, plain = shown(streams, kind, aware=False)
            after, aware = shown(streams, kind, aware=True)
            print(f"  {kind}: plain {plain} -> health-aware {aware}", flush=True)
            named = f"{toy}: gain of the best healthy trial under health-aware {kind}"
            worst |= tell([Figure(named, after, "", before, True, f"plain {kind}", before)])
    return worst


def shown(streams: list[list[races.Trial]], kind: str, *, aware: bool) -> tuple[float, str]:
    """The median of the best gain over races, and all of it in words."""
    outcomes = [races.race(stream, kind, aware=aware) for stream in streams]
    low, mid, high = statistics.quantiles((outcome.best for outcome in outcomes), n=4)
    begun, pruned = (
        statistics.median(getattr(outcome, it) for outcome in outcomes) for it in COUNTS
    )
    return mid, f"{mid:.3f} [{low:.3f}, {high:.3f}] ({begun:g}, {pruned:g})"


COUNTS = ("begun", "pruned")


if __name__ == "__main__":
    sys.exit(main())
