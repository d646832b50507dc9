"""The time that a loop waits for its data, on a clock that the test sets."""

import pytest

from sickbay.trials.execution.machine.loader import LoaderClock


def test_waiting_and_working_by_hand():
    now = 0.0

    def loader():
        nonlocal now
        for batch in range(3):
            now += 2.0  # reads
            yield batch
        now += 1.0  # looks for a fourth

    clock = LoaderClock(lambda: now)
    seen = []
    for batch in clock.batches(loader()):
        now += 5.0  # trains
        seen.append(batch)
    assert seen == [0, 1, 2]
    assert clock.finish() == {"data_wait_share": pytest.approx(7.0 / 22.0)}
    assert clock.finish() == {}


def test_a_loop_that_ends_early_is_timed_as_far_as_it_went():
    now = 0.0

    def loader():
        nonlocal now
        while True:
            now += 1.0
            yield now

    clock = LoaderClock(lambda: now)
    for batch in clock.batches(loader()):
        now += 3.0
        if batch > 4.0:
            break
    assert clock.finish() == {"data_wait_share": pytest.approx(2.0 / 5.0)}
