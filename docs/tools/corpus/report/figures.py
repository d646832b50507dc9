"""The figures of a set of judged cases: every measure that the page publishes, as plain values."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from docs.tools.corpus.corpus import Case
from docs.tools.corpus.operators import Operator
from docs.tools.corpus.report.judging import Verdict
from docs.tools.corpus.report.measures import (
    Figure,
    calibration_error,
    clustered,
    macro_f1,
    precision_at_half,
    resampled,
    share_of,
)
from docs.tools.corpus.truth import Truth
from sickbay.trials.contract import FindingState, Health

NUMERIC = ("nan_inputs", "infinite_loss", "half_overflow")


@dataclass(frozen=True)
class Judged:
    """One case with its truth and what was said of it."""

    case: Case
    truth: Truth
    verdict: Verdict

    @property
    def ill(self) -> bool:
        """Whether it is pathological in truth."""
        return self.truth.pathological

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
    def group(self) -> tuple[str, str, str]:
        """What its seeds share."""
        return self.case.key[:3]

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


Table = Sequence[Judged]


def of_faults(table: Table) -> list[Judged]:
    """The faults that did harm."""
    return [one for one in table if one.case.kind == "fault" and one.ill]


def healthy(table: Table) -> list[Judged]:
    """Healthy controls and equivalent mutants, without the hard ones."""
    return [one for one in table if not one.ill and one.case.kind != "hard"]


def hard(table: Table) -> list[Judged]:
    """The hard but healthy ones, as far as they are healthy."""
    return [one for one in table if not one.ill and one.case.kind == "hard"]


def headline(table: Table) -> dict[str, Figure]:
    """The measures of detectors.md, by name."""
    ill, well, odd = of_faults(table), healthy(table), hard(table)
    found = [one for one in ill if one.called]
    lost = [one for one in ill if one.truth.why != "worse"]
    every = [*well, *odd]
    called = [one for one in [*ill, *every] if one.called]
    recall, alarm = share_of([one.called for one in ill]), share_of([one.called for one in well])
    return {
        "recall": recall,
        "recall, whole faults resampled": clustered(
            [one.called for one in ill], [one.group for one in ill]
        ),
        "recall of `no_skill` or `non_finite`": share_of([one.called for one in lost]),
        **{
            f"recall of `{why}`": share_of([one.called for one in ill if one.truth.why == why])
            for why in ("non_finite", "no_skill", "worse")
        },
        "false positives": alarm,
        "false positives, hard but healthy": share_of([one.called for one in odd]),
        "false positives, controls alone": share_of(
            [one.called for one in well if one.case.kind == "control"]
        ),
        "precision": share_of([one.ill for one in called]),
        "precision at half ill": _at_half(recall, alarm),
        "primary cause right, of those found": share_of([one.named_right for one in found]),
        "primary cause right, of all ill": share_of(
            [one.called and one.named_right for one in ill]
        ),
        "macro-F1 of the cause": _f1(found),
        **_latency(ill),
        "false stops of healthy trials": share_of(
            [one.verdict.stop_epoch is not None for one in every if one.verdict.watched]
        ),
        "compute saved on ill trials": resampled([_saved(one) for one in ill], np.mean),
        "compute saved on those without skill or not finite": resampled(
            [_saved(one) for one in lost], np.mean
        ),
        "inconclusive, all": share_of([one.verdict.health == Health.INCONCLUSIVE for one in table]),
        "inconclusive, healthy": share_of(
            [one.verdict.health == Health.INCONCLUSIVE for one in every]
        ),
        "inconclusive, ill": share_of([one.verdict.health == Health.INCONCLUSIVE for one in ill]),
        "ill and called healthy": share_of([one.verdict.health == Health.HEALTHY for one in ill]),
        "coverage, mean": resampled([one.verdict.coverage for one in table], np.mean),
        "calibration error": _calibration(table),
    }


def _at_half(recall: Figure, alarm: Figure) -> Figure:
    return Figure(
        precision_at_half(recall.value, alarm.value),
        recall.n + alarm.n,
        precision_at_half(recall.low, alarm.high),
        precision_at_half(recall.high, alarm.low),
    )


def _f1(found: Table) -> Figure:
    pairs = [
        (one.verdict.primary if one.named_right else one.operator.causes[0], one.verdict.primary)
        for one in found
    ]
    index = np.arange(len(pairs), dtype=np.float64)
    return resampled(index, lambda rows: macro_f1([pairs[int(row)] for row in rows]))


def _latency(ill: Table) -> dict[str, Figure]:
    """Epochs or shares of the plan from the fault's onset to the stop; of those stopped."""
    stopped = [one for one in ill if one.verdict.stop_epoch is not None]
    numeric = [one for one in stopped if one.operator.name in NUMERIC]
    others = [one for one in stopped if one.operator.name not in NUMERIC]
    shares = [_late(one) / one.verdict.planned for one in others]
    return {
        "latency of numeric faults, epochs, 90th percentile": resampled(
            [_late(one) for one in numeric], lambda v: float(np.quantile(v, 0.9))
        ),
        "numeric faults stopped within 1 epoch": share_of([_late(one) <= 1 for one in numeric]),
        "latency of the others, share of the budget, median": resampled(shares, np.median),
        "latency of the others, share of the budget, 90th percentile": resampled(
            shares, lambda v: float(np.quantile(v, 0.9))
        ),
        "stopped while running, of the ill": share_of(
            [one.verdict.stop_epoch is not None for one in ill]
        ),
    }


