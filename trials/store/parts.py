"""Reading what workers left in `_parts`, one folder a trial.

A file that was merged meanwhile reads as absent, so for a complete view parts are read before the
consolidated files.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from sickbay.trials.store.files import Store, StoreError, list_folder, read_file, sweep_parts
from sickbay.trials.store.schema import SCHEMA_KEY, SCHEMA_VERSION, Problem

_ATTEMPT = re.compile(r"attempt-(\d+)\.json")
_THREADS = 16  # for stores that answer slowly

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class PartFolder:
    """What lies in the folder of one trial: its path, its files, and the latest attempt begun."""

    trial_id: str
    path: str
    files: frozenset[str]
    attempt: int


@dataclass(frozen=True)
class EndedTrial:
    """The content of one `trial.json`."""

    trial_id: str
    row: Mapping[str, Any]
    config: Mapping[str, Any]
    findings: tuple[Mapping[str, Any], ...]


def list_parts(store: Store, sweep_id: str) -> list[PartFolder]:
    """List the trials of a sweep that have a folder, in one listing, sorted by id."""
    root = sweep_parts(store, sweep_id)
    files: dict[str, list[str]] = {}
    for info in list_folder(store, root, recursive=True):
        trial_id, _, name = info.path[len(root) :].lstrip("/").partition("/")
        if name and not name.startswith("."):
            files.setdefault(trial_id, []).append(name)
    return [part_folder(f"{root}/{trial_id}", names) for trial_id, names in sorted(files.items())]


def current_folder(store: Store, path: str) -> PartFolder:
    """Look what lies in the folder of one trial now; it may not be there."""
    return part_folder(path, [info.base_name for info in list_folder(store, path)])


def part_folder(path: str, names: Iterable[str]) -> PartFolder:
    """Describe the folder of one trial from the names in it."""
    kept = frozenset(names)
    matches = (_ATTEMPT.fullmatch(name) for name in kept)
    attempt = max((int(match[1]) for match in matches if match), default=0)
    return PartFolder(path.rpartition("/")[2], path, kept, attempt)


def read_ended(store: Store, folder: PartFolder) -> EndedTrial | Problem | None:
    """Read row and findings of a trial that has ended; None if it has not, or is merged by now."""
    if "trial.json" not in folder.files:
        return None
    path = f"{folder.path}/trial.json"
    try:
        data = read_file(store, path)
        if data is None:
            return None
        content = json.loads(data)
        if content["schema"] > SCHEMA_VERSION:
            return Problem(path, newer(content["schema"]))
        return EndedTrial(
            folder.trial_id, content["row"], content["config"], tuple(content["findings"])
        )
    except StoreError as error:
        return Problem(path, str(error))
    except (ValueError, KeyError, TypeError) as error:
        return Problem(path, f"is damaged ({error!r}): remove it, and the trial will run again")


def read_epoch_part(store: Store, folder: PartFolder) -> pa.Table | Problem | None:
    """Read the evaluations in a trial's folder; None if there are none, or they are merged now."""
    if "epochs.parquet" not in folder.files:
        return None
    path = f"{folder.path}/epochs.parquet"
    try:
        with open_parquet(store, path) as file:
            return file.read(use_threads=False)  # many small files: threads only cost
    except FileNotFoundError:
        return None
    except (pa.ArrowException, OSError, ValueError) as error:
        return Problem(path, f"{error}: remove its folder, and the trial will run again")


def open_parquet(store: Store, path: str) -> pq.ParquetFile:
    """Open one of our Parquet files.

    Raises FileNotFoundError if there is none, ValueError if it is damaged, not ours, or written by
    a newer version.
    """
    try:
        file = pq.ParquetFile(
            store.filesystem.open_input_file(path), page_checksum_verification=True
        )
    except pa.ArrowInvalid as error:
        raise ValueError(f"is no readable Parquet file ({error})") from error
    version = (file.schema_arrow.metadata or {}).get(SCHEMA_KEY)
    if version is None:
        raise ValueError("was not written by Sickbay: it holds no schema version")
    if int(version) > SCHEMA_VERSION:
        raise ValueError(newer(int(version)))
    return file


def open_sound(store: Store, path: str) -> pq.ParquetFile | None:
    """Open one of our Parquet files where a damaged one is no better than none."""
    try:
        return open_parquet(store, path)
    except (pa.ArrowException, OSError, ValueError):
        return None


def newer(version: int) -> str:
    """Say what is wrong with a file of a schema version that we do not know yet."""
    return (
        f"was written by a newer Sickbay (schema {version}, this one reads up to {SCHEMA_VERSION}):"
        " upgrade Sickbay to read it"
    )


def read_all(store: Store, read: Callable[[Store, T], R], items: Iterable[T]) -> list[R]:
    """Read many small files, several at a time where each takes long to answer."""
    if store.is_local:
        return [read(store, item) for item in items]
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(lambda item: read(store, item), items))
