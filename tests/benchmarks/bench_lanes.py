"""Short trials on two lanes: time against the ideal, pace from first to last, memory of the driver.

`python tests/benchmarks/bench_lanes.py [TRIALS MILLISECONDS]`: without arguments 1,000 trials of
50 ms, 10,000 of 10 ms, and 20,000 that do not sleep, for the memory. The ideal is their sleep on
two CPUs; the limits are 1.10 x ideal + 3 s and 1.3 x ideal + 5 s. A trial is five rows of the toy,
diagnosed and stored as any. Give it a quiet machine (six minutes), and exit code 1 says that a
figure is over its limit.
"""

import os
import resource
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

TESTS = Path(__file__).parents[1]
PATHS = [str(TESTS / "plugin_demo"), str(Path(__file__).parent)]
sys.path[:0] = PATHS
os.environ["PYTHONPATH"] = os.pathsep.join(PATHS)  # for the workers
os.environ.setdefault("OMP_NUM_THREADS", "1")

from figures import Figure, tell  # noqa: E402

from sickbay.trials import registry  # noqa: E402
from sickbay.trials.events import TrialEnded  # noqa: E402
from sickbay.trials.execution import ray_cluster  # noqa: E402
from sickbay.trials.execution.fair_share import TrialShare  # noqa: E402
from sickbay.trials.execution.ray_lanes.run import run_jobs  # noqa: E402
from sickbay.trials.execution.ray_tune import RunOptions  # noqa: E402
from sickbay.trials.execution.trial import TrialJob  # noqa: E402
from sickbay.trials.spec import check_spec, parse_spec, plan  # noqa: E402

CPUS = 2
GROWTH = 1.0  # kB of the driver's memory for each trial
Size = tuple[int, float, tuple[float, float] | None]  # trials, ms, the limit: times, seconds
SIZES: tuple[Size, ...] = (
    (1_000, 50.0, (1.10, 3.0)),
    (10_000, 10.0, (1.3, 5.0)),
    (20_000, 0.0, None),
)


def jobs(trials: int, milliseconds: float, folder: str) -> list[TrialJob]:
    """So many trials of the sleeper."""
    workload = registry.workload("sleeper:WORKLOAD")
    raw = {"name": "bench", "workload": "sleeper:WORKLOAD", "seeds": trials}
    raw |= {"fixed": {"sleep_ms": milliseconds}}
    spec = check_spec(parse_spec(raw), workload)
    made = TrialJob(folder, "bench", plan.plan(spec, workload).trials[0], "baseline",
                    workload.objective, "")  # fmt: skip
    return [
        replace(made, trial=trial, workdir=f"{folder}/{trial.seed}")
        for trial in plan.plan(spec, workload).trials
    ]


def measure(trials: int, milliseconds: float) -> tuple[float, list[float], list[int]]:
    """Seconds in all, when each trial ended, and the driver's peak memory (kB) then."""
    ends: list[float] = []
    memory: list[int] = []

    def count(event: object) -> None:
        if isinstance(event, TrialEnded):
            assert event.state == "completed", event
            ends.append(time.perf_counter())
            memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)

    with (
        ray_cluster.connected(ray_cluster.Cluster(cpus=CPUS)),
        tempfile.TemporaryDirectory() as folder,
    ):
        planned = jobs(trials, milliseconds, folder)
        began = time.perf_counter()
        run_jobs(planned, RunOptions(TrialShare(), count, 2, lambda: False))
        seconds = time.perf_counter() - began
    assert len(ends) == trials
    return seconds, ends, memory


def main(sizes: tuple[Size, ...]) -> int:
    """Measure each size, print its figures, judge."""
    code = 0
    for trials, milliseconds, bound in sizes:
        seconds, ends, memory = measure(trials, milliseconds)
        ideal, tenth = trials * milliseconds / 1000 / CPUS, trials // 10
        limit = None if bound is None else bound[0] * ideal + bound[1]
        first = (ends[2 * tenth] - ends[tenth]) / tenth * 1000 * CPUS
        last = (ends[-1] - ends[-1 - tenth]) / tenth * 1000 * CPUS
        grown = (memory[-1] - memory[tenth]) / (trials - tenth)
        size = f"{trials:,} trials of {milliseconds:g} ms on {CPUS} CPUs"
        code |= tell(
            [
                Figure(size, seconds, "s", limit, peer="ideal", peer_value=ideal or None),
                Figure(f"{size}: one of the last tenth", last, "ms", None, False, "second", first),
                Figure(f"{size}: growth of the driver a trial", grown, "kB", GROWTH),
            ]
        )
    return code


if __name__ == "__main__":
    one: Size | None = None
    if sys.argv[2:]:
        one = (int(sys.argv[1]), float(sys.argv[2]), (1.3, 5.0))
    sys.exit(main((one,) if one else SIZES))
