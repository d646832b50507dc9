"""The smallest change that fixes a trial, exact over the stored trials; else what to try next.

    fixes = fixes_for(store, trial_id)

A **fix** is a configuration of the same workload and version whose stored trials are healthy in all
seeds and that differs in the fewest settings; all of that size are given. Nothing is interpolated.
Without one, `next` lists the smallest untried changes.
"""

import itertools
import json
import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from sickbay.service.analysis.rows.pairs import level_key
from sickbay.service.query.engine import find_trial, query
from sickbay.service.query.lookup import stored_spec
from sickbay.service.query.outcomes import COUNTS, CUT_SHORT, HEALTHY
from sickbay.service.query.sqltext import name, text
from sickbay.trials.contract import Config, Scalar
from sickbay.trials.store import Store

Levels = Mapping[str, Sequence[Scalar]]


@dataclass(frozen=True)
class LevelChange:
    """A change of one setting: its value before and after."""

    setting: str
    before: Scalar | None
    after: Scalar | None


@dataclass(frozen=True)
class Fix:
    """A change whose stored trials are all healthy: `healthy` of `of`, which are equal.

    `low` is the lower end of Wilson's 95 % interval of the healthy share; `own_seed` whether the
    trial's own is among the `seeds`; `cut_short` trials were cancelled or pruned and not counted.
    """

    changes: tuple[LevelChange, ...]
    healthy: int
    of: int
    low: float
    seeds: tuple[int, ...]
    own_seed: bool
    cut_short: int


@dataclass(frozen=True)
class Candidate:
    """An untried change, and why it is worth a trial.

    `chance` only ranks candidates: the product over new levels of (healthy + 1) / (trials + 2).
    """

    changes: tuple[LevelChange, ...]
    chance: float
    reason: str


@dataclass(frozen=True)
class Fixes:
    """The known fixes of one trial; `next` is empty where a fix is known.

    `configurations` of `trials` were searched: all of the same workload and version in the store,
    each trial once. `sql` lists the fixes with their counts.
    """

    sweep_id: str
    trial_id: str
    seed: int
    config: Config
    workload: str
    workload_version: str | None
    healthy: bool
    known: tuple[Fix, ...]
    next: tuple[Candidate, ...]
    configurations: int
    trials: int
    sql: str


@dataclass(frozen=True)
class StoredTrial:
    """A trial as the search for fixes sees it."""

    trial_id: str
    seed: int
    config: Config
    outcome: str

    @property
    def cut_short(self) -> bool:
        """Whether it was cancelled or pruned, and so does not count."""
        return self.outcome in CUT_SHORT

    @property
    def well(self) -> bool:
        """Whether it is healthy."""
        return self.outcome == HEALTHY


def words(changes: Sequence[LevelChange]) -> str:
    """Format changes for people: `initialization zeros -> random and lr 0.1 -> 0.01`."""
    return " and ".join(
        f"{change.setting} {shown(change.before)} -> {shown(change.after)}" for change in changes
    )


def changes_between(before: Config, after: Config) -> tuple[LevelChange, ...]:
    """List the settings in which two configurations differ, by name."""
    return tuple(
        LevelChange(setting, before.get(setting), after.get(setting))
        for setting in sorted({*before, *after})
        if level_key(before.get(setting)) != level_key(after.get(setting))
    )


def config_key(config: Config) -> str:
    """Equal settings give equal text: 1 equals 1.0, but true and 1 differ."""
    plain = {
        setting: float(level) if isinstance(level, int) and not isinstance(level, bool) else level
        for setting, level in config.items()
    }
    return json.dumps(plain, sort_keys=True)


def shown(level: Scalar | None) -> str:
    """Format a level as in a spec."""
    return level if isinstance(level, str) else json.dumps(level)


MOST_CANDIDATES = 8
MOST_LEVELS = 12  # of one setting that candidates are made of: a random search has very many

_Place = tuple[str, Hashable]  # a setting and its level


@dataclass(frozen=True)
class Evidence:
    """How many stored trials have each level, and how many of those are healthy.

    `levels` are those of every setting as met; `tried` the keys of configurations with an ended
    trial.
    """

    seen: Mapping[_Place, int]
    well: Mapping[_Place, int]
    levels: Levels
    tried: frozenset[str]


