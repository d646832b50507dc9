"""What the runner measures beside the rows, against clocks and memory that the test knows."""

import math
import subprocess
import sys

import pytest
import toy_sweeps

from sickbay.trials.contract import MACHINE_SIGNALS, Row, TaskFacts
from sickbay.trials.execution.machine import gpu
from sickbay.trials.execution.machine.meter import Meter
from sickbay.trials.execution.recorder import TrialLog
from sickbay.trials.history import History
from sickbay.trials.store import open_store
from sickbay.trials.store.reader import load_history, read_epoch_records

linux = pytest.mark.skipif(sys.platform != "linux", reason="memory in use is known on Linux")


def test_seconds_by_hand():
    times = iter([100.0, 103.0, 103.5, 110.0])
    measured = Meter(clock=lambda: next(times))
    measured.begin(step=40)
    first, second, third = (measured.read(step) for step in (50, 50, 60))
    assert (first["evaluation_seconds"], first["step_seconds"]) == (3.0, 0.3)
    assert (second["evaluation_seconds"], "step_seconds" in second) == (0.5, False)
    assert (third["evaluation_seconds"], third["step_seconds"]) == (6.5, 0.65)


MEMORY = """
import os, subprocess, sys
from sickbay.trials.execution.machine.meter import Meter

def host():
    return Meter().read(1)["host_memory"]

before = host()
mine = bytearray(os.urandom(1) * (256 << 20))
print(host() - before)
del mine
before = host()
code = "import sys; x = bytearray(b'1' * (256 << 20)); print(1, flush=True); sys.stdin.read()"
pipe = subprocess.PIPE
with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe) as child:
    child.stdout.readline()
    print(host() - before)
print(host() - before)
"""


@linux
def test_memory_of_the_process_and_of_what_it_started():
    """In a process of its own: what other tests left would come and go while it measures."""
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, check=True)
    mine, with_child, after = map(float, done.stdout.split())
    assert mine == pytest.approx(0.25, abs=0.05)
    assert with_child > 0.25
    assert after == pytest.approx(0.0, abs=0.1)


def test_rows_and_label_know_nothing_of_the_machine(tmp_path):
    """Two runs of one trial: equal rows, equal label and hash; other seconds."""
    found = []
    for place in ("a", "b"):
        record = toy_sweeps.run(tmp_path / place)
        store, trial = open_store(str(tmp_path / place)), record.trial.trial_id
        records = read_epoch_records(store, "s", trial)
        history = load_history(store, "s", trial)
        assert {"step_seconds", "evaluation_seconds"} <= set(history.names)
        assert not set(MACHINE_SIGNALS) & {name for one in records for name in one.row.signals}
        total = sum(one.machine["evaluation_seconds"] for one in records)
        assert 0.0 < total <= record.wall_seconds
        found.append((toy_sweeps.comparable([(0, one.row) for one in records]), record.label))
    assert found[0] == found[1]


def test_a_digest_leaves_out_what_the_machine_has_done():
    def history(**machine):
        row = Row(1, 10, {"val_loss": 0.5, "val_accuracy": math.nan, **machine})
        return History([row], TaskFacts(), 1)

    assert history(step_seconds=0.1, host_memory=2.0).digest() == history().digest()


def test_what_a_workload_measures_itself_stands_beside_the_row(tmp_path):
    log = TrialLog(open_store(str(tmp_path)), "s", "t", 1, 0.0, 0.0)
    log.begin()
    log.take(Row(1, 4, {"val_loss": 0.5, "data_wait_share": 0.25, "step_seconds": 7.0}))
    [record] = log.records
    assert record.row.signals == {"val_loss": 0.5}
    assert (record.machine["data_wait_share"], record.machine["step_seconds"]) == (0.25, 7.0)


NVML = """
typedef struct { unsigned long long total, free, used; } memory;
typedef struct { unsigned gpu, memory; } rates;
typedef struct { unsigned long long time; union { unsigned u; double d; } value; } sample;
int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    *handle = (void *)(unsigned long)(index + 1);
    return index > 3;
}
int nvmlDeviceGetHandleByUUID(const char *name, void **handle) {
    *handle = (void *)(name[4] == 'a' ? 8ul : 9ul);
    return 0;
}
int nvmlDeviceGetMemoryInfo(void *handle, memory *found) {
    found->used = (unsigned long)handle << 30;
    found->total = 80ul << 30;
    return 0;
}
int nvmlDeviceGetUtilizationRates(void *handle, rates *found) { found->gpu = 7; return 0; }
int nvmlDeviceGetSamples(void *h, int kind, unsigned long long last, unsigned *type,
                         unsigned *count, sample *found) {
    if (kind != 1 || (unsigned long)h == 3) return 3;
    if (!found) { *count = 100; return 0; }
    *count = 4;
    for (unsigned i = 0; i < 4; i++) {
        found[i].time = 10 + i;
        found[i].value.u = 20 * (i + 1);
    }
    return 0;
}
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """A stand-in for NVIDIA's library: four GPUs with samples of 20, 40, 60 and 80 per cent."""
    folder = tmp_path_factory.mktemp("driver")
    (folder / "nvml.c").write_text(NVML)
    library = folder / "nvml.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, folder / "nvml.c"], check=True)
    return str(library)


@pytest.mark.parametrize(
    ("visible", "memory", "use"),
    [("0", 1.0, 0.5), ("1,2", 2.0, 0.5), ("2", 3.0, 0.07), ("GPU-a1", 8.0, 0.5), ("", 1.0, 0.5)],
)
def test_a_gpu_as_its_driver_describes_it(driver, monkeypatch, visible, memory, use):
    """The third has no samples, only a momentary rate."""
    monkeypatch.setattr(gpu, "LIBRARY", driver)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = gpu.visible_gpu()
    assert found.read() == {
        "gpu_utilisation": pytest.approx(use),
        "gpu_memory": memory,
        "gpu_memory_total": 80.0,
    }
    assert found.read()["gpu_utilisation"] == 0.07  # nothing new was sampled: the rate of now


def test_the_machine_is_looked_at_twice_a_second_at_most(driver, monkeypatch):
    """The stand-in's samples are new only once, so the second look reads the rate of now."""
    monkeypatch.setattr(gpu, "LIBRARY", driver)
    times = iter([0.0, 0.1, 0.2, 0.3, 0.7])
    measured = Meter(gpu.visible_gpu(), lambda: next(times))
    measured.begin()
    assert [measured.read(step)["gpu_utilisation"] for step in range(4)] == [0.5, 0.5, 0.5, 0.07]


def test_no_gpu_and_no_driver_are_no_signals(driver, monkeypatch):
    monkeypatch.setattr(gpu, "LIBRARY", "libnvidia-ml-that-is-not-here.so.1")
    assert gpu.visible_gpu() is None
    monkeypatch.setattr(gpu, "LIBRARY", driver)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    assert gpu.visible_gpu() is None
