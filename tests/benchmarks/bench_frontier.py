"""How well the frontier between healthy and pathological is found, trial for trial.

`boundary`, `random` and `tpe` get at most a fifth of the trials of a grid, over 20 seeds; the truth
is known in closed form, or is that of a dense grid of real trials of the toy. The error is the
share of the space that is put on the wrong side. The grid is read twice: by the very classifier
that reads the others, and as people read one, by the nearest trial. Minutes; for less,

    python tests/benchmarks/bench_frontier.py 5 circle band     # five seeds of these two
"""

import statistics
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "support")]

import frontier_races as races  # noqa: E402 - found by the line above
import optuna  # noqa: E402
from figures import Figure, tell  # noqa: E402

SEEDS = 20
SLACK = 1.0  # boundary's median error may be this many times the grid's, read by the nearest trial


def main() -> int:
    """Measure, print, judge."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    seeds = next((int(word) for word in sys.argv[1:] if word.isdigit()), SEEDS)
    wanted = [word for word in sys.argv[1:] if not word.isdigit()]
    print(f"share on the wrong side: median over {seeds} seeds [quartiles]")
    worst = 0
    for name, make in races.TRUTHS.items():
        if wanted and name not in wanted:
            continue
        truth, start = make(), time.perf_counter()
        points = races.grid(truth)
        read, nearest = (races.error(points, truth, nearest=near) for near in (False, True))
        outcomes = [races.race(truth, seed) for seed in range(seeds)]
        parts = []
        for way in outcomes[0]:
            low, mid, high = statistics.quantiles((outcome[way] for outcome in outcomes), n=4)
            parts.append(f"{way} {mid:.4f} [{low:.4f}, {high:.4f}]")
        n, d = races.TRIALS[truth.dimensions], truth.dimensions
        print(
            f"{name} ({d}-D): grid of {len(points)} by classifier {read:.4f}, by nearest "
            f"{nearest:.4f}; {n} trials ({n / len(points):.0%}): {', '.join(parts)} "
            f"({time.perf_counter() - start:.0f} s)",
            flush=True,
        )
        median = statistics.median(outcome["boundary"] for outcome in outcomes)
        worst |= tell(
            [
                Figure(
                    f"{name}: wrong side after {n} trials (limit: grid of {len(points)})",
                    100 * median,
                    "%",
                    100 * SLACK * nearest,
                    peer=way,
                    peer_value=100 * statistics.median(outcome[way] for outcome in outcomes),
                )
                for way in outcomes[0]
                if way != "boundary"
            ]
        )
    return worst


if __name__ == "__main__":
    sys.exit(main())
