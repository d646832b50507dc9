"""From a spec to the exact list of trials: pure, in seed blocks, ids by content hash.

The designs, for factors A and B with the levels a0 (baseline), a1, a2 and b0, b1:

    grid           every combination: (a0, b0), (a0, b1), (a1, b0), …
    one_factor     the baseline, and every other level alone: (a1, b0), (a2, b0), (a0, b1)
    leave_one_out  everything on (the *last* level of every factor), and everything but one:
                   (a2, b1), (a0, b1), (a2, b0), besides the baseline
    leave_k_out    the same, with every choice of exactly `k` factors left out
    add_one_in     nothing on (the baseline), one thing on (its last level) at a time, and
                   everything on: (a0, b0), (a2, b0), (a0, b1), (a2, b1)
    fractional     two levels each: a part of all combinations, see `fractional`

A seed block holds every arm once, so a sweep cut short is still a fair comparison. Factors follow
the workload's order, then the alphabet, never the order of the spec's keys.
"""

import hashlib
import itertools
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sickbay.trials.contract import Config, Goal, Objective, Scalar, TrialConfig, Workload
from sickbay.trials.spec.arms import Levels, Space, arm_count, choices, same, space_of
from sickbay.trials.spec.expression import Expression, parse_expression
from sickbay.trials.spec.fractional import Aliasing, aliasing
from sickbay.trials.spec.model import SEARCHES, RangeSpec, SweepSpec

MAX_TRIALS = 1_000_000
ID_DIGITS = 16  # 64 bits: among a million trials a clash has probability 3e-8
BASELINE_ARM = "baseline"


@dataclass(frozen=True)
class Arm:
    """One configuration of a sweep, whatever the seed."""

    name: str
    config: Config
    changed: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """The trials in the order in which they run, and how many were left out.

    `dropped` trials exceed `budget.trials`, which cuts between seed blocks; where not even one
    block fits it cuts inside the first, and `fair` is false. `excluded` counts the configurations
    that each constraint rules out; `aliasing` is that of a fractional design. A search has an empty
    plan.
    """

    trials: tuple[TrialConfig, ...]
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    dropped: int = 0
    fair: bool = True
    excluded: Mapping[str, int] = field(default_factory=dict)
    aliasing: Aliasing | None = None


@dataclass(frozen=True)
class PlanSummary:
    """How many trials a plan has, by arm and by seed."""

    total: int
    per_arm: Mapping[str, int]
    per_seed: Mapping[int, int]
    dropped: int
    fair: bool


def plan(spec: SweepSpec, workload: Workload) -> Plan:
    """List the trials of a sweep, each configuration once, always with the baseline.

    Raises ValueError when the sweep has more than a million trials.
    """
    if spec.design in SEARCHES:
        return Plan((), (), spec.seed_list)
    count = trial_count(spec, workload)
    if count > MAX_TRIALS:
        raise ValueError(
            f"the sweep has {count:,} trials, and at most {MAX_TRIALS:,} can be planned"
        )
    space = space_of(spec, level_table(spec, workload))
    by_text, excluded = _arms(spec, workload, space)
    arms = tuple(by_text.values())
    stems = [_id_stem(workload, arm.config, text) for text, arm in by_text.items()]
    keep, fair = _room(len(arms), len(spec.seed_list), spec.budget.trials)
    pairs = itertools.product(spec.seed_list, zip(arms, stems, strict=True))
    trials = tuple(
        _trial(spec, arm, stem, seed) for seed, (arm, stem) in itertools.islice(pairs, keep)
    )
    seeds = spec.seed_list[: math.ceil(keep / len(arms))]
    aliases = None
    if spec.design == "fractional":
        aliases = aliasing([axis.name for axis in space.axes], space.runs(spec.resolution))
    dropped = len(arms) * len(spec.seed_list) - keep
    return Plan(trials, arms, seeds, dropped, fair, excluded, aliases)


