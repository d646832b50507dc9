"""From a spec to the exact list of trials: pure, in seed blocks, each trial named by its content.

The designs, for factors A and B with the levels a0 (baseline), a1, a2 and b0, b1:

    grid           every combination: (a0, b0), (a0, b1), (a1, b0), …
    one_factor     the baseline, and every other level alone: (a1, b0), (a2, b0), (a0, b1)
    leave_one_out  everything on (the *last* level of every factor), and everything but one:
                   (a2, b1), (a0, b1), (a2, b0), besides the baseline
    add_one_in     nothing on (the baseline), one thing on (its last level) at a time, and
                   everything on: (a0, b0), (a2, b0), (a0, b1), (a2, b1)

All are crossed with the same seeds. A seed block is every arm once; the blocks follow one another,
so a sweep cut short is still a fair comparison. Factors follow the workload's order, then the
alphabet: the order of the keys in the spec means nothing. Spec and workload are expected to fit
each other (`check_spec`).
"""

import hashlib
import itertools
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from sickbay.trials.contract import Config, Goal, Objective, Scalar, TrialConfig, Workload
from sickbay.trials.spec_model import RangeSpec, SweepSpec

MAX_TRIALS = 1_000_000
ID_DIGITS = 16  # 64 bits: among a million trials a clash has probability 3e-8
BASELINE_ARM = "baseline"

Levels = Mapping[str, tuple[Scalar, ...]]  # by factor, in order; the first is the baseline


@dataclass(frozen=True)
class Arm:
    """One configuration of a sweep, whatever the seed."""

    name: str
    config: Config
    changed: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """The trials in the order in which to run them, and what the budget left out of them.

    `dropped` counts the trials that `budget.trials` has no room for. The cut falls between seed
    blocks, so that every arm keeps the same seeds; where not even one block fits, it falls inside
    the first, and `fair` is false.
    """

    trials: tuple[TrialConfig, ...]
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    dropped: int = 0
    fair: bool = True


@dataclass(frozen=True)
class PlanSummary:
    """How many trials a plan has, by arm and by seed."""

    total: int
    per_arm: Mapping[str, int]
    per_seed: Mapping[int, int]
    dropped: int
    fair: bool


def plan(spec: SweepSpec, workload: Workload) -> Plan:
    """List the trials of a sweep. Equal configurations stand once; the baseline is always there.

    Raises ValueError when the sweep has more than a million trials, or a design that cannot be
    planned.
    """
    count = trial_count(spec, workload)
    if count > MAX_TRIALS:
        raise ValueError(
            f"the sweep has {count:,} trials, and at most {MAX_TRIALS:,} can be planned"
        )
    by_text = _arms(spec, workload)
    arms = tuple(by_text.values())
    stems = [_id_stem(workload, arm.config, text) for text, arm in by_text.items()]
    keep, fair = _room(len(arms), len(spec.seeds), spec.budget.trials)
    pairs = itertools.product(spec.seeds, zip(arms, stems, strict=True))
    trials = tuple(
        TrialConfig(
            trial_id=_trial_id(stem, seed),
            workload=spec.workload,
            config=arm.config,
            seed=seed,
            epochs=_epochs(arm.config),
            changed=arm.changed,
        )
        for seed, (arm, stem) in itertools.islice(pairs, keep)
    )
    seeds = spec.seeds[: math.ceil(keep / len(arms))]
    return Plan(trials, arms, seeds, len(arms) * len(spec.seeds) - keep, fair)


def trial_count(spec: SweepSpec, workload: Workload) -> int:
    """Count the trials before any budget without listing them; arms that coincide count twice."""
    levels = level_table(spec, workload)
    if spec.design == "grid":
        arms = math.prod(len(values) for values in levels.values())
    elif spec.design == "one_factor":
        arms = 1 + sum(len(values) - 1 for values in levels.values())
    else:
        arms = 2 + len(levels)
    return arms * len(spec.seeds)


def level_table(spec: SweepSpec, workload: Workload) -> Levels:
    """Give every factor's levels, its baseline first, factors in the workload's order.

    The baseline is `baseline[factor]` of the spec, else the first level that it lists.
    """
    rank = {factor.name: index for index, factor in enumerate(workload.factors)}
    names = sorted(spec.factors, key=lambda name: (rank.get(name, len(rank)), name))
    return {name: _baseline_first(spec, name) for name in names}


def summary(made: Plan) -> PlanSummary:
    """Count a plan's trials by arm and by seed."""
    blocks, rest = divmod(len(made.trials), len(made.arms))
    return PlanSummary(
        total=len(made.trials),
        per_arm={arm.name: blocks + (index < rest) for index, arm in enumerate(made.arms)},
        per_seed=dict(Counter(trial.seed for trial in made.trials)),
        dropped=made.dropped,
        fair=made.fair,
    )


