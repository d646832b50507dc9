"""Findings over a whole sweep: runs the sweep detectors on a stored sweep."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.text import Text

from sickbay.service.query.engine import query
from sickbay.service.query.lookup import stored_spec
from sickbay.service.query.sqltext import name as quoted
from sickbay.trials.contract import Goal, Objective
from sickbay.trials.diagnosis.sweep_detectors import COMPARED, METRICS, SWEEP_DETECTORS
from sickbay.trials.diagnosis.sweep_findings import (
    SweepDetector,
    SweepFinding,
    SweepTrial,
    SweepView,
    shown_findings,
    sweep_findings,
)
from sickbay.trials.evidence.thresholds import MARGINS
from sickbay.trials.store import Store

CURVES = (*COMPARED, *METRICS)


def sweep_advice(
    store: Store,
    sweep_id: str,
    factors: Sequence[str] | None = None,
    objective: Objective | None = None,
) -> tuple[SweepFinding, ...]:
    """All findings over a stored sweep; empty where none of its trials has ended.

    `factors` and `objective` default to the stored spec's. Raises QueryError or StoreError.
    """
    spec = stored_spec(store, sweep_id)
    named = list(spec.get("factors", {})) if factors is None else list(factors)
    said = spec.get("objective")
    if isinstance(said, list):  # of several objectives the first ranks
        said = said[0] if said else None
    if objective is None and said:
        objective = Objective(said["signal"], Goal(said["goal"]))
    trials = _trials(store, sweep_id, named)
    return sweep_findings(SweepView(trials, objective), SWEEP_DETECTORS) if trials else ()


def advice_records(
    findings: Sequence[SweepFinding], trial_id: str | None = None
) -> list[dict[str, Any]]:
    """Findings as plain data; for a trial, those that name it and those that name no trial."""
    return [
        {**vars(finding), "state": str(finding.state), "severity": str(finding.severity)}
        for finding in findings
        if trial_id is None or not finding.trials or trial_id in finding.trials
    ]


def print_advice_lines(console: Console, findings: Sequence[SweepFinding]) -> None:
    """Print the fired findings, one line each with its remedy."""
    for finding in shown_findings(findings):
        console.print(
            f"sweep {finding.severity}: {finding.detector}: {finding.reason} {finding.remedy}",
            markup=False,
            highlight=False,
            style="yellow" if finding.severity == "warning" else "dim",
        )


def describe_sweep_detector(detector: SweepDetector) -> dict[str, Any]:
    """A sweep detector as plain data, thresholds included."""
    fields = {name: value for name, value in vars(detector).items() if name != "function"}
    return {**fields, "thresholds": {name: asdict(MARGINS[name]) for name in detector.margins}}


def print_sweep_detector(console: Console, detector: SweepDetector) -> None:
    """Print a sweep detector: its rule, formula, source, remedy, false alarms and thresholds."""
    described = describe_sweep_detector(detector)
    title = f"{detector.title} (over a sweep; at worst {detector.severity})"
    console.print(Text.assemble((detector.name, "bold"), f" {detector.version}: {title}"))
    for key in ("rule", "formula", "source", "remedy", "false_alarms"):
        console.print(f"  {key:<13}{described[key]}", highlight=False, markup=False)
    for name, margin in described["thresholds"].items():
        line = f"{name} = {margin['value']:g} {margin['unit']}: {margin['reason']}"
        console.print(f"  {'threshold':<13}{line}", highlight=False, markup=False)


def _trials(store: Store, sweep_id: str, factors: Sequence[str]) -> tuple[SweepTrial, ...]:
    known = query(store, "SELECT * FROM trials LIMIT 0", sweep_ids=[sweep_id]).columns
    factors = [name for name in factors if name in known]
    levels = "".join(f", {quoted(factor)}" for factor in factors)
    rows = query(
        store,
        f"SELECT trial_id, seed, label, pathology, contributing, objective{levels} "  # noqa: S608  names are quoted
        "FROM outcomes ORDER BY trial_id",
        sweep_ids=[sweep_id],
    ).rows
    curves, samples = _curves(store, sweep_id), _val_n(store, sweep_id, known)
    return tuple(
        SweepTrial(
            trial_id=row[0],
            seed=row[1],
            levels=dict(zip(factors, row[6:], strict=True)),
            health=row[2],
            causes=tuple(name for name in (row[3], *(row[4] or ())) if name),
            objective=row[5],
            curves=curves.get(row[0], {}),
            val_n=samples.get(row[0]),
        )
        for row in rows
    )


def _val_n(store: Store, sweep_id: str, columns: Collection[str]) -> dict[str, int]:
    """The number of validation samples by trial, where the facts state it."""
    if "facts" not in columns:
        return {}
    asked = "SELECT trial_id, CAST(json_extract(facts, '$.n.val') AS BIGINT) FROM trials"
    return {row[0]: row[1] for row in query(store, asked, sweep_ids=[sweep_id]).rows if row[1]}


def _curves(store: Store, sweep_id: str) -> dict[str, Mapping[str, tuple[float, ...]]]:
    answer = query(store, "SELECT * FROM epochs LIMIT 0", sweep_ids=[sweep_id])
    types = dict(zip(answer.columns, answer.types, strict=True))
    names = [name for name in CURVES if types.get(name) == "DOUBLE"]
    if not names:
        return {}
    lists = ", ".join(
        f"list({name} ORDER BY epoch) FILTER ({name} IS NOT NULL) AS {name}" for name in names
    )
    asked = f"SELECT trial_id, {lists} FROM epochs GROUP BY trial_id"  # noqa: S608  fixed names
    rows = query(store, asked, sweep_ids=[sweep_id]).rows
    return {
        row[0]: {name: tuple(values or ()) for name, values in zip(names, row[1:], strict=True)}
        for row in rows
    }
