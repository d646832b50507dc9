"""`gpu: pack` on a real Ray whose GPU is a stand-in: what is measured, shared and repacked."""

import os
from pathlib import Path

import pandas as pd
import pytest
import ray
import shared_gpu

from sickbay.service.query.status import gpu_use, sharing_lines
from sickbay.service.sweeps.runner import Options, prepare, run
from sickbay.trials.errors import SpecError
from sickbay.trials.events import Retried, TrialEnded
from sickbay.trials.execution.machine.packing import GpuUse
from sickbay.trials.store import open_store


@pytest.fixture
def ray_with_a_gpu(monkeypatch):
    paths = [str(Path(shared_gpu.__file__).parent), os.environ["PYTHONPATH"]]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    ray.init("local", num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def spec(folder, gib, **changes):
    fixed = {"folder": str(folder)}
    resources = {"gpu": "pack", "cpu": 0.25}
    factors = {"gib": gib}
    base = {"name": "packed", "workload": "shared_gpu:WORKLOAD", "design": "grid", "seeds": 1}
    return base | {"factors": factors, "fixed": fixed, "resources": resources} | changes


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("wrapped", [False, True])
def test_trials_share_a_gpu_and_memory_that_runs_out_halves_their_number(
    tmp_path, ray_with_a_gpu, wrapped
):
    """36 GiB of 90 are measured: two share. 50 and 60 do not fit together: then one at a time."""
    store, events = str(tmp_path / "store"), []
    raw = spec(tmp_path, [36.0, 50.0, 60.0, 36.5])
    raw["fixed"]["wrapped"] = wrapped  # as an error of the user's own, or as torch's
    result = run(raw, store, Options(), events.append)
    assert (result.state, result.ran, result.failed) == ("finished", 4, 0)
    ended = [event.trial_id for event in events if isinstance(event, TrialEnded)]
    assert len(set(ended)) == len(ended) == 4
    assert any(isinstance(event, Retried) for event in events)
    table = pd.read_parquet(tmp_path / "store" / "trials")
    shares = dict(zip(table["gib"], table["gpu_seconds"] / table["wall_seconds"], strict=True))
    assert shares[36.0] == 1.0
    assert shares[36.5] in {0.5, 1.0}  # begun before memory ran out, or after
    assert {shares[50.0], shares[60.0]} == {0.5, 1.0}
    opened = open_store(store)
    largest = max(gib for gib, share in shares.items() if share == 1.0)
    assert gpu_use(opened, result.sweep_id) == GpuUse(peak=largest, total=90.0, busy=0.3)
    [line] = sharing_lines(opened, result.sweep_id, {"gpu": "pack"})
    assert line == "GPU: each trial gets 0.5 of one, so that 2 share it"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "changes",
    [
        {"early_stop": {"scheduler": "asha"}},
        {"early_stop": {"scheduler": "median"}},
        {"design": "tpe", "budget": {"trials": 4}},
        {"seeds": {"until": "resolved", "at_most": 4, "smallest_effect": 0.1}},
    ],
    ids=["asha", "median", "tpe", "sequential"],
)
def test_whatever_hands_out_trials_packs_them(tmp_path, ray_with_a_gpu, changes):
    """The first trial is measured alone, the others share."""
    store = str(tmp_path / "store")
    result = run(spec(tmp_path, [30.0, 31.0, 32.0, 33.0], **changes), store)
    assert (result.state, result.failed) == ("finished", 0)
    table = pd.read_parquet(tmp_path / "store" / "trials")
    shares = sorted(table["gpu_seconds"] / table["wall_seconds"])
    assert shares == [0.5] * (len(shares) - 1) + [1.0]
    assert len(shares) >= 4


def test_packing_measures_the_memory_that_a_spec_may_state_instead(tmp_path):
    both = spec(tmp_path, [36.0], resources={"gpu": "pack", "gpu_memory": 20})
    with pytest.raises(SpecError, match=r"resources\.gpu_memory: cannot be set beside `gpu: pack`"):
        prepare(both, str(tmp_path / "store"))


def test_a_plan_says_that_the_first_trial_is_measured(tmp_path):
    prepared = prepare(spec(tmp_path, [36.0]), str(tmp_path / "store"))
    [line] = sharing_lines(prepared.store, prepared.sweep_id, {"gpu": "pack"})
    assert line.startswith("GPU: the first trial gets a whole one and is measured")
    assert sharing_lines(prepared.store, prepared.sweep_id, {"gpu": "auto"}) == []
