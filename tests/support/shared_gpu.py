"""A workload on a stand-in for a GPU: files below `folder` say which trial holds how much of it."""

import fcntl
import os
import time
from pathlib import Path

from sickbay.trials.contract import Goal, Objective, Row, TaskFacts, Workload

TOTAL = 90.0


class OutOfMemoryError(RuntimeError):
    """As torch's."""


def _allocate(folder, gib, error):
    """Take memory; raise where there is not so much. Gives the file that holds it."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        held = [file for file in folder.glob("*.gib") if Path(f"/proc/{file.stem}").exists()]
        if sum(float(file.read_text()) for file in held) + gib > TOTAL:
            (folder / "refused").touch()
            raise error("CUDA out of memory. Tried to allocate more than there is")
        file = folder / f"{os.getpid()}.gib"
        file.write_text(str(gib))
        return file


def train(config, context):
    """Hold memory for two epochs; a trial of `large` or more, until another was refused some."""
    folder = Path(config["folder"])
    error = RuntimeError if config["wrapped"] else OutOfMemoryError
    file = _allocate(folder, config["gib"], error)
    try:
        ends = time.monotonic() + 60.0
        while config["gib"] >= config["large"] and not (folder / "refused").exists():
            assert time.monotonic() < ends, "no other trial came"
            time.sleep(0.05)
        for epoch in range(1, context.epochs + 1):
            machine = {"gpu_memory": config["gib"], "gpu_memory_total": TOTAL}
            yield Row(epoch, epoch, {"val_loss": 1.0 / epoch, "gpu_utilisation": 0.3, **machine})
    finally:
        file.unlink()


WORKLOAD = Workload(
    name="shared_gpu",
    version="1",
    doc="Holds memory of a GPU that is none.",
    defaults={"epochs": 2, "folder": "", "gib": 36.0, "large": 50.0, "wrapped": False},
    factors=(),
    objective=Objective("val_loss", Goal.MINIMIZE),
    train=train,
    facts=lambda config, context: TaskFacts(),
)
