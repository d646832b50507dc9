"""The findings of a sweep on a time line: one row per trial, or per arm if there are many."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sickbay.service.summary.formatting import short_arm, span
from sickbay.service.summary.values import Mark, TrialLine, Values

MOST_TRIALS = 60
MOST_ROWS = 200
KINDS = ("primary", "fatal", "warning", "suspect")


@dataclass(frozen=True)
class Placed:
    """A mark in a row: `at` is its place in percent, `shift` keeps marks of one epoch apart."""

    kind: str
    at: float
    shift: int
    title: str


@dataclass(frozen=True)
class TimeRow:
    """A row: its planned and actual length in percent, its marks, and its text."""

    name: str
    seed: str
    planned: float
    ran: float
    marks: tuple[Placed, ...]
    verdicts: tuple[tuple[str, int], ...]
    words: tuple[str, ...]


@dataclass(frozen=True)
class TimeLine:
    """The rows, the ticks of the axis (epoch, percent), and how many rows there is no room for."""

    rows: tuple[TimeRow, ...]
    ticks: tuple[tuple[int, float], ...]
    by_arm: bool
    left_out: int


def time_line(values: Values) -> TimeLine:
    """Put every fired or suspected finding at its onset."""
    last = max((max(line.epochs_planned, line.epochs_run) for line in values.trials), default=1)
    by_arm = len(values.trials) > MOST_TRIALS
    groups = {arm.key: [] for arm in values.arms}  # type: dict[object, list[TrialLine]]
    for trial in values.trials:
        groups[trial.key].append(trial)
    rows = [
        _row(values, some, last, by_arm=by_arm)
        for group in groups.values()
        for some in ([group] if by_arm else [[trial] for trial in group])
    ]
    return TimeLine(tuple(rows[:MOST_ROWS]), _ticks(last), by_arm, max(0, len(rows) - MOST_ROWS))


def _row(values: Values, trials: Sequence[TrialLine], last: int, *, by_arm: bool) -> TimeRow:
    marks = [mark for trial in trials for mark in values.marks.get(trial.trial_id, ())]
    return TimeRow(
        name=short_arm(trials[0].arm),
        seed=f"{len(trials)} trials" if by_arm else f"seed {trials[0].seed}",
        planned=_percent(max(trial.epochs_planned for trial in trials), last),
        ran=_percent(max(trial.epochs_run for trial in trials), last),
        marks=_placed(marks, last),
        verdicts=tuple(Counter(trial.verdict for trial in trials).most_common()),
        words=_words(marks, by_arm=by_arm),
    )


def _percent(epoch: int, last: int) -> float:
    return round(100 * min(epoch, last) / max(last, 1), 2)


def _placed(marks: Sequence[Mark], last: int) -> tuple[Placed, ...]:
    """Place the marks; equal ones are merged into one that shows their number."""
    counted = Counter((mark.kind, mark.detector, mark.onset_epoch or 0) for mark in marks)
    at_epoch: Counter[int] = Counter()
    placed = []
    for (kind, detector, epoch), n in sorted(
        counted.items(), key=lambda entry: (entry[0][2], KINDS.index(entry[0][0]), entry[0][1])
    ):
        times = f" ({n} trials)" if n > 1 else ""
        title = f"{detector} ({kind}) since epoch {epoch}{times}"
        placed.append(Placed(kind, _percent(epoch, last), 11 * at_epoch[epoch], title))
        at_epoch[epoch] += 1
    return tuple(placed)


def _words(marks: Sequence[Mark], *, by_arm: bool) -> tuple[str, ...]:
    """List the findings, the primary first, each with its range of onsets."""
    by_finding: dict[tuple[str, str], list[Mark]] = {}
    for mark in sorted(marks, key=lambda finding: KINDS.index(finding.kind)):
        by_finding.setdefault((mark.detector, mark.kind), []).append(mark)
    names = []
    for (detector, kind), some in by_finding.items():
        onsets = [mark.onset_epoch for mark in some if mark.onset_epoch is not None]
        since = f" @{span(min(onsets), max(onsets))}" if onsets else ""
        times = f" ×{len(some)}" if by_arm else ""
        names.append(f"{detector}{since}{times}" + (f" ({kind})" if kind != "primary" else ""))
    return tuple(names)


def _ticks(last: int) -> tuple[tuple[int, float], ...]:
    raw = max(last / 8, 1)
    power = 10 ** int(np.floor(np.log10(raw)))
    step = next(power * multiple for multiple in (1, 2, 5, 10) if power * multiple >= raw)
    return tuple((epoch, _percent(epoch, last)) for epoch in range(0, last + 1, step))
