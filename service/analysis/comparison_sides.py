"""The two halves of a comparison: a sweep, or all sweeps of a store, and their arms."""

import json
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

from sickbay.service.analysis.pairs import TrialRow, level_key
from sickbay.service.analysis.sql import SOUND
from sickbay.service.query.engine import query
from sickbay.service.query.lookup import SweepError, find_sweep
from sickbay.service.query.outcomes import COUNTS
from sickbay.service.query.sqltext import text
from sickbay.trials.contract import Scalar
from sickbay.trials.errors import shown
from sickbay.trials.store import Store, StoreError, open_store
from sickbay.trials.store.reader import list_sweeps

_Key = tuple[str, tuple[tuple[str, Hashable], ...]]


@dataclass(frozen=True)
class HalfTrial:
    """A trial as a comparison needs it; `row.levels` is its whole configuration."""

    row: TrialRow
    workload: str
    arm: str
    baseline: bool


@dataclass(frozen=True)
class Half:
    """One side: what it is, its trials (each once), and counts by state and label.

    `signals` is the objective of every workload, with its goal, as in `minimize val_loss`. `sql`
    recomputes every arm's counts and mean. `problems` are files that could not be read.
    """

    name: str
    store: str
    sweeps: tuple[str, ...]
    versions: tuple[str, ...]
    signals: Mapping[str, str]
    states: Mapping[str, int]
    labels: Mapping[str, int]
    trials: tuple[HalfTrial, ...]
    sql: str
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Arm:
    """The trials of one configuration, one a seed."""

    name: str
    config: Mapping[str, Scalar | None]
    baseline: bool
    rows: tuple[TrialRow, ...]


def open_half(store: Callable[[], Store], word: str) -> Half:
    """Read a side: a sweep of `store`, a `STORE#SWEEP`, or a whole store, by path or URI.

    `store` opens the store of what is called by a sweep's name alone. Raises SweepError if it is
    neither; StoreError or QueryError if a store cannot be read.
    """
    if "#" in word:
        uri, _, sweep = word.rpartition("#")
        opened = open_store(uri, create=False)
        return read_half(opened, find_sweep(opened, sweep).sweep_id)
    try:
        opened = store()
        return read_half(opened, find_sweep(opened, word).sweep_id)
    except (StoreError, ValueError) as error:  # no such sweep, or no store: perhaps a store itself
        if "://" not in word and "/" not in word and not _is_store(word):
            raise SweepError(
                f"{error} A whole store is given by its path, one of its sweeps as STORE#SWEEP."
            ) from None
    return read_half(open_store(word, create=False), None)


def read_half(store: Store, sweep_id: str | None) -> Half:
    """Read the trials of a sweep, or of a whole store: of several sweeps each trial once."""
    records = [one for one in list_sweeps(store) if sweep_id in (None, one.sweep_id)]
    chosen = None if sweep_id is None else [sweep_id]
    found = query(store, _trials_sql(sweep_id), sweep_ids=chosen)
    trials = []
    for row in found.rows:
        trial = dict(zip(found.columns, row, strict=True))
        changed, arm, workload = trial.pop("changed"), trial.pop("arm"), trial.pop("workload")
        config = json.loads(trial.pop("config") or "{}")
        trials.append(HalfTrial(TrialRow(levels=config, **trial), workload, arm, not changed))
    signals = {}
    for one in records:
        objective = json.loads(one.spec).get("objective")
        if objective:
            signals[one.workload] = f"{objective['goal']} {objective['signal']}"
    return Half(
        name=sweep_id or store.uri,
        store=store.uri,
        sweeps=tuple(one.sweep_id for one in records),
        versions=tuple(sorted({one.code_version or "unknown" for one in records})),
        signals=signals,
        states=dict(sorted(Counter(one.row.state for one in trials).items())),
        labels=dict(sorted(Counter(one.row.label or "none" for one in trials).items())),
        trials=tuple(trials),
        sql=arms_sql(sweep_id),
        problems=tuple(map(str, found.problems)),
    )


