"""The smallest change that heals a trial, exact over what a store has; else what to try next.

    fixes = fixes_for(store, trial_id)

A **fix** is a configuration of the same workload and version whose stored trials are healthy in all
seeds, and that differs from the trial in the fewest settings; all of that size are given. Nothing
is interpolated. Where there is none, `next` lists the smallest changes that nobody has tried.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from sickbay.service.analysis.fix_next import Evidence, evidence, next_candidates
from sickbay.service.analysis.fix_values import (
    Candidate,
    Fix,
    Fixes,
    LevelChange,
    Levels,
    StoredTrial,
    changes_between,
    config_key,
    words,
)
from sickbay.service.query.engine import find_trial, query
from sickbay.service.query.lookup import stored_spec
from sickbay.service.query.outcomes import COUNTS
from sickbay.service.query.sqltext import name, text
from sickbay.trials.store import Store

__all__ = [
    "Candidate",
    "Fix",
    "Fixes",
    "LevelChange",
    "fix_finder",
    "fixes_for",
    "sweep_fixes",
    "words",
]


@dataclass(frozen=True)
class _Stored:
    """All trials of a workload's version, by configuration; `whole` are healthy in all seeds."""

    workload: str
    version: str | None
    trials: Mapping[str, StoredTrial]
    arms: Mapping[str, Sequence[StoredTrial]]
    whole: tuple[Sequence[StoredTrial], ...]
    evidence: Evidence


def fixes_for(store: Store, prefix: str, more: Levels | None = None) -> Fixes:
    """Look for the smallest changes that heal a trial; `prefix` begins its id.

    `more` are levels to try besides those that the store's trials and the sweep's spec have. Raises
    QueryError if no trial, or more than one, begins like this.
    """
    sweep_id, trial_id = find_trial(store, prefix)
    return fix_finder(store, sweep_id, more)(trial_id)


def fix_finder(store: Store, sweep_id: str, more: Levels | None = None) -> Callable[[str], Fixes]:
    """Read once what the store has for the trials of a sweep; gives `fixes_for` of any of them.

    What it gives raises KeyError for a trial that had not ended when the store was read.
    """
    own = "SELECT trial_id, workload, workload_version FROM trials"
    rows = query(store, own, sweep_ids=[sweep_id]).rows
    kinds = {trial_id: (workload, version) for trial_id, workload, version in rows}
    stores = {kind: _read(store, *kind) for kind in dict.fromkeys(kinds.values())}
    levels = [_listed_levels(store, sweep_id), more or {}]

    def heal(trial_id: str) -> Fixes:
        stored = stores[kinds[trial_id]]
        return _fixes(stored, stored.trials[trial_id], levels, sweep_id)

    return heal


def sweep_fixes(store: Store, sweep_id: str) -> tuple[Fixes, ...]:
    """Look for what heals each configuration of a sweep that is not healthy in all its seeds.

    One `Fixes` a configuration, of its first trial by seed that is not healthy; in the order of
    seed and id. Trials that were cut short are passed over.
    """
    sql = (
        "SELECT trial_id, workload, workload_version FROM outcomes o\n"  # noqa: S608 - fixed texts
        f"WHERE sweep_id = ? AND outcome <> 'healthy' AND {COUNTS.format('o')}\n"
        "ORDER BY seed, trial_id"
    )
    sick = query(store, sql, [sweep_id], sweep_ids=[sweep_id]).rows
    levels = [_listed_levels(store, sweep_id)]
    kinds = dict.fromkeys((workload, version) for _, workload, version in sick)
    stores = {kind: _read(store, *kind) for kind in kinds}
    found: dict[str, Fixes] = {}
    for trial_id, *kind in sick:
        stored = stores[tuple(kind)]
        trial = stored.trials[trial_id]
        key = config_key(trial.config)
        if not trial.well and key not in found:
            found[key] = _fixes(stored, trial, levels, sweep_id)
    return tuple(found.values())


