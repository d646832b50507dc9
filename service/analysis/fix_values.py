"""The values of a search for what heals a trial, and how they are written."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sickbay.service.analysis.pairs import level_key
from sickbay.service.query.outcomes import CUT_SHORT, HEALTHY
from sickbay.trials.contract import Config, Scalar

Levels = Mapping[str, Sequence[Scalar]]


@dataclass(frozen=True)
class LevelChange:
    """One setting, from what the trial has to what it would have."""

    setting: str
    before: Scalar | None
    after: Scalar | None


@dataclass(frozen=True)
class Fix:
    """A change whose every stored trial is healthy: `healthy` of `of`, which are the same number.

    `low` is the lower end of Wilson's 95 % interval of the healthy share: one of one seed says
    little. `seeds` are the seeds; `own_seed` whether the trial's own is among them. `cut_short`
    trials of it were cancelled or pruned and say nothing.
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
    """A change that no stored trial has tried to its end, with why it is worth a trial.

    `chance` ranks candidates and is no probability that one should quote: for each new level the
    healthy share of the stored trials that have it, (healthy + 1) / (trials + 2), multiplied.
    """

    changes: tuple[LevelChange, ...]
    chance: float
    reason: str


@dataclass(frozen=True)
class Fixes:
    """What is known of healing one trial; `next` is empty where a fix is known.

    `configurations` of `trials` were looked through: all of the trial's workload and version in the
    store, the same trial of several sweeps once. `sql` lists the fixes with their counts.
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
    """A trial as the search sees it."""

    trial_id: str
    seed: int
    config: Config
    outcome: str

    @property
    def cut_short(self) -> bool:
        """Whether it was cancelled or pruned, and so says nothing."""
        return self.outcome in CUT_SHORT

    @property
    def well(self) -> bool:
        """Whether it is healthy."""
        return self.outcome == HEALTHY


def words(changes: Sequence[LevelChange]) -> str:
    """Write changes as a person reads them: `initialization zeros -> random and lr 0.1 -> 0.01`."""
    return " and ".join(
        f"{one.setting} {shown(one.before)} -> {shown(one.after)}" for one in changes
    )


def changes_between(before: Config, after: Config) -> tuple[LevelChange, ...]:
    """List the settings in which two configurations differ, by name."""
    return tuple(
        LevelChange(setting, before.get(setting), after.get(setting))
        for setting in sorted({*before, *after})
        if level_key(before.get(setting)) != level_key(after.get(setting))
    )


def config_key(config: Config) -> str:
    """Equal settings give equal text: 1 is 1.0, but no number is true or false."""
    plain = {
        setting: float(level) if isinstance(level, int) and not isinstance(level, bool) else level
        for setting, level in config.items()
    }
    return json.dumps(plain, sort_keys=True)


def shown(level: Scalar | None) -> str:
    """Write a level as it would stand in a spec."""
    return level if isinstance(level, str) else json.dumps(level)