def evidence(arms: Mapping[str, Sequence[StoredTrial]]) -> Evidence:
    """Count levels over all ended trials, by configuration."""
    seen: Counter[_Place] = Counter()
    well: Counter[_Place] = Counter()
    levels: dict[str, dict[Hashable, Scalar]] = {}
    for mine in arms.values():
        ended = sum(not trial.cut_short for trial in mine)
        healthy = sum(trial.well for trial in mine)
        for setting, level in mine[0].config.items():
            key = level_key(level)
            levels.setdefault(setting, {}).setdefault(key, level)
            seen[setting, key] += ended
            well[setting, key] += healthy
    return Evidence(
        seen,
        well,
        {setting: tuple(some.values()) for setting, some in levels.items()},
        frozenset(key for key, mine in arms.items() if not all(trial.cut_short for trial in mine)),
    )


def next_candidates(
    trial: StoredTrial, known: Evidence, levels: Sequence[Levels]
) -> tuple[Candidate, ...]:
    """List untried changes of one setting, then of two, the most promising first.

    `levels` are those to try besides the store's, as the sweep's spec has them.
    """
    single = list(_single(trial, known, levels))
    candidates: list[Candidate] = []
    for size in (1, 2):
        made = [
            _candidate(changes, known)
            for changes in itertools.combinations(single, size)
            if len({change.setting for change in changes}) == size
            and config_key(_changed(trial, changes)) not in known.tried
        ]
        made.sort(key=lambda candidate: (-candidate.chance, words(candidate.changes)))
        candidates.extend(made)
        if len(candidates) >= MOST_CANDIDATES:
            break
    return tuple(candidates[:MOST_CANDIDATES])


def _changed(trial: StoredTrial, changes: Sequence[LevelChange]) -> dict[str, Scalar]:
    after = {change.setting: change.after for change in changes if change.after is not None}
    return {**trial.config, **after}


def _single(trial: StoredTrial, known: Evidence, levels: Sequence[Levels]) -> Iterator[LevelChange]:
    """Change one setting to each other level that the store, the spec or the workload has."""
    for setting, before in sorted(trial.config.items()):
        others: dict[Hashable, Scalar] = {}
        for some in (*levels, known.levels):
            for level in some.get(setting, ()):
                others.setdefault(level_key(level), level)
        others.pop(level_key(before), None)
        promising = sorted(others, key=lambda key: -_chance((setting, key), known))
        for key in promising[:MOST_LEVELS]:
            yield LevelChange(setting, before, others[key])


def _candidate(changes: tuple[LevelChange, ...], known: Evidence) -> Candidate:
    places = [(change.setting, level_key(change.after)) for change in changes]
    evidence = [
        f"{known.well[place]} of {known.seen[place]} trials with {change.setting} "
        f"{shown(change.after)} are healthy"
        if known.seen.get(place)
        else f"{change.setting} {shown(change.after)} has not been tried"
        for change, place in zip(changes, places, strict=True)
    ]
    return Candidate(
        changes, math.prod(_chance(place, known) for place in places), "; ".join(evidence)
    )


def _chance(place: _Place, known: Evidence) -> float:
    return (known.well.get(place, 0) + 1) / (known.seen.get(place, 0) + 2)


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
    """Find the smallest changes that fix a trial, named by a prefix of its id.

    `more` are levels to try besides the store's and the spec's. Raises QueryError unless exactly
    one trial begins like this.
    """
    sweep_id, trial_id = find_trial(store, prefix)
    return fix_finder(store, sweep_id, more)(trial_id)


def fix_finder(store: Store, sweep_id: str, more: Levels | None = None) -> Callable[[str], Fixes]:
    """Read the store once; returns a function that finds the fixes of any trial of the sweep.

    It raises KeyError for a trial that had not ended by then.
    """
    own = "SELECT trial_id, workload, workload_version FROM trials"
    rows = query(store, own, sweep_ids=[sweep_id]).rows
    kinds = {trial_id: (workload, version) for trial_id, workload, version in rows}
    stores = {kind: _read(store, *kind) for kind in dict.fromkeys(kinds.values())}
    levels = [_listed_levels(store, sweep_id), more or {}]

    def find(trial_id: str) -> Fixes:
        stored = stores[kinds[trial_id]]
        return _fixes(stored, stored.trials[trial_id], levels, sweep_id)

    return find


