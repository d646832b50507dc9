"""Faults that the toy workload plants on demand, so that every way to fail can be tested.

`setting fault=...` strikes at the epoch `fault_epoch`:

    none           nothing
    nan            the parameters become NaN and stay so
    raise          RuntimeError, in every attempt
    no_rows        the generator ends before its first row
    decreasing     a row whose epoch is below the one before
    no_objective   rows without `val_loss`, from the first
    slow           sleeps 200 ms in every epoch
    oom            MemoryError, in the first `fault_times` attempts
    die            SIGKILL to its own process, in the first `fault_times` attempts
    hang           waits for ever, and goes on after any exception
    deaf           waits for ever, and no signal gets it out
    leak           leaves 600 MiB behind in its process

Attempts are counted by marker files in the trial's work directory, which outlives an attempt.
"""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from sickbay.trials.contract import Config

FAULTS = (
    "none",
    "nan",
    "raise",
    "no_rows",
    "decreasing",
    "no_objective",
    "slow",
    "oom",
    "die",
    "hang",
    "deaf",
    "leak",
)
LEAKED: list[bytearray] = []
SLOW_SECONDS = 0.2


def strike(config: Config, epoch: int, workdir: str) -> None:
    """Do what the planted fault does to the process before `epoch` is trained."""
    fault = str(config["fault"])
    time.sleep(float(config["sleep_ms"]) / 1000 + (SLOW_SECONDS if fault == "slow" else 0.0))
    if epoch != config["fault_epoch"]:
        return
    if fault == "raise":
        raise RuntimeError(f"planted: the toy raises in epoch {epoch}")
    if fault == "oom" and _again(fault, config, workdir):
        raise MemoryError(f"planted: the toy is out of memory in epoch {epoch}")
    if fault == "die" and _again(fault, config, workdir):
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "leak":
        LEAKED.append(bytearray(b"x" * (600 * 2**20)))
    if fault in ("hang", "deaf"):
        _wait(deaf=fault == "deaf")


def _wait(*, deaf: bool) -> None:
    if deaf:
        signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
    while True:
        with suppress(Exception):
            time.sleep(3600)


def _again(fault: str, config: Config, workdir: str) -> bool:
    """Whether this attempt is still one of those that shall fail; leaves a marker if so."""
    folder = Path(workdir)
    folder.mkdir(parents=True, exist_ok=True)
    past = len(list(folder.glob(f"planted-{fault}-*")))
    if past >= int(config["fault_times"]):
        return False
    (folder / f"planted-{fault}-{past + 1}").touch()
    return True