def trials_of(
    spec: SweepSpec, workload: Workload, choice: Config, seeds: Sequence[int] | None = None
) -> tuple[TrialConfig, ...]:
    """Make the trials of one configuration, one per seed (the spec's seeds unless given).

    `choice` gives every factor its level; the baseline is `baseline_choice`.
    """
    baseline = baseline_choice(spec, workload)
    arm, text = _arm(spec, workload, choice, baseline)
    stem = _id_stem(workload, arm.config, text)
    chosen = spec.seed_list if seeds is None else seeds
    return tuple(_trial(spec, arm, stem, seed) for seed in chosen)


def trial_count(spec: SweepSpec, workload: Workload) -> int:
    """Count the trials before any budget without listing them; equal arms count twice."""
    space = space_of(spec, level_table(spec, workload))
    return arm_count(spec.design, space, spec.k, spec.resolution) * len(spec.seed_list)


def level_table(spec: SweepSpec, workload: Workload) -> Levels:
    """Return each factor's levels in the workload's order of factors, its baseline first.

    The baseline is the spec's `baseline[factor]`, else the first level listed.
    """
    return {name: _baseline_first(spec, workload, name) for name in factor_order(spec, workload)}


def baseline_choice(spec: SweepSpec, workload: Workload) -> dict[str, Scalar]:
    """Return every factor's level in the baseline."""
    return {name: values[0] for name, values in level_table(spec, workload).items()}


def factor_order(spec: SweepSpec, workload: Workload) -> list[str]:
    """Order the sweep's factors as the workload does, then others alphabetically."""
    rank = {factor.name: index for index, factor in enumerate(workload.factors)}
    return sorted(spec.factors, key=lambda name: (rank.get(name, len(rank)), name))


def summary(made: Plan) -> PlanSummary:
    """Count a plan's trials by arm and by seed."""
    counts = Counter(arm_name(trial.config, trial.changed) for trial in made.trials)
    return PlanSummary(
        total=len(made.trials),
        per_arm={arm.name: counts[arm.name] for arm in made.arms},
        per_seed=dict(Counter(trial.seed for trial in made.trials)),
        dropped=made.dropped,
        fair=made.fair,
    )


def arm_name(config: Config, changed: tuple[str, ...]) -> str:
    """Name an arm by what it changes: `initialization=preset, loss=uniform`, or `baseline`."""
    changes = (f"{name}={_written(config[name])}" for name in changed)
    return ", ".join(changes) or BASELINE_ARM


def sweep_identity(spec: SweepSpec, workload: Workload) -> str:
    """Name the sweep that a spec belongs to: its name and 6 hex digits.

    The digits cover what makes trials comparable (workload, version, code, fixed settings,
    objective), so more levels, seeds or budget extend the same sweep.
    """
    goal = objective_of(spec, workload)
    fixed = {name: spec.fixed[name] for name in sorted(spec.fixed)}
    what = [spec.name, workload.name, workload.version, fixed, goal.signal, goal.goal.value]
    what += [
        [objective.signal, objective.goal.value] for objective in objectives_of(spec, workload)[1:]
    ]
    what += [f"code {workload.code}"] if workload.code else []
    return f"{spec.name}-{_sha(_canonical(what))[:6]}"


def objective_of(spec: SweepSpec, workload: Workload) -> Objective:
    """Return the spec's objective, or the workload's."""
    if spec.objective is None:
        return workload.objective
    return Objective(spec.objective.signal, Goal(spec.objective.goal))


def objectives_of(spec: SweepSpec, workload: Workload) -> tuple[Objective, ...]:
    """Return all of the spec's objectives, or the workload's one."""
    more = spec.objective.also if spec.objective else ()
    return (
        objective_of(spec, workload),
        *(Objective(objective.signal, Goal(objective.goal)) for objective in more),
    )


def settings_of(spec: SweepSpec, workload: Workload, levels: Config) -> dict[str, Scalar]:
    """Return every setting: defaults, the size's, fixed, then these levels; sorted by name."""
    chosen = {**spec.fixed, **levels}
    size = str(chosen.get("size", workload.defaults.get("size", "")))
    merged = {**workload.defaults, **workload.sizes.get(size, {}), **chosen}
    return {name: merged[name] for name in sorted(merged)}