def sweep_fixes(store: Store, sweep_id: str) -> tuple[Fixes, ...]:
    """Find fixes for each configuration of a sweep that is not healthy in all of its seeds.

    One `Fixes` a configuration, for its first unhealthy trial by seed and id; those cut short do
    not count.
    """
    sql = (
        "SELECT trial_id, workload, workload_version FROM outcomes o\n"  # noqa: S608 - fixed texts
        f"WHERE sweep_id = ? AND outcome <> 'healthy' AND {COUNTS.format('o')}\n"
        "ORDER BY seed, trial_id"
    )
    unhealthy = query(store, sql, [sweep_id], sweep_ids=[sweep_id]).rows
    levels = [_listed_levels(store, sweep_id)]
    kinds = dict.fromkeys((workload, version) for _, workload, version in unhealthy)
    stores = {kind: _read(store, *kind) for kind in kinds}
    fixes: dict[str, Fixes] = {}
    for trial_id, *kind in unhealthy:
        stored = stores[tuple(kind)]
        trial = stored.trials[trial_id]
        key = config_key(trial.config)
        if not trial.well and key not in fixes:
            fixes[key] = _fixes(stored, trial, levels, sweep_id)
    return tuple(fixes.values())


def _read(store: Store, workload: str, version: str | None) -> _Stored:
    rows = query(store, _trials_sql(), [workload, version]).rows
    trials = [
        StoredTrial(trial_id, seed, json.loads(c or "{}"), end) for trial_id, seed, c, end in rows
    ]
    arms: dict[str, list[StoredTrial]] = {}
    for stored in trials:
        arms.setdefault(config_key(stored.config), []).append(stored)
    whole = [
        mine
        for mine in arms.values()
        if any(trial.well for trial in mine)
        and all(trial.well or trial.cut_short for trial in mine)
    ]
    by_id = {trial.trial_id: trial for trial in trials}
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
    columns = "".join(f", {name(setting)}" for setting in settings)
    changes = " + ".join(
        f"CAST(t.{name(setting)} IS DISTINCT FROM o.{name(setting)} AS INTEGER)"
        for setting in settings
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
    """List a workload's trials, each once: as in the sweep in which it ended last."""
    return (
        "SELECT trial_id, seed, config, outcome FROM latest_outcomes\n"
        "WHERE workload = ? AND workload_version IS NOT DISTINCT FROM ?\nORDER BY trial_id"
    )


def _known(trial: StoredTrial, whole: Sequence[Sequence[StoredTrial]]) -> tuple[Fix, ...]:
    """Select the arms with the fewest changes among those healthy in all seeds."""
    changed = [(changes_between(trial.config, mine[0].config), mine) for mine in whole]
    fewest = min((len(changes) for changes, _ in changed), default=0)
    fixes = [_fix(changes, mine, trial.seed) for changes, mine in changed if len(changes) == fewest]
    fixes.sort(key=lambda fix: (-fix.of, not fix.own_seed, words(fix.changes)))
    return tuple(fixes)


def _fix(changes: tuple[LevelChange, ...], mine: Sequence[StoredTrial], seed: int) -> Fix:
    seeds = tuple(sorted(trial.seed for trial in mine if not trial.cut_short))
    n = len(seeds)
    return Fix(changes, n, n, _lower_end(n), seeds, seed in seeds, len(mine) - n)


def _lower_end(n: int) -> float:
    """Lower end of Wilson's 95 % interval of n of n; importing scipy would take a second."""
    return n / (n + NormalDist().inv_cdf(0.975) ** 2)


def fix_lines(fixes: Fixes) -> Iterator[str]:
    """Describe the smallest healthy changes in the store, or what to try next; empty if healthy."""
    if fixes.healthy:
        return
    if fixes.known:
        yield "the smallest change that is healthy in all of its seeds in this store:"
        for fix in fixes.known:
            weak = "" if fix.own_seed else f"; seed {fixes.seed} is not among them"
            yield (
                f"  {words(fix.changes)}: healthy in {fix.healthy}/{fix.of}"
                f" (95 %: at least {100 * fix.low:.0f} %{weak})"
            )
        return
    yield (
        f"none of {fixes.configurations} configurations of this workload in the store is healthy "
        "in all of its trials: no fix is known yet"
    )
    if not fixes.next:
        yield "every change of one or two settings to a known level has been tried"
        return
    yield f"worth trying next (sickbay fix {fixes.trial_id[:8]} writes the spec):"
    for candidate in fixes.next:
        yield f"  {words(candidate.changes)}: {candidate.reason}"
