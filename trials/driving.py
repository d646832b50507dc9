"""Who drives a sweep: one process at a time, known by a heartbeat in the store.

A driver that was killed leaves its last heartbeat behind; so a sweep whose row says `running` while
nobody's heart beats was interrupted.
"""

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from sickbay.trials.store_files import (
    Store,
    read_file,
    remove_empty,
    remove_file,
    sweep_parts,
    write_file,
)

BEAT_SECONDS = 5.0
SETTLE_SECONDS = 0.2  # longer than a beat takes to be written
SILENCE_SECONDS = 60.0  # after which a driver counts as gone; its process's number may be reused


class AlreadyDrivenError(RuntimeError):
    """Another process drives this sweep at this moment."""


@dataclass(frozen=True)
class Driver:
    """A process that drives a sweep, and when it last said so (seconds since 1970)."""

    host: str
    pid: int
    at: float

    @property
    def alive(self) -> bool:
        """Whether the process still runs, as far as can be told from here."""
        if time.time() - self.at > SILENCE_SECONDS:
            return False
        if self.host != socket.gethostname():
            return True
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True  # it exists, and belongs to somebody else
        return True


def driver(store: Store, sweep_id: str) -> Driver | None:
    """Who drives a sweep, or did when it was interrupted; None if nobody does."""
    data = read_file(store, _path(store, sweep_id))
    if data is None:
        return None
    try:
        return Driver(**json.loads(data))
    except (ValueError, TypeError):
        return None  # half-written or foreign: nobody's


def driven(store: Store, sweep_id: str) -> bool:
    """Whether some living process drives a sweep."""
    found = driver(store, sweep_id)
    return found is not None and found.alive


@contextlib.contextmanager
def driving(store: Store, sweep_id: str) -> Iterator[None]:
    """Be the driver of a sweep; raises AlreadyDrivenError while another process is."""
    found = driver(store, sweep_id)
    mine = found is not None and (found.host, found.pid) == (socket.gethostname(), os.getpid())
    if found is not None and found.alive and not mine:
        raise AlreadyDrivenError(
            f"the sweep {sweep_id} is being run by process {found.pid} on {found.host}: "
            f"wait for it (`sickbay status {sweep_id}`), or end it (`sickbay cancel {sweep_id}`)"
        )
    _beat(store, sweep_id)
    _check_alone(store, sweep_id)
    over = threading.Event()
    heart = threading.Thread(target=_beat_until, args=(store, sweep_id, over), daemon=True)
    heart.start()
    try:
        yield
    finally:
        over.set()
        heart.join()
        remove_file(store, _path(store, sweep_id))
        remove_empty(store, sweep_parts(store, sweep_id))  # of a finished sweep nothing is left


def _check_alone(store: Store, sweep_id: str) -> None:
    """Of two that began in the same moment the one whose beat came last goes on.

    Both wrote before they look again, and both then read the same last beat.
    """
    time.sleep(SETTLE_SECONDS)
    found = driver(store, sweep_id)
    if found is not None and (found.host, found.pid) != (socket.gethostname(), os.getpid()):
        raise AlreadyDrivenError(
            f"the sweep {sweep_id} was begun at the same moment by process {found.pid} on "
            f"{found.host}, which goes on with it"
        )


def _beat_until(store: Store, sweep_id: str, over: threading.Event) -> None:
    while not over.wait(BEAT_SECONDS):
        # a store that fails for a moment must not end the sweep; the next beat tries again
        with contextlib.suppress(OSError):
            _beat(store, sweep_id)


def _beat(store: Store, sweep_id: str) -> None:
    now = Driver(socket.gethostname(), os.getpid(), time.time())
    write_file(store, _path(store, sweep_id), json.dumps(asdict(now)).encode())


def _path(store: Store, sweep_id: str) -> str:
    return f"{sweep_parts(store, sweep_id)}/driver.json"
