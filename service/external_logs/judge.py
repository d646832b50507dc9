"""Judge a training log that Sickbay did not make: `sickbay diagnose FILE`.

The log's names are matched to signals, its records become evaluations, and what the user says about
the task becomes facts. The label is the one that a trial of ours with that history would get, and
with it goes what could not be judged for want of signals: a loss curve alone proves no skill.
"""

import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sickbay.service.external_logs.facts import (
    Known,
    facts_of,
    split_facts,
    unused,
    with_training_floor,
)
from sickbay.service.external_logs.log_findings import first_broken, log_findings
from sickbay.service.external_logs.options import LogOptions, read_sidecar
from sickbay.service.external_logs.verdict import (
    Coverage,
    coverage_of,
    in_log_terms,
    with_detectors_word,
    with_log_findings,
    without_belief,
    without_chance,
)
from sickbay.service.summary.judgement import judgement_of
from sickbay.trials.contract import Row
from sickbay.trials.detector import Detector
from sickbay.trials.diagnosis.diagnose import Diagnosis, diagnose
from sickbay.trials.history import History
from sickbay.trials.log_files.files import read_raw
from sickbay.trials.log_files.folders import Source, find_logs
from sickbay.trials.logs.evaluations import Evaluations, Place
from sickbay.trials.logs.log import ExternalLog, LogError
from sickbay.trials.logs.reading import read_records
from sickbay.trials.logs.records import appended_runs, logs_of
from sickbay.trials.logs.signal_names import Matched, is_clock, is_epoch, is_step, split_of

NOT_SUGGESTED = re.compile(r"lr|learning|rate|epoch|step|mem|param|scale", re.IGNORECASE)


@dataclass(frozen=True)
class Judgement:
    """The verdict on an external log, and the evidence for it.

    `onset` is where in the log the pathology begins, in the log's own epoch or step. `earlier` are
    the judgements of runs to which this one was appended, in the same file.
    """

    log: ExternalLog
    matched: Matched
    history: History
    diagnosis: Diagnosis
    coverage: Coverage
    onset: Place | None
    remarks: tuple[str, ...]
    assumptions: tuple[str, ...]
    earlier: tuple["Judgement", ...] = ()


def judge_log(path: Path, options: LogOptions, detectors: Sequence[Detector]) -> Judgement:
    """Read the log of one run and judge it; stores nothing.

    Raises LogError for a log that cannot be read, in which nothing is recognised, or that holds
    several runs of which `options.run` chooses none; ValueError for options that make no sense.
    """
    judgements = [
        judgement
        for source in find_logs(path)
        for judgement in judge_source(source, options, detectors)
    ]
    if len(judgements) > 1:
        runs = ", ".join(str(judgement.log.run) for judgement in judgements)
        raise LogError(f"{path} holds {len(judgements)} runs ({runs}): choose one by --run")
    return judgements[0]


def judge_source(
    source: Source, options: LogOptions, detectors: Sequence[Detector]
) -> list[Judgement]:
    """Judge a file, or a folder that is one run: a judgement for each run that it holds.

    Of runs that were appended to one another the last one is judged, with the others beside it.
    """
    options = options.over(read_sidecar(source.path))
    logs = [log for raw in read_raw(source.path, None) for log in logs_of(raw, str(source.path))]
    if len(logs) == 1 and logs[0].run is None:
        logs = [replace(logs[0], run=source.run)]
    return [_judge_appended(log, options, detectors) for log in _chosen(logs, options, source)]


def _chosen(
    logs: Sequence[ExternalLog], options: LogOptions, source: Source
) -> Sequence[ExternalLog]:
    named = [log for log in logs if options.run is not None and log.run == options.run]
    if options.run is None or named:
        return named or logs
    if len(logs) == 1:  # it may name a run that was appended
        return logs
    names = ", ".join(str(log.run) for log in logs)
    raise LogError(f"{source.path} holds no run {options.run!r}; it has {names}")


def _judge_appended(
    log: ExternalLog, options: LogOptions, detectors: Sequence[Detector]
) -> Judgement:
    runs = appended_runs(log)
    if len(runs) == 1:
        if options.run not in {None, log.run}:
            raise LogError(f"{log.path} holds one run only, and none is called {options.run!r}")
        return _judge(replace(runs[0], run=log.run), options, detectors)
    if options.run is not None and options.run != log.run:
        chosen = [run for run in runs if run.run == options.run]
        if not chosen:
            raise LogError(
                f"{log.path} holds no run {options.run!r}; runs 1 to {len(runs)} were appended"
            )
        return _judge(chosen[0], options, detectors)
    judged = [_judge(run, options, detectors) for run in runs]
    last, earlier = judged[-1], tuple(judged[:-1])
    verdicts = "; ".join(
        f"run {judgement.log.run}: {verdict_words(judgement)}" for judgement in earlier
    )
    remark = (
        f"{len(runs)} runs are in this log, as its epochs or steps restart. The last one "
        f"is judged ({verdicts}; --run 1 judges the first)"
    )
    return replace(last, remarks=(remark, *last.remarks), earlier=earlier)


