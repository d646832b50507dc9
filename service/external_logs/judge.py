"""Judge a training log that Sickbay did not make: `sickbay diagnose FILE`.

The log's names are matched to signals, its records become evaluations, and what the user says about
the task becomes facts. The label is the one that a trial of ours with that history would get, and
with it goes what could not be judged for want of signals: a loss curve alone proves no skill.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from sickbay.trials.contract import FindingState, Health, Row, Severity, TaskFacts, TaskKind
from sickbay.trials.detector import Detector
from sickbay.trials.diagnosis.diagnose import Diagnosis, diagnose
from sickbay.trials.evidence.statistics import wilson_bounds
from sickbay.trials.history import History, facts_from_json, facts_to_json
from sickbay.trials.logs.evaluations import rows_of
from sickbay.trials.logs.log import ForeignLog
from sickbay.trials.logs.readers import read_log
from sickbay.trials.logs.signal_names import Matched, match_names

CROSS_ENTROPY = "cross_entropy"
RANKING = ("val_auroc", "val_auprc", "val_mcc", "val_scores_hist_pos")


@dataclass(frozen=True)
class LogOptions:
    """What the user says about a log: names, the task, the floors, how long it was meant to run.

    `floors` maps a signal to the loss of the best constant predictor, as a number or as the word
    "cross_entropy", which asks for the entropy of `classes`. `running` says that the log still
    grows, so that no detector may judge its end.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    task: TaskKind | None = None
    classes: tuple[int, ...] = ()
    floors: Mapping[str, float | str] = field(default_factory=dict)
    val_n: int | None = None
    epochs: int | None = None
    running: bool = False
    run: str | None = None


@dataclass(frozen=True)
class Coverage:
    """What the fatal detectors could do: names, and for those that could not judge, why."""

    judged: tuple[str, ...]
    open: Mapping[str, str]
    not_applicable: tuple[str, ...]


@dataclass(frozen=True)
class Judgement:
    """The verdict on a foreign log, and everything that it rests on."""

    log: ForeignLog
    matched: Matched
    history: History
    diagnosis: Diagnosis
    coverage: Coverage
    remarks: tuple[str, ...]
    assumptions: tuple[str, ...]


def judge_log(path: Path, told: LogOptions, detectors: Sequence[Detector]) -> Judgement:
    """Read a log and judge it; pure but for the reading, and nothing is stored.

    Raises LogError for a log that cannot be read and ValueError for what was told wrongly.
    """
    log = read_log(path, told.run)
    names = list(dict.fromkeys(name for record in log.records for name in record))
    signals = {
        one
        for detector in detectors
        for entry in (*detector.signals, *detector.optional_signals)
        for one in entry.split("|")
    }
    matched = match_names(names, told.names, signals)
    rows, remarks = rows_of(log.records, matched)
    facts, assumptions = facts_of(log, told, rows)
    last = rows[-1].epoch if rows else 0
    planned = max(told.epochs or last, last)
    history = History(rows, facts, planned, finished=not told.running)
    diagnosis = diagnose(history, detectors)
    if any("assumed" in one for one in assumptions):
        diagnosis = _without_belief(diagnosis, history, detectors)
    return Judgement(
        log=log,
        matched=matched,
        history=history,
        diagnosis=diagnosis,
        coverage=_coverage(diagnosis, detectors),
        remarks=(*log.remarks, *remarks),
        assumptions=assumptions,
    )


def facts_of(
    log: ForeignLog, told: LogOptions, rows: Sequence[Row]
) -> tuple[TaskFacts, tuple[str, ...]]:
    """What is known about the task: from the log itself, then from the user, then assumed."""
    facts = _own_facts(log)
    assumptions: list[str] = []
    kind = told.task or facts.kind
    if told.classes and kind is TaskKind.UNKNOWN:
        kind = TaskKind.BINARY if len(told.classes) == 2 else TaskKind.MULTICLASS
    if kind is TaskKind.UNKNOWN and any(name in row.signals for row in rows for name in RANKING):
        kind = TaskKind.BINARY
        assumptions.append("a ranking measure was logged: taken as a binary task (--task says)")
    floors = dict(facts.floors) | {name: _floor(value, told) for name, value in told.floors.items()}
    entropic = kind in {TaskKind.BINARY, TaskKind.MULTICLASS}
    if told.classes and "val_loss" not in floors and entropic:
        floors["val_loss"] = entropy(told.classes)
        assumptions.append(
            f"the loss is assumed to be the plain cross-entropy, whose best constant predictor has "
            f"{floors['val_loss']:.4f} nats on these classes; say --floor cross_entropy if it is, "
            "or --floor NUMBER"
        )
    n = dict(facts.n) | ({} if told.val_n is None else {"val": told.val_n})
    made = replace(
        facts, kind=kind, floors=floors, n=n, class_counts=told.classes or facts.class_counts
    )
    return made, tuple(assumptions)


