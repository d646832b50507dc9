"""What the service serves of a store, kept in memory for as long as the files do not change.

A page is asked for far more often than a trial ends. So a sweep's trials are turned into JSON once,
row by row, and a page of them is a slice of bytes; whether they changed is asked at most once a
second. Reading happens in worker threads, one at a time a sweep: a thousand askers cause one read.
"""

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sickbay.service.analysis.fixes import Fixes, fix_finder
from sickbay.service.query.engine import QueryResult, trials
from sickbay.service.query.status import overview
from sickbay.service.summary.trial_book import ByTrial, TrialBook, read_book, read_epochs
from sickbay.trials.store.files import Store, file_info, list_folder, sweep_parts, table_file

FRESH_SECONDS = 1.0
LONG = 0.25  # seconds of work during which other requests should not have to wait
REST = 4.0  # how much longer an answer rests than it took to work out
MOST_KEPT = 48  # answers that stay in memory: a sweep that is looked at has about ten
MOST_EPOCHS_KEPT = 2  # sweeps whose evaluations stay in memory
SEARCHED = ("trial_id", "arm", "pathology", "failure", "reason", "error")
MOST_EPOCHS = 1_000_000  # rows of them; of larger sweeps a trial's are read one by one

T = TypeVar("T")
_at_once: ContextVar[bool] = ContextVar("at_once", default=False)


class NotKeptError(LookupError):
    """The answer is not cached and would have to be read first."""


def at_once(work: Callable[[], T]) -> T:
    """Answer from the cache alone, without waiting for a file or another thread.

    Raises NotKeptError if that does not do: the work is then done again in a thread of its own.
    """
    token = _at_once.set(True)
    try:
        return work()
    finally:
        _at_once.reset(token)


def reading() -> None:
    """Called before anything that waits for files. Raises NotKeptError where nothing may wait."""
    if _at_once.get():
        raise NotKeptError


@dataclass(frozen=True)
class TrialPages:
    """The ended trials of a sweep as JSON rows, by seed and arm, and as a table to filter.

    `verdicts` are labels, or states where there is none; `arms` is how many different ones there
    are; `texts` are what a search looks through, in lower case.
    """

    rows: tuple[bytes, ...]
    found: QueryResult
    verdicts: tuple[str, ...]
    texts: tuple[str, ...]
    ids: dict[str, int]
    arms: int

    def page(self, start: int, count: int, choice: "TrialChoice") -> tuple[list[bytes], int]:
        """A page of rows from `start`, and the total number, after filters and sorting.

        Raises KeyError for a column to sort by that does not exist.
        """
        places: Sequence[int] = range(len(self.rows))
        for column, value in choice.filters():
            cells = self._column(column)
            places = [place for place in places if cells[place] == value]
        for word in choice.search.lower().split():
            places = [place for place in places if word in self.texts[place]]
        if choice.sort:
            places = _sorted(self._column(choice.sort), places, descending=choice.descending)
        return [self.rows[place] for place in places[start : start + count]], len(places)

    def _column(self, name: str) -> Sequence[Any]:
        if name == "verdict":
            return self.verdicts
        if name == "cause":
            pairs = zip(self._column("pathology"), self._column("failure"), strict=True)
            return [pathology or failure for pathology, failure in pairs]
        values: list[Any] = self.found.table[name].to_pylist()
        return values


@dataclass(frozen=True)
class TrialChoice:
    """Filters and order of a list of trials. Empty: no filter, by seed and arm."""

    label: str | None = None
    state: str | None = None
    pathology: str | None = None
    verdict: str | None = None
    search: str = ""
    sort: str = ""
    descending: bool = False

    def filters(self) -> list[tuple[str, str]]:
        """The columns with a required value."""
        names = ("label", "state", "pathology", "verdict")
        return [(name, getattr(self, name)) for name in names if getattr(self, name) is not None]


def _sorted(cells: Sequence[Any], places: Sequence[int], *, descending: bool) -> list[int]:
    """Sort rows by a column: numbers before strings; NaN and null last in either direction."""
    plain = [str(cell) if isinstance(cell, list | dict) else cell for cell in cells]
    known = [place for place in places if plain[place] is not None and plain[place] == plain[place]]
    others = set(known)
    known.sort(key=lambda place: (isinstance(plain[place], str), plain[place]), reverse=descending)
    return [*known, *(place for place in places if place not in others)]


@dataclass
class _Kept(Generic[T]):
    value: T
    mark: Hashable
    checked: float
    cost: float


