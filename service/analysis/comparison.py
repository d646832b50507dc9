"""Compare two sweeps or two stores, matched by configuration.

    compare(open_half(opener, "before"), open_half(opener, "after"))

Arms are matched by configuration, trials by seed. The objective is compared among trials healthy on
both sides, B minus A: paired by seed where three are shared, else by Welch's interval. A baseline
whose interval excludes zero has *drifted*: code, data or machine changed under it, and so no other
difference can be attributed to a factor.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np

from sickbay.service.analysis.rows.pairs import TrialRow, level_key
from sickbay.service.analysis.sql import SOUND
from sickbay.service.analysis.statistics import ALPHA, FEWEST_SEEDS
from sickbay.service.analysis.statistics.estimates import (
    NOTHING,
    Estimate,
    paired_effect,
    student_estimate,
)
from sickbay.service.analysis.statistics.shares import wilson
from sickbay.service.query.engine import query
from sickbay.service.query.lookup import SweepError, find_sweep
from sickbay.service.query.outcomes import COUNTS, CUT_SHORT, HEALTHY
from sickbay.service.query.sqltext import text
from sickbay.trials.contract import Scalar
from sickbay.trials.errors import shown
from sickbay.trials.evidence.statistics import holm_adjusted
from sickbay.trials.store import Store, StoreError, open_store
from sickbay.trials.store.reader import list_sweeps

_Key = tuple[str, tuple[tuple[str, Hashable], ...]]


@dataclass(frozen=True)
class HalfTrial:
    """A trial to be compared; `row.levels` is its whole configuration."""

    row: TrialRow
    workload: str
    arm: str
    baseline: bool


@dataclass(frozen=True)
class Half:
    """One side of a comparison: its trials (each once), and counts by state and label.

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
    """The trials of one configuration, one per seed."""

    name: str
    config: Mapping[str, Scalar | None]
    baseline: bool
    rows: tuple[TrialRow, ...]


def open_half(store: Callable[[], Store], word: str) -> Half:
    """Read a side: a sweep of `store`, a `STORE#SWEEP`, or a whole store, by path or URI.

    `store` opens the store of a sweep given by name alone. Raises SweepError if it is neither;
    StoreError or QueryError if a store cannot be read.
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
                f"{error} Give a whole store by its path, or one of its sweeps as STORE#SWEEP."
            ) from None
    return read_half(open_store(word, create=False), None)


def read_half(store: Store, sweep_id: str | None) -> Half:
    """Read the trials of a sweep, or of a whole store: of several sweeps each trial once."""
    records = [sweep for sweep in list_sweeps(store) if sweep_id in (None, sweep.sweep_id)]
    chosen = None if sweep_id is None else [sweep_id]
    result = query(store, _trials_sql(sweep_id), sweep_ids=chosen)
    trials = []
    for row in result.rows:
        trial = dict(zip(result.columns, row, strict=True))
        changed, arm, workload = trial.pop("changed"), trial.pop("arm"), trial.pop("workload")
        config = json.loads(trial.pop("config") or "{}")
        trials.append(HalfTrial(TrialRow(levels=config, **trial), workload, arm, not changed))
    signals = {}
    for record in records:
        objective = json.loads(record.spec).get("objective")
        if objective:
            signals[record.workload] = f"{objective['goal']} {objective['signal']}"
    return Half(
        name=sweep_id or store.uri,
        store=store.uri,
        sweeps=tuple(sweep.sweep_id for sweep in records),
        versions=tuple(sorted({sweep.code_version or "unknown" for sweep in records})),
        signals=signals,
        states=dict(sorted(Counter(half_trial.row.state for half_trial in trials).items())),
        labels=dict(
            sorted(Counter(half_trial.row.label or "none" for half_trial in trials).items())
        ),
        trials=tuple(trials),
        sql=arms_sql(sweep_id),
        problems=tuple(map(str, result.problems)),
    )


def arms_of(
    a: Half, b: Half, ignore: Sequence[str] = ()
) -> tuple[dict[_Key, Arm], dict[_Key, Arm], list[str]]:
    """Sort the trials of both sides into arms by the settings that both know, but the ignored."""
    notes: list[str] = []
    common: dict[str, list[str]] = {}
    for workload in sorted({trial.workload for trial in (*a.trials, *b.trials)}):
        ours, theirs = (
            {
                name
                for trial in half.trials
                if trial.workload == workload
                for name in trial.row.levels
            }
            for half in (a, b)
        )
        common[workload] = sorted((ours & theirs) - set(ignore))
        for half, more in ((a, ours - theirs), (b, theirs - ours)):
            if more and ours and theirs:
                notes.append(f"only {half.name} has {', '.join(sorted(more))}: not compared")
    return _arms(a, common, notes), _arms(b, common, notes), notes


def changed_settings(a: Half, b: Half) -> dict[str, tuple[str, str]]:
    """List settings that are constant on each side but differ between the sides."""
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
    for trial in half.trials:
        known = tuple(
            (name, level_key(trial.row.levels.get(name))) for name in common[trial.workload]
        )
        groups.setdefault((trial.workload, known), []).append(trial)
    arms: dict[_Key, Arm] = {}
    for key, mine in groups.items():
        seeds = [member.row.seed for member in mine]
        if len(set(seeds)) < len(seeds):
            notes.append(
                f"{mine[0].arm}: {half.name} has several trials of one seed that differ only in "
                "settings that are not compared; the arm is left out"
            )
            continue
        rows = tuple(member.row for member in mine)
        baseline = all(member.baseline for member in mine)
        arms[key] = Arm(mine[0].arm, mine[0].row.levels, baseline, rows)
    return arms


def _constant(half: Half) -> dict[str, Scalar | None]:
    seen: dict[str, dict[Hashable, Scalar | None]] = {}
    for trial in half.trials:
        for name, level in trial.row.levels.items():
            seen.setdefault(name, {})[level_key(level)] = level
    return {name: next(iter(levels.values())) for name, levels in seen.items() if len(levels) == 1}


def _is_store(word: str) -> bool:
    from pathlib import Path  # noqa: PLC0415 - only to tell a folder from a mistyped name

    return Path(word).is_dir()


class Drift(StrEnum):
    """How an arm's objective changed from A to B."""

    IDENTICAL = "identical"  # to the last bit, in every pair
    NONE = "no drift seen"  # which is not "none": read the interval
    DRIFTED = "drifted"
    UNKNOWN = "unknown"  # too few healthy trials


