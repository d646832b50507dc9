"""What is said of every case at a level of telemetry: the final label, and the first online stop.

The online looks are those of `trials/execution/trial.py`: the same function on the history so
far, after every evaluation that its schedule picks. A verdict is plain data, so that processes can
share the work.
"""

import functools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from docs.tools.corpus.corpus import Case, read
from docs.tools.corpus.faults import HELD_OUT
from docs.tools.corpus.report.baselines import BASELINES
from docs.tools.corpus.telemetry import Level, at_level
from sickbay.trials.contract import Finding, FindingState, Severity
from sickbay.trials.detector import Detector
from sickbay.trials.diagnosis.diagnose import look, online_stop
from sickbay.trials.execution.trial import looks_online
from sickbay.trials.history import History
from sickbay.trials.registry import all_detectors

# Seeds of each kind that are also judged as while they ran, in the held-out tasks alone: runs of
# one arm are much alike, and on the others the online threshold was chosen.
WATCHED: Mapping[str, int] = {"control": 8, "fault": 1, "hard": 6}
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
    alarms: dict[str, int | None]  # of the baselines, which read the full probe

    def fired(self, name: str, *, fatal: bool = False) -> bool:
        """Whether a detector fired, or fired as fatal."""
        return any(
            finding.detector == name
            and finding.state is FindingState.FIRED
            and (finding.severity is Severity.FATAL or not fatal)
            for finding in self.findings
        )


@functools.cache
def built_in() -> tuple[Detector, ...]:
    """The detectors of this repository; a plugin that is installed here takes no part."""
    return tuple(
        detector
        for detector in all_detectors()
        if detector.function.__module__.startswith("sickbay.trials.")
    )


def judge(case: Case, level: Level = Level.PROBE, *, online: bool = True) -> Verdict:
    """Judge a case as at its end, and as while it ran."""
    detectors, history = built_in(), at_level(case.history, level)
    start = time.process_time()  # the machine may be busy
    final = look(history, detectors)
    seconds = time.process_time() - start
    stop, cause = first_stop(history, detectors) if online else (None, None)
    label = final.label
    confidence = next(
        (finding.confidence for finding in final.findings if finding.detector == label.pathology),
        None,
    )
    rules = BASELINES if level is Level.PROBE else {}
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
        planned=history.epochs_planned,
        watched=online,
        alarms={name: rule(history) for name, rule in rules.items()},
    )


def first_stop(history: History, detectors: Sequence[Detector]) -> tuple[int | None, str | None]:
    """Return the epoch after which a running trial would be stopped, and by what."""
    # what is never fatal neither stops a trial nor explains what does
    detectors = [detector for detector in detectors if detector.severity is Severity.FATAL]
    for n in range(1, len(history) + 1):
        if looks_online(n):
            diagnosis = look(history.prefix(n), detectors)
            if online_stop(diagnosis, detectors):
                return int(history.epochs[n - 1]), diagnosis.label.pathology
    return None, None


def judge_all(
    path: Path, tasks: Sequence[str], level: Level = Level.PROBE, processes: int = 2
) -> dict[Key, Verdict]:
    """Judge every case of these tasks, one task a piece of work."""
    parts = each(functools.partial(_judge_task, path, level), tasks, processes)
    return {verdict.key: verdict for part in parts for verdict in part}


def each(work: Callable[[T], R], pieces: Iterable[T], processes: int) -> Iterator[R]:
    """Do each piece of work, here or shared between processes, in order."""
    if processes <= 1:
        yield from map(work, pieces)
        return
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(work, pieces)


def _judge_task(path: Path, level: Level, task: str) -> list[Verdict]:
    return [
        judge(case, level, online=task in HELD_OUT and case.seed < WATCHED[case.kind])
        for case in read(path, [task])
    ]
