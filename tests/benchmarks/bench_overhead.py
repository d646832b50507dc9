"""Sickbay beside its peers at the same work: 200 trials of 50 ms on 2 CPUs, in one run.

Bare Ray Tune (reused actors, no loggers), plain Ray tasks, and Optuna with its journal in two
processes sleep their 50 ms and report one number; tasks store nothing. Ours sleeps as long and
yields one row an evaluation: it stores Parquet, is diagnosed online and at its end, and retried by
cause. Rounds alternate, so that a busy machine slows all. Tune keeps to one of the two workers in
some rounds, so the quickest round of each is judged. Five minutes; for less,

    python tests/benchmarks/bench_overhead.py 20        # one round of 20 trials
"""

import logging
import multiprocessing
import os
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

import optuna  # noqa: E402
import ray  # noqa: E402 - after the switches that it reads when imported
from figures import Figure, tell  # noqa: E402
from ray import tune as ray_tune  # noqa: E402

from sickbay.trials import registry  # noqa: E402
from sickbay.trials.events import TrialEnded  # noqa: E402
from sickbay.trials.execution import ray_cluster  # noqa: E402
from sickbay.trials.execution import ray_tune as tune  # noqa: E402
from sickbay.trials.execution.fair_share import TrialShare  # noqa: E402
from sickbay.trials.execution.ray_lanes.run import run_jobs  # noqa: E402
from sickbay.trials.execution.trial import TrialJob  # noqa: E402
from sickbay.trials.spec import check_spec, parse_spec, plan  # noqa: E402

TRIALS, ROUNDS = (int(sys.argv[1]), 1) if len(sys.argv) > 1 else (200, 3)
SECONDS = 0.05
CPUS = 2
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


def tasks(folder: str) -> float:
    """Seconds that plain Ray tasks need."""
    del folder

    def train() -> float:
        time.sleep(SECONDS)
        return 1.0

    task = ray.remote(num_cpus=1)(train)
    start = time.perf_counter()
    assert len(ray.get([task.remote() for _ in range(TRIALS)])) == TRIALS
    return time.perf_counter() - start


def journal(folder: str) -> float:
    """Seconds that Optuna needs, which starts its own processes."""
    path = f"{folder}/journal"
    study(path, create=True)
    spawn = multiprocessing.get_context("spawn")
    start = time.perf_counter()
    drivers = [spawn.Process(target=optimize, args=(path,)) for _ in range(CPUS)]
    for driver in drivers:
        driver.start()
    for driver in drivers:
        driver.join()
    seconds = time.perf_counter() - start
    assert len(study(path).trials) >= TRIALS
    return seconds


def study(path: str, *, create: bool = False) -> optuna.Study:
    """The study of a journal."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(path))
    if create:
        optuna.create_study(storage=storage, study_name="bench")
    return optuna.load_study(
        storage=storage, study_name="bench", sampler=optuna.samplers.RandomSampler()
    )


def optimize(path: str) -> None:
    """Run trials until there are enough."""

    def train(trial: optuna.Trial) -> float:
        time.sleep(SECONDS)
        return trial.suggest_float("x", 0.0, 1.0)

    study(path).optimize(train, callbacks=[optuna.study.MaxTrialsCallback(TRIALS)])


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


WAYS = {
    "Sickbay": ours,
    "bare Ray Tune": bare,
    "plain Ray tasks": tasks,
    "Optuna with its journal": journal,
}


def main() -> int:
    """Measure, print, judge."""
    logging.getLogger("ray").setLevel(logging.ERROR)
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    for number in range(ROUNDS):
        for name, run in WAYS.items():
            # Each in a Ray of its own: after another run Tune often gets no further than one
            # worker, as it hands every next trial to the worker that is free already.
            with (
                ray_cluster.connected(ray_cluster.Cluster(cpus=CPUS)),
                tempfile.TemporaryDirectory() as folder,
            ):
                times[name].append(run(folder))
            print(f"round {number + 1}: {name} {times[name][-1]:.2f} s", flush=True)
    quickest = {name: min(seconds) for name, seconds in times.items()}
    sickbay, limit = quickest.pop("Sickbay"), LIMIT * quickest["bare Ray Tune"]
    named = f"{TRIALS} trials of {1000 * SECONDS:g} ms on {CPUS} CPUs"
    return tell(
        Figure(named, sickbay, "s", limit, peer=peer, peer_value=seconds)
        for peer, seconds in quickest.items()
    )


if __name__ == "__main__":
    sys.exit(main())
