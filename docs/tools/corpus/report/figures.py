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
        found = self.case.operator
        assert found is not None, self.case.key
        return found[0]

    @property
    def named_right(self) -> bool:
        """Whether the primary cause is one that this operator may have."""
        return self.operator.may_cause(self.verdict.primary)

    @property
    def onset(self) -> float:
        """The share of the plan at which its fault begins."""
        found = self.case.operator
        assert found is not None, self.case.key
        return found[0].onset[found[1] - 1]

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
    return [one for one in table if one.case.kind == "fault" and one.pathological]


def healthy(table: Table) -> list[Judged]:
    """Healthy controls and equivalent mutants, without the hard ones."""
    return [one for one in table if not one.pathological and one.case.kind != "hard"]


def hard(table: Table) -> list[Judged]:
    """The hard but healthy ones, as far as they are healthy."""
    return [one for one in table if not one.pathological and one.case.kind == "hard"]


def headline(table: Table) -> dict[str, Figure]:
    """The measures of a level, by name; the first ones have goals."""
    faults, well = of_faults(table), healthy(table)
    every = [*well, *hard(table)]
    lost = [one for one in faults if not one.worse]
    called = [one for one in [*faults, *every] if one.called]
    trusted = [one for one in [*faults, *every] if one.verdict.health == Health.HEALTHY]
    return {
        "recall, no skill": _called(one for one in faults if one.truth.why == "no_skill"),
        "recall, not finite": _called(one for one in faults if one.truth.why == "non_finite"),
        "recall, worse than its controls": _called(one for one in faults if one.worse),
        "recall, no skill or not finite, whole faults resampled": clustered(
            [one.called for one in lost], [one.case.key[:3] for one in lost]
        ),
        "false alarms": _called(well),
        "false alarms, hard but healthy": _called(hard(table)),
        "false alarms, controls alone": _called(one for one in well if one.case.kind == "control"),
        "precision": share_of([one.pathological for one in called]),
        "cause named rightly, of those found": share_of(
            [one.named_right for one in faults if one.called]
        ),
        "inconclusive, of the healthy": share_of(
            [one.verdict.health == Health.INCONCLUSIVE for one in every]
        ),
        "inconclusive, of the pathological": share_of(
            [one.verdict.health == Health.INCONCLUSIVE for one in faults]
        ),
        "`healthy` that is wrong": share_of([one.pathological for one in trusted]),
        "`healthy` that is wrong, the merely worse not counted": share_of(
            [one.pathological for one in trusted if not one.worse]
        ),
        "false stops": share_of(
            [one.verdict.stop_epoch is not None for one in every if one.verdict.watched]
        ),
        "numeric faults stopped within an epoch": share_of(
            [
                one.verdict.stop_epoch is not None and _delay(one) <= 1
                for one in lost
                if one.verdict.watched and one.operator.name in NUMERIC
            ]
        ),
        "epochs of pathological runs saved": _saved(faults),
        "epochs saved, no skill or not finite": _saved(lost),
        "epochs that could be saved, from the fault's onset": resampled(
            [1.0 - one.onset for one in faults if one.verdict.watched], np.mean
        ),
        "calibration error": _calibration(table),
        "calibration error, the merely worse not counted": _calibration(
            [one for one in table if not one.worse]
        ),
    }


def _called(table: Iterable[Judged]) -> Figure:
    return share_of([one.called for one in table])


def _saved(table: Table) -> Figure:
    return resampled([one.saved for one in table if one.verdict.watched], np.mean)


def _delay(one: Judged) -> float:
    """Epochs from the first faulty one to the stop; a stop before the fault counts as none."""
    stop = one.verdict.stop_epoch
    assert stop is not None
    return max(0.0, float(stop - math.floor(one.onset * one.verdict.planned)))


def _calibration(table: Table) -> Figure:
    stated = [(one.probability, one.pathological) for one in table if one.probability is not None]

    def error(rows: np.ndarray) -> float:
        pairs = [stated[int(row)] for row in rows]
        return calibration_error([p for p, _ in pairs], [true for _, true in pairs], BINS)

    return resampled(np.arange(len(stated), dtype=np.float64), error)


def reliability(table: Table) -> list[tuple[float, Figure]]:
    """The reliability table: mean stated probability of each bin, and the pathological share."""
    bins: dict[int, list[tuple[float, bool]]] = {}
    for one in table:
        if one.probability is not None:
            place = min(int(one.probability * BINS), BINS - 1)
            bins.setdefault(place, []).append((one.probability, one.pathological))
    return [
        (float(np.mean([p for p, _ in pairs])), share_of([true for _, true in pairs]))
        for _, pairs in sorted(bins.items())
    ]


def grouped(table: Table, key: Callable[[Judged], str]) -> dict[str, list[Judged]]:
    """Cases by what `key` says of them."""
    groups: dict[str, list[Judged]] = {}
    for one in table:
        groups.setdefault(key(one), []).append(one)
    return dict(sorted(groups.items()))


def baseline(table: Table, name: str) -> list[Figure]:
    """A rule's recalls and false alarms, as in `peers.Counts`: its alarm is its stop."""
    alarms = [
        (one, one.verdict.alarms[name] is not None) for one in table if name in one.verdict.alarms
    ]
    groups = (
        [hit for one, hit in alarms if _harmed(one) and one.truth.why == "no_skill"],
        [hit for one, hit in alarms if _harmed(one) and one.truth.why == "non_finite"],
        [hit for one, hit in alarms if _harmed(one) and one.worse],
        [hit for one, hit in alarms if not one.pathological and one.case.kind != "hard"],
        [hit for one, hit in alarms if not one.pathological and one.case.kind == "hard"],
    )
    return [share_of(group) for group in groups]


def _harmed(one: Judged) -> bool:
    return one.case.kind == "fault" and one.pathological


def of_detector(table: Table, name: str) -> dict[str, Figure | int]:
    """How often a detector fired, on whom, and how much of its own it found."""
    fired = [one for one in table if one.verdict.fired(name)]
    fatal = [one for one in table if one.verdict.fired(name, fatal=True)]
    own = [one for one in of_faults(table) if one.operator.causes[0] == name]
    named = [one for one in table if one.called and one.verdict.primary == name]
    faults = [one for one in named if one.case.kind == "fault"]
    return {
        "fired": len(fired),
        "precision, any": share_of([one.pathological for one in fired]),
        "precision, fatal": share_of([one.pathological for one in fatal]),
        "recall of its own": share_of([one.verdict.fired(name) for one in own]),
        "primary": len(named),
        "primary right": share_of([one.named_right for one in faults]),
    }


def open_states(table: Table, name: str) -> int:
    """In how many cases a detector lacked signals or evidence."""
    lacking = (FindingState.MISSING_SIGNAL, FindingState.INSUFFICIENT_EVIDENCE)
    return sum(
        finding.detector == name and finding.state in lacking
        for one in table
        for finding in one.verdict.findings
    )
