"""The lease of a sweep: one driver at a time, known by a heartbeat in the store.

A driver's lease is named in its heartbeat and passed to its workers. A driver that finds another
lease was taken for dead: it stops writing and ends. Clocks of two machines are never compared;
before a remote driver counts as dead, its heartbeat is watched. A heartbeat also states what the
driver could use of a shared cluster. A sweep whose row says `running` without a live heartbeat was
interrupted.
"""

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

from sickbay.trials.execution.fair_share import LOOK_SECONDS, Claim
from sickbay.trials.store.files import (
    Store,
    StoreError,
    is_id,
    list_folder,
    parts_root,
    read_file,
    remove_empty,
    remove_file,
    sweep_parts,
    write_file,
)
from sickbay.trials.store.writer import request

BEAT_SECONDS = 5.0
WATCH_SECONDS = 3 * BEAT_SECONDS  # that a heartbeat from elsewhere is watched before it is dead
SETTLE_SECONDS = 0.2  # longer than a beat takes to be written
SILENCE_SECONDS = 60.0  # after which a driver counts as gone; its process's number may be reused


class AlreadyDrivenError(RuntimeError):
    """Another process drives this sweep at this moment."""


class LeaseLostError(StoreError):
    """Another driver has taken the sweep over: this one and its workers may not write any more."""


@dataclass(frozen=True)
class Driver:
    """A process that drives a sweep, and when it last said so (seconds since 1970).

    `claim` is what it could use of a cluster that others may use, too; `lease` is its own.
    """

    host: str
    pid: int
    at: float
    claim: Claim | None = None
    lease: str = ""

    @property
    def alive(self) -> bool:
        """Whether the process still runs, as far as this host can see."""
        if abs(time.time() - self.at) > SILENCE_SECONDS:
            return False
        if self.host != socket.gethostname():
            return True
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True  # it exists, and belongs to another user
        return True


class LeaseKeeper:
    """Says that a driver lives and what it claims; once it claims anything, sees who else does."""

    def __init__(self, store: Store, sweep_id: str, lease: str) -> None:
        """Begin without a claim: a private Ray is not shared."""
        self._store, self._sweep_id, self.lease = store, sweep_id, lease
        self._loss: LeaseLostError | None = None  # how another driver has taken over
        self._claim: Claim | None = None
        self._written: Claim | None = None
        self._others: Mapping[str, Claim] = {}

    @property
    def lost(self) -> bool:
        """Whether another driver has taken over, as far as this one has noticed."""
        return self._loss is not None

    def claim(self, claim: Claim) -> None:
        """Say from the next beat on what this driver could use."""
        first, self._claim = self._claim is None, claim
        if first:  # other drivers should see it at once, and this one them
            with contextlib.suppress(OSError):
                self.beat()
                self.look()

    def release(self) -> None:
        """Claim nothing any more: what is still to be done takes no part of a cluster."""
        if self._claim is not None:
            self._claim = None
            with contextlib.suppress(OSError):  # the next beat says it
                self.beat()

    def others(self) -> Mapping[str, Claim]:
        """The claims of all other living drivers of this store, as last seen, by their sweeps."""
        return self._others

    def check(self) -> None:
        """Raise LeaseLostError if another driver has taken over; call it before writing."""
        if self._loss is None:
            self._loss = self._find_loss()
        if self._loss is not None:
            raise self._loss

    def _find_loss(self) -> LeaseLostError | None:
        try:
            check_lease(self._store, self._sweep_id, self.lease)
        except LeaseLostError as error:
            return error
        if driver(self._store, self._sweep_id) is not None:
            return None
        return LeaseLostError(
            f"the heartbeat of the sweep {self._sweep_id} is gone: another driver has taken it "
            "over and come to its end, as this one was silent for too long"
        )

    def beat(self) -> None:
        """Write the heartbeat; raises LeaseLostError if another driver's stands there."""
        self.check()
        self.begin()

    def begin(self) -> None:
        """Write the heartbeat, in place of that of any driver before."""
        claim = self._claim
        now = Driver(socket.gethostname(), os.getpid(), time.time(), claim, self.lease)
        path = _path(self._store, self._sweep_id)
        write_file(self._store, path, json.dumps(asdict(now)).encode())
        self._written = claim

    def look(self) -> None:
        """Read the other drivers' heartbeats."""
        names = [info.base_name for info in list_folder(self._store, parts_root(self._store))]
        others = [name for name in names if is_id(name) and name != self._sweep_id]
        drivers = {name: driver(self._store, name) for name in others}
        self._others = {
            name: other.claim
            for name, other in drivers.items()
            if other and other.claim and other.alive
        }

    def beat_until(self, over: threading.Event) -> None:
        """Beat and look until it is over."""
        beaten = time.monotonic()
        while not self.lost and not over.wait(LOOK_SECONDS):  # it may claim something any time
            # a store that fails for a moment must not end the sweep; the next beat tries again
            with contextlib.suppress(OSError):
                due = time.monotonic() - beaten >= BEAT_SECONDS - LOOK_SECONDS
                if due or self._claim != self._written:
                    beaten = time.monotonic()
                    self.beat()
                if self._claim:
                    self.look()