def expressions(spec: SweepSpec) -> tuple[Expression, ...]:
    """Read the constraints of a spec; raises ExpressionError for one that cannot be read."""
    return tuple(parse_expression(text) for text in spec.constraints)


def _arms(
    spec: SweepSpec, workload: Workload, space: Space
) -> tuple[dict[str, Arm], Mapping[str, int]]:
    """Return the arms by their configuration's canonical text: equal ones are one arm."""
    baseline = space.baseline
    constraints = expressions(spec)
    excluded: Counter[str] = Counter()
    arms: dict[str, Arm] = {}
    for choice in itertools.chain([baseline], choices(spec.design, space, spec.k, spec.resolution)):
        arm, text = _arm(spec, workload, choice, baseline)
        if text in arms:
            continue
        broken = _broken(constraints, arm.config)
        if broken is None:
            arms[text] = arm
        else:
            excluded[broken] += 1
    return arms, dict(excluded)


def _arm(spec: SweepSpec, workload: Workload, choice: Config, baseline: Config) -> tuple[Arm, str]:
    """Make an arm of the factors' levels, and its configuration's canonical text."""
    config = settings_of(spec, workload, choice)
    changed = tuple(name for name in baseline if not same(choice[name], baseline[name]))
    return Arm(arm_name(config, changed), config, changed), _canonical(config)


def _broken(constraints: Iterable[Expression], config: Config) -> str | None:
    """Find the first constraint that a configuration breaks, or that cannot be evaluated."""
    for constraint in constraints:
        if not constraint.allows(config):
            return constraint.text
    return None


def _trial(spec: SweepSpec, arm: Arm, stem: str, seed: int) -> TrialConfig:
    return TrialConfig(
        trial_id=_trial_id(stem, seed),
        workload=spec.workload,
        config=arm.config,
        seed=seed,
        epochs=_epochs(arm.config),
        changed=arm.changed,
    )


def _baseline_first(spec: SweepSpec, workload: Workload, name: str) -> tuple[Scalar, ...]:
    values = spec.factors[name]
    if isinstance(values, RangeSpec):
        return (spec.baseline.get(name, _inside(values, workload, name)),)
    first = spec.baseline.get(name, values[0])
    return (first, *(value for value in values if not same(value, first)))


def _inside(values: RangeSpec, workload: Workload, name: str) -> Scalar:
    """Choose the start of a range: the workload's baseline, else the middle of the range."""
    factor = workload.factor(name)
    own = factor.levels if factor else (workload.defaults[name],)
    numbers = [
        candidate
        for candidate in own
        if isinstance(candidate, int | float) and not isinstance(candidate, bool)
    ]
    for level in numbers[:1]:
        if values.low <= level <= values.high:
            return level
    middle = math.sqrt(values.low * values.high) if values.log else (values.low + values.high) / 2
    return middle if any(isinstance(number, float) for number in numbers) else round(middle)


def _room(arms: int, seeds: int, budget: int | None) -> tuple[int, bool]:
    """How many trials fit, and whether every arm has the same seeds among them."""
    total = arms * seeds
    if budget is None or budget >= total:
        return total, True
    return (budget // arms * arms, True) if budget >= arms else (budget, False)


def _epochs(config: Config) -> int:
    return int(config.get("epochs", 1))


def _id_stem(workload: Workload, config: Config, text: str) -> str:
    """The JSON that a trial's id hashes, up to its seed; `text` is the canonical configuration."""
    code = [workload.code] if workload.code else []
    who = _canonical([workload.name, workload.version, *code])[:-1]
    return f"{who},{text},{_epochs(config)},{_canonical(workload.data_identity(config))}"


def _trial_id(stem: str, seed: int) -> str:
    return _sha(f"{stem},{seed}]")[:ID_DIGITS]


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"))  # one for all: many are written


def _canonical(value: object) -> str:
    return _ENCODER.encode(value)


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _written(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
