"""Consistency rules between the keys of a spec.

`design_problems` needs no workload; `unknown_names` and `space_problems` do, the last also a spec
that is otherwise valid.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from sickbay.trials.contract import Scalar, Workload
from sickbay.trials.errors import SpecProblem, listed, nearest, shown
from sickbay.trials.spec.arms import same, zipped_rows
from sickbay.trials.spec.expression import Expression, ExpressionError, parse_expression
from sickbay.trials.spec.fractional import MOST_FACTORS
from sickbay.trials.spec.model import (
    SEARCHES,
    ConfirmedSeeds,
    RangeSpec,
    SequentialSeeds,
    SweepSpec,
)
from sickbay.trials.spec.plan import baseline_choice, expressions, level_table, settings_of

CONFIRMABLE = ("random", "tpe", "gp", "cmaes")
OF_SEVERAL_OBJECTIVES = ("random", "tpe", "gp", "nsga2")
RANGES_ONLY = ("cmaes", "boundary")
MOST_POINTS, MOST_TRIED = 4096, 20_000  # of ranges, and at all, where the baseline breaks a rule
MOST_RANGES = 4  # of a boundary search: a frontier in more dimensions takes too many trials

Levels = tuple[Scalar, ...] | RangeSpec
Problems = Iterator[SpecProblem]


def design_problems(spec: SweepSpec) -> Problems:
    """Find inconsistent keys, independent of the workload."""
    yield from _zip_problems(spec)
    yield from _condition_problems(spec)
    yield from _constraint_problems(spec)
    yield from _objective_problems(spec)
    yield from _seed_problems(spec)
    yield from _enqueue_problems(spec)
    yield from _resource_problems(spec)
    if spec.warm_start and spec.design not in SEARCHES:
        message = f"is for the searches {listed(SEARCHES)}: {spec.design} learns from no trial"
        yield SpecProblem("warm_start", message, shown(list(spec.warm_start)))
    if spec.design in SEARCHES:
        yield from _search_problems(spec)
    elif spec.design == "leave_k_out":
        yield from _leave_problems(spec)
    elif spec.design == "fractional":
        yield from _fractional_problems(spec)


def unknown_names(spec: SweepSpec, settings: Iterable[str]) -> Problems:
    """Find constraints that name something other than a setting of the workload."""
    known = list(settings)
    for index, text in enumerate(spec.constraints):
        expression = _parsed(text)
        for name in expression.names if expression else ():
            if name not in known:
                quoted = any(
                    name == level
                    for levels in spec.factors.values()
                    if not isinstance(levels, RangeSpec)
                    for level in levels
                )
                hint = (
                    f'Write words in quotes: "{name}".'
                    if quoted
                    else f"There are: {listed(known)}."
                )
                message = f"{name!r} is not a setting of this workload. {hint}"
                meant = None if quoted else nearest(name, known)
                yield SpecProblem(f"constraints[{index}]", message, shown(text), meant)
                break


def space_problems(spec: SweepSpec, workload: Workload) -> Problems:
    """Find constraints that the baseline breaks, or that cannot be evaluated for a level."""
    baseline = baseline_choice(spec, workload)
    levels = level_table(spec, workload)
    for index, expression in enumerate(expressions(spec)):
        key = f"constraints[{index}]"
        start = settings_of(spec, workload, baseline)
        try:
            holds = expression.holds(start)
            for name, values in levels.items():
                for value in values[1:]:
                    expression.holds(settings_of(spec, workload, {**baseline, name: value}))
        except ExpressionError as error:
            yield SpecProblem(key, str(error), shown(expression.text))
            continue
        if not holds:
            message = _broken_by_baseline(spec, workload, expression)
            yield SpecProblem(key, message, shown(expression.text))


def _broken_by_baseline(spec: SweepSpec, workload: Workload, rule: Expression) -> str:
    """Say that the baseline breaks a constraint, and what meets it, or that nothing does."""
    baseline = baseline_choice(spec, workload)
    start = settings_of(spec, workload, baseline)
    factors = [name for name in rule.names if name in spec.factors]
    if not factors:
        fixed = ", ".join(f"{name}={start[name]!r}" for name in rule.names)
        return f"no trial can meet it, as it names no factor of this sweep ({fixed})"
    points = max(2, round(MOST_POINTS ** (1 / len(factors))))
    values = [_points(spec.factors[name], points, workload.defaults[name]) for name in factors]
    product = itertools.islice(itertools.product(*values), MOST_TRIED)
    tried = [dict(zip(factors, point, strict=True)) for point in product]
    meeting = (p for p in tried if rule.allows(settings_of(spec, workload, {**baseline, **p})))
    example = next(meeting, None)
    if example is not None:
        broken = ", ".join(f"{name}={start[name]!r}" for name in rule.names)
        such = ", ".join(f"{name}: {level!r}" for name, level in example.items())
        return (
            f"the baseline breaks it ({broken}), but every comparison is with the baseline: name "
            f"another in `baseline`, such as {{{such}}}, or change the condition"
        )
    spaces = ", ".join(f"{name} {_space_of(spec.factors[name])}" for name in factors)
    return (
        f"nothing in the sweep meets it: of {spaces}, {len(tried):,} combinations were tried, the "
        "ends of ranges included. Change the factors or the condition"
    )


def _points(levels: Levels, count: int, default: Scalar) -> list[Scalar]:
    """The levels of a factor; of a range so many evenly spaced points, its ends included."""
    if not isinstance(levels, RangeSpec):
        return list(levels)
    shares = [place / (count - 1) for place in range(count)]
    low, high = levels.low, levels.high
    points = [
        low * (high / low) ** share if levels.log else low + share * (high - low)
        for share in shares[1:-1]
    ]
    whole = isinstance(default, int)
    return list(dict.fromkeys(round(p) if whole else p for p in (low, *points, high)))


def _space_of(levels: Levels) -> str:
    if isinstance(levels, RangeSpec):
        return f"from {levels.low:g} to {levels.high:g}"
    return f"in [{', '.join(map(shown, levels))}]"


def fitted_conditions(
    spec: SweepSpec, factors: Mapping[str, Levels]
) -> dict[str, dict[str, tuple[Scalar, ...]]]:
    """Convert the levels in conditions to the types of the factors' own levels."""
    fitted = {}
    for name, needs in spec.conditions.items():
        fitted[name] = {
            parent: tuple(_as_listed(level, factors.get(parent, ())) for level in wanted)
            for parent, wanted in needs.items()
        }
    return fitted