def driver(store: Store, sweep_id: str) -> Driver | None:
    """Who drives a sweep, or did when it was interrupted; None if there is no driver."""
    data = read_file(store, _path(store, sweep_id))
    if data is None:
        return None
    try:
        said = json.loads(data)
        claim = said.pop("claim", None)
        return Driver(**said, claim=Claim(**claim) if claim else None)
    except (ValueError, TypeError, AttributeError):
        return None  # half-written or foreign: no driver's


def check_lease(store: Store, sweep_id: str, lease: str) -> None:
    """Raise LeaseLostError if a sweep is under another lease; "" is under any."""
    owner = driver(store, sweep_id) if lease else None
    if owner is not None and owner.lease and owner.lease != lease:
        raise LeaseLostError(
            f"the sweep {sweep_id} was taken over by process {owner.pid} on {owner.host}, as this "
            f"driver's heartbeat was {SILENCE_SECONDS:g} s old: the sweep continues there"
        )


def driven(store: Store, sweep_id: str) -> bool:
    """Whether some living process drives a sweep."""
    owner = driver(store, sweep_id)
    return owner is not None and owner.alive


@contextlib.contextmanager
def driving(store: Store, sweep_id: str) -> Iterator["LeaseKeeper"]:
    """Be the driver of a sweep; raises AlreadyDrivenError while another process is."""
    owner = driver(store, sweep_id)
    mine = owner is not None and (owner.host, owner.pid) == (socket.gethostname(), os.getpid())
    if owner is not None and not mine and (owner.alive or _beats(store, sweep_id, owner)):
        raise AlreadyDrivenError(
            f"the sweep {sweep_id} is being run by process {owner.pid} on {owner.host}: "
            f"wait for it (`sickbay status {sweep_id}`), or end it (`sickbay cancel {sweep_id}`)"
        )
    lease = owner.lease if owner is not None and mine and owner.lease else uuid.uuid4().hex
    heart = LeaseKeeper(store, sweep_id, lease)
    heart.begin()
    _check_alone(store, sweep_id)
    over = threading.Event()
    beating = threading.Thread(target=heart.beat_until, args=(over,), daemon=True)
    beating.start()
    try:
        yield heart
    finally:
        over.set()
        beating.join()
        with contextlib.suppress(LeaseLostError):  # what stands there is another's
            heart.check()
            request(store, sweep_id, None)  # whatever was asked, this driver was asked
            remove_file(store, _path(store, sweep_id))
            remove_empty(store, sweep_parts(store, sweep_id))  # of a finished sweep nothing is left


def _beats(store: Store, sweep_id: str, owner: Driver) -> bool:
    """Whether a driver on another machine, whose clock may be any, still writes its heartbeat."""
    if owner.host == socket.gethostname():
        return False  # one clock, one table of processes: `alive` knows
    ends = time.monotonic() + WATCH_SECONDS
    while time.monotonic() < ends:
        time.sleep(SETTLE_SECONDS)
        if driver(store, sweep_id) != owner:
            return True
    return False


def _check_alone(store: Store, sweep_id: str) -> None:
    """Of two drivers that began in the same moment, let the one whose beat came last continue."""
    time.sleep(SETTLE_SECONDS)
    owner = driver(store, sweep_id)
    if owner is not None and (owner.host, owner.pid) != (socket.gethostname(), os.getpid()):
        raise AlreadyDrivenError(
            f"the sweep {sweep_id} was started at the same moment by process {owner.pid} on "
            f"{owner.host}, which continues it"
        )


def _path(store: Store, sweep_id: str) -> str:
    return f"{sweep_parts(store, sweep_id)}/driver.json"
