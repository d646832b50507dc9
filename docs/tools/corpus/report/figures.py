"""The figures of a set of judged cases: every measure that the page publishes, as plain values."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from docs.tools.corpus.corpus import Case
from docs.tools.corpus.operators import Operator
from docs.tools.corpus.report.judging import Verdict
from docs.tools.corpus.report.measures import (
    Figure,
    calibration_error,
    clustered,
    resampled,
    share_of,
)
from docs.tools.corpus.truth import Truth
from sickbay.trials.contract import FindingState, Health

NUMERIC = ("nan_inputs", "infinite_loss", "half_overflow")
BINS = 10  # of the reliability table
GOALS: Mapping[str, str] = {
    "recall, no skill": "≥ 95 %",
    "recall, not finite": "100 %",
    "false alarms": "≤ 2 %",
    "false alarms, hard but healthy": "≤ 3 %",
    "recall, worse than its controls, by `standing`": "≥ 70 %",
    "cause named rightly, of those found": "≥ 80 %",
    "inconclusive, of the healthy": "≤ 5 %",
    "`healthy` that is wrong": "≤ 5 %",
    "false stops": "≤ 0.5 %",
    "epochs of pathological runs saved": "≥ 60 %",
    "calibration error": "≤ 5 %",
}


@dataclass(frozen=True)
class Judged:
    """One case with its truth and what was said of it at one level of telemetry."""

    case: Case
    truth: Truth
    verdict: Verdict

    @property
    def pathological(self) -> bool:
        """Whether it is pathological in truth."""
        return self.truth.pathological

    @property
    def worse(self) -> bool:
        """Whether it has skill and is merely worse than its controls."""
        return self.truth.why == "worse"

    @property
    def called(self) -> bool:
        """Whether its label is pathological."""
        return self.verdict.health == Health.PATHOLOGICAL

    @property
    def operator(self) -> Operator:
        """The operator of a fault."""
        fault = self.case.operator
        assert fault is not None, self.case.key
        return fault[0]

    @property
    def named_right(self) -> bool:
        """Whether the primary cause is one that this operator may have."""
        return self.operator.may_cause(self.verdict.primary)

    @property
    def onset(self) -> float:
        """The share of the plan at which its fault begins."""
        fault = self.case.operator
        assert fault is not None, self.case.key
        return fault[0].onset[fault[1] - 1]

    @property
    def saved(self) -> float:
        """The share of the planned epochs that a stop spared."""
        stop = self.verdict.stop_epoch
        return 0.0 if stop is None else 1.0 - stop / self.verdict.planned

    @property
    def probability(self) -> float | None:
        """The stated probability that it is pathological; None where the label states none."""
        stated = self.verdict.confidence
        if stated is None or self.verdict.health == Health.INCONCLUSIVE:
            return None
        return stated if self.called else 1.0 - stated


Table = Sequence[Judged]


def of_faults(table: Table) -> list[Judged]:
    """The faults that did harm."""
    return [run for run in table if run.case.kind == "fault" and run.pathological]


def healthy(table: Table) -> list[Judged]:
    """Healthy controls and equivalent mutants, without the hard ones."""
    return [run for run in table if not run.pathological and run.case.kind != "hard"]


def hard(table: Table) -> list[Judged]:
    """The hard but healthy ones, as far as they are healthy."""
    return [run for run in table if not run.pathological and run.case.kind == "hard"]


def headline(table: Table) -> dict[str, Figure]:
    """The measures of a level, by name; the first ones have goals."""
    faults, well = of_faults(table), healthy(table)
    every = [*well, *hard(table)]
    lost = [run for run in faults if not run.worse]
    called = [run for run in [*faults, *every] if run.called]
    trusted = [run for run in [*faults, *every] if run.verdict.health == Health.HEALTHY]
    return {
        "recall, no skill": _called(run for run in faults if run.truth.why == "no_skill"),
        "recall, not finite": _called(run for run in faults if run.truth.why == "non_finite"),
        "recall, worse than its controls": _called(run for run in faults if run.worse),
        "recall, no skill or not finite, whole faults resampled": clustered(
            [run.called for run in lost], [run.case.key[:3] for run in lost]
        ),
        "false alarms": _called(well),
        "false alarms, hard but healthy": _called(hard(table)),
        "false alarms, controls alone": _called(run for run in well if run.case.kind == "control"),
        "precision": share_of([run.pathological for run in called]),
        "cause named rightly, of those found": share_of(
            [run.named_right for run in faults if run.called]
        ),
        "inconclusive, of the healthy": share_of(
            [run.verdict.health == Health.INCONCLUSIVE for run in every]
        ),
        "inconclusive, of the pathological": share_of(
            [run.verdict.health == Health.INCONCLUSIVE for run in faults]
        ),
        "`healthy` that is wrong": share_of([run.pathological for run in trusted]),
        "`healthy` that is wrong, the merely worse not counted": share_of(
            [run.pathological for run in trusted if not run.worse]
        ),
        "false stops": share_of(
            [run.verdict.stop_epoch is not None for run in every if run.verdict.watched]
        ),
        "numeric faults stopped within an epoch": share_of(
            [
                run.verdict.stop_epoch is not None and _delay(run) <= 1
                for run in lost
                if run.verdict.watched and run.operator.name in NUMERIC
            ]
        ),
        "epochs of pathological runs saved": _saved(faults),
        "epochs saved, no skill or not finite": _saved(lost),
        "epochs that could be saved, from the fault's onset": resampled(
            [1.0 - run.onset for run in faults if run.verdict.watched], np.mean
        ),
        "calibration error": _calibration(table),
        "calibration error, the merely worse not counted": _calibration(
            [run for run in table if not run.worse]
        ),
    }


def _called(table: Iterable[Judged]) -> Figure:
    return share_of([run.called for run in table])


def _saved(table: Table) -> Figure:
    return resampled([run.saved for run in table if run.verdict.watched], np.mean)


def _delay(run: Judged) -> float:
    """Epochs from the first faulty one to the stop; a stop before the fault counts as none."""
    stop = run.verdict.stop_epoch
    assert stop is not None
    return max(0.0, float(stop - math.floor(run.onset * run.verdict.planned)))


def _calibration(table: Table) -> Figure:
    stated = [(run.probability, run.pathological) for run in table if run.probability is not None]

    def error(rows: np.ndarray) -> float:
        pairs = [stated[int(row)] for row in rows]
        return calibration_error([p for p, _ in pairs], [true for _, true in pairs], BINS)

    return resampled(np.arange(len(stated), dtype=np.float64), error)


def reliability(table: Table) -> list[tuple[float, Figure]]:
    """The reliability table: mean stated probability of each bin, and the pathological share."""
    bins: dict[int, list[tuple[float, bool]]] = {}
    for run in table:
        if run.probability is not None:
            place = min(int(run.probability * BINS), BINS - 1)
            bins.setdefault(place, []).append((run.probability, run.pathological))
    return [
        (float(np.mean([p for p, _ in pairs])), share_of([true for _, true in pairs]))
        for _, pairs in sorted(bins.items())
    ]


def grouped(table: Table, key: Callable[[Judged], str]) -> dict[str, list[Judged]]:
    """Cases by what `key` says of them."""
    groups: dict[str, list[Judged]] = {}
    for run in table:
        groups.setdefault(key(run), []).append(run)
    return dict(sorted(groups.items()))


def baseline(table: Table, name: str) -> list[Figure]:
    """A rule's recalls and false alarms, as in `peers.Counts`: its alarm is its stop."""
    alarms = [
        (run, run.verdict.alarms[name] is not None) for run in table if name in run.verdict.alarms
    ]
    groups = (
        [hit for run, hit in alarms if _harmed(run) and run.truth.why == "no_skill"],
        [hit for run, hit in alarms if _harmed(run) and run.truth.why == "non_finite"],
        [hit for run, hit in alarms if _harmed(run) and run.worse],
        [hit for run, hit in alarms if not run.pathological and run.case.kind != "hard"],
        [hit for run, hit in alarms if not run.pathological and run.case.kind == "hard"],
    )
    return [share_of(group) for group in groups]


def _harmed(run: Judged) -> bool:
    return run.case.kind == "fault" and run.pathological


def of_detector(table: Table, name: str) -> dict[str, Figure | int]:
    """How often a detector fired, on whom, and how much of its own it found."""
    fired = [run for run in table if run.verdict.fired(name)]
    fatal = [run for run in table if run.verdict.fired(name, fatal=True)]
    own = [run for run in of_faults(table) if run.operator.causes[0] == name]
    named = [run for run in table if run.called and run.verdict.primary == name]
    faults = [run for run in named if run.case.kind == "fault"]
    return {
        "fired": len(fired),
        "precision, any": share_of([run.pathological for run in fired]),
        "precision, fatal": share_of([run.pathological for run in fatal]),
        "recall of its own": share_of([run.verdict.fired(name) for run in own]),
        "primary": len(named),
        "primary right": share_of([run.named_right for run in faults]),
    }


def open_states(table: Table, name: str) -> int:
    """In how many cases a detector lacked signals or evidence."""
    lacking = (FindingState.MISSING_SIGNAL, FindingState.INSUFFICIENT_EVIDENCE)
    return sum(
        finding.detector == name and finding.state in lacking
        for run in table
        for finding in run.verdict.findings
    )
