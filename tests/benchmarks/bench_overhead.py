"""What Sickbay adds to bare Ray Tune: 200 trials of 50 ms on 2 CPUs, side by side in one run.

The bare function sleeps its 50 ms and reports once; reused actors, no loggers. Ours sleeps as long
and yields one row an evaluation: it stores Parquet, is diagnosed online and at its end, and retried
by cause. Rounds alternate, so that a busy machine slows both. Tune keeps to one of the two workers
in some rounds, of the bare function as of ours, so the quickest round of each is judged.
"""

import logging
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
TESTS = Path(__file__).parents[1]
PATHS = [str(TESTS / "plugin_demo"), str(Path(__file__).parent)]
sys.path[:0] = PATHS
os.environ["PYTHONPATH"] = os.pathsep.join(PATHS)  # for the workers

from ray import tune as ray_tune  # noqa: E402 - after the switches that Ray reads when imported

from sickbay.trials import registry  # noqa: E402
from sickbay.trials.events import TrialEnded  # noqa: E402
from sickbay.trials.execution import ray_cluster  # noqa: E402
from sickbay.trials.execution import ray_tune as tune  # noqa: E402
from sickbay.trials.execution.fair_share import TrialShare  # noqa: E402
from sickbay.trials.execution.ray_lanes.run import run_jobs  # noqa: E402
from sickbay.trials.execution.trial import TrialJob  # noqa: E402
from sickbay.trials.spec import check_spec, parse_spec, plan  # noqa: E402

TRIALS = 200
SECONDS = 0.05
ROUNDS = 5
LIMIT = 1.15


def bare(folder: str) -> float:
    """Seconds that bare Tune needs."""

    def train(config: dict[str, object]) -> None:
        del config
        time.sleep(SECONDS)
        ray_tune.report({"loss": 1.0})

    tuner = ray_tune.Tuner(
        ray_tune.with_resources(train, {"cpu": 1}),
        param_space={"x": ray_tune.grid_search(list(range(TRIALS)))},
        tune_config=ray_tune.TuneConfig(reuse_actors=True),
        run_config=ray_tune.RunConfig(name="bare", storage_path=folder, verbose=0),
    )
    start = time.perf_counter()
    results = tuner.fit()
    assert len(results) == TRIALS
    return time.perf_counter() - start


def ours(folder: str) -> float:
    """Seconds that Sickbay needs."""
    workload = registry.workload("sleeper:WORKLOAD")
    raw = {"name": "bench", "workload": "sleeper:WORKLOAD", "seeds": TRIALS}
    spec = check_spec(parse_spec(raw), workload)
    jobs = [
        TrialJob(folder, "bench", trial, "baseline", workload.objective, f"{folder}/{trial.seed}")
        for trial in plan.plan(spec, workload).trials
    ]
    ended: list[str] = []

    def count(event: object) -> None:
        if isinstance(event, TrialEnded):
            assert event.state == "completed", event
            ended.append(event.trial_id)

    start = time.perf_counter()
    run_jobs(jobs, tune.RunOptions(TrialShare(), count, 2, lambda: False))
    seconds = time.perf_counter() - start
    assert len(ended) == TRIALS
    return seconds


def main() -> int:
    """Measure, print, judge."""
    logging.getLogger("ray").setLevel(logging.ERROR)
    times: dict[str, list[float]] = {"bare": [], "ours": []}
    for number in range(ROUNDS):
        for name, run in (("bare", bare), ("ours", ours)):
            # Each in a Ray of its own: after another run Tune often gets no further than one
            # worker, as it hands every next trial to the worker that is free already.
            with (
                ray_cluster.connected(ray_cluster.Cluster(cpus=2)),
                tempfile.TemporaryDirectory() as folder,
            ):
                seconds = run(folder)
            times[name].append(seconds)
            print(f"round {number + 1}: {name} {seconds:.2f} s", flush=True)
    medians = statistics.median(times["ours"]) / statistics.median(times["bare"])
    ratio = min(times["ours"]) / min(times["bare"])
    print(f"quickest rounds: {ratio:.3f} x bare Ray Tune (limit {LIMIT}); medians: {medians:.3f} x")
    return int(ratio > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
