"""Whole tables out of a store: consolidated files and parts, of one sweep or of all, as one table.

A scan opens the files; reading takes only the requested columns. Unreadable files are Problems.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sickbay.trials.store.columns import conform, distinct, labels_of, unify
from sickbay.trials.store.encode import parquet_bytes, table_from_rows, trial_table
from sickbay.trials.store.files import (
    Store,
    StoreError,
    checked,
    is_id,
    list_folder,
    parts_root,
    schema_file,
    table_file,
    table_folder,
)
from sickbay.trials.store.parts import (
    EndedTrial,
    PartFolder,
    list_parts,
    open_parquet,
    read_all,
    read_ended,
    read_epoch_part,
)
from sickbay.trials.store.schema import KEYS, TABLES, Problem

_FOREIGN = "is no file of Sickbay, and other programs will stumble over it: move it away"
_FOREIGN_FOLDER = "is no sweep's folder: move it away"


@dataclass(frozen=True)
class SweepParts:
    """What the folders of one sweep's trials hold, as tables; `ids` says of which trials."""

    tables: Mapping[str, pa.Table]
    ids: Mapping[str, frozenset[str]]
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class TableFile:
    """An open consolidated file, and the trials in it that newer parts replace."""

    path: str
    parquet: pq.ParquetFile
    replaced: frozenset[str]


@dataclass(frozen=True)
class TableScan:
    """One table of some sweeps: its columns are known, its rows are read on demand."""

    name: str
    schema: pa.Schema
    files: tuple[TableFile, ...]
    parts: tuple[pa.Table, ...]

    def read(self, columns: Sequence[str] | None = None) -> tuple[pa.Table, tuple[Problem, ...]]:
        """Read the rows with all columns, or those of `columns` that the table has."""
        wanted = self.schema.names if columns is None or self.name == "labels" else columns
        schema = pa.schema([entry for entry in self.schema if entry.name in wanted])
        tables, problems = [pa.Table.from_batches([], schema)], []
        for file in self.files:
            try:
                tables.append(conform(rows_of(file, schema.names), schema))
            except (pa.ArrowException, OSError, ValueError) as error:
                problems.append(
                    Problem(file.path, f"cannot be read ({error}): restore or remove it")
                )
        tables += [conform(part, schema) for part in self.parts]
        table = pa.concat_tables(tables)
        if self.name == "labels":
            table = distinct(table, ("sweep_id", *KEYS[self.name]))
        return table, tuple(problems)


@dataclass(frozen=True)
class Scans:
    """Scans by table, and the files that could not even be opened."""

    tables: Mapping[str, TableScan]
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class Loaded:
    """Tables in memory, and the files that had to be left out."""

    tables: Mapping[str, pa.Table]
    problems: tuple[Problem, ...] = field(default=())


def load_tables(
    store: Store,
    names: Sequence[str] = TABLES,
    sweep_ids: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
) -> Loaded:
    """Tables of some sweeps, or of all: consolidated rows and parts, each row once.

    Every table has its fixed columns, then those of all these sweeps (int and float become float,
    other mixtures text); a sweep that lacks one reads as null there.
    """
    scans = scan_tables(store, names, sweep_ids)
    tables, problems = {}, list(scans.problems)
    for name, scan in scans.tables.items():
        tables[name], more = scan.read(columns)
        problems += more
    return Loaded(tables, tuple(problems))


