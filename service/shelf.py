"""What the service serves of a store, kept in memory for as long as the files do not change.

A page is asked for far more often than a trial ends. So a sweep's trials are turned into JSON once,
row by row, and a page of them is a slice of bytes; whether they changed is asked at most once a
second. Reading happens in worker threads, one at a time a sweep: a thousand askers cause one read.
"""

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sickbay.service.query import trials
from sickbay.service.status import overview
from sickbay.trials.store_files import Store, list_folder, sweep_parts, table_file

FRESH_SECONDS = 1.0
MOST_KEPT = 16  # sweeps whose rows stay in memory

T = TypeVar("T")


@dataclass(frozen=True)
class TrialPages:
    """The ended trials of a sweep as JSON rows, by seed and arm, and the columns to filter by."""

    rows: tuple[bytes, ...]
    labels: tuple[str | None, ...]
    states: tuple[str | None, ...]
    pathologies: tuple[str | None, ...]
    ids: dict[str, int]

    def page(self, start: int, count: int, **wanted: str | None) -> tuple[list[bytes], int]:
        """Some rows from `start` on, and how many there are in all, after filters.

        A filter is `label`, `state` or `pathology`; None means no filter.
        """
        columns = {
            "label": self.labels,
            "state": self.states,
            "pathology": self.pathologies,
        }
        chosen = [(columns[name], value) for name, value in wanted.items() if value is not None]
        if not chosen:
            return list(self.rows[start : start + count]), len(self.rows)
        places = [
            place
            for place in range(len(self.rows))
            if all(column[place] == value for column, value in chosen)
        ]
        return [self.rows[place] for place in places[start : start + count]], len(places)


@dataclass
class _Kept(Generic[T]):
    value: T
    mark: Hashable
    checked: float


class Shelf:
    """Answers about one store, never older than a second. Safe for many threads."""

    def __init__(self, store: Store) -> None:
        """Begin with nothing read."""
        self.store = store
        self._kept: OrderedDict[Hashable, _Kept[Any]] = OrderedDict()
        self._locks: dict[Hashable, threading.Lock] = {}
        self._guard = threading.Lock()

    def sweeps(self) -> list[dict[str, Any]]:
        """Every sweep with its counts, the latest first."""
        found: list[dict[str, Any]] = self._answer(
            "sweeps", time.monotonic, lambda: overview(self.store)
        )
        return found

    def trials(self, sweep_id: str) -> TrialPages:
        """The ended trials of a sweep."""
        pages: TrialPages = self._answer(
            ("trials", sweep_id), lambda: self._mark(sweep_id), lambda: self._trials(sweep_id)
        )
        return pages

    def derived(self, sweep_id: str, what: str, work: Callable[[], T]) -> T:
        """Anything else worked out from a sweep, done again only when its files change."""
        value: T = self._answer((what, sweep_id), lambda: self._mark(sweep_id), work)
        return value

    def costs(self, work: Callable[[], T]) -> T:
        """Something about the whole store that takes long: worked out at most every 10 seconds."""
        value: T = self._answer("costs", lambda: int(time.monotonic() / 10.0), work)
        return value

    def _trials(self, sweep_id: str) -> TrialPages:
        records = trials(self.store, sweep_id).records()
        return TrialPages(
            rows=tuple(json.dumps(row, allow_nan=False).encode() for row in records),
            labels=tuple(row["label"] for row in records),
            states=tuple(row["state"] for row in records),
            pathologies=tuple(row["pathology"] for row in records),
            ids={row["trial_id"]: place for place, row in enumerate(records)},
        )

    def _answer(self, key: Hashable, mark: Callable[[], Hashable], work: Callable[[], T]) -> T:
        kept = self._kept.get(key)
        if kept is not None and time.monotonic() - kept.checked < FRESH_SECONDS:
            return kept.value  # type: ignore[no-any-return]
        with self._lock(key):
            kept = self._kept.get(key)
            now = time.monotonic()
            if kept is not None and now - kept.checked < FRESH_SECONDS:
                return kept.value  # type: ignore[no-any-return]  # another thread was quicker
            present = mark()
            if kept is None or kept.mark != present:
                kept = _Kept(work(), present, now)
            kept.checked = now
            self._keep(key, kept)
            return kept.value  # type: ignore[no-any-return]

    def _keep(self, key: Hashable, kept: _Kept[Any]) -> None:
        with self._guard:
            self._kept[key] = kept
            self._kept.move_to_end(key)
            while len(self._kept) > MOST_KEPT:
                gone, _ = self._kept.popitem(last=False)
                self._locks.pop(gone, None)

    def _lock(self, key: Hashable) -> threading.Lock:
        with self._guard:
            return self._locks.setdefault(key, threading.Lock())

    def _mark(self, sweep_id: str) -> Hashable:
        """Changes whenever a trial of the sweep ends, is relabelled or is merged."""
        file = self.store.filesystem.get_file_info(table_file(self.store, "trials", sweep_id))
        parts = list_folder(self.store, sweep_parts(self.store, sweep_id), recursive=True)
        ended = [(one.path, one.mtime_ns) for one in parts if one.path.endswith("/trial.json")]
        return (file.mtime_ns, file.size, hash(tuple(ended)))
