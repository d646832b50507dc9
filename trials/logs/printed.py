"""Numbers that a program prints as it trains: JSON lines, `key=value`, `key: value`, dictionaries.

epoch 3/20  train_loss=0.41  val_loss=0.52
Epoch 3/20
32/32 - 1s - loss: 0.41 - val_loss: 0.52
{'loss': 0.41, 'grad_norm': 1.2, 'epoch': 3.0}
"""

import json
import re
from collections.abc import Iterator

from sickbay.trials.logs.log import Number, Record

_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|nan|inf(?:inity)?)"
_PAIR = re.compile(
    rf"(?P<name>[A-Za-z_][\w./@-]*)[\"']?\s*[=:]\s*(?P<value>{_NUMBER})(?![\w.:/-]|\s*/\s*\d)",
    re.IGNORECASE,
)
_EPOCH = re.compile(r"\bepochs?\b[\"']?\s*[#=:\[(]*\s*(?P<epoch>\d+)(?!\.\d*[1-9])", re.IGNORECASE)


def printed_records(text: str) -> tuple[Record, ...]:
    """The records of everything that was printed, one a line that holds a number by a name.

    Of a line that was redrawn (a progress bar) the last state counts. A line `Epoch 3/20` gives its
    epoch to those that follow it.
    """
    found: list[Record] = []
    for line in text.split("\n"):
        record = dict(_numbers(line.rstrip("\r").rpartition("\r")[2]))
        if record:
            found.append(record)
    return tuple(found)


def _numbers(line: str) -> Iterator[tuple[str, Number]]:
    """What one line holds, by name."""
    if line.lstrip().startswith("{"):
        try:
            values = json.loads(line)
        except ValueError:
            values = None
        if isinstance(values, dict):
            yield from (
                (name, float(value))
                for name, value in values.items()
                if isinstance(value, int | float)
            )
            return
    epoch = _EPOCH.search(line)
    if epoch is not None:
        yield "epoch", float(epoch["epoch"])
    for pair in _PAIR.finditer(line):
        if not (epoch is not None and pair["name"].lower() in {"epoch", "epochs"}):
            yield pair["name"], float(pair["value"])