def _as_listed(level: Scalar, levels: Levels) -> Scalar:
    if isinstance(levels, RangeSpec):
        return level
    return next(
        (known for known in levels if str(known) == str(level) or same(known, level)), level
    )


def _zip_problems(spec: SweepSpec) -> Problems:
    used = Counter(name for group in spec.zip for name in group)
    for index, group in enumerate(spec.zip):
        key = f"zip[{index}]"
        value = shown(list(group))
        unknown = [name for name in group if name not in spec.factors]
        listing = [spec.factors[name] for name in group if name in spec.factors]
        sizes = {name: _size(spec.factors[name]) for name in group if name in spec.factors}
        if spec.design in SEARCHES:
            message = f"is for designs that list their trials, and {spec.design} draws them"
            yield SpecProblem(key, message, value)
        elif unknown:
            message = (
                f"{unknown[0]!r} is not a factor of this sweep. Its factors: {listed(spec.factors)}"
            )
            yield SpecProblem(key, message, value, nearest(unknown[0], spec.factors))
        elif len(group) < 2:
            yield SpecProblem(key, "a group needs at least two factors", value)
        elif twice := [name for name in group if used[name] > 1]:
            yield SpecProblem(key, f"{twice[0]!r} is in `zip` twice: use it once", value)
        elif any(isinstance(levels, RangeSpec) or not levels for levels in listing):
            continue  # has been reported of the factor itself
        elif len(set(sizes.values())) > 1:
            message = f"its factors must have equally many levels, and have {listed_sizes(sizes)}"
            yield SpecProblem(key, message, value)
        elif not _baseline_row(spec, group):
            message = "no row of the group has the levels in `baseline`"
            yield SpecProblem(key, message, value)
        elif inner := [name for name in group if name in spec.conditions]:
            message = f"{inner[0]!r} has a condition, and so cannot change together with others"
            yield SpecProblem(key, message, value)