def _late(one: Judged) -> float:
    """Epochs from the first faulty one to the stop; a stop before the fault counts as none."""
    begun = math.floor(one.onset * one.verdict.planned)
    stop = one.verdict.stop_epoch
    assert stop is not None
    return max(0.0, float(stop - begun))


def _saved(one: Judged) -> float:
    stop = one.verdict.stop_epoch
    return 0.0 if stop is None else 1.0 - stop / one.verdict.planned


def _calibration(table: Table) -> Figure:
    known = [
        (one.verdict.confidence, one.ill) for one in table if one.called and one.verdict.confidence
    ]
    index = np.arange(len(known), dtype=np.float64)
    return resampled(
        index,
        lambda rows: calibration_error(
            [known[int(row)][0] for row in rows], [known[int(row)][1] for row in rows]
        ),
    )


def grouped(table: Table, key: Callable[[Judged], str]) -> dict[str, list[Judged]]:
    """Cases by what `key` says of them."""
    groups: dict[str, list[Judged]] = {}
    for one in table:
        groups.setdefault(key(one), []).append(one)
    return dict(sorted(groups.items()))


def baseline(table: Table, name: str) -> dict[str, Figure]:
    """A baseline's recall, false alarms and false stops: its alarm is its stop."""
    table = [one for one in table if one.verdict.watched]
    ill, well, odd = of_faults(table), healthy(table), hard(table)

    def alarm(one: Judged) -> bool:
        return one.verdict.alarms[name] is not None

    at = [one.verdict.alarms[name] or 0 for one in [*well, *odd] if alarm(one)]
    return {
        "recall": share_of([alarm(one) for one in ill]),
        "false positives": share_of([alarm(one) for one in well]),
        "hard": share_of([alarm(one) for one in odd]),
        "stopped at": resampled([one / 40 for one in at], np.median),
    }


def of_detector(table: Table, name: str) -> dict[str, Figure | int]:
    """How often a detector fired, on whom, and how much of its own it found."""
    fired = [one for one in table if one.verdict.fired(name)]
    fatal = [one for one in table if one.verdict.fired(name, fatal=True)]
    own = [one for one in of_faults(table) if one.operator.causes[0] == name]
    named = [one for one in table if one.called and one.verdict.primary == name]
    faults = [one for one in named if one.case.kind == "fault"]
    return {
        "fired": len(fired),
        "precision, any": share_of([one.ill for one in fired]),
        "precision, fatal": share_of([one.ill for one in fatal]),
        "recall of its own": share_of([one.verdict.fired(name) for one in own]),
        "primary": len(named),
        "primary right": share_of([one.named_right for one in faults]),
    }


def states(table: Table, name: str) -> dict[str, int]:
    """Count the states that a detector ended in."""
    counts = dict.fromkeys((state.value for state in FindingState), 0)
    for one in table:
        for finding in one.verdict.findings:
            if finding.detector == name:
                counts[finding.state.value] += 1
    return counts
