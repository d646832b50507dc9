"""Drivers of submitted sweeps: each is a separate process, `sickbay resume SWEEP`.

A driver needs the store and a Ray but no parent: the service may restart while sweeps run.
`LocalLauncher` starts one on this machine, `ray_jobs.RayLauncher` as a job of a Ray cluster.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from sickbay.service.query.lookup import SweepError
from sickbay.service.sweeps.prepare import Prepared, enlist
from sickbay.service.sweeps.remote import jobs_api
from sickbay.service.sweeps.runner import ask
from sickbay.service.sweeps.turns import QUEUED, own_folder
from sickbay.trials.execution.lease import driven, driver
from sickbay.trials.store import SweepRecord, write_sweep
from sickbay.trials.store.files import Store, checked
from sickbay.trials.store.reader import read_sweep

MAIN = "from sickbay.service.cli.app import main; main()"
TURN = "from sickbay.service.sweeps.turns import main; main()"
KILL_SECONDS = 30.0  # that a driver is given to end by itself
_submitting: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)  # by sweep


class Launcher(Protocol):
    """Starts drivers and reads their logs."""

    def start(self, store: Store, sweep_id: str) -> None:
        """Start a driver for a stored sweep; raises SweepError if that fails."""

    def kill(self, store: Store, sweep_id: str) -> None:
        """Kill a driver that does not end by itself; it may be gone already."""

    def log(self, store: Store, sweep_id: str, offset: int) -> bytes:
        """The log of the sweep's drivers from a byte offset; empty if there is none."""

    def gone(self, store: Store, sweep_id: str) -> str | None:
        """Why a queued sweep's driver will never start; None while it may."""

    def pending(self, sweep_id: str) -> bool:
        """Whether a driver of a queued sweep is starting or waiting."""


@dataclass(frozen=True)
class LocalLauncher:
    """Starts drivers as local processes, which outlive this one.

    `address` is the Ray that they use (None: each starts its own, with `cpus` cores).
    """

    address: str | None = None
    cpus: int | None = None
    _children: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict, compare=False)

    def start(self, store: Store, sweep_id: str) -> None:
        """Start a driver in its own session, its output appended to the sweep's log."""
        command = [sys.executable, "-c", MAIN, "resume", sweep_id, "--trust-code"]
        command += ["--store", store.absolute]
        if self.address:
            command += ["--address", self.address]
        else:
            command += ["--cpus", str(self.cpus)] if self.cpus else []
            turn = [sys.executable, "-c", TURN, str(self._places()), store.absolute, sweep_id]
            command = [*turn, *command]
        path = log_file(store, sweep_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as log:
            log.write(f"-- {time.strftime('%F %T')} sickbay resume {sweep_id}\n".encode())
            log.flush()
            self._children[sweep_id] = subprocess.Popen(  # noqa: S603  our own command
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _places(self) -> int:
        """How many local Rays may run at once on this machine."""
        return max(1, (os.cpu_count() or 1) // self.cpus) if self.cpus else 1

    def pending(self, sweep_id: str) -> bool:
        """Whether a driver that this process started still runs, or waits for its turn."""
        child = self._children.get(sweep_id)
        return child is not None and child.poll() is None

    def kill(self, store: Store, sweep_id: str) -> None:
        """Interrupt the driver, also one about to begin; kill it after half a minute.

        A driver on another machine is left alone: it only sees the request.
        """
        process, child = driver(store, sweep_id), self._children.get(sweep_id)
        if process is None or not process.alive:
            if child is not None and child.poll() is None:
                _end(child)
            return
        if process.host != socket.gethostname():
            return
        ends = time.monotonic() + KILL_SECONDS
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process.pid, signal.SIGTERM)
            while time.monotonic() < ends and driven(store, sweep_id):
                time.sleep(0.5)
            if driven(store, sweep_id):
                os.kill(process.pid, signal.SIGKILL)

    def log(self, store: Store, sweep_id: str, offset: int) -> bytes:
        """Read the sweep's log from a byte offset."""
        child = self._children.get(sweep_id)
        if child is not None:
            child.poll()  # a driver that has ended should be no zombie
        with contextlib.suppress(FileNotFoundError), log_file(store, sweep_id).open("rb") as log:
            log.seek(offset)
            return log.read()
        return b""

    def gone(self, store: Store, sweep_id: str) -> str | None:
        """A driver of this process that ended during startup."""
        del store
        child = self._children.get(sweep_id)
        code = None if child is None else child.poll()
        return None if code is None else f"its driver exited during startup, with exit code {code}"


def launcher_at(
    address: str | None, cpus: int | None = None, runtime_env: Mapping[str, Any] | None = None
) -> Launcher:
    """Ray jobs for an address of a Jobs API, else processes of this machine."""
    jobs = jobs_api(address)
    if jobs is None:
        return LocalLauncher(address, cpus)
    from sickbay.service.sweeps.ray_jobs import RayLauncher  # noqa: PLC0415  Ray takes seconds

    return RayLauncher(jobs, runtime_env or {})


def submit(prepared: Prepared, launcher: Launcher) -> str:
    """Accept a sweep and start its driver; returns its state.

    Idempotent: a running or waiting sweep goes on, and of an ended one only what is missing is run.
    """
    with _submitting[prepared.sweep_id]:
        return _submit(prepared, launcher)


def _submit(prepared: Prepared, launcher: Launcher) -> str:
    if driven(prepared.store, prepared.sweep_id):
        return "running"
    known = read_sweep(prepared.store, prepared.sweep_id)
    if known is not None and known.state == QUEUED and launcher.pending(prepared.sweep_id):
        return QUEUED
    if prepared.left == 0:
        return enlist(prepared, "finished").state
    record = enlist(prepared, QUEUED)
    try:
        launcher.start(prepared.store, prepared.sweep_id)
    except (OSError, SweepError):
        write_sweep(prepared.store, replace(record, state="interrupted"))  # it has no driver
        raise
    return record.state


def cancel(store: Store, record: SweepRecord, launcher: Launcher) -> None:
    """End a sweep, also a queued one: its driver gets 30 seconds, then it is killed.

    Raises SweepError for a sweep that neither runs nor waits.
    """
    if not withdraw(store, record, launcher, "cancelled"):
        ask(store, record.sweep_id, "cancel")
        insist(store, record.sweep_id, launcher)


def withdraw(store: Store, record: SweepRecord, launcher: Launcher, state: str) -> bool:
    """End a sweep whose driver has not started, and set its state; False for any other."""
    if record.state != QUEUED or driven(store, record.sweep_id):
        return False
    launcher.kill(store, record.sweep_id)
    if driven(store, record.sweep_id):
        return False  # it has begun in this moment, and can be asked
    write_sweep(store, replace(record, state=state, finished_at=time.time()))
    return True


def insist(store: Store, sweep_id: str, launcher: Launcher) -> None:
    """Give a driver 30 seconds to end, then kill it; over as soon as the sweep has no driver."""
    ends = time.monotonic() + KILL_SECONDS
    while driven(store, sweep_id):
        if time.monotonic() >= ends:
            launcher.kill(store, sweep_id)
            return
        time.sleep(0.5)


def _end(child: "subprocess.Popen[bytes]") -> None:
    """End a process that nothing depends on yet."""
    child.terminate()
    try:
        child.wait(KILL_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def log_file(store: Store, sweep_id: str) -> Path:
    """Path of a local driver's log: in a local store, else in a folder of ours."""
    name = f"{checked(sweep_id, 'sweep')}.log"
    if store.is_local:
        return Path(store.root) / "_logs" / name
    return own_folder("sickbay-logs") / name
