"""Train a workload as the runner does, but without a store, and compare two runs bit by bit."""

import math
import struct
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from sickbay.trials.contract import Config, Context, Row, SignalValue, TaskFacts, Workload
from sickbay.trials.seeding import seed_everything


@dataclass
class Rehearsal:
    """One run: its rows, its facts, and the checkpoint after n rows under the key n."""

    rows: list[Row] = field(default_factory=list)
    facts: TaskFacts = field(default_factory=TaskFacts)
    checkpoints: dict[int, bytes] = field(default_factory=dict)


def rehearse(
    workload: Workload, config: Config, seed: int, *, restored: bytes | None = None
) -> Rehearsal:
    """Train to the end on the CPU, in a fresh work directory; `restored` is a checkpoint."""
    run = Rehearsal()
    offered: list[Callable[[], bytes]] = []
    with context_for(config, seed, restored, offered.append) as context:
        seed_everything(seed)
        run.facts = workload.facts(config, context)
        seed_everything(seed)
        for row in workload.train(config, context):
            run.rows.append(row)
            if offered:  # made while the generator waits at its row
                run.checkpoints[len(run.rows)] = offered[-1]()
                offered.clear()
    return run


@contextmanager
def context_for(
    config: Config,
    seed: int,
    restored: bytes | None = None,
    save: Callable[[Callable[[], bytes]], None] = lambda make: None,  # noqa: ARG005 - Context's words
) -> Iterator[Context]:
    """Return a context on the CPU whose work directory lasts as long as the `with` block."""
    with tempfile.TemporaryDirectory(prefix="sickbay-rehearsal-") as workdir:
        yield Context(seed, int(config["epochs"]), "cpu", workdir, lambda: restored, save)


def difference_of(rows: Sequence[Row], other: Sequence[Row]) -> str:
    """Describe the first difference of two runs, bit by bit; empty if equal. NaN equals NaN."""
    for mine, theirs in zip(rows, other, strict=False):
        if (mine.epoch, mine.step) != (theirs.epoch, theirs.step):
            return f"epoch {mine.epoch}, step {mine.step} against {theirs.epoch}, {theirs.step}"
        for key in sorted(mine.signals.keys() | theirs.signals.keys()):
            left, right = mine.signals.get(key), theirs.signals.get(key)
            if _bits(left) != _bits(right):
                return f"{key} in epoch {mine.epoch}: {left} against {right}"
    return "" if len(rows) == len(other) else f"{len(rows)} rows against {len(other)}"


def _bits(value: SignalValue | None) -> bytes | None:
    if value is None:
        return None
    values = value if isinstance(value, Sequence) else (value,)
    return b"".join(b"nan" if math.isnan(v) else struct.pack("<d", v) for v in values)
