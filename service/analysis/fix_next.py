"""What to try next where no fix is known: the smallest changes that no stored trial has tried."""

import itertools
import math
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sickbay.service.analysis.fix_values import (
    Candidate,
    LevelChange,
    Levels,
    StoredTrial,
    config_key,
    shown,
    words,
)
from sickbay.service.analysis.pairs import level_key
from sickbay.trials.contract import Scalar

MOST_CANDIDATES = 8
MOST_LEVELS = 12  # of one setting that candidates are made of: a random search has very many

_Place = tuple[str, Hashable]  # a setting and its level


@dataclass(frozen=True)
class Evidence:
    """What the stored trials say of levels: how many have each, how many of those are healthy.

    `levels` are those of every setting in the order in which they are met; `tried` the keys of the
    configurations of which a trial has ended.
    """

    seen: Mapping[_Place, int]
    well: Mapping[_Place, int]
    levels: Levels
    tried: frozenset[str]


def evidence(arms: Mapping[str, Sequence[StoredTrial]]) -> Evidence:
    """Count levels over all trials that have ended, by configuration."""
    seen: Counter[_Place] = Counter()
    well: Counter[_Place] = Counter()
    levels: dict[str, dict[Hashable, Scalar]] = {}
    for mine in arms.values():
        ended = sum(not one.cut_short for one in mine)
        healthy = sum(one.well for one in mine)
        for setting, level in mine[0].config.items():
            key = level_key(level)
            levels.setdefault(setting, {}).setdefault(key, level)
            seen[setting, key] += ended
            well[setting, key] += healthy
    return Evidence(
        seen,
        well,
        {setting: tuple(some.values()) for setting, some in levels.items()},
        frozenset(key for key, mine in arms.items() if not all(one.cut_short for one in mine)),
    )


def next_candidates(
    trial: StoredTrial, known: Evidence, levels: Sequence[Levels]
) -> tuple[Candidate, ...]:
    """List untried changes of one setting, then of two, the most promising first.

    `levels` are those to try besides the store's, as the sweep's spec has them.
    """
    single = list(_single(trial, known, levels))
    found: list[Candidate] = []
    for size in (1, 2):
        made = [
            _candidate(changes, known)
            for changes in itertools.combinations(single, size)
            if len({one.setting for one in changes}) == size
            and config_key(_changed(trial, changes)) not in known.tried
        ]
        made.sort(key=lambda one: (-one.chance, words(one.changes)))
        found.extend(made)
        if len(found) >= MOST_CANDIDATES:
            break
    return tuple(found[:MOST_CANDIDATES])


def _changed(trial: StoredTrial, changes: Sequence[LevelChange]) -> dict[str, Scalar]:
    after = {one.setting: one.after for one in changes if one.after is not None}
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
    places = [(one.setting, level_key(one.after)) for one in changes]
    told = [
        f"{known.well[place]} of {known.seen[place]} trials with {one.setting} "
        f"{shown(one.after)} are healthy"
        if known.seen.get(place)
        else f"{one.setting} {shown(one.after)} has not been tried"
        for one, place in zip(changes, places, strict=True)
    ]
    return Candidate(changes, math.prod(_chance(one, known) for one in places), "; ".join(told))


def _chance(place: _Place, known: Evidence) -> float:
    return (known.well.get(place, 0) + 1) / (known.seen.get(place, 0) + 2)
