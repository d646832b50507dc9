"""A judged foreign log on one screen: what was read as what, the verdict, and what stayed open."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.text import Text

from sickbay.service.external_logs.judge import Judgement
from sickbay.service.reports.verdicts import print_advice, verdict
from sickbay.trials.contract import FindingState

SHOWN_OPEN = 8


def print_judgement(console: Console, path: str, found: Judgement) -> None:
    """Print a judgement for a person: it never says more than the log can carry."""
    _print_reading(console, path, found)
    label = found.diagnosis.label
    row = {
        "label": label.health.value,
        "state": None,
        "reason": label.reason,
        "remedy": label.remedy,
    }
    cause = f"  {label.pathology}" if label.pathology else ""
    since = "" if label.onset_epoch is None else f", since epoch {label.onset_epoch}"
    console.print()
    console.print(verdict(row) + Text(cause + since, style="bold"))
    print_advice(console, row)
    if label.contributing:
        console.print(f"  with    {', '.join(label.contributing)}", highlight=False)
    for finding in found.diagnosis.findings:
        beside = finding.detector not in {label.pathology, *label.contributing}
        if beside and finding.state is FindingState.FIRED:
            console.print(f"  note    {finding.detector}: {finding.reason}", highlight=False)
    _print_coverage(console, found)


def _print_reading(console: Console, path: str, found: Judgement) -> None:
    console.print(f"{path}: {found.log.kind}", highlight=False)
    taken = found.matched.taken
    console.print(
        f"  took    {_pairs(taken)}" if taken else "  took    no column: name them by --map",
        highlight=False,
    )
    left = {
        "no detector reads": found.matched.own,
        "another column gave the same signal": found.matched.passed_over,
    }
    for why, names in left.items():
        if names:
            console.print(f"  left    {_some(names)} ({why}; --map mine=SIGNAL)", highlight=False)
    for remark in found.remarks:
        console.print(f"  read    {remark}", highlight=False)
    for assumption in found.assumptions:
        console.print(Text(f"  assumed {assumption}", style="yellow"))


def _print_coverage(console: Console, found: Judgement) -> None:
    coverage = found.coverage
    total = len(coverage.judged) + len(coverage.open)
    console.print(
        f"\n{len(coverage.judged)} of the {total} fatal detectors that apply could judge"
        + (f": {', '.join(coverage.judged)}" if coverage.judged else ""),
        highlight=False,
    )
    for name, reason in list(coverage.open.items())[:SHOWN_OPEN]:
        console.print(f"  open    {name}: {reason}", highlight=False)
    if len(coverage.open) > SHOWN_OPEN:
        rest = len(coverage.open) - SHOWN_OPEN
        console.print(f"  open    and {rest} more; --json lists all")


def _pairs(taken: Mapping[str, str]) -> str:
    return ", ".join(
        signal if signal == name else f"{name} as {signal}" for signal, name in taken.items()
    )


def _some(names: Sequence[str], most: int = 12) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
