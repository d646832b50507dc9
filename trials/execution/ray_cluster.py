"""The Ray that trials run on: connect to it, what it has, what one trial gets of it."""

import contextlib
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray._private import services
from ray.exceptions import AuthenticationError

from sickbay.trials.events import ResourceError
from sickbay.trials.execution.fair_share import TrialShare, gpu_fraction
from sickbay.trials.seeding import gpu_memory_gib


@dataclass(frozen=True)
class Cluster:
    """Where to run: at an address, or (None) on a local Ray with `cpus` cores, None meaning all."""

    address: str | None = None
    cpus: int | None = None


REACH_SECONDS = 6.0  # in which a Ray at an address has to answer; the command itself takes seconds
TAIL = 12  # lines of a dead worker's log
CRASH = r"\*\*\* SIG|Fatal Python error|terminate called|CUDA error|out of memory"
HANDLED = (signal.SIGINT, signal.SIGTERM)
# Ray's own limit for connecting to a raylet that it has started, where only Ray can see it die.
START_LIMIT = ("RAY_raylet_start_wait_time_s", "20")
VITAL = ("raylet", "gcs_server")  # the processes without which a local Ray is dead


class RayDiedError(ConnectionError):
    """The local Ray ended under the sweep."""


@contextlib.contextmanager
def connected(cluster: Cluster) -> Iterator[None]:
    """Connect to a cluster or start a local Ray, and leave it; a present connection is used."""
    if ray.is_initialized():
        yield
        return
    if cluster.address is not None:
        _check_reachable(cluster.address)
    else:
        os.environ.setdefault(*START_LIMIT)
    handlers = _signal_handlers()
    try:
        with _ended_by_a_death():
            ray.init(
                # without an address Ray would join whatever cluster was started here last
                address=cluster.address or "local",
                num_cpus=cluster.cpus if cluster.address is None else None,
                include_dashboard=False if cluster.address is None else None,
                log_to_driver=False,
                logging_level="ERROR",
                configure_logging=True,
            )
    except RayDiedError:
        raise
    except AuthenticationError as error:
        raise ConnectionError(
            f"the Ray at {cluster.address!r} refuses this token: set RAY_AUTH_MODE=token and "
            "RAY_AUTH_TOKEN to the cluster's, or RAY_AUTH_TOKEN_PATH to a file with it"
        ) from error
    except Exception as error:  # Ray raises whatever comes to it
        where = f"at {cluster.address!r}" if cluster.address else "on this machine"
        said = str(error).strip().partition("\n")[0]
        raise ConnectionError(f"cannot connect to a Ray {where}: {said}") from error
    for number, handler in handlers.items():  # Ray puts its own in their place
        signal.signal(number, handler)
    try:
        yield
    finally:
        ray.shutdown()


def check_alive() -> None:
    """Raise RayDiedError if a process of the local Ray that this process started has ended."""
    node = ray._private.worker._global_node  # noqa: SLF001  Ray itself says it nowhere else
    if node is None or not node.head:
        return
    dead = [kind for kind, _ in node.dead_processes() if kind in VITAL]
    if dead:
        raise RayDiedError(
            f"the local Ray has ended (its {dead[0]} is gone): what is missing runs with "
            "`sickbay resume`; the system log says who ended it, often the out-of-memory killer"
        )


@contextlib.contextmanager
def _ended_by_a_death() -> Iterator[None]:
    """Raise RayDiedError in here once a vital process that this one has started is dead.

    Ray itself waits for half a minute. Only the main thread can be interrupted, and only in Python:
    once Ray's C++ side connects, `START_LIMIT` holds.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def look(number: int, frame: Any) -> None:
        del number, frame
        dead = [name for name in _dead_children() if name in VITAL]
        if dead:
            raise RayDiedError(
                f"the local Ray has ended while it started (its {dead[0]} is gone): run the sweep "
                "again; the system log says who ended it, often the out-of-memory killer"
            )

    before = signal.signal(signal.SIGCHLD, look)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before or signal.SIG_DFL)


def _dead_children() -> Iterator[str]:
    """The names of the children of this process that are dead and not yet reaped, from /proc."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, rest = path.read_text().partition("(")[2].rpartition(") ")
            state, parent = rest.split()[:2]
            if state == "Z" and int(parent) == os.getpid():
                yield name