def listed_sizes(sizes: Mapping[str, int]) -> str:
    """Format counts of levels: `lr 3, init 2`."""
    return ", ".join(f"{name} {count}" for name, count in sizes.items())


def _baseline_row(spec: SweepSpec, group: tuple[str, ...]) -> bool:
    rows = zipped_rows(spec, group)
    wanted = {name: spec.baseline.get(name, rows[0][name]) for name in group}
    # as text too: "0.1" and 0.1 become equal once the workload is known
    return any(all(str(row[name]) == str(wanted[name]) for name in group) for row in rows)


def _condition_problems(spec: SweepSpec) -> Problems:
    for name, needs in spec.conditions.items():
        key = f"conditions.{name}"
        if name not in spec.factors:
            message = f"not a factor of this sweep. Its factors: {listed(spec.factors)}"
            yield SpecProblem(key, message, meant=nearest(name, spec.factors))
            continue
        if not needs:
            yield SpecProblem(key, "names no other factor: write {other: [levels]}", "{}")
        for parent, wanted in needs.items():
            yield from _need_problems(spec, f"{key}.{parent}", parent, wanted)
        if _hangs_on_itself(spec, name):
            yield SpecProblem(key, "depends on itself through its conditions: break the cycle")


def _need_problems(spec: SweepSpec, key: str, parent: str, wanted: tuple[Scalar, ...]) -> Problems:
    if parent not in spec.factors:
        message = f"not a factor of this sweep. Its factors: {listed(spec.factors)}"
        yield SpecProblem(key, message, meant=nearest(parent, spec.factors))
        return
    levels = spec.factors[parent]
    if isinstance(levels, RangeSpec):
        message = "is a range; a condition needs a factor with a list of levels: use `constraints`"
        yield SpecProblem(key, message)
        return
    if not wanted:
        yield SpecProblem(key, "lists no level, so the condition never holds: give one", "[]")
    for index, level in enumerate(wanted):
        if not any(str(level) == str(known) or same(level, known) for known in levels):
            message = f"not a level of {parent} in this sweep: {listed(map(shown, levels))}"
            meant = nearest(level, levels) if isinstance(level, str) else None
            yield SpecProblem(f"{key}[{index}]", message, shown(level), meant)


def _hangs_on_itself(spec: SweepSpec, name: str) -> bool:
    seen: set[str] = set()
    open_ends = list(spec.conditions[name])
    while open_ends:
        parent = open_ends.pop()
        if parent not in seen:
            seen.add(parent)
            open_ends.extend(spec.conditions.get(parent, ()))
    return name in seen


def _constraint_problems(spec: SweepSpec) -> Problems:
    for index, text in enumerate(spec.constraints):
        try:
            expression = parse_expression(text)
        except ExpressionError as error:
            yield SpecProblem(f"constraints[{index}]", str(error), shown(text))
            continue
        if not expression.names:
            message = "names no setting, so it says nothing about a trial"
            yield SpecProblem(f"constraints[{index}]", message, shown(text))


def _parsed(text: str) -> Expression | None:
    try:
        return parse_expression(text)
    except ExpressionError:
        return None  # has been reported by its shape


