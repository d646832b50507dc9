"""What the installed detectors say of every case: the final label, and the first online stop.

The online looks are those of `trials/execution/trial.py`: the same function on the history so
far, after every evaluation that its schedule picks. A verdict is plain data, so that processes can
share the work.
"""

import functools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from docs.tools.corpus.corpus import Case, read
from docs.tools.corpus.report.baselines import BASELINES
from sickbay.trials.contract import Finding, FindingState, Severity
from sickbay.trials.detector import Detector
from sickbay.trials.diagnosis.diagnose import look, online_stop
from sickbay.trials.execution.trial import looks_online
from sickbay.trials.history import History
from sickbay.trials.registry import all_detectors

WATCHED_CONTROLS = 5  # of a task: the others, much alike, are judged at their end alone
Key = tuple[str, str, str, int]
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Verdict:
    """What was said of one case. `findings` are the final ones, as signed by the detectors."""

    key: Key
    health: str
    primary: str | None
    coverage: float
    confidence: float | None
    findings: tuple[Finding, ...]
    stop_epoch: int | None
    stop_cause: str | None
    seconds: float
    planned: int
    watched: bool  # whether the online looks were replayed
    alarms: dict[str, int | None]

    def fired(self, name: str, *, fatal: bool = False) -> bool:
        """Whether a detector fired, or fired as fatal."""
        return any(
            one.detector == name
            and one.state is FindingState.FIRED
            and (one.severity is Severity.FATAL or not fatal)
            for one in self.findings
        )


class Said:
    """A detector that repeats what it has said: for looking again without asking again."""

    def __init__(self, known: Detector, finding: Finding) -> None:
        self.name, self.version, self.severity = known.name, known.version, known.severity
        self.online, self.blocks_healthy = known.online, known.blocks_healthy
        self.finding = finding

    def __call__(self, history: History) -> Finding:
        return self.finding


@functools.cache
def built_in() -> tuple[Detector, ...]:
    """The detectors of this repository; a plugin that is installed here takes no part."""
    return tuple(
        one for one in all_detectors() if one.function.__module__.startswith("sickbay.trials.")
    )


def judge(case: Case, *, online: bool = True) -> Verdict:
    """Judge a case as at its end, and as while it ran."""
    detectors = built_in()
    start = time.process_time()  # the machine may be busy
    final = look(case.history, detectors)
    seconds = time.process_time() - start
    stop, cause = first_stop(case.history, detectors) if online else (None, None)
    label = final.label
    confidence = next(
        (one.confidence for one in final.findings if one.detector == label.pathology), None
    )
    return Verdict(
        key=case.key,
        health=label.health.value,
        primary=label.pathology,
        coverage=label.coverage,
        confidence=getattr(label, "confidence", None) or confidence,
        findings=final.findings,
        stop_epoch=stop,
        stop_cause=cause,
        seconds=seconds,
        planned=case.history.epochs_planned,
        watched=online,
        alarms={name: rule(case.history) for name, rule in BASELINES.items()} if online else {},
    )


def first_stop(history: History, detectors: Sequence[Detector]) -> tuple[int | None, str | None]:
    """Return the epoch after which a running trial would be stopped, and by what."""
    # what is never fatal neither stops a trial nor explains what does
    detectors = [one for one in detectors if one.severity is Severity.FATAL]
    for n in range(1, len(history) + 1):
        if looks_online(n):
            diagnosis = look(history.prefix(n), detectors)
            if online_stop(diagnosis, detectors):
                return int(history.epochs[n - 1]), diagnosis.label.pathology
    return None, None


def without(case: Case, verdict: Verdict, name: str) -> str:
    """Return the health that the label would have without one detector."""
    known = {one.name: one for one in built_in()}
    said = [Said(known[one.detector], one) for one in verdict.findings if one.detector != name]
    return look(case.history, said).label.health.value  # type: ignore[arg-type]


def dropped(case: Case, signals: Iterable[str]) -> Case:
    """Return a case whose history never recorded some signals."""
    gone = set(signals)
    rows = [
        replace(row, signals={n: v for n, v in row.signals.items() if n not in gone})
        for row in case.history.rows()
    ]
    old = case.history
    return replace(case, history=History(rows, old.facts, old.epochs_planned, finished=True))


def judge_all(path: Path, tasks: Sequence[str], processes: int = 2) -> dict[Key, Verdict]:
    """Judge every case of these tasks, one task a piece of work."""
    found = each(functools.partial(_judge_task, path), tasks, processes)
    return {one.key: one for part in found for one in part}


def each(work: Callable[[T], R], pieces: Iterable[T], processes: int) -> Iterator[R]:
    """Do each piece of work, here or shared between processes, in order."""
    if processes <= 1:
        yield from map(work, pieces)
        return
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(work, pieces)


def _judge_task(path: Path, task: str) -> list[Verdict]:
    return [
        judge(case, online=case.kind != "control" or case.seed < WATCHED_CONTROLS)
        for case in read(path, [task])
    ]