def entropy(classes: Sequence[int]) -> float:
    """Cross-entropy of the best constant predictor, in nats: the entropy of the class shares."""
    total = sum(classes)
    return -sum(count / total * math.log(count / total) for count in classes if count)


def as_plain(judgement: Judgement) -> dict[str, Any]:
    """A judgement as plain data for JSON."""
    label = judgement.diagnosis.label
    facts = judgement.history.facts
    return {
        "read_as": judgement.log.kind,
        "evaluations": len(judgement.history),
        "label": label.health.value,
        "pathology": label.pathology,
        "onset_epoch": label.onset_epoch,
        "reason": label.reason,
        "remedy": label.remedy,
        "contributing": list(label.contributing),
        "coverage": label.coverage,
        "judged": list(judgement.coverage.judged),
        "could_not_judge": dict(judgement.coverage.open),
        "not_applicable": list(judgement.coverage.not_applicable),
        "taken": dict(judgement.matched.taken),
        "passed_over": list(judgement.matched.passed_over),
        "left_out": list(judgement.matched.own),
        "facts": {"task": facts.kind.value, "floors": dict(facts.floors), "n": dict(facts.n)},
        "assumptions": list(judgement.assumptions),
        "remarks": list(judgement.remarks),
        "findings": [vars(finding) for finding in judgement.diagnosis.findings],
        "labeller_version": label.labeller_version,
        "label_hash": label.label_hash,
    }


def _own_facts(log: ForeignLog) -> TaskFacts:
    if not log.facts:
        return TaskFacts()
    known = json.loads(facts_to_json(TaskFacts()))
    return facts_from_json(json.dumps(known | {k: v for k, v in log.facts.items() if k in known}))


def _floor(value: float | str, told: LogOptions) -> float:
    if not isinstance(value, str):
        return value
    if value != CROSS_ENTROPY:
        raise ValueError(f"--floor {value}: give a number, or {CROSS_ENTROPY} beside --classes")
    if not told.classes:
        raise ValueError(f"--floor {CROSS_ENTROPY} needs the class counts: --classes 90,10")
    return entropy(told.classes)


def _without_belief(
    diagnosis: Diagnosis, history: History, detectors: Sequence[Detector]
) -> Diagnosis:
    """A floor that was only assumed proves no skill, unless ranking or accuracy prove it as well.

    A focal or otherwise weighted loss lies far below the plain entropy without any skill at all.
    """
    label, facts = diagnosis.label, history.facts
    if label.health is not Health.HEALTHY or _accuracy_proves(history):
        return diagnosis
    unassumed = replace(facts, floors={k: v for k, v in facts.floors.items() if k != "val_loss"})
    without = History(history.rows(), unassumed, history.epochs_planned, finished=history.finished)
    if diagnose(without, detectors).label.health is Health.HEALTHY:
        return diagnosis
    reason = (
        "Skill is not proven: the floor of the loss is only assumed. --floor cross_entropy (or its "
        f"number) settles it. With the assumed one: {label.reason}"
    )
    return replace(diagnosis, label=replace(label, health=Health.INCONCLUSIVE, reason=reason))


def _accuracy_proves(history: History) -> bool:
    """Whether the last three accuracies are provably over the share of the largest class."""
    counts, n = history.facts.class_counts, history.facts.n.get("val")
    last = history.column("val_accuracy")[-3:]
    if not n or not len(last) or not np.isfinite(last).all():
        return False
    lower, _ = wilson_bounds(np.round(last.min() * n), n)
    return bool(lower > max(counts) / sum(counts))


def _coverage(diagnosis: Diagnosis, detectors: Sequence[Detector]) -> Coverage:
    fatal = {detector.name for detector in detectors if detector.severity is Severity.FATAL}
    findings = [finding for finding in diagnosis.findings if finding.detector in fatal]
    lacking = (FindingState.MISSING_SIGNAL, FindingState.INSUFFICIENT_EVIDENCE)
    return Coverage(
        judged=tuple(
            one.detector
            for one in findings
            if one.state not in {*lacking, FindingState.NOT_APPLICABLE}
        ),
        open={one.detector: one.reason for one in findings if one.state in lacking},
        not_applicable=tuple(
            one.detector for one in findings if one.state is FindingState.NOT_APPLICABLE
        ),
    )