def scan_tables(
    store: Store, names: Sequence[str] = TABLES, sweep_ids: Sequence[str] | None = None
) -> Scans:
    """Open tables of some sweeps, or of all. Parts are read now, consolidated files on demand."""
    problems: list[Problem] = []
    per_trial = [name for name in names if name != "sweeps"]
    parts = {}
    for sweep_id in _part_sweeps(store, sweep_ids) if per_trial else ():
        if is_id(sweep_id):
            parts[sweep_id] = read_parts(store, sweep_id, per_trial)
        else:
            problems.append(Problem(f"{parts_root(store)}/{sweep_id}", _FOREIGN_FOLDER))
    for entry in parts.values():
        problems += entry.problems
    scans = {}
    for name in names:
        replaced = {sweep_id: part.ids.get(name, frozenset()) for sweep_id, part in parts.items()}
        files, more = open_files(store, name, sweep_ids, replaced)
        problems += more
        loose = tuple(entry.tables[name] for entry in parts.values() if name in entry.tables)
        schemas = [file.parquet.schema_arrow for file in files] + [part.schema for part in loose]
        scans[name] = TableScan(name, unify(name, schemas), tuple(files), loose)
    return Scans(scans, tuple(problems))


def table_bytes(store: Store, name: str, sweep_id: str) -> bytes:
    """One table of a sweep as the bytes of a Parquet file, as if it had just been consolidated."""
    return parquet_bytes(name, load_tables(store, (name,), (sweep_id,)).tables[name])


def read_parts(store: Store, sweep_id: str, names: Sequence[str]) -> SweepParts:
    """Read the parts of a sweep as tables."""
    folders = list_parts(store, sweep_id)
    tables: dict[str, pa.Table] = {}
    ids: dict[str, frozenset[str]] = {}
    problems: list[Problem] = []
    if set(names) & {"trials", "findings", "labels"}:
        read = read_all(store, read_ended, folders)
        ended = [part for part in read if isinstance(part, EndedTrial)]
        problems += [part for part in read if isinstance(part, Problem)]
        if ended:
            tables |= {name: table for name, table in ended_tables(ended).items() if name in names}
            of_ended = frozenset(trial.trial_id for trial in ended)
            ids |= {"trials": of_ended, "findings": of_ended}
    if "epochs" in names:
        epochs, more = read_epoch_parts(store, folders)
        problems += more
        if epochs:
            schema = unify("epochs", [table.schema for table in epochs.values()])
            tables["epochs"] = pa.concat_tables(conform(table, schema) for table in epochs.values())
            ids["epochs"] = frozenset(epochs)
    return SweepParts(tables, ids, tuple(problems))


def read_epoch_parts(
    store: Store, folders: Iterable[PartFolder]
) -> tuple[dict[str, pa.Table], list[Problem]]:
    """Read the evaluations in these folders by trial."""
    kept = list(folders)
    read = dict(
        zip(
            (folder.trial_id for folder in kept),
            read_all(store, read_epoch_part, kept),
            strict=True,
        )
    )
    tables = {trial_id: part for trial_id, part in read.items() if isinstance(part, pa.Table)}
    return tables, [part for part in read.values() if isinstance(part, Problem)]


def ended_tables(ended: Sequence[EndedTrial]) -> dict[str, pa.Table]:
    """`trials`, `findings` and `labels` of trials that have ended."""
    trials = trial_table([trial.row for trial in ended], [trial.config for trial in ended])
    findings = table_from_rows("findings", [row for trial in ended for row in trial.findings])
    return {"trials": trials, "findings": findings, "labels": labels_of(trials)}


def rows_of(file: TableFile, columns: Iterable[str] | None = None) -> pa.Table:
    """Read the rows of a consolidated file that no part replaces, with those columns it has."""
    has = file.parquet.schema_arrow.names
    wanted = has if columns is None else [name for name in columns if name in has]
    if not file.replaced:
        return file.parquet.read(columns=wanted)
    table = file.parquet.read(columns=[*{*wanted, "trial_id"}])
    replaced = pc.is_in(table["trial_id"], value_set=pa.array(sorted(file.replaced), pa.string()))
    return table.filter(pc.invert(replaced)).select(wanted)