def _objective_problems(spec: SweepSpec) -> Problems:
    if spec.objective is None or not spec.objective.also:
        return
    signals = [spec.objective.signal, *(objective.signal for objective in spec.objective.also)]
    if spec.design not in OF_SEVERAL_OBJECTIVES:
        message = f"several objectives are for the searches {', '.join(OF_SEVERAL_OBJECTIVES)}"
        yield SpecProblem("objective", message, shown(signals))
    elif len(set(signals)) < len(signals):
        yield SpecProblem("objective", "names the same signal twice", shown(signals))
    elif any(objective.also for objective in spec.objective.also):
        yield SpecProblem("objective", "a list of objectives holds no lists", shown(signals))
    elif spec.early_stop.scheduler != "none":
        message = "a scheduler compares trials by one objective: give one, or `scheduler: none`"
        yield SpecProblem("early_stop.scheduler", message, shown(spec.early_stop.scheduler))


def _seed_problems(spec: SweepSpec) -> Problems:
    sequential = isinstance(spec.seeds, SequentialSeeds)
    if sequential and spec.design in (*SEARCHES, "fractional"):
        message = (
            "{until: resolved} settles arm after arm, which a search or a fraction has none of: "
            "use grid, one_factor, leave_one_out, leave_k_out or add_one_in"
        )
        yield SpecProblem("seeds.until", message, shown("resolved"))
    elif sequential and spec.early_stop.scheduler != "none":
        message = "a sequential sweep compares trials that came to their end: `scheduler: none`"
        yield SpecProblem("early_stop.scheduler", message, shown(spec.early_stop.scheduler))
    elif sequential and spec.reference:
        message = "a sequential sweep compares with the baseline: name it in `baseline` instead"
        yield SpecProblem("reference", message, shown(dict(spec.reference)))
    elif sequential and spec.smallest_effect is not None:
        message = "a sequential sweep has it among its seeds: seeds.smallest_effect"
        yield SpecProblem("smallest_effect", message, shown(spec.smallest_effect))
    elif sequential and spec.budget.trials is not None:
        message = "seeds.at_most limits a sequential sweep: leave out one of the two"
        yield SpecProblem("budget.trials", message, shown(spec.budget.trials))
    elif isinstance(spec.seeds, ConfirmedSeeds) and spec.design not in CONFIRMABLE:
        message = (
            "{search, confirm, top} confirms the best of a search: for other designs give the "
            f"number of seeds. Searches that have a best: {listed(CONFIRMABLE)}"
        )
        yield SpecProblem("seeds.confirm", message, shown(spec.seeds.confirm))
    elif isinstance(spec.seeds, ConfirmedSeeds) and spec.objective and spec.objective.also:
        message = "several objectives have no order to take the best from: give one objective"
        yield SpecProblem("seeds.confirm", message, shown(spec.seeds.confirm))


def _enqueue_problems(spec: SweepSpec) -> Problems:
    if spec.enqueue and spec.design not in SEARCHES:
        message = f"is for the searches {listed(SEARCHES)}: {spec.design} lists its configurations"
        yield SpecProblem(
            "enqueue", message, shown([dict(configuration) for configuration in spec.enqueue])
        )
        return
    for place, point in enumerate(spec.enqueue):
        for name, level in point.items():
            key = f"enqueue[{place}].{name}"
            levels = spec.factors.get(name)
            if levels is None:
                message = f"not a factor of this sweep. Its factors: {listed(spec.factors)}"
                yield SpecProblem(key, message, meant=nearest(name, spec.factors))
            elif isinstance(levels, RangeSpec):
                if not isinstance(level, int | float) or not levels.low <= level <= levels.high:
                    message = f"outside the range {levels.low:g} to {levels.high:g} of the search"
                    yield SpecProblem(key, message, shown(level))
            elif not any(str(level) == str(known) or same(level, known) for known in levels):
                message = f"not a level of {name} in this sweep: {listed(map(shown, levels))}"
                yield SpecProblem(key, message, shown(level))


def _resource_problems(spec: SweepSpec) -> Problems:
    if spec.resources.gpu == "pack" and spec.resources.gpu_memory is not None:
        yield SpecProblem(
            "resources.gpu_memory",
            "cannot be set beside `gpu: pack`, which measures the memory that a trial needs; "
            "leave one of the two out",
        )


