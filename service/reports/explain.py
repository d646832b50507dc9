"""Why a trial got its label, and the smallest change of factors that is healthy in its store."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sickbay.service.analysis.fixes import fix_finder
from sickbay.service.query.engine import find_trial
from sickbay.service.reports.verdicts import print_advice, stands, verdict
from sickbay.service.summary.formatting import recorded, short_arm
from sickbay.service.summary.trial_book import read_book
from sickbay.trials.contract import FindingState
from sickbay.trials.diagnosis.failures import REMEDIES
from sickbay.trials.diagnosis.judge import JUDGE
from sickbay.trials.store import Store

Row = Mapping[str, Any]

# States that explain nothing, and how they are counted.
SILENT = {
    FindingState.CLEAR: "found nothing",
    FindingState.NOT_APPLICABLE: "do not apply",
    FindingState.MISSING_SIGNAL: "lack a signal",
}


def explanation(store: Store, prefix: str) -> dict[str, Any]:
    """Everything known of a trial, named by a prefix of its id; see `TrialBook.explained`.

    Raises QueryError if no trial, or more than one, has an id that begins with `prefix`.
    """
    sweep_id, trial_id = find_trial(store, prefix)
    book = read_book(store, sweep_id, only=trial_id)
    return book.explained(trial_id, fix_finder(store, sweep_id)(trial_id))


def print_explanation(
    console: Console, explained: Mapping[str, Any], *, everything: bool = False
) -> None:
    """Print an explanation: what fired or could not judge; `everything` prints all findings."""
    trial = explained["trial"]
    head = Text(
        f"{trial['trial_id']}  {short_arm(trial['arm'])}, seed {trial['seed']}: ", style="bold"
    )
    console.print(head + verdict(trial))
    console.print(
        f"{trial['state']} after {trial['epochs_run']} of {trial['epochs_planned']} epochs, "
        f"objective {recorded(trial['objective']) or 'none'}; sweep {trial['sweep_id']}",
        highlight=False,
    )
    if stands(trial):
        console.print(
            Text(f"standing: {stands(trial)}, compared with the arm {trial['reference_arm']}.")
        )
    _print_judgement(console, trial)
    _print_judge(console, explained["judgement"])
    findings = [finding for finding in explained["findings"] if finding["detector"] != JUDGE]
    kept = [finding for finding in findings if everything or finding["state"] not in SILENT]
    if kept:
        console.print(_finding_table(kept))
    if len(kept) < len(findings):
        console.print(_silent_words(findings), style="dim")
    for line in explained["healing"]["says"]:
        console.print(Text(line), soft_wrap=True)
    for sweep_finding in explained["sweep_findings"]:
        if sweep_finding["state"] == FindingState.FIRED:
            sentence = (
                f"sweep {sweep_finding['severity']}: {sweep_finding['detector']}: "
                f"{sweep_finding['reason']} {sweep_finding['remedy']}"
            )
            console.print(sentence, markup=False, highlight=False)
    if len(explained["labels"]) > 1:
        console.print(
            "earlier labels: " + ", ".join(_label_words(label) for label in explained["labels"])
        )


def _print_judgement(console: Console, trial: Row) -> None:
    if trial["pathology"]:
        since = "" if trial["onset_epoch"] is None else f", since epoch {trial['onset_epoch']}"
        console.print(Text("\n").append(trial["pathology"], style="bold").append(since))
        print_advice(console, trial)
    elif trial["reason"]:
        console.print(f"  {trial['reason']}", highlight=False)
    if trial["contributing"]:
        console.print(f"  with    {', '.join(trial['contributing'])}", highlight=False)
    if trial.get("failure"):
        console.print(Text("\n").append(trial["failure"], style="bold"))
        console.print(Text(f"  change  {REMEDIES.get(trial['failure'], '')}"))
    if trial["error"]:
        console.print(Text(trial["error"].rstrip(), style="magenta"))


def _print_judge(console: Console, judged: Mapping[str, Any] | None) -> None:
    """Print each statistic's contribution to the judge's log odds, and which detectors agree."""
    if judged is None:
        return
    console.print(Text(f"\nthe judge: {judged['probability']:.1%} pathological, in log odds:"))
    for contribution in judged["contributions"]:
        console.print(Text(f"  {contribution['log_odds']:+5.1f}  {contribution['words']}"))
    for side in ("agree", "disagree"):
        if judged[side]:
            line = f"  detectors that {side}: {', '.join(judged[side])}"
            console.print(Text(line), soft_wrap=True)


def _finding_table(rows: Sequence[Row]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("detector", "state", "severity", "onset"):
        table.add_column(name, no_wrap=True)
    table.add_column("statistic", justify="right", no_wrap=True)
    table.add_column("threshold", justify="right", no_wrap=True)
    table.add_column("reason and evidence", overflow="fold")
    for row in rows:
        evidence = json.loads(row["evidence"] or "{}")
        evidence_text = ", ".join(f"{name} {recorded(value)}" for name, value in evidence.items())
        table.add_row(
            row["detector"],
            row["state"],
            row["severity"],
            "" if row["onset_epoch"] is None else str(row["onset_epoch"]),
            recorded(row["statistic"]),
            recorded(row["threshold"]),
            f"{row['reason']}" + (f" ({evidence_text})" if evidence_text else ""),
        )
    return table


def _silent_words(findings: Sequence[Row]) -> str:
    counts = [sum(finding["state"] == state for finding in findings) for state in SILENT]
    parts = (f"{n} {phrase}" for n, phrase in zip(counts, SILENT.values(), strict=True) if n)
    return f"of {len(findings)} detectors {', '.join(parts)}: --all lists them"


def _label_words(label: Row) -> str:
    cause = f" ({label['pathology']})" if label["pathology"] else ""
    return f"{label['label']}{cause} by {label['labeller_version']}"