def consolidated(
    store: Store,
    name: str,
    sweep_id: str,
    trial_id: str | None = None,
    columns: Sequence[str] | None = None,
) -> pa.Table | None:
    """Read the consolidated rows of a sweep, or of one trial of it; None if there is no file.

    `columns` must include `trial_id` for one trial. Raises StoreError if the file is damaged:
    callers would otherwise lose or repeat work.
    """
    path = table_file(store, name, sweep_id)
    opened = _open(store, path)
    try:
        if isinstance(opened, Problem):
            raise ValueError(opened.message)  # noqa: TRY301, TRY004 (reported once, below)
        if opened is None or trial_id is None:
            return opened and opened.read(columns=columns)
        table = opened.read_row_groups(_groups(opened, trial_id), columns=columns)
        ids = table["trial_id"].to_pylist()  # sorted, as we write them
        first, last = bisect_left(ids, trial_id), bisect_right(ids, trial_id)
        return table.slice(first, last - first)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise StoreError(
            f"{path}: {error}. Restore it from a copy, or move it away (its rows are then missing)"
        ) from error


def consolidated_states(
    store: Store, sweep_id: str, trial_id: str | None = None
) -> dict[str, tuple[str, int]]:
    """Tell state and attempt of every consolidated trial, or of one. Raises as `consolidated`."""
    columns = ("trial_id", "state", "attempt")
    table = consolidated(store, "trials", sweep_id, trial_id, columns)
    if table is None:
        return {}
    values = (table[name].to_pylist() for name in columns)
    return {trial: (state, attempt) for trial, state, attempt in zip(*values, strict=True)}


def open_files(
    store: Store, name: str, sweep_ids: Sequence[str] | None, replaced: Mapping[str, frozenset[str]]
) -> tuple[list[TableFile], list[Problem]]:
    """Open the consolidated files of a table; what lies there beside them is a problem."""
    root = table_folder(store, name)
    roots = [root]
    if sweep_ids is not None:
        roots = [f"{root}/{checked(sweep_id, 'sweep')}" for sweep_id in sweep_ids]
    paths, problems = [], []
    for info in (info for folder in roots for info in list_folder(store, folder, recursive=True)):
        depth = info.path[len(root) :].count("/")
        if not info.is_file or info.base_name.startswith((".", "_")):
            continue
        if info.base_name == "data.parquet" and depth == 2:
            paths.append(info.path)
        elif info.path != schema_file(store, name):
            problems.append(Problem(info.path, _FOREIGN))
    files = []
    for path, opened in zip(paths, read_all(store, _open, paths), strict=True):
        if isinstance(opened, Problem):
            problems.append(opened)
        elif opened is not None:
            files.append(TableFile(path, opened, replaced.get(path.split("/")[-2], frozenset())))
    return files, problems


def damage(
    store: Store, sweep_ids: Sequence[str] | None, tables: Sequence[str] = TABLES
) -> list[Problem]:
    """The consolidated files that cannot be read; None: of all sweeps."""
    return [broken for name in tables for broken in open_files(store, name, sweep_ids, {})[1]]


def _open(store: Store, path: str) -> pq.ParquetFile | Problem | None:
    try:
        return open_parquet(store, path)
    except FileNotFoundError:
        return None
    except (pa.ArrowException, OSError, ValueError) as error:
        return Problem(path, str(error))


def _part_sweeps(store: Store, sweep_ids: Sequence[str] | None) -> list[str]:
    if sweep_ids is not None:
        return list(sweep_ids)
    return [info.base_name for info in list_folder(store, parts_root(store)) if not info.is_file]


def _groups(file: pq.ParquetFile, trial_id: str) -> list[int]:
    """Find the row groups in which a trial may be; rows are sorted by trial, so these are few."""
    column = file.schema_arrow.get_field_index("trial_id")
    kept = []
    for group in range(file.num_row_groups):
        statistics = file.metadata.row_group(group).column(column).statistics
        known = statistics is not None and statistics.has_min_max
        if not known or statistics.min <= trial_id <= statistics.max:
            kept.append(group)
    return kept