def _search_problems(spec: SweepSpec) -> Problems:
    if not spec.factors:
        yield SpecProblem("factors", f"{spec.design} needs a factor to search over", "{}")
    if spec.budget.trials is None:
        message = (
            f"{spec.design} needs to know when to end: give the number of trials in all, "
            f"{len(spec.seed_list)} (one a seed) for every configuration that is tried"
        )
        yield SpecProblem("budget.trials", message, "null")
    elif isinstance(spec.seeds, ConfirmedSeeds) and spec.budget.trials < _fewest(spec.seeds):
        message = (
            f"too few: {spec.seeds.most_trials} trials confirm the best {spec.seeds.top} and the "
            f"baseline, and the search needs {spec.seeds.search} for each of at least "
            f"{spec.seeds.top + 1} configurations: give {_fewest(spec.seeds)} or more"
        )
        yield SpecProblem("budget.trials", message, shown(spec.budget.trials))
    elif spec.budget.trials < len(spec.seed_list):
        message = f"not even one configuration with its {len(spec.seed_list)} seeds: give more"
        yield SpecProblem("budget.trials", message, shown(spec.budget.trials))
    yield from _start_problems(spec)
    lists = [name for name, levels in spec.factors.items() if not isinstance(levels, RangeSpec)]
    for name in lists if spec.design in RANGES_ONLY else ():
        message = (
            f"{spec.design} searches over ranges {{low, high, log}} only: give a range, put one "
            "level into `fixed`, or use tpe"
        )
        yield SpecProblem(f"factors.{name}", message, shown(spec.factors[name]))
    if spec.design == "boundary":
        yield from _boundary_problems(spec)


def _fewest(seeds: ConfirmedSeeds) -> int:
    return seeds.most_trials + seeds.search * (seeds.top + 1)


def _start_problems(spec: SweepSpec) -> Problems:
    for name, levels in spec.factors.items():
        start = spec.baseline.get(name)
        if not isinstance(levels, RangeSpec) or not isinstance(start, int | float):
            continue
        if not levels.low <= start <= levels.high:
            message = f"lies outside the range {levels.low:g} to {levels.high:g} of the search"
            yield SpecProblem(f"baseline.{name}", message, shown(start))


def _boundary_problems(spec: SweepSpec) -> Problems:
    lists = any(not isinstance(levels, RangeSpec) for levels in spec.factors.values())
    if not lists and len(spec.factors) > MOST_RANGES:
        message = f"boundary takes 1 to {MOST_RANGES} ranges, not {len(spec.factors)}"
        yield SpecProblem("factors", message, shown(list(spec.factors)))
    if spec.early_stop.scheduler != "none":
        message = (
            "boundary needs a label for every trial; a scheduler stops some before they have one"
        )
        yield SpecProblem("early_stop.scheduler", message, shown(spec.early_stop.scheduler))


def _axes(spec: SweepSpec) -> int:
    return len(spec.factors) - sum(len(group) - 1 for group in spec.zip)


def _leave_problems(spec: SweepSpec) -> Problems:
    count = _axes(spec)
    if spec.k > count:
        message = f"leaves out more than the {count} factors (or groups) of this sweep"
        yield SpecProblem("k", message, shown(spec.k))


def _fractional_problems(spec: SweepSpec) -> Problems:
    for name, levels in spec.factors.items():
        if not isinstance(levels, RangeSpec) and levels and _size(levels) != 2:
            message = f"fractional needs two levels of every factor, and this has {_size(levels)}"
            yield SpecProblem(f"factors.{name}", message)
    if _axes(spec) > MOST_FACTORS:
        message = f"fractional takes at most {MOST_FACTORS} factors (or groups)"
        yield SpecProblem("factors", message, shown(_axes(spec)))
    for key, given in (("constraints", spec.constraints), ("conditions", spec.conditions)):
        if given:
            message = "would take runs out of the fraction, and its balance with them: use grid"
            yield SpecProblem(key, message)


def _size(levels: Levels) -> int:
    return 0 if isinstance(levels, RangeSpec) else len(levels)