def _read(store: Store, workload: str, version: str | None) -> _Stored:
    rows = query(store, _trials_sql(), [workload, version]).rows
    trials = [StoredTrial(one, seed, json.loads(c or "{}"), end) for one, seed, c, end in rows]
    arms: dict[str, list[StoredTrial]] = {}
    for one in trials:
        arms.setdefault(config_key(one.config), []).append(one)
    whole = [
        mine
        for mine in arms.values()
        if any(one.well for one in mine) and all(one.well or one.cut_short for one in mine)
    ]
    by_id = {one.trial_id: one for one in trials}
    return _Stored(workload, version, by_id, arms, tuple(whole), evidence(arms))


def _listed_levels(store: Store, sweep_id: str) -> Levels:
    factors = stored_spec(store, sweep_id).get("factors", {})
    return {factor: some for factor, some in factors.items() if not isinstance(some, Mapping)}


def _fixes(stored: _Stored, trial: StoredTrial, levels: Sequence[Levels], sweep_id: str) -> Fixes:
    known = () if trial.well else _known(trial, stored.whole)
    untried = () if known or trial.well else next_candidates(trial, stored.evidence, levels)
    sql = fixes_sql(trial.trial_id, stored.workload, stored.version, sorted(trial.config))
    return Fixes(
        sweep_id=sweep_id,
        trial_id=trial.trial_id,
        seed=trial.seed,
        config=trial.config,
        workload=stored.workload,
        workload_version=stored.version,
        healthy=trial.well,
        known=known,
        next=untried,
        configurations=len(stored.arms),
        trials=len(stored.trials),
        sql=sql,
    )


def fixes_sql(trial_id: str, workload: str, version: str | None, settings: Sequence[str]) -> str:
    """List the nearest configurations whose trials are all healthy, with their counts."""
    columns = "".join(f", {name(one)}" for one in settings)
    changes = " + ".join(
        f"CAST(t.{name(one)} IS DISTINCT FROM o.{name(one)} AS INTEGER)" for one in settings
    )
    known = "NULL" if version is None else text(version)
    return (
        f"WITH latest AS (\n  SELECT trial_id, seed, config, outcome{columns}\n"  # noqa: S608
        f"  FROM latest_outcomes WHERE workload = {text(workload)}\n"
        f"    AND workload_version IS NOT DISTINCT FROM {known}),\n"
        "arms AS (\n"
        f"  SELECT t.config, {changes or '0'} AS changes,\n"
        f"    count(*) FILTER ({COUNTS.format('t')}) AS trials,\n"
        "    count(*) FILTER (t.outcome = 'healthy') AS healthy\n"
        f"  FROM latest t, (SELECT * FROM latest WHERE trial_id = {text(trial_id)}) o\n"
        "  GROUP BY ALL)\n"
        "SELECT changes, healthy, trials, config FROM arms\n"
        "WHERE healthy = trials AND trials > 0\n"
        "QUALIFY changes = min(changes) OVER ()\nORDER BY trials DESC, config"
    )


def _trials_sql() -> str:
    """List a workload's trials, each once: as the sweep that ended it last has it."""
    return (
        "SELECT trial_id, seed, config, outcome FROM latest_outcomes\n"
        "WHERE workload = ? AND workload_version IS NOT DISTINCT FROM ?\nORDER BY trial_id"
    )


def _known(trial: StoredTrial, whole: Sequence[Sequence[StoredTrial]]) -> tuple[Fix, ...]:
    """Take of the arms that are healthy in all seeds those with the fewest changes."""
    changed = [(changes_between(trial.config, mine[0].config), mine) for mine in whole]
    fewest = min((len(changes) for changes, _ in changed), default=0)
    found = [_fix(changes, mine, trial.seed) for changes, mine in changed if len(changes) == fewest]
    found.sort(key=lambda fix: (-fix.of, not fix.own_seed, words(fix.changes)))
    return tuple(found)


def _fix(changes: tuple[LevelChange, ...], mine: Sequence[StoredTrial], seed: int) -> Fix:
    seeds = tuple(sorted(one.seed for one in mine if not one.cut_short))
    n = len(seeds)
    return Fix(changes, n, n, _lower_end(n), seeds, seed in seeds, len(mine) - n)


def _lower_end(n: int) -> float:
    """Give the lower end of Wilson's 95 % interval of n of n; scipy would take a second."""
    return n / (n + NormalDist().inv_cdf(0.975) ** 2)