def _judge(log: ExternalLog, options: LogOptions, detectors: Sequence[Detector]) -> Judgement:
    if not any(log.records):
        raise LogError(f"{log.path} was read as {log.kind}, but holds no numbers")
    own_options, own_facts = split_facts(log.facts)
    options = options.over(own_options)
    read = read_records(log.records, options.names, signal_names(detectors))
    matched, made = read.matched, read.made
    if not (set(matched.taken) - {"val_n"} or matched.losses or matched.gradients):
        raise LogError(_nothing_recognised(log, read.names))
    rows, known = with_training_floor(made.rows, facts_of(own_facts, options, made.rows))
    present = {name for row in rows for name in row.signals}
    idle = [*unused(options, present), *_idle_epochs(options, made)]
    history = _history(rows, known, options, made)
    diagnosis = without_chance(diagnose(history, detectors), history)
    if known.assumed_floor:
        diagnosis = without_belief(diagnosis, history, detectors)
    diagnosis, onset = in_log_terms(with_detectors_word(diagnosis, history), made)
    from_log = log_findings(read.records, read.used, known.facts.floors)
    diagnosis, onset = with_log_findings(
        diagnosis, onset, from_log, first_broken(read.records, read.used)
    )
    return Judgement(
        log=log,
        matched=matched,
        history=history,
        diagnosis=diagnosis,
        coverage=coverage_of(diagnosis, detectors),
        onset=onset,
        remarks=(*log.remarks, *read.remarks, *idle),
        assumptions=known.assumptions,
    )


def signal_names(detectors: Sequence[Detector]) -> set[str]:
    """Every signal that one of these detectors reads."""
    return {
        name
        for detector in detectors
        for entry in (*detector.signals, *detector.optional_signals)
        for name in entry.split("|")
    }


def _history(rows: Sequence[Row], known: Known, options: LogOptions, made: Evaluations) -> History:
    """The history; planned epochs are converted to evaluations where the log counts those."""
    last = rows[-1].epoch if rows else 0
    planned = options.epochs or last
    if not made.own_epochs and rows and options.epochs:
        reached = made.places[last].epoch
        planned = math.ceil(len(rows) * options.epochs / reached) if reached else last
    return History(rows, known.facts, max(planned, last), finished=not options.running)


def _idle_epochs(options: LogOptions, made: Evaluations) -> list[str]:
    counts = made.own_epochs or any(place.epoch for place in made.places.values())
    return [] if options.epochs is None or counts else ["--epochs: the log counts no epochs"]


def _nothing_recognised(log: ExternalLog, names: Sequence[str]) -> str:
    """Error message for unrecognised columns, with the command to type."""
    candidates = [n for n in names if not (is_epoch(n) or is_step(n) or is_clock(n))]
    likely = [n for n in candidates if not NOT_SUGGESTED.search(n)] or candidates or list(names)
    split = "train" if split_of(likely[0]) in {None, "train"} else "val"
    pair = shlex.quote(f"{likely[0]}={split}_loss")
    return (
        f"{log.path} was read as {log.kind}, but no column is recognised as a loss or another "
        f"signal. Columns: {', '.join(names)}. Say which is which, for example: "
        f"sickbay diagnose {shlex.quote(log.path)} --map {pair}"
    )


def as_plain(judgement: Judgement) -> dict[str, Any]:
    """A judgement as plain data for JSON."""
    label = judgement.diagnosis.label
    facts = judgement.history.facts
    findings = [vars(finding) for finding in judgement.diagnosis.findings]
    judged = judgement_of(findings)
    return {
        "file": judgement.log.path,
        "run": judgement.log.run,
        "read_as": judgement.log.kind,
        "evaluations": len(judgement.history),
        "label": label.health.value,
        "pathology": label.pathology,
        "onset_epoch": onset_number(judgement.onset),
        "onset": None if judgement.onset is None else str(judgement.onset),
        "onset_step": None if judgement.onset is None else judgement.onset.step,
        "confidence": label.confidence,
        "reason": label.reason,
        "remedy": label.remedy,
        "contributing": list(label.contributing),
        "coverage": label.coverage,
        "judged": list(judgement.coverage.judged),
        "could_not_judge": dict(judgement.coverage.open),
        "not_applicable": list(judgement.coverage.not_applicable),
        "taken": dict(judgement.matched.taken),
        "terms": {signal: list(names) for signal, names in judgement.matched.parts.items()},
        "passed_over": list(judgement.matched.passed_over),
        "left_out": list(judgement.matched.unread),
        "facts": {
            "task": facts.kind.value,
            "floors": dict(facts.floors),
            "classes": list(facts.class_counts),
            "components": facts.components,
            "n": dict(facts.n),
        },
        "assumptions": list(judgement.assumptions),
        "remarks": list(judgement.remarks),
        "contributions": judged["contributions"] if judged else [],
        "findings": findings,
        "earlier_runs": [
            {"run": earlier_run.log.run, "label": verdict_words(earlier_run)}
            for earlier_run in judgement.earlier
        ],
        "labeller_version": label.labeller_version,
        "label_hash": label.label_hash,
    }


def onset_number(place: Place | None) -> float | None:
    """The log's own epoch of an evaluation, else its step, else the record's number."""
    if place is None:
        return None
    value = place.epoch if place.epoch is not None else place.step
    value = float(place.record) if value is None else value
    return int(value) if value == int(value) else value


def verdict_words(judgement: Judgement) -> str:
    """`pathological (non_finite, since step 40)`, `healthy`, `inconclusive`."""
    label = judgement.diagnosis.label
    cause = [label.pathology] if label.pathology else []
    since = [f"since {judgement.onset}"] if judgement.onset is not None else []
    return label.health.value + (f" ({', '.join([*cause, *since])})" if cause else "")