def arm_name(config: Config, changed: tuple[str, ...]) -> str:
    """Name an arm by what it changes: `initialization=preset, loss=uniform`, or `baseline`."""
    words = (f"{name}={_written(config[name])}" for name in changed)
    return ", ".join(words) or BASELINE_ARM


def sweep_identity(spec: SweepSpec, workload: Workload) -> str:
    """Name the sweep that a spec belongs to: its name and 6 hex digits.

    The digits cover what makes trials comparable: workload and version, fixed settings, objective.
    They leave out factors, levels, seeds, design and budget, so that more of these extend a sweep.
    """
    goal = objective_of(spec, workload)
    fixed = {name: spec.fixed[name] for name in sorted(spec.fixed)}
    what = [spec.name, workload.name, workload.version, fixed, goal.signal, goal.goal.value]
    return f"{spec.name}-{_sha(_canonical(what))[:6]}"


def objective_of(spec: SweepSpec, workload: Workload) -> Objective:
    """Give the spec's objective, or the workload's."""
    if spec.objective is None:
        return workload.objective
    return Objective(spec.objective.signal, Goal(spec.objective.goal))


def settings_of(spec: SweepSpec, workload: Workload, levels: Config) -> dict[str, Scalar]:
    """Give every setting: defaults, then the size's, then fixed, then these levels; sorted."""
    chosen = {**spec.fixed, **levels}
    size = str(chosen.get("size", workload.defaults.get("size", "")))
    merged = {**workload.defaults, **workload.sizes.get(size, {}), **chosen}
    return {name: merged[name] for name in sorted(merged)}


def _arms(spec: SweepSpec, workload: Workload) -> dict[str, Arm]:
    """Give the arms by their configuration's canonical text: equal configurations are one arm."""
    levels = level_table(spec, workload)
    baseline = {name: values[0] for name, values in levels.items()}
    arms: dict[str, Arm] = {}
    for choice in itertools.chain([baseline], _DESIGNS[spec.design](levels)):
        config = settings_of(spec, workload, choice)
        changed = tuple(name for name in levels if not _same(choice[name], baseline[name]))
        arms.setdefault(_canonical(config), Arm(arm_name(config, changed), config, changed))
    return arms


def _grid(levels: Levels) -> Iterator[dict[str, Scalar]]:
    for values in itertools.product(*levels.values()):
        yield dict(zip(levels, values, strict=True))


def _one_factor(levels: Levels) -> Iterator[dict[str, Scalar]]:
    baseline = {name: values[0] for name, values in levels.items()}
    for name, values in levels.items():
        for value in values[1:]:
            yield {**baseline, name: value}


def _leave_one_out(levels: Levels) -> Iterator[dict[str, Scalar]]:
    full = {name: values[-1] for name, values in levels.items()}
    yield full
    for name, values in levels.items():
        yield {**full, name: values[0]}


def _add_one_in(levels: Levels) -> Iterator[dict[str, Scalar]]:
    baseline = {name: values[0] for name, values in levels.items()}
    for name, values in levels.items():
        yield {**baseline, name: values[-1]}
    yield {name: values[-1] for name, values in levels.items()}


_DESIGNS: Mapping[str, Callable[[Levels], Iterator[dict[str, Scalar]]]] = {
    "grid": _grid,
    "one_factor": _one_factor,
    "leave_one_out": _leave_one_out,
    "add_one_in": _add_one_in,
}


def _baseline_first(spec: SweepSpec, name: str) -> tuple[Scalar, ...]:
    values = spec.factors[name]
    if isinstance(values, RangeSpec):
        message = f"the design {spec.design} needs a list of levels for {name}, not a range"
        raise ValueError(message)  # noqa: TRY004 - the spec is wrong, not a type
    first = spec.baseline.get(name, values[0])
    return (first, *(value for value in values if not _same(value, first)))


def _room(arms: int, seeds: int, budget: int | None) -> tuple[int, bool]:
    """How many trials fit, and whether every arm has the same seeds among them."""
    total = arms * seeds
    if budget is None or budget >= total:
        return total, True
    return (budget // arms * arms, True) if budget >= arms else (budget, False)


def _epochs(config: Config) -> int:
    return int(config.get("epochs", 1))


def _id_stem(workload: Workload, config: Config, text: str) -> str:
    """Write all that a trial's id is made of, except its seed: an unfinished JSON list.

    `text` is the configuration's canonical text: with many arms, writing it is what takes time.
    """
    who = _canonical([workload.name, workload.version])[:-1]
    return f"{who},{text},{_epochs(config)},{_canonical(workload.data_identity(config))}"


def _trial_id(stem: str, seed: int) -> str:
    return _sha(f"{stem},{seed}]")[:ID_DIGITS]


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _same(one: Scalar, other: Scalar) -> bool:
    """Equal as settings: 1 is 1.0, but no number is true or false."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _written(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
