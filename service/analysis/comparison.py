"""Two sweeps, or two stores, side by side: what is the same configuration, and what became of it.

    found = compare(open_half(opener, "before"), open_half(opener, "after"))

Arms are matched by configuration, trials by seed. The objective is compared among trials healthy
on both sides, always B minus A: paired by seed where three seeds are shared, else by Welch's
interval. A baseline whose interval leaves out zero has *drifted*: code, data or machine changed
under the same configuration, and no other difference between the two can be laid to its factor.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np

from sickbay.service.analysis.comparison_sides import Arm, Half, arms_of, changed_settings
from sickbay.service.analysis.effects import FEWEST_SEEDS
from sickbay.service.analysis.pairs import TrialRow
from sickbay.service.analysis.statistics import (
    ALPHA,
    NOTHING,
    Estimate,
    holm_adjusted,
    paired_effect,
    student_estimate,
    wilson,
)
from sickbay.service.query.outcomes import CUT_SHORT, HEALTHY
from sickbay.trials.contract import Scalar


class Drift(StrEnum):
    """What became of one arm's objective from A to B."""

    IDENTICAL = "identical"  # to the last bit, in every pair
    NONE = "no drift seen"  # which is not "none": read the interval
    DRIFTED = "drifted"
    UNKNOWN = "unknown"  # too few healthy trials


@dataclass(frozen=True)
class ArmSide:
    """An arm on one side: `healthy` of `trials` with Wilson's interval; causes of the others.

    `mean` is the mean objective of the healthy trials, None without any. Trials that were cut short
    are in nothing.
    """

    trials: int
    healthy: int
    low: float
    high: float
    causes: Mapping[str, int]
    mean: float | None


@dataclass(frozen=True)
class LabelChange:
    """A seed whose trial came out otherwise: in one word each, as `healthy` or a pathology."""

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
    """Both sides, the arms that both have, the baselines first, and what only one has.

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
        """The baselines that drifted, or whose health is not what it was."""
        return tuple(
            one
            for one in self.arms
            if one.baseline and (one.drift is Drift.DRIFTED or one.label_changes)
        )

    def as_data(self) -> dict[str, Any]:
        """Give all of it as dictionaries, lists and scalars, without the single trials."""
        made = asdict(replace(self, a=_bare(self.a), b=_bare(self.b)))
        made["drifted"] = [one.arm for one in self.drifted]
        made["labels_changed"] = sum(len(one.label_changes) for one in self.arms)
        return made


@np.errstate(over="ignore", invalid="ignore")  # squares of absurdly large values: infinity
def compare(a: Half, b: Half, ignore: Sequence[str] = ()) -> Comparison:
    """Match the arms of both sides and compare each; settings of `ignore` do not matter.

    Settings that only one side knows do not matter either, and a note names them. Arms that would
    then be the same as another of their own side are matched with none.
    """
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
    pairs.sort(key=lambda one: (not one.baseline, one.arm))
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
    parts = [float(np.var(one, ddof=1)) / len(one) for one in (before, after)]
    whole = sum(parts)
    if whole == 0.0:
        return Estimate(mean, 0.0, *[math.nan] * 4)
    weights = zip(parts, (before, after), strict=True)
    degrees = whole**2 / sum(part**2 / (len(one) - 1) for part, one in weights)
    return student_estimate(mean, math.sqrt(whole), degrees)


def _side(arm: Arm) -> ArmSide:
    words = [word for row in arm.rows if (word := row.outcome) not in CUT_SHORT]
    healthy = words.count(HEALTHY)
    low, high = wilson(healthy / len(words) if words else 0.0, len(words))
    causes = Counter(word for word in words if word != HEALTHY)
    values = _healthy(arm)
    mean = float(np.mean(values)) if values else None
    return ArmSide(len(words), healthy, low, high, dict(sorted(causes.items())), mean)


def _healthy(arm: Arm) -> list[float]:
    return [_value(row) for row in arm.rows if row.outcome == HEALTHY]


def _value(row: TrialRow) -> float:
    return math.nan if row.objective is None else row.objective


def _adjusted(pairs: Sequence[ArmPair]) -> tuple[ArmPair, ...]:
    holm = holm_adjusted([one.difference.p_value for one in pairs])
    return tuple(
        replace(one, p_holm=p, drift=_drift(one)) for one, p in zip(pairs, holm, strict=True)
    )


def _drift(one: ArmPair) -> Drift:
    if one.paired and one.identical == one.pairs:
        return Drift.IDENTICAL
    if one.difference.error == 0.0:  # the same shift in every pair, to the last digit
        return Drift.DRIFTED if one.difference.mean else Drift.IDENTICAL
    if math.isnan(one.difference.p_value):
        return Drift.UNKNOWN
    return Drift.DRIFTED if one.difference.p_value <= ALPHA else Drift.NONE


def _bare(half: Half) -> Half:
    return replace(half, trials=())


def _words(signals: Mapping[str, str]) -> str:
    return ", ".join(sorted(set(signals.values()))) or "none"
