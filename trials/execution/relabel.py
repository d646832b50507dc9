"""Apply today's detectors to stored histories: no training, no old label lost.

Detectors are pure, so a stored history under the same detectors gives the stored label bit for bit.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sickbay.trials.contract import Label, TrialState
from sickbay.trials.detector import Detector
from sickbay.trials.diagnosis.diagnose import Diagnosis, diagnose
from sickbay.trials.execution.lease import driving
from sickbay.trials.store import Relabelled, Store
from sickbay.trials.store.merge import write_labels
from sickbay.trials.store.reader import iter_histories

LABELLED = (  # failed and cancelled trials have no label
    TrialState.COMPLETED,
    TrialState.STOPPED,
    TrialState.PRUNED,
)


@dataclass(frozen=True)
class LabelChange:
    """A trial whose verdict is another now: "pathological (no_skill)" -> "healthy", and why."""

    trial_id: str
    arm: str
    seed: int
    old: str
    new: str
    reason: str


@dataclass(frozen=True)
class RelabelReport:
    """What relabelling a sweep came to. `same` trials kept their verdict."""

    sweep_id: str
    labeller_version: str
    trials: int
    same: int
    changes: tuple[LabelChange, ...]
    written: int


def relabel(
    store: Store, sweep_id: str, detectors: Sequence[Detector], *, write: bool = True
) -> RelabelReport:
    """Judge every ended trial of a sweep again; store the labels that are not stored yet.

    A label of another labeller version is a new row beside the old ones. Raises StoreError if a
    file of the sweep is damaged or cannot be written, AlreadyDrivenError while the sweep runs.
    """
    new: list[Relabelled] = []
    changes: list[LabelChange] = []
    version, judged = "", 0
    for stored in iter_histories(store, sweep_id):
        if stored.row["state"] not in LABELLED:
            continue
        judged += 1
        diagnosis = diagnose(stored.history, detectors)
        version = diagnosis.label.labeller_version
        if stored.row["label_hash"] != diagnosis.label.label_hash:
            new.append(Relabelled(stored.trial_id, diagnosis.label, diagnosis.findings))
        change = _change(stored.row, diagnosis)
        if change is not None:
            changes.append(change)
    if write and new:
        with driving(store, sweep_id):  # whoever merges the sweep must be alone
            write_labels(store, sweep_id, new)
    return RelabelReport(
        sweep_id=sweep_id,
        labeller_version=version,
        trials=judged,
        same=judged - len(changes),
        changes=tuple(changes),
        written=len(new) if write else 0,
    )


def counted(reports: Sequence[RelabelReport]) -> dict[str, int]:
    """How many trials went from which verdict to which, the commonest first."""
    counts = Counter(f"{one.old} -> {one.new}" for report in reports for one in report.changes)
    return dict(counts.most_common())


def verdict_of(health: str | None, pathology: str | None) -> str:
    """A verdict in a few words: "pathological (no_skill)", "healthy"."""
    return f"{health} ({pathology})" if pathology else str(health or "none")


def _change(row: Mapping[str, Any], diagnosis: Diagnosis) -> LabelChange | None:
    label: Label = diagnosis.label
    old = verdict_of(row["label"], row["pathology"])
    new = verdict_of(str(label.health), label.pathology)
    if old == new:
        return None
    return LabelChange(row["trial_id"], row["arm"], row["seed"], old, new, label.reason)
