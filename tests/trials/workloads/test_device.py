"""What a GPU would wait for, and what it cannot do deterministically, counted on the CPU."""

import functools
import importlib
import math
import shutil
import sys
from dataclasses import is_dataclass

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from workload_runs import SYSTEMS

from sickbay.trials.workloads.shared.placement import Placement

WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "unique")
# Raise in torch's deterministic mode on a GPU.
UNSTEADY = (
    "adaptive_avg_pool2d_backward",
    "adaptive_max_pool2d_backward",
    "avg_pool3d_backward",
    "grid_sampler_2d_backward",
    "max_pool3d_with_indices_backward",
    "nll_loss2d_forward",
    "put_",
    "reflection_pad2d_backward",
    "replication_pad2d_backward",
    "upsample_bicubic2d_backward",
    "upsample_bilinear2d_backward",
    "upsample_linear1d_backward",
    "histc",
    "kthvalue",
    "cumsum",
    "scatter_reduce",
)
# Settings by which an epoch has 4 steps, and twice as many.
STEPS = {
    "orientation": ({"train_shapes": 4}, {"train_shapes": 8}),
    "crossmodal": ({"train_scenes": 32}, {"train_scenes": 64}),
    "pointwise": ({"train_scenes": 12}, {"train_scenes": 24}),
    "reweighting": ({"steps": 4}, {"steps": 8}),
    "longtail": ({"n_max": 40}, {"n_max": 80}),
}
ALIVE = {"orientation": {"initialization": "preset", "rotations": 16}, "longtail": {"warmup": 0.0}}


def from_optimizer():
    """Whether torch's optimiser is the caller: it reads its count of steps, which is on the CPU."""
    frame = sys._getframe()
    while frame is not None and "torch/optim/" not in frame.f_code.co_filename:
        frame = frame.f_back
    return frame is not None


class Seen(TorchDispatchMode):
    """Counts the operations that pass, by name, and indexing by a mask, which waits as well."""

    def __init__(self):
        super().__init__()
        self.counts = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        del types
        name = func.overloadpacket.__name__
        index = args[1] if name.startswith("index") and isinstance(args[1], (list, tuple)) else ()
        if any(entry is not None and entry.dtype == torch.bool for entry in index):
            name = "nonzero"
        if not (name == "_local_scalar_dense" and from_optimizer()):
            self.counts[name] = self.counts.get(name, 0) + 1
        return func(*args, **(kwargs or {}))


def epoch(system, **changes):
    """What the second epoch of a run does: all that is made once has been made by then."""
    runs = SYSTEMS[system]
    settings = runs.settings(**{**ALIVE.get(system, {}), **changes})
    rows = runs.workload.train(settings, runs.context())
    next(rows)
    with Seen() as seen:
        row = next(rows)
    return seen.counts, row.signals["train_steps"]


@pytest.mark.slow
@pytest.mark.parametrize("system", STEPS)
def test_no_step_waits_for_the_device(system):
    few, steps = epoch(system, **STEPS[system][0])
    many, more = epoch(system, **STEPS[system][1])
    assert more >= steps + 3
    for name in WAITS:
        assert many.get(name, 0) == few.get(name, 0), name
    for name in UNSTEADY:
        assert name not in many, name


@pytest.mark.parametrize("system", STEPS)
def test_coarser_arithmetic_is_a_setting_that_leaves_nothing_behind(system):
    runs = SYSTEMS[system]
    alive = ALIVE.get(system, {})
    exact, coarse = (
        runs.run(epochs=2, precision=precision, **alive) for precision in ("float32", "bf16")
    )
    assert torch.get_float32_matmul_precision() == "highest"
    assert not torch.is_autocast_enabled("cpu")
    for row in coarse:
        assert math.isfinite(row.signals["val_loss"])
    name = "val_loss" if system == "orientation" else "train_loss"
    assert coarse[-1].signals[name] != exact[-1].signals[name]
    assert coarse[-1].signals[name] == pytest.approx(exact[-1].signals[name], rel=0.5, abs=0.05)
    with pytest.raises(ValueError, match="precision: 'half' is not known; choose one of float32"):
        runs.run(epochs=1, precision="half")


@pytest.mark.parametrize("system", STEPS)
def test_streamed_data_give_the_rows_of_data_on_the_device(system):
    runs = SYSTEMS[system]
    rows = [runs.run(epochs=2, data=place) for place in ("device", "stream")]
    assert runs.same(*rows)
    with pytest.raises(ValueError, match="data: 'disk' is not known; choose one of device, stream"):
        runs.run(epochs=1, data="disk")


def test_what_is_streamed_stays_on_the_host_and_each_batch_goes_to_the_device():
    """`meta` stands in for a GPU: a device of its own, which holds no values."""
    place = Placement("meta", "cpu")
    assert place.keep(torch.ones(3)).device.type == "cpu"
    batches = [(torch.ones(2), torch.ones(1)), (torch.ones(2), torch.ones(1, device="meta"))]
    for batch in place.sent(batches):
        assert [part.device.type for part in batch] == ["meta", "meta"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's compiler warns of its own doings
@pytest.mark.parametrize("system", STEPS)
def test_torch_can_trace_what_is_compiled(system, monkeypatch):
    """Without the translation to C++, which takes minutes."""
    from torch._dynamo.utils import counters  # seconds, which the other tests need not wait

    counters.clear()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    runs = SYSTEMS[system]
    plain, traced = (runs.run(epochs=1, compile=wanted) for wanted in (False, True))
    assert counters["stats"]["unique_graphs"] > 0
    losses = [rows[0].signals["train_loss"] for rows in (plain, traced)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
def test_a_compiled_net_trains_as_the_others_do():
    runs = SYSTEMS["crossmodal"]
    plain, compiled = (runs.run(epochs=1, compile=wanted) for wanted in (False, True))
    assert compiled[0].signals.keys() == plain[0].signals.keys()
    for name in ("train_loss", "val_loss"):
        assert compiled[0].signals[name] == pytest.approx(plain[0].signals[name], rel=1e-2)


def test_compiling_is_refused_where_no_compiler_is(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match=r"compile: torch\.compile needs a C\+\+ compiler"):
        SYSTEMS["crossmodal"].run(epochs=1, compile=True)


MAKERS = {
    "orientation": ("_data", "orientation_data"),
    "crossmodal": ("_data", "crossmodal_data"),
    "pointwise": ("_data", "point_scenes"),
    "reweighting": ("_splits", "detection_data"),
    "longtail": ("_data", "longtail_data"),
}


@pytest.mark.parametrize("system", STEPS)
def test_data_are_generated_once_on_a_machine_and_are_the_same_kept_or_made(system, monkeypatch):
    runs, (name, generator) = SYSTEMS[system], MAKERS[system]
    module = importlib.import_module(f"sickbay.trials.workloads.{system}")
    spec = module._spec(runs.settings(), runs.context(seed=77))
    data = getattr(module, name).__wrapped__  # as a process that has no data yet
    made = getattr(module, generator)(spec)
    first = data(spec)
    monkeypatch.setattr(module, generator, None)
    kept = data(spec)
    assert parts(made) == parts(first) == parts(kept)


def parts(data):
    """All numbers of nested dataclasses, tuples, tensors and arrays, as bytes."""
    if hasattr(data, "numpy"):
        return data.contiguous().numpy().tobytes()
    if hasattr(data, "tobytes"):
        return data.tobytes()
    if isinstance(data, tuple):
        return [parts(part) for part in data]
    return {key: parts(part) for key, part in vars(data).items()} if is_dataclass(data) else data
