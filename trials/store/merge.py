"""Merging what workers left into one file a table and sweep, and writing new labels into it.

The store reads the same after every step: merged files are written first and synced, their parts
removed last, and a part counts before its copy. Only the sweep's driver merges it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from sickbay.trials.contract import TrialState
from sickbay.trials.store.columns import conform, distinct, labels_of, unify
from sickbay.trials.store.encode import (
    finding_row,
    label_columns,
    parquet_bytes,
    standing_columns,
    table_from_rows,
)
from sickbay.trials.store.files import (
    Store,
    list_folder,
    remove_empty,
    remove_file,
    remove_folder,
    schema_file,
    sweep_parts,
    table_file,
    write_file,
)
from sickbay.trials.store.parts import (
    EndedTrial,
    PartFolder,
    current_folder,
    list_parts,
    open_sound,
    read_all,
    read_ended,
)
from sickbay.trials.store.schema import FIXED, KEYS, TABLES, Problem, Relabelled
from sickbay.trials.store.tables import (
    consolidated,
    consolidated_states,
    ended_tables,
    open_files,
    read_epoch_parts,
)

# `trials` last: a trial that has a row there has all the rest as well.
_ORDER = ("epochs", "findings", "labels", "trials")
_FINAL = (TrialState.COMPLETED, TrialState.STOPPED, TrialState.PRUNED)


@dataclass(frozen=True)
class _Done:
    """A trial that has ended and has not been started again."""

    folder: PartFolder
    ended: EndedTrial


def consolidate(store: Store, sweep_id: str) -> tuple[Problem, ...]:
    """Merge every ended trial of a sweep into its consolidated files, then remove the merged parts.

    Running trials are left alone, and failed or cancelled ones keep attempt markers and checkpoint,
    to continue. Damaged parts stay and are returned. Raises StoreError if a file cannot be written
    or a consolidated file is damaged; calling again goes on.
    """
    folders = list_parts(store, sweep_id)
    ended, problems = _ended(store, folders)
    done = {
        folder.trial_id: _Done(folder, ended[folder.trial_id])
        for folder in folders
        if folder.trial_id in ended and ended[folder.trial_id].row["attempt"] >= folder.attempt
    }
    epochs, more = read_epoch_parts(store, [trial.folder for trial in done.values()])
    problems += more
    for problem in more:
        done.pop(problem.path.split("/")[-2])
    damaged = {problem.path.split("/")[-2] for problem in problems}
    if done:
        _merge(store, sweep_id, [trial.ended for trial in done.values()], epochs)
    for name in ("trials", "epochs"):
        _write_schema(store, name, sweep_id)
    _clean(store, sweep_id, [folder for folder in folders if folder.trial_id not in damaged])
    return tuple(problems)


def write_labels(store: Store, sweep_id: str, relabelled: Sequence[Relabelled]) -> None:
    """Give stored trials a new label: the present one of `trials`, and a new row of `labels`.

    Labels and findings of other labeller versions stay. Merges the sweep first. Raises ValueError
    for a trial that has not ended in this sweep, StoreError if a file cannot be written or is
    damaged.
    """
    consolidate(store, sweep_id)
    tables = {name: consolidated(store, name, sweep_id) for name in _ORDER}
    trials = tables["trials"]
    known = set() if trials is None else set(trials["trial_id"].to_pylist())
    missing = [change.trial_id for change in relabelled if change.trial_id not in known]
    if missing:
        raise ValueError(f"cannot label {missing[0]!r}: no such trial has ended in {sweep_id!r}")
    if not relabelled:
        return
    new_trials = _with_labels(trials, {change.trial_id: change for change in relabelled})
    labels = _joined("labels", [tables["labels"], labels_of(trials), labels_of(new_trials)])
    _write(store, "labels", sweep_id, distinct(labels, KEYS["labels"]))
    _write(store, "findings", sweep_id, _with_findings(tables["findings"], sweep_id, relabelled))
    _write(store, "trials", sweep_id, new_trials)


def write_standings(
    store: Store, sweep_id: str, standings: Mapping[str, str], reference_arm: str | None
) -> None:
    """Write how merged trials stand among their siblings; those not named have no standing.

    Raises StoreError if the file cannot be written or is damaged.
    """
    trials = consolidated(store, "trials", sweep_id)
    if trials is None:
        return
    new = {
        trial_id: standing_columns(str(standing), reference_arm)
        for trial_id, standing in standings.items()
    }
    without = standing_columns(None, None)
    everyone = {trial_id: new.get(trial_id, without) for trial_id in trials["trial_id"].to_pylist()}
    changed = _with_columns(trials, list(without), everyone)
    if not changed.equals(trials):
        _write(store, "trials", sweep_id, changed)


def _ended(
    store: Store, folders: Sequence[PartFolder]
) -> tuple[dict[str, EndedTrial], list[Problem]]:
    read = read_all(store, read_ended, folders)
    ended = {part.trial_id: part for part in read if isinstance(part, EndedTrial)}
    return ended, [part for part in read if isinstance(part, Problem)]


def _merge(
    store: Store, sweep_id: str, ended: Sequence[EndedTrial], epochs: Mapping[str, pa.Table]
) -> None:
    new = ended_tables(ended)
    merged = {}
    for name in _ORDER:
        old = consolidated(store, name, sweep_id)
        if name == "labels":
            merged[name] = distinct(_joined(name, [old, new[name]]), KEYS[name])
        elif name == "epochs":
            # A trial without a part of its own has its evaluations in the merged file already.
            merged[name] = _joined(name, [_without(old, epochs), *epochs.values()])
        else:
            merged[name] = _joined(
                name, [_without(old, {trial.trial_id for trial in ended}), new[name]]
            )
    for name in _ORDER:
        _write(store, name, sweep_id, merged[name])


def _write(store: Store, name: str, sweep_id: str, table: pa.Table) -> None:
    ordered = table.sort_by([(key, "ascending") for key in KEYS[name]])
    path = table_file(store, name, sweep_id)
    write_file(store, path, parquet_bytes(name, ordered), durable=True)


def _joined(name: str, tables: Sequence[pa.Table | None]) -> pa.Table:
    kept = [table for table in tables if table is not None]
    schema = unify(name, [table.schema for table in kept])
    return pa.concat_tables(
        [pa.Table.from_batches([], schema), *(conform(table, schema) for table in kept)]
    )


def _without(table: pa.Table | None, trial_ids: Mapping[str, object] | set[str]) -> pa.Table | None:
    if table is None:
        return None
    gone = pa.array(sorted(trial_ids), pa.string())
    return table.filter(pc.invert(pc.is_in(table["trial_id"], value_set=gone)))


def _with_labels(trials: pa.Table, new: Mapping[str, Relabelled]) -> pa.Table:
    columns = {trial_id: label_columns(change.label) for trial_id, change in new.items()}
    return _with_columns(trials, list(label_columns(None)), columns)


def _with_columns(
    trials: pa.Table, names: Sequence[str], new: Mapping[str, Mapping[str, object]]
) -> pa.Table:
    """Replace columns of the trials named; columns that an older store lacks are added, null."""
    ids = trials["trial_id"].to_pylist()
    for name in names:
        kind = FIXED["trials"].field(name)
        index = trials.schema.get_field_index(name)
        old = trials[name].to_pylist() if index >= 0 else [None] * len(ids)
        values = [
            new[trial_id][name] if trial_id in new else value
            for trial_id, value in zip(ids, old, strict=True)
        ]
        column = pa.array(values, kind.type)
        if index >= 0:
            trials = trials.set_column(index, kind, column)
        else:
            trials = trials.append_column(kind, column)
    return trials


def _with_findings(
    findings: pa.Table | None, sweep_id: str, relabelled: Sequence[Relabelled]
) -> pa.Table:
    versions = {
        change.trial_id: change.label.labeller_version if change.label else None
        for change in relabelled
    }
    rows = [
        finding_row(sweep_id, change.trial_id, versions[change.trial_id], finding)
        for change in relabelled
        for finding in change.findings
    ]
    if findings is not None:
        new = set(versions.items())
        old = zip(*(findings[key].to_pylist() for key in KEYS["findings"][:2]), strict=True)
        findings = findings.filter(pa.array([key not in new for key in old], pa.bool_()))
    return _joined("findings", [findings, table_from_rows("findings", rows)])


def _write_schema(store: Store, name: str, sweep_id: str) -> None:
    """Let readers that take the first file's columns for all see those of every sweep."""
    own = open_sound(store, table_file(store, name, sweep_id))
    if own is None:
        return
    path = schema_file(store, name)
    known = open_sound(store, path)
    others = [known] if known else [file.parquet for file in open_files(store, name, None, {})[0]]
    schema = unify(name, [file.schema_arrow for file in [*others, own]])
    if known is None or schema != known.schema_arrow:
        data = parquet_bytes(name, pa.Table.from_batches([], schema))
        write_file(store, path, data, durable=True)


def _clean(store: Store, sweep_id: str, folders: Sequence[PartFolder]) -> None:
    """Remove what the consolidated files hold, and what killed writers left half-written there."""
    known = consolidated_states(store, sweep_id)
    for folder in folders:
        state, attempt = known.get(folder.trial_id, ("", -1))
        # Looked at afresh: the trial may have been begun again since.
        if attempt < current_folder(store, folder.path).attempt:
            continue
        if state in _FINAL:
            remove_folder(store, folder.path)
        else:
            for name in sorted(folder.files & {"epochs.parquet", "trial.json"}):
                remove_file(store, f"{folder.path}/{name}")
    remove_empty(store, sweep_parts(store, sweep_id))
    for name in TABLES:
        for info in list_folder(store, table_file(store, name, sweep_id).rpartition("/")[0]):
            if info.base_name.endswith(".tmp"):
                remove_file(store, info.path)
