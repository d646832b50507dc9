"""Sweeps of a store: found by name, with their spec and current state."""

import json
from typing import Any

from sickbay.trials.errors import nearest
from sickbay.trials.execution.lease import driven
from sickbay.trials.store import Store, SweepRecord
from sickbay.trials.store.reader import list_sweeps, read_sweep, sweep_problems


class SweepError(ValueError):
    """There is no such sweep, or the request does not apply to it; the message says what to do."""


def find_sweep(store: Store, word: str) -> SweepRecord:
    """Find a sweep by its id, its name or a prefix of either; of equal names the latest.

    Raises SweepError if there is none, or if the beginning fits several names.
    """
    records = list_sweeps(store)  # latest first
    exact = [record for record in records if word in (record.sweep_id, record.name)]
    if exact:
        return exact[0]
    matches = [record for record in records if record.sweep_id.startswith(word)] if word else []
    if len({record.name for record in matches}) == 1:
        return matches[0]
    names = [record.sweep_id for record in records]
    close = nearest(word, [*names, *(record.name for record in records)])
    some = ", ".join(record.sweep_id for record in matches) if matches else ", ".join(names[:10])
    problems = "".join(f" Damaged: {problem}." for problem in sweep_problems(store))
    raise SweepError(
        (f"{len(matches)} sweeps begin with {word!r}: " if matches else f"no sweep {word!r}. ")
        + (f"Did you mean {close!r}? " if close and not matches else "")
        + (some if matches else f"In {store.shown}: {some or 'none yet'}.")
        + problems
    )


def stored_spec(store: Store, sweep_id: str) -> dict[str, Any]:
    """The spec of a stored sweep, as it was last submitted."""
    record = read_sweep(store, sweep_id)
    if record is None:
        raise SweepError(f"no sweep {sweep_id!r} in this store")
    spec: dict[str, Any] = json.loads(record.spec)
    return spec


def state_of(store: Store, record: SweepRecord) -> str:
    """The current state: a sweep stored as `running` without a live driver is `interrupted`."""
    if record.state not in ("queued", "running"):
        return record.state
    if driven(store, record.sweep_id):
        return "running"
    if record.state == "queued":
        return record.state
    again = read_sweep(store, record.sweep_id)  # it may have ended between the two readings
    return "interrupted" if again is None or again.state == "running" else again.state
