"""Drivers on one machine take turns, so that submissions do not start a Ray each."""

import tempfile
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from sickbay.service.sweeps import turns

PLACES, DRIVERS = 2, 6


def test_no_more_drivers_run_than_there_are_places(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(turns, "POLL_SECONDS", 0.01)
    running, seen, both = set(), [], Barrier(PLACES, timeout=60)

    def drive(number):
        with turns.wait_for_turn(PLACES):
            running.add(number)
            both.wait()  # as many as there are places do run at once
            seen.append(len(running))
            both.wait()
            running.discard(number)

    with ThreadPoolExecutor(DRIVERS) as pool:
        list(pool.map(drive, range(DRIVERS)))
    assert seen == [PLACES] * DRIVERS
