"""Apply today's detectors to stored histories: no training, no old label lost.

Detectors are pure, so a stored history under the same detectors gives the stored label bit for bit.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sickbay.trials.contract import Label, TrialState, label_stands
from sickbay.trials.detector import Detector
from sickbay.trials.diagnosis.diagnose import diagnose
from sickbay.trials.execution.lease import driving
from sickbay.trials.execution.standings import update_standings
from sickbay.trials.store import Relabelled, Store, StoreError
from sickbay.trials.store.merge import write_labels
from sickbay.trials.store.reader import StoredTrial, iter_histories

NO_LABEL = "none"
JUDGED = (TrialState.COMPLETED, TrialState.STOPPED, TrialState.PRUNED)


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

    Labels of other versions stay. A pruned trial keeps a label only while it is pathological.
    Raises StoreError, and changes nothing, if a file cannot be read or written or rows are missing;
    AlreadyDrivenError while the sweep runs.
    """
    incomplete: list[str] = []
    new: list[Relabelled] = []
    changes: list[LabelChange] = []
    version, judged = "", 0
    for stored in iter_histories(store, sweep_id):
        state = stored.row["state"]
        if state not in JUDGED:
            continue
        judged += 1
        if not _complete(stored):
            incomplete.append(stored.trial_id)
            continue
        diagnosis = diagnose(stored.history, detectors)
        version = diagnosis.label.labeller_version
        label = diagnosis.label if label_stands(state, diagnosis.label.health) else None
        if stored.row["label_hash"] != (label and label.label_hash):
            new.append(Relabelled(stored.trial_id, label, diagnosis.findings))
        change = _change(stored.row, label)
        if change is not None:
            changes.append(change)
    if incomplete:
        some = ", ".join(incomplete[:5]) + (", …" if len(incomplete) > 5 else "")
        raise StoreError(
            f"{sweep_id}: the epochs of {len(incomplete)} of {judged} trials are not all in the "
            f"store ({some}): no label was changed. Restore them from a copy, or run the sweep "
            "again into another store"
        )
    if write and new:
        with driving(store, sweep_id):  # one process at a time may merge a sweep
            write_labels(store, sweep_id, new)
            update_standings(store, sweep_id)
    return RelabelReport(
        sweep_id=sweep_id,
        labeller_version=version,
        trials=judged,
        same=judged - len(changes),
        changes=tuple(changes),
        written=len(new) if write else 0,
    )


def _complete(stored: StoredTrial) -> bool:
    """Whether a trial's rows reach up to the epoch that its row says it ran to."""
    epochs = stored.history.epochs
    return (int(epochs[-1]) if len(epochs) else 0) == int(stored.row["epochs_run"] or 0)


def counted(reports: Sequence[RelabelReport]) -> dict[str, int]:
    """How many trials went from which verdict to which, the commonest first."""
    counts = Counter(
        f"{change.old} -> {change.new}" for report in reports for change in report.changes
    )
    return dict(counts.most_common())


def verdict_of(health: str | None, pathology: str | None) -> str:
    """A verdict in a few words: "pathological (no_skill)", "healthy"."""
    return f"{health} ({pathology})" if pathology else str(health or NO_LABEL)


def _change(row: Mapping[str, Any], label: Label | None) -> LabelChange | None:
    stood = label_stands(row["state"], row["label"])
    old = verdict_of(row["label"], row["pathology"]) if stood else NO_LABEL
    new = verdict_of(str(label.health), label.pathology) if label else NO_LABEL
    if old == new:
        return None
    reason = label.reason if label else "ended by a scheduler, and not pathological"
    return LabelChange(row["trial_id"], row["arm"], row["seed"], old, new, reason)
