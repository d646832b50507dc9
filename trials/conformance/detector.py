"""Check that a detector keeps its contract on edge-case histories of every kind.

Whether it is *right* is tested elsewhere, by planted curves with exact alarm epochs.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from sickbay.trials.conformance.invariance import check_invariance
from sickbay.trials.conformance.report import ConformanceError, ConformanceReport
from sickbay.trials.contract import Finding, FindingState, Row, TaskFacts, TaskKind
from sickbay.trials.detector import Detector
from sickbay.trials.history import History

JUDGED = (FindingState.FIRED, FindingState.SUSPECT, FindingState.CLEAR)
ACTING = (FindingState.FIRED, FindingState.SUSPECT)
STRANGE = "a_signal_that_no_detector_reads"


def check_detector(detector: Detector, histories: Sequence[History] = ()) -> ConformanceReport:
    """Check all that the contract asks of a detector; raises ConformanceError at the first flaw.

    `histories` are further ones to try: recorded, or planted so that it fires.
    """
    checked = [_check_declaration(detector)]
    shown = [*_awkward(detector), *histories]
    for history in shown:
        _check_finding(detector, _copy(history))
    checked.append(f"{len(shown)} histories give well-formed findings")
    for history in shown:
        _check_purity(detector, history)
    checked.append("a finding depends on nothing but the signals and facts that it reads")
    checked.append(_check_ignorance(detector))
    checked.append(check_invariance(detector, histories))
    return ConformanceReport(detector.name, tuple(checked))


def _check_declaration(detector: Detector) -> str:
    name = detector.name
    if not name.isidentifier() or name != name.lower():
        raise ConformanceError(f"{name!r} is not in snake_case")
    if not detector.version:
        raise ConformanceError(f"{name}: version must not be empty")
    return f"version {detector.version}, worst severity {detector.severity}"


def _check_finding(detector: Detector, history: History) -> None:
    what = f"{detector.name} on {_describe(history)}"
    try:
        finding = detector(history)
    except Exception as error:
        raise ConformanceError(f"{what} raises {type(error).__name__}: {error}") from error
    if not isinstance(finding, Finding):
        raise ConformanceError(f"{what} gives a {type(finding).__name__}, not a Finding")
    if (finding.detector, finding.detector_version) != (detector.name, detector.version):
        signed = f"{finding.detector} {finding.detector_version}"
        raise ConformanceError(f"{what} signs as {signed}, not {detector.name} {detector.version}")
    if not finding.reason.strip():
        raise ConformanceError(f"{what} says {finding.state} without a reason")
    if finding.state is FindingState.FIRED and finding.onset_epoch is None:
        raise ConformanceError(f"{what} fires without an onset epoch")
    if finding.onset_epoch is not None and finding.onset_epoch not in history.epochs:
        raise ConformanceError(f"{what} begins in epoch {finding.onset_epoch}, which it never saw")
    if finding.state in ACTING and not finding.remedy:
        raise ConformanceError(f"{what} says {finding.state} but not what to change (remedy)")
    if finding.confidence is not None and not 0 <= finding.confidence <= 1:
        raise ConformanceError(f"{what} is confident by {finding.confidence}, not by 0 to 1")


def _check_purity(detector: Detector, history: History) -> None:
    """Judge twice, and with an extra column: same finding, and the history is not modified."""
    what = f"{detector.name} on {_describe(history)}"
    asked = _copy(history)
    first = detector(asked)
    if asked.digest() != history.digest():
        raise ConformanceError(f"{what} alters the history")
    if detector(asked) != first or detector(_copy(history)) != first:
        raise ConformanceError(f"{what} gives another finding when asked again")
    rows = [
        replace(row, signals={**row.signals, STRANGE: math.nan}) for row in reversed(history.rows())
    ]
    if detector(_copy(history, rows)) != first:
        raise ConformanceError(f"{what} depends on an unused column or the rows' order")


def _check_ignorance(detector: Detector) -> str:
    """Without its signals, a detector must not judge."""
    rows = [Row(epoch, epoch, {STRANGE: 1.0}) for epoch in range(1, 21)]
    for history in (
        History([], TaskFacts(), 20),
        History(rows, TaskFacts(), 20),
        History(rows, TaskFacts(), 20, finished=True),
    ):
        finding = detector(history)
        if finding.state in JUDGED:
            what = f"{detector.name} says {finding.state} on {_describe(history)}"
            raise ConformanceError(f"{what} without any of its signals")
    return "without its signals it does not judge"


def _awkward(detector: Detector) -> Iterator[History]:
    """Histories of the detector's signals: empty, short, constant, NaN, infinite, huge, tiny."""
    names = [name for each in detector.signals for name in each.split("|")]
    names += [name for each in detector.optional_signals for name in each.split("|")]
    for kind in detector.kinds or (TaskKind.REGRESSION, TaskKind.DENSITY):
        for facts in (TaskFacts(kind=kind), _facts(kind)):
            yield History([], facts, 20)
            for value in (0.0, 1.0, math.nan, math.inf, -math.inf, 1e300, 1e-300):
                yield _flat(names, value, facts, length=20)
            yield _flat(names, 1.0, facts, length=1)


def _facts(kind: TaskKind) -> TaskFacts:
    return TaskFacts(
        kind=kind,
        floors={"val_loss": 1.0, "train_loss": 1.0, "val_density_kl": 0.5},
        n={"train": 100, "val": 100},
        groups=("body", "head"),
        components=2,
        loss_minimum=0.0,
    )


def _flat(names: Sequence[str], value: float, facts: TaskFacts, *, length: int) -> History:
    """Rows with one value in every signal and epoch; vector signals get two entries."""
    wide = ("group_", "mixture_weights", "kappa")
    signals = {
        name: [value, value]
        if name.startswith(wide) and name != "mixture_weights_entropy"
        else value
        for name in names
    }
    rows = [Row(epoch, 10 * epoch, signals) for epoch in range(1, length + 1)]
    return History(rows, facts, length, finished=True)


def _copy(history: History, rows: Sequence[Row] | None = None) -> History:
    rows = history.rows() if rows is None else rows
    return History(rows, history.facts, history.epochs_planned, finished=history.finished)


def _describe(history: History) -> str:
    if len(history) == 0:
        return "an empty history"
    last = history.rows()[-1].signals
    sample = next(iter(last.items()), ("nothing", math.nan))
    return f"{len(history)} rows ({sample[0]} = {sample[1]} at the end)"
