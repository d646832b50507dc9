"""Prints judgements: one in full, many as a table.

Names and sentences are printed as they were written: Rich's markup is off, as a column may be
called `[/acc]`.
"""

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sickbay.service.external_logs.judge import Judgement
from sickbay.service.external_logs.many import Failure, Outcome
from sickbay.service.reports.verdicts import verdict
from sickbay.service.summary.formatting import COLOURS, SIGNS
from sickbay.trials.contract import FindingState, Health
from sickbay.trials.diagnosis.judge import JUDGE

FIRST_SENTENCE = re.compile(r"(?<=[.]) (?=[A-Z'])")
SHOWN_OPEN = 8
SHOWN_NAMES = 12


def print_judgement(console: Console, path: str, judgement: Judgement) -> None:
    """Print a judgement in full, claiming no more than the log supports."""
    _print_reading(console, path, judgement)
    label = judgement.diagnosis.label
    row = {"label": label.health.value, "state": None}
    cause = f"  {label.pathology}" if label.pathology else ""
    since = "" if judgement.onset is None else f", since {judgement.onset}"
    console.print()
    console.print(verdict(row) + Text(cause + since, style="bold"))
    _print_advice(console, {"why": label.reason, "change": label.remedy})
    if label.contributing:
        _line(console, "with", ", ".join(label.contributing))
    for finding in judgement.diagnosis.findings:
        beside = finding.detector not in {label.pathology, *label.contributing, JUDGE}
        if beside and finding.state is FindingState.FIRED:
            _line(console, "note", f"{finding.detector}: {finding.reason}")
    _print_coverage(console, judgement)


def print_table(console: Console, outcomes: Sequence[Outcome]) -> None:
    """Print many judgements as a table, one line a run, and what could not be read below it."""
    judged = [outcome for outcome in outcomes if not isinstance(outcome, Failure)]
    common = os.path.commonpath([outcome["file"] for outcome in judged]) if len(judged) > 1 else ""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("log", "label", "cause", "since", "why"):
        table.add_column(name, overflow="fold", max_width=72 if name == "why" else None)
    for judgement in judged:
        sign = SIGNS[judgement["label"]]
        colour = COLOURS[sign]
        table.add_row(
            Text(_short(judgement, common)),
            Text(f"{sign} {judgement['label']}", style=colour),
            Text(judgement["pathology"] or ""),
            Text(judgement["onset"] or ""),
            Text(FIRST_SENTENCE.split(judgement["reason"], maxsplit=1)[0]),
        )
    if judged:
        console.print(table)
    counts = {h: sum(outcome["label"] == h for outcome in judged) for h in Health}
    listed = ", ".join(f"{n} {health}" for health, n in counts.items() if n)
    failed = len(outcomes) - len(judged)
    rest = f"; {failed} could not be judged" if failed else ""
    console.print(f"{len(judged)} runs: {listed or 'none judged'}{rest}", markup=False)
    if judged:
        judgement = judged[0]
        run = ["--run", str(judgement["run"])] if _inside(judgement, judged) else []
        hint = f"to see one in full: {shlex.join(['sickbay', 'diagnose', judgement['file'], *run])}"
        console.print(hint, markup=False, highlight=False, soft_wrap=True)


def _inside(judgement: Mapping[str, Any], judged: Sequence[Mapping[str, Any]]) -> bool:
    return (
        bool(judgement["run"]) and sum(other["file"] == judgement["file"] for other in judged) > 1
    )


def _short(judgement: Mapping[str, Any], common: str) -> str:
    path = os.path.relpath(judgement["file"], common) if common else judgement["file"]
    path = judgement["file"] if path == "." else path
    inside = judgement["run"] and str(judgement["run"]) not in path
    return f"{path} [{judgement['run']}]" if inside else path


def _print_reading(console: Console, path: str, judgement: Judgement) -> None:
    console.print(f"{path}: {judgement.log.kind}", highlight=False, markup=False)
    matched = judgement.matched
    pairs = _pairs(matched.taken)
    terms = [f"{' + '.join(names)} as {signal}" for signal, names in matched.parts.items() if names]
    _line(console, "signals", "; ".join([*([pairs] if pairs else []), *terms]) or "none")
    if matched.unread:
        _line(console, "unread", f"{_some(matched.unread)} (to use one: --map mine=SIGNAL)")
    if matched.passed_over:
        _line(
            console,
            "spare",
            f"{_some(matched.passed_over)} (another column already gives the same signal)",
        )
    for remark in judgement.remarks:
        _line(console, "read", remark)
    for assumption in judgement.assumptions:
        _line(console, "assumed", assumption, "yellow")


def _print_advice(console: Console, texts: Mapping[str, str]) -> None:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=9)
    grid.add_column(overflow="fold")
    for head, text in texts.items():
        if text:
            grid.add_row(f"  {head}", Text(text))
    console.print(grid)


def _print_coverage(console: Console, judgement: Judgement) -> None:
    coverage = judgement.coverage
    total = len(coverage.judged) + len(coverage.open)
    judged = f": {', '.join(coverage.judged)}" if coverage.judged else ""
    console.print(
        f"\n{len(coverage.judged)} of the {total} fatal detectors that apply could judge{judged}",
        highlight=False,
        markup=False,
    )
    for name, reason in list(coverage.open.items())[:SHOWN_OPEN]:
        _line(console, "open", f"{name}: {reason}")
    if len(coverage.open) > SHOWN_OPEN:
        _line(console, "open", f"and {len(coverage.open) - SHOWN_OPEN} more; --json lists all")


def _line(console: Console, head: str, text: str, style: str = "") -> None:
    console.print(Text(f"  {head:<7} {text}", style=style))


def _pairs(taken: Mapping[str, str]) -> str:
    return ", ".join(
        signal if signal == name else f"{name} as {signal}" for signal, name in taken.items()
    )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return ", ".join(names[:SHOWN_NAMES]) + more
