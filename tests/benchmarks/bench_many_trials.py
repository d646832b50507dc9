"""A store of a million trials, `results` of 30,000, and MLflow's `search_runs` over 1,000.

`python tests/benchmarks/bench_many_trials.py [TRIALS]`, at most so many in each of the three. Rows
of a small sweep are repeated under new seeds. A verb is timed as a whole process, start-up and
imports included, the best of three; `search_runs` (a SQLite file) and Sickbay's reader in a warm
process. Give it a quiet machine.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent)]

from bench_report import SEED_BLOCK, SWEEP, process, write_large  # noqa: E402
from figures import Figure, tell  # noqa: E402
from mlflow.entities import Metric, Param  # noqa: E402
from mlflow.tracking import MlflowClient  # noqa: E402

from sickbay.service.query import engine  # noqa: E402

MILLION, MANY, FEW = 1_000_000, 30_000, 1_000
TIMES = 3
GROUPED = "SELECT f1, f2, label, count(*), avg(objective) FROM trials GROUP BY ALL ORDER BY ALL"


def best(verb: list[str]) -> float:
    """Seconds of a call of the command line."""
    return min(process(verb)[0] for _ in range(TIMES))


def timed(work: Callable[[], object]) -> float:
    """Seconds of work in this process, which has done it once before."""
    work()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def in_mlflow(folder: Path, trials: list[dict[str, object]]) -> Callable[[], object]:
    """Log each trial as a run with its settings and its objective; gives what reads them all."""
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.create_experiment("bench")
    for trial in trials:
        run = client.create_run(experiment).info.run_id
        params = [Param(name, str(trial[name])) for name in ("f1", "f2", "f3", "f4", "seed")]
        value = trial["objective"]
        metrics = [] if value is None else [Metric("objective", float(value), 0, 0)]  # type: ignore[arg-type]
        client.log_batch(run, metrics, params)

    def read() -> None:
        assert len(client.search_runs([experiment], max_results=10_000)) == len(trials)

    return read


def main(trials: int) -> int:
    """Make three stores, time what reads them, print one line each."""
    code, many, few = 0, min(MANY, trials), min(FEW, trials)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = write_large(folder / "million", trials, ("trials",), epochs=2)
        seconds = best(["query", GROUPED, "--store", store.uri])
        code |= tell([Figure(f"GROUP BY over {trials:,} trials", seconds, "s", 2.0)])
        store = write_large(folder / "many", many, epochs=2)
        seconds = best(["results", SWEEP, "--store", store.uri])
        code |= tell([Figure(f"results of {many:,} trials", seconds, "s", 3.0)])
        few -= few % SEED_BLOCK
        store = write_large(folder / "few", few, epochs=2)
        read = lambda: engine.trials(store, SWEEP).records()  # noqa: E731
        theirs = timed(in_mlflow(folder, read()))
        figure = Figure(
            f"read {few} trials, warm", timed(read), "s", None, False, "search_runs", theirs
        )
        return code | tell([figure])


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else MILLION))
