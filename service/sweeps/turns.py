"""Submitted sweeps on one machine take turns, as each local Ray takes all its cores.

A driver holds a file lock on one of the machine's places, which the kernel releases however the
driver ends.
"""

import fcntl
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TextIO

from sickbay.trials.store import open_store
from sickbay.trials.store.files import private_folder
from sickbay.trials.store.reader import read_sweep

POLL_SECONDS = 0.5
QUEUED = "queued"  # submitted, and no driver has begun yet


def main() -> None:
    """Wait for a turn and become the driver. Arguments: places, store, sweep, the command."""
    places, store_uri, sweep_id, *command = sys.argv[1:]
    turn = wait_for_turn(int(places))
    record = read_sweep(open_store(store_uri), sweep_id)
    if record is None or record.state != QUEUED:
        sys.stdout.write(f"{sweep_id} is no longer queued: nothing to do\n")
        return
    fcntl.fcntl(turn, fcntl.F_SETFD, 0)  # the place stays taken after exec, until the driver ends
    os.execv(command[0], command)  # noqa: S606  our own command, under the same process id


def wait_for_turn(places: int) -> TextIO:
    """Wait for one of the places; it is held until the returned file is closed."""
    folder = own_folder("sickbay-turns")
    with (folder / "queue").open("w") as queue:
        fcntl.flock(queue, fcntl.LOCK_EX)  # one at a time looks for a place, the others wait here
        while True:
            for place in range(places):
                file = (folder / f"place-{place}").open("w")
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    file.close()
                    continue
                return file
            time.sleep(POLL_SECONDS)


def own_folder(name: str) -> Path:
    """A folder of this user in the temporary one; StoreError if another user owns it."""
    return private_folder(Path(tempfile.gettempdir()) / f"{name}-{os.getuid()}")
