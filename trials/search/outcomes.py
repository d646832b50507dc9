"""What a trial that has ended tells a search: its state, its health, its numbers."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sickbay.trials.store.columns import rows_of_table
from sickbay.trials.store.files import Store, trial_parts
from sickbay.trials.store.parts import EndedTrial, current_folder, read_ended
from sickbay.trials.store.reader import read_epoch_records
from sickbay.trials.store.tables import consolidated


@dataclass(frozen=True)
class TrialOutcome:
    """One ended trial. `values` are the objectives' last, NaN where one was never recorded."""

    state: str
    label: str | None
    pathology: str | None
    values: tuple[float, ...]
    floors: Mapping[str, float]
    epochs_run: int

    @property
    def judged(self) -> bool:
        """Whether its end says something about the configuration, rather than the machine."""
        return self.state in ("completed", "stopped", "pruned")

    @property
    def unusable(self) -> bool:
        """Whether its numbers must not be believed: pathological, or not finite."""
        return self.label == "pathological" or not all(map(math.isfinite, self.values))


def read_outcome(
    store: Store, sweep_id: str, trial_id: str, signals: Sequence[str]
) -> TrialOutcome | None:
    """Read what became of a trial; None if it has not ended."""
    row = _row(store, sweep_id, trial_id)
    if row is None:
        return None
    values = [math.nan if row["objective"] is None else float(row["objective"])]
    if len(signals) > 1:
        rows = [one.row.signals for one in read_epoch_records(store, sweep_id, trial_id)]
        values = [_last(rows, signal) for signal in signals]
    floors = json.loads(row["facts"] or "{}").get("floors", {})
    return TrialOutcome(
        state=str(row["state"]),
        label=row["label"],
        pathology=row["pathology"],
        values=tuple(values),
        floors={name: float(value) for name, value in floors.items()},
        epochs_run=int(row["epochs_run"]),
    )


def _row(store: Store, sweep_id: str, trial_id: str) -> Mapping[str, Any] | None:
    ended = read_ended(store, current_folder(store, trial_parts(store, sweep_id, trial_id)))
    if isinstance(ended, EndedTrial):
        return ended.row
    table = consolidated(store, "trials", sweep_id, trial_id=trial_id)
    return None if table is None or table.num_rows == 0 else rows_of_table(table)[0]


def _last(rows: Sequence[Mapping[str, Any]], signal: str) -> float:
    found = [row[signal] for row in rows if isinstance(row.get(signal), int | float)]
    return float(found[-1]) if found else math.nan
