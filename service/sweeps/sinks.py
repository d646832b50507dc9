"""Sinks: trackers to which a sweep's trials are exported after its run (spec key `sinks`).

The store is complete before anything is exported, so a failing sink costs no trial; `sickbay export
SWEEP --to …` repeats it without duplicates.
"""

from pathlib import Path

from sickbay.service.export.trackers import export_to
from sickbay.service.formats import Tracker
from sickbay.service.settings import settings
from sickbay.trials.store import Store


def target_of(store: Store, sweep_id: str, tracker: Tracker) -> str:
    """Folder of a tracker's files: in a local store, else below the current folder.

    MLflow's own variable, MLFLOW_TRACKING_URI, wins for MLflow.
    """
    if tracker is Tracker.MLFLOW and settings().mlflow:
        return str(settings().mlflow)
    root = Path(store.root) if store.is_local else Path.cwd()
    return str(root / "exports" / sweep_id / tracker.value)


def fill_sinks(store: Store, sweep_id: str, sinks: tuple[str, ...]) -> list[str]:
    """Export a sweep to its sinks; returns a message for each that failed."""
    troubles = []
    for word in sinks:
        tracker = Tracker(word)
        try:
            export_to(store, sweep_id, tracker, target_of(store, sweep_id, tracker))
        except Exception as error:  # noqa: BLE001  a tracker's library may raise anything
            troubles.append(f"cannot export to the sink {word}: {error}")
    return troubles
