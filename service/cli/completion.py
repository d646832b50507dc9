"""Shell completion: names of sweeps, workloads and detectors.

A shell waits for the answer and shows what is printed, so these are quick and never fail: they
read names of folders and of entry points, load no plugin, and ask no service or object store.
"""

from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import typer

from sickbay.service.settings import settings


def complete_sweep(context: typer.Context, incomplete: str) -> list[str]:
    """Ids of the sweeps in the local store that the command line or the environment chooses."""
    return _offer(incomplete, lambda: _stored_sweeps(context.params.get("store")))


def complete_workload(incomplete: str) -> list[str]:
    """Names of the installed workloads."""
    return _offer(incomplete, lambda: _registered("sickbay.workloads"))


def complete_detector(incomplete: str) -> list[str]:
    """Names of the installed detectors, and of those that judge a whole sweep."""
    return _offer(incomplete, lambda: [*_registered("sickbay.detectors"), *_over_sweeps()])


def _offer(incomplete: str, names: Callable[[], list[str]]) -> list[str]:
    try:
        return sorted(name for name in names() if name.startswith(incomplete))
    except Exception:  # noqa: BLE001  a traceback would be typed into the user's command line
        return []


def _stored_sweeps(store: str | None) -> list[str]:
    folder = Path(store or settings().store) / "sweeps"
    return [path.name for path in folder.iterdir() if path.is_dir()]


def _registered(group: str) -> list[str]:
    return [point.name for point in entry_points(group=group)]


def _over_sweeps() -> list[str]:
    from sickbay.trials.diagnosis.sweep_detectors import SWEEP_DETECTORS

    return [detector.name for detector in SWEEP_DETECTORS]