def last_words(pid: int) -> str:
    """What a dead worker of this machine wrote to its error log at last; "" if nothing is known."""
    node = ray._private.worker._global_node  # noqa: SLF001  Ray itself says it nowhere else
    if node is None:
        return ""
    for path in Path(node.get_logs_dir_path()).glob(f"worker-*-{pid}.err"):
        with contextlib.suppress(OSError):
            text = path.read_text(errors="replace")
            lines = [line for line in text.splitlines() if not line.startswith(":")]  # Ray's marks
            crash = [n for n, line in enumerate(lines) if re.search(CRASH, line)]
            return "\n".join(lines[crash[0] : crash[0] + TAIL] if crash else lines[-TAIL:])
    return ""


def _check_reachable(address: str) -> None:
    """Raise ConnectionError if nothing answers at a Ray's address within seconds.

    Ray itself would go on asking for a quarter of an hour.
    """
    try:
        resolved = services.canonicalize_bootstrap_address(address)
    except (ConnectionError, ValueError, OSError) as error:
        raise ConnectionError(
            f"no Ray at {address!r}: start one with `ray start --head`, give the head's address as "
            "host:6379, or leave out --address"
        ) from error
    if resolved is None:
        return
    host, _, port = resolved.rpartition(":")
    ends = time.monotonic() + REACH_SECONDS
    while True:
        try:
            with socket.create_connection((host.strip("[]"), int(port)), REACH_SECONDS):
                return
        except OSError as error:
            if time.monotonic() >= ends:
                raise ConnectionError(
                    f"no Ray answers at {resolved if address == 'auto' else address!r} ({error}): "
                    "give the head's address as host:6379"
                ) from error
        time.sleep(0.5)


def _signal_handlers() -> dict[int, Any]:
    """The handlers of signals that end a program; only the main thread has any to put back."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    handlers = {number: signal.getsignal(number) for number in HANDLED}
    return {number: handler for number, handler in handlers.items() if handler is not None}


def share_of(cpu: float, gpu: float | str, gpu_memory: float | None, wanted: float) -> TrialShare:
    """Settle what a trial gets; `gpu` "auto" is `wanted` (or 1) where the cluster has GPUs, else 0.

    "pack" starts with a whole GPU. With `gpu_memory` (GiB), as many trials share one as that
    allows.
    """
    has_gpu = ray.cluster_resources().get("GPU", 0.0) > 0
    chosen = {"auto": (wanted or 1.0) * has_gpu, "pack": 1.0}
    gpus = chosen[gpu] if isinstance(gpu, str) else gpu
    if gpu_memory is not None and gpus > 0 and has_gpu:
        total = ray.get(ray.remote(num_gpus=0.01)(gpu_memory_gib).remote())
        gpus = gpu_fraction(total, gpu_memory)
    return TrialShare(cpu, gpus)


def check_fits(share: TrialShare) -> None:
    """Raise ResourceError if this Ray, which does not grow, can never run even one trial."""
    total = ray.cluster_resources()
    instead = {"CPU": "ask for less", "GPU": "`auto` runs trials on cores where there is none"}
    for kind, wanted in (("CPU", share.cpu), ("GPU", share.gpu)):
        if wanted > total.get(kind, 0.0):
            raise ResourceError(
                f"resources.{kind.lower()}: a trial needs {wanted:g} and the local Ray has "
                f"{total.get(kind, 0.0):g}; {instead[kind]}, or run on a cluster (--address)"
            )


def cluster_resources() -> dict[str, float]:
    """What the connected Ray has at this moment, by Ray's names."""
    return dict(ray.cluster_resources())


def cluster_address() -> str:
    """The connected Ray's own address, the same for all its clients."""
    return str(ray.get_runtime_context().gcs_address)