def arms_of(
    a: Half, b: Half, ignore: Sequence[str] = ()
) -> tuple[dict[_Key, Arm], dict[_Key, Arm], list[str]]:
    """Sort the trials of both sides into arms by the settings that both know, but the ignored."""
    notes: list[str] = []
    common: dict[str, list[str]] = {}
    for workload in sorted({one.workload for one in (*a.trials, *b.trials)}):
        ours, theirs = (
            {name for one in half.trials if one.workload == workload for name in one.row.levels}
            for half in (a, b)
        )
        common[workload] = sorted((ours & theirs) - set(ignore))
        for half, more in ((a, ours - theirs), (b, theirs - ours)):
            if more and ours and theirs:
                notes.append(f"only {half.name} knows of {', '.join(sorted(more))}: not compared")
    return _arms(a, common, notes), _arms(b, common, notes), notes


def changed_settings(a: Half, b: Half) -> dict[str, tuple[str, str]]:
    """List settings that all trials of a side have alike, but not like those of the other."""
    ours, theirs = _constant(a), _constant(b)
    return {
        name: (shown(ours[name]), shown(theirs[name]))
        for name in sorted(ours.keys() & theirs.keys())
        if level_key(ours[name]) != level_key(theirs[name])
    }


def arms_sql(sweep_id: str | None) -> str:
    """Recompute the counts and the mean of every configuration of a side."""
    sound = SOUND.format("t")
    return (
        f"SELECT workload, config, count(*) FILTER ({COUNTS.format('t')}) AS trials,\n"
        f"  count(*) FILTER ({sound}) AS healthy, avg(objective) FILTER ({sound}) AS mean\n"
        f"FROM {_source(sweep_id, 't')} GROUP BY ALL ORDER BY ALL"
    )


def _trials_sql(sweep_id: str | None) -> str:
    return (
        "SELECT trial_id, seed, config, changed, arm, workload, state, label, pathology,\n"
        f"  objective\nFROM {_source(sweep_id)}\nORDER BY seed, trial_id"
    )


def _source(sweep_id: str | None, alias: str = "") -> str:
    """Name the view of one sweep's trials, or of all of a store, each trial once."""
    if sweep_id is None:
        return f"latest_outcomes {alias}".rstrip()
    return f"{f'outcomes {alias}'.rstrip()} WHERE sweep_id = {text(sweep_id)}"


def _arms(half: Half, common: Mapping[str, Sequence[str]], notes: list[str]) -> dict[_Key, Arm]:
    groups: dict[_Key, list[HalfTrial]] = {}
    for one in half.trials:
        known = tuple((name, level_key(one.row.levels.get(name))) for name in common[one.workload])
        groups.setdefault((one.workload, known), []).append(one)
    found: dict[_Key, Arm] = {}
    for key, mine in groups.items():
        seeds = [one.row.seed for one in mine]
        if len(set(seeds)) < len(seeds):
            notes.append(
                f"{mine[0].arm}: {half.name} has several trials of a seed that differ in what is "
                "not compared: left out"
            )
            continue
        rows = tuple(one.row for one in mine)
        baseline = all(one.baseline for one in mine)
        found[key] = Arm(mine[0].arm, mine[0].row.levels, baseline, rows)
    return found


def _constant(half: Half) -> dict[str, Scalar | None]:
    seen: dict[str, dict[Hashable, Scalar | None]] = {}
    for one in half.trials:
        for name, level in one.row.levels.items():
            seen.setdefault(name, {})[level_key(level)] = level
    return {name: next(iter(levels.values())) for name, levels in seen.items() if len(levels) == 1}


def _is_store(word: str) -> bool:
    from pathlib import Path  # noqa: PLC0415 - only to tell a folder from a mistyped name

    return Path(word).is_dir()