class Memo:
    """Caches the latest answers for as long as their marks are unchanged; thread-safe.

    Whether a mark still holds is asked at most once a second, and for an answer that took longer
    than that, at most after four times as long: so work that never ends takes a fifth of a core.
    While an answer that took long is worked out again, others are given the old one.
    """

    def __init__(self, most: int) -> None:
        """Begin empty; beyond `most` answers the least recently used are dropped."""
        self._most = most
        self._kept: OrderedDict[Hashable, _Kept[Any]] = OrderedDict()
        self._locks: dict[Hashable, threading.Lock] = {}
        self._guard = threading.Lock()

    def answer(self, key: Hashable, mark: Callable[[], Hashable], work: Callable[[], T]) -> T:
        """Return the result of `work` for this `mark`; concurrent callers share one computation."""
        kept = self._fresh(key)
        if kept is not None:
            return kept.value  # type: ignore[no-any-return]
        reading()
        lock, old = self._lock(key), self._kept.get(key)
        patient = old is None or old.cost < LONG
        if not lock.acquire(blocking=patient):
            assert old is not None
            return old.value  # type: ignore[no-any-return]
        try:
            kept = self._fresh(key)  # another thread may have been quicker
            if kept is None:
                kept = self._renewed(key, mark, work)
            return kept.value  # type: ignore[no-any-return]
        finally:
            lock.release()

    def _renewed(
        self, key: Hashable, mark: Callable[[], Hashable], work: Callable[[], T]
    ) -> _Kept[T]:
        kept, present, began = self._kept.get(key), mark(), time.monotonic()
        if kept is None or kept.mark != present:
            value = work()
            kept = _Kept(value, present, began, time.monotonic() - began)
        kept.checked = time.monotonic()
        self._keep(key, kept)
        return kept

    def _fresh(self, key: Hashable) -> _Kept[Any] | None:
        with self._guard:
            kept = self._kept.get(key)
            if kept is None:
                return None
            self._kept.move_to_end(key)
            wait = FRESH_SECONDS * (1 if kept.cost < 1 else REST * kept.cost)
            return kept if time.monotonic() - kept.checked < wait else None

    def _keep(self, key: Hashable, kept: _Kept[Any]) -> None:
        with self._guard:
            self._kept[key] = kept
            self._kept.move_to_end(key)
            while len(self._kept) > self._most:
                gone, _ = self._kept.popitem(last=False)
                self._locks.pop(gone, None)

    def _lock(self, key: Hashable) -> threading.Lock:
        with self._guard:
            return self._locks.setdefault(key, threading.Lock())


class StoreCache:
    """Answers about one store, usually at most a second old. Thread-safe."""

    def __init__(self, store: Store) -> None:
        """Begin with nothing read."""
        self.store = store
        self._memo = Memo(MOST_KEPT)
        self._epochs = Memo(MOST_EPOCHS_KEPT)

    def sweeps(self) -> list[dict[str, Any]]:
        """Every sweep with its counts, the latest first."""
        sweeps: list[dict[str, Any]] = self._memo.answer(
            "sweeps", time.monotonic, lambda: overview(self.store)
        )
        return sweeps

    def trials(self, sweep_id: str) -> TrialPages:
        """The ended trials of a sweep."""
        return self.derived(sweep_id, "trials", lambda: self._trials(sweep_id))

    def book(self, sweep_id: str) -> TrialBook:
        """Everything known of a sweep's ended trials."""
        return self.derived(sweep_id, "book", lambda: read_book(self.store, sweep_id))

    def fixes(self, sweep_id: str, trial_id: str) -> Fixes:
        """The known fixes of an ended trial; other sweeps are searched once a minute."""
        find = self._memo.answer(
            ("fix_finder", sweep_id),
            lambda: (self._mark(sweep_id), int(time.monotonic() / 60.0)),
            lambda: fix_finder(self.store, sweep_id),
        )
        try:
            return find(trial_id)
        except KeyError:  # it has ended since
            reading()
            return fix_finder(self.store, sweep_id)(trial_id)

    def epochs(self, sweep_id: str) -> ByTrial | None:
        """The evaluations of a sweep's ended trials and of some running ones; None if too many."""
        return self._epochs.answer(
            sweep_id,
            lambda: self._mark(sweep_id),
            lambda: read_epochs(self.store, sweep_id, MOST_EPOCHS),
        )

    def derived(self, sweep_id: str, what: str, work: Callable[[], T]) -> T:
        """Anything else derived from a sweep, computed again only when its files change."""
        return self._memo.answer((what, sweep_id), lambda: self._mark(sweep_id), work)

    def live(self, sweep_id: str, what: str, work: Callable[[], T]) -> T:
        """Like `derived`, but also done again when a running trial has stored an evaluation."""
        return self._memo.answer((what, sweep_id), lambda: self._mark(sweep_id, rows=True), work)

    def once(self, what: str, work: Callable[[], T]) -> T:
        """Something that does not change while this process runs."""
        return self._memo.answer(("once", what), lambda: 0, work)

    def costs(self, work: Callable[[], T]) -> T:
        """Something slow about the whole store: computed at most every 10 seconds."""
        return self._memo.answer("costs", lambda: int(time.monotonic() / 10.0), work)

    def _trials(self, sweep_id: str) -> TrialPages:
        result = trials(self.store, sweep_id).whole()
        records = result.records()
        return TrialPages(
            rows=tuple(json.dumps(row, allow_nan=False).encode() for row in records),
            found=result,
            verdicts=tuple(row["label"] or row["state"] for row in records),
            texts=tuple(
                " ".join(str(row[name] or "") for name in SEARCHED).lower() for row in records
            ),
            ids={row["trial_id"]: place for place, row in enumerate(records)},
            arms=len({row["arm"] for row in records}),
        )

    def _mark(self, sweep_id: str, *, rows: bool = False) -> Hashable:
        """Changes whenever a trial of the sweep ends, is relabelled or is merged.

        With `rows` also when one begins or stores an evaluation, and when the sweep's state may.
        """
        file = file_info(self.store, table_file(self.store, "trials", sweep_id))
        parts = list_folder(self.store, sweep_parts(self.store, sweep_id), recursive=True)
        ended = [
            (part.path, part.mtime_ns)
            for part in parts
            if rows or part.path.endswith("/trial.json")
        ]
        return (file.mtime_ns, file.size, hash(tuple(ended)))