@dataclass(frozen=True)
class ArmSide:
    """An arm on one side: `healthy` of `trials` with Wilson's interval; causes of the others.

    `mean` is the healthy trials' mean objective, None without any. Trials cut short are not
    counted.
    """

    trials: int
    healthy: int
    low: float
    high: float
    causes: Mapping[str, int]
    mean: float | None


@dataclass(frozen=True)
class LabelChange:
    """A seed whose outcome differs between the sides: `healthy` or a pathology for each."""

    seed: int
    before: str
    after: str


@dataclass(frozen=True)
class ArmPair:
    """One configuration on both sides.

    `difference` is B minus A: over `pairs` shared seeds healthy on both sides (`paired`), else of
    the two means. `identical` pairs are equal to the last bit. `p_holm` adjusts over all arms.
    """

    arm: str
    config: Mapping[str, Scalar | None]
    baseline: bool
    a: ArmSide
    b: ArmSide
    shared_seeds: int
    pairs: int
    paired: bool
    identical: int
    difference: Estimate
    p_holm: float
    drift: Drift
    label_changes: tuple[LabelChange, ...]


@dataclass(frozen=True)
class Comparison:
    """A comparison: the shared arms (baselines first), and the arms that only one side has.

    `settings` lists those that every trial of a side has alike, but not like the other side.
    """

    a: Half
    b: Half
    arms: tuple[ArmPair, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    settings: Mapping[str, tuple[str, str]]
    notes: tuple[str, ...]
    sql: Mapping[str, str]

    @property
    def drifted(self) -> tuple[ArmPair, ...]:
        """The baselines whose objective drifted or whose health changed."""
        return tuple(
            pair
            for pair in self.arms
            if pair.baseline and (pair.drift is Drift.DRIFTED or pair.label_changes)
        )

    def as_data(self) -> dict[str, Any]:
        """Return everything but the single trials as dictionaries, lists and scalars."""
        made = asdict(replace(self, a=_bare(self.a), b=_bare(self.b)))
        made["drifted"] = [pair.arm for pair in self.drifted]
        made["labels_changed"] = sum(len(pair.label_changes) for pair in self.arms)
        return made


@np.errstate(over="ignore", invalid="ignore")  # squares of absurdly large values: infinity
def compare(a: Half, b: Half, ignore: Sequence[str] = ()) -> Comparison:
    """Match the arms of both sides and compare each; settings of `ignore` do not matter.

    Nor do settings that only one side knows, which a note names. Arms that this makes ambiguous are
    matched with none. Raises SweepError where the two have no workload in common.
    """
    if a.signals and b.signals and not set(a.signals) & set(b.signals):
        raise SweepError(
            f"A ({a.name}) trains {', '.join(sorted(a.signals))} and B ({b.name}) trains "
            f"{', '.join(sorted(b.signals))}: a comparison needs the same workload on both sides"
        )
    ours, theirs, notes = arms_of(a, b, ignore)
    same_signal = a.signals == b.signals
    if not same_signal:
        notes.append(
            f"the objectives are not the same signal ({_words(a.signals)} and "
            f"{_words(b.signals)}): no differences"
        )
    pairs = [_pair(ours[key], theirs[key], same_signal) for key in ours if key in theirs]
    if not pairs:
        notes.append("no configuration is on both sides")
    pairs.sort(key=lambda pair: (not pair.baseline, pair.arm))
    return Comparison(
        a=a,
        b=b,
        arms=_adjusted(pairs),
        only_a=tuple(sorted(arm.name for key, arm in ours.items() if key not in theirs)),
        only_b=tuple(sorted(arm.name for key, arm in theirs.items() if key not in ours)),
        settings=changed_settings(a, b),
        notes=tuple(notes),
        sql={"a": a.sql, "b": b.sql},
    )


def _pair(ours: Arm, theirs: Arm, same_signal: bool) -> ArmPair:  # noqa: FBT001 - private
    before = {row.seed: row for row in ours.rows}
    after = {row.seed: row for row in theirs.rows}
    shared = sorted(before.keys() & after.keys())
    ended = [
        seed
        for seed in shared
        if before[seed].outcome not in CUT_SHORT and after[seed].outcome not in CUT_SHORT
    ]
    sound = [s for s in ended if before[s].outcome == after[s].outcome == HEALTHY]
    values = [_value(after[seed]) - _value(before[seed]) for seed in sound]
    paired = len(sound) >= FEWEST_SEEDS
    difference = NOTHING
    if same_signal and paired:
        difference = paired_effect(values, sound, [0] * len(sound))
    elif same_signal:
        difference = _welch(_healthy(ours), _healthy(theirs))
    return ArmPair(
        arm=ours.name,
        config=ours.config,
        baseline=ours.baseline and theirs.baseline,
        a=_side(ours),
        b=_side(theirs),
        shared_seeds=len(shared),
        pairs=len(sound),
        paired=paired,
        identical=sum(value == 0.0 for value in values),
        difference=difference,
        p_holm=float("nan"),
        drift=Drift.UNKNOWN,
        label_changes=tuple(
            LabelChange(seed, before[seed].outcome, after[seed].outcome)
            for seed in ended
            if before[seed].outcome != after[seed].outcome
        ),
    )


def _welch(before: Sequence[float], after: Sequence[float]) -> Estimate:
    """Difference of two means with unlike variances and Satterthwaite's degrees (Welch 1947)."""
    if min(len(before), len(after)) < FEWEST_SEEDS:
        if not before or not after:
            return NOTHING
        return replace(NOTHING, mean=float(np.mean(after) - np.mean(before)))
    mean = float(np.mean(after) - np.mean(before))
    parts = [float(np.var(values, ddof=1)) / len(values) for values in (before, after)]
    whole = sum(parts)
    if whole == 0.0:
        return Estimate(mean, 0.0, *[math.nan] * 4)
    weights = zip(parts, (before, after), strict=True)
    degrees = whole**2 / sum(part**2 / (len(values) - 1) for part, values in weights)
    return student_estimate(mean, math.sqrt(whole), degrees)


def _side(arm: Arm) -> ArmSide:
    outcomes = [word for row in arm.rows if (word := row.outcome) not in CUT_SHORT]
    healthy = outcomes.count(HEALTHY)
    low, high = wilson(healthy / len(outcomes) if outcomes else 0.0, len(outcomes))
    causes = Counter(word for word in outcomes if word != HEALTHY)
    values = _healthy(arm)
    mean = float(np.mean(values)) if values else None
    return ArmSide(len(outcomes), healthy, low, high, dict(sorted(causes.items())), mean)


def _healthy(arm: Arm) -> list[float]:
    return [_value(row) for row in arm.rows if row.outcome == HEALTHY]


def _value(row: TrialRow) -> float:
    return math.nan if row.objective is None else row.objective


def _adjusted(pairs: Sequence[ArmPair]) -> tuple[ArmPair, ...]:
    holm = holm_adjusted([pair.difference.p_value for pair in pairs])
    return tuple(
        replace(pair, p_holm=p, drift=_drift(pair, p)) for pair, p in zip(pairs, holm, strict=True)
    )


def _drift(pair: ArmPair, p_holm: float) -> Drift:
    if pair.paired and pair.identical == pair.pairs:
        return Drift.IDENTICAL
    if pair.difference.error == 0.0:  # the same shift in every pair, to the last digit
        return Drift.DRIFTED if pair.difference.mean else Drift.IDENTICAL
    if math.isnan(p_holm):
        return Drift.UNKNOWN
    return Drift.DRIFTED if p_holm <= ALPHA else Drift.NONE


def _bare(half: Half) -> Half:
    return replace(half, trials=())


def _words(signals: Mapping[str, str]) -> str:
    return ", ".join(sorted(set(signals.values()))) or "none"
