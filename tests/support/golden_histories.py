"""Golden histories: small JSON files, each a behaviour and the exact finding that it must get."""

import json
from dataclasses import dataclass
from pathlib import Path

from sickbay.trials.contract import Row, TaskFacts, TaskKind
from sickbay.trials.history import History

GOLDEN = Path(__file__).parents[1] / "golden"


@dataclass(frozen=True)
class Golden:
    """A history, and what a detector must say of it."""

    name: str
    history: History
    expect: dict

    def check(self, detect):
        finding = detect(self.history)
        assert finding.state.value == self.expect["state"], finding.reason
        assert self.expect.get("words", "") in finding.reason
        if finding.state == "fired":
            assert finding.severity.value == self.expect["severity"], finding.reason
            assert finding.onset_epoch == self.expect["onset"], finding.reason
            assert finding.remedy
            assert self.expect.get("remedy", "") in finding.remedy
            assert self.alarm(detect) == self.expect["alarm"]

    def alarm(self, detect):
        """The first epoch at which it fires, as badly as in the end, while the trial runs."""
        for n in range(1, len(self.history) + 1):
            finding = detect(self.history.prefix(n))
            if finding.state == "fired" and finding.severity.value == self.expect["severity"]:
                return int(self.history.epochs[n - 1])
        return None


def load(path):
    text = json.loads(path.read_text())
    facts = dict(text["facts"])
    kind = TaskKind(facts.pop("kind", "unknown"))
    groups = tuple(facts.pop("groups", ()))
    columns = {name: series(values) for name, values in text["signals"].items()}
    length = max(map(len, columns.values()), default=0)
    rows = [
        Row(i + 1, 24 * (i + 1), {name: v[i] for name, v in columns.items() if i < len(v)})
        for i in range(length)
    ]
    task = TaskFacts(kind=kind, groups=groups, **facts)
    return Golden(path.stem, History(rows, task, length, finished=text["finished"]), text["expect"])


def series(values):
    """Write out a series: numbers, vectors, constant stretches, lines, or a list of these."""
    if isinstance(values, dict) and "repeat" in values:
        return [values["repeat"]] * values["times"]
    if isinstance(values, dict):
        low, high, times = values["from"], values["to"], values["times"]
        return [low + (high - low) * i / (times - 1) for i in range(times)]
    if all(isinstance(value, (int, float)) for value in values):
        return list(values)
    written = []
    for value in values:
        written += [value] if isinstance(value, (int, float)) else series_or_vectors(value)
    return written


def series_or_vectors(value):
    if isinstance(value, list) and value and isinstance(value[0], list):
        return value
    return series(value)
