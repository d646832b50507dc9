"""Check a spec against its workload: its factors, and their allowed levels.

A declared factor takes its declared levels, and any number in its range. Any other setting may be
swept or fixed to values of its default's type. Numbers written as text ("1e-3"), or whole numbers
for a fractional setting, are converted.
"""

from collections.abc import Callable, Iterator, Mapping

from sickbay.trials.contract import Factor, Scalar, Workload
from sickbay.trials.errors import SpecError, SpecProblem, listed, nearest, shown
from sickbay.trials.spec.command import command_workload
from sickbay.trials.spec.model import SEARCHES, RangeSpec, Source, SweepSpec
from sickbay.trials.spec.plan import MAX_TRIALS, trial_count
from sickbay.trials.spec.rules import fitted_conditions, space_problems, unknown_names
from sickbay.trials.spec.shape import RESERVED, read_source, salvage

Findings = list[SpecProblem]

# What a plan is made of: where one of these is broken, nothing can be planned to look further.
_SHAPING = {"design", "factors", "baseline", "fixed", "zip", "constraints", "conditions", "k"}
_SHAPING |= {"resolution", "seeds"}


def load_spec(
    source: Source, find_workload: Callable[[str], Workload]
) -> tuple[SweepSpec, Workload]:
    """Read a spec and check it against its workload; raises SpecError with *every* problem.

    A ValueError of `find_workload` (`registry.workload`) becomes a problem of the key `workload`.
    """
    raw = read_source(source)
    spec, problems = salvage(raw)
    workload = None
    if spec is not None and spec.command is not None:
        workload = command_workload(spec)
    elif spec is not None and raw.get("command") is None and _named(raw):
        try:
            workload = find_workload(spec.workload)
        except ValueError as error:
            problems.append(SpecProblem("workload", str(error), shown(spec.workload)))
    if spec is not None and workload is not None:
        shaping = {problem.key.partition(".")[0].partition("[")[0] for problem in problems}
        spec, more = _compare(spec, workload, sound=not shaping & _SHAPING)
        problems.extend(more)
    if problems or spec is None or workload is None:
        raise SpecError(problems)
    return spec, workload


def _named(raw: Mapping[str, object]) -> bool:
    return isinstance(raw.get("workload"), str) and raw["workload"] != ""


def check_spec(spec: SweepSpec, workload: Workload) -> SweepSpec:
    """Return the spec with every number in its setting's type; SpecError lists every problem."""
    checked, problems = _compare(spec, workload, sound=True)
    if problems:
        raise SpecError(problems)
    return checked


def _compare(spec: SweepSpec, workload: Workload, *, sound: bool) -> tuple[SweepSpec, Findings]:
    problems: Findings = []
    factors = {
        name: levels
        if isinstance(levels, RangeSpec)
        else _fitted_levels(name, levels, workload, problems)
        for name, levels in spec.factors.items()
    }
    for name, levels in spec.factors.items():
        if isinstance(levels, RangeSpec):
            problems.extend(_range(name, levels, workload))
    checked = spec.model_copy(
        update={
            "factors": factors,
            "baseline": _fitted_map("baseline", spec.baseline, workload, problems),
            "reference": _fitted_map("reference", spec.reference, workload, problems),
            "fixed": _fitted_map("fixed", spec.fixed, workload, problems),
            "enqueue": tuple(
                _fitted_map(f"enqueue[{place}]", point, workload, problems)
                for place, point in enumerate(spec.enqueue)
            ),
            "conditions": fitted_conditions(spec, factors),
        }
    )
    problems.extend(unknown_names(checked, _settings(workload)))
    if sound and not problems:
        problems.extend(_too_many(checked, workload))
    if sound and not problems:
        problems.extend(space_problems(checked, workload))
    return checked, problems


def _fitted_levels(
    name: str, levels: tuple[Scalar, ...], workload: Workload, problems: Findings
) -> tuple[Scalar, ...]:
    key = f"factors.{name}"
    if name not in _settings(workload):
        if name.casefold() not in RESERVED:  # that has been reported by its shape
            problems.append(_unknown(key, name, "factor", workload))
        return levels
    fitted = [_fit(f"{key}[{i}]", name, v, workload, problems) for i, v in enumerate(levels)]
    places: dict[Scalar, int] = {}
    for index, level in enumerate(fitted):
        first = places.setdefault(level, index)
        if first != index and levels[first] != levels[index]:  # equal only once both are numbers
            twice = f"is listed twice, first as {key}[{first}]"
            problems.append(SpecProblem(f"{key}[{index}]", twice, shown(levels[index])))
    return tuple(fitted)


def _fitted_map(
    part: str, values: Mapping[str, Scalar], workload: Workload, problems: Findings
) -> dict[str, Scalar]:
    fitted = dict(values)
    for name, value in values.items():
        key = f"{part}.{name}"
        if name in _settings(workload):
            fitted[name] = _fit(key, name, value, workload, problems)
        elif part == "fixed":  # a baseline of no factor has been reported by its shape
            problems.append(_unknown(key, name, "setting", workload))
    return fitted


def _fit(key: str, name: str, value: Scalar, workload: Workload, problems: Findings) -> Scalar:
    """Return the value in its setting's type; adds a problem if it is not allowed."""
    factor = workload.factor(name)
    samples = factor.levels if factor else (workload.defaults[name],)
    typed = _typed(value, samples)
    wrong = _wrong_level(typed, factor) if factor else _wrong_setting(name, typed, workload)
    if wrong:
        allowed = factor.levels if factor else workload.sizes if name == "size" else ()
        meant = nearest(value, allowed) if isinstance(value, str) else None
        problems.append(SpecProblem(key, wrong, shown(value), meant))
        return value
    return typed


def _typed(value: Scalar, samples: tuple[Scalar, ...]) -> Scalar:
    """Convert a number to the setting's type; anything else is returned unchanged."""
    if value in samples and type(value) in map(type, samples):
        return value
    numbers = [s for s in samples if isinstance(s, int | float) and not isinstance(s, bool)]
    if not numbers or isinstance(value, bool):
        return value
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return value
    if any(isinstance(sample, float) for sample in numbers):
        return number
    return int(number) if number.is_integer() else value


def _wrong_level(value: Scalar, factor: Factor) -> str:
    """Why a factor may not take a level; empty if it may."""
    known = any(value == level and type(value) is type(level) for level in factor.levels)
    if known:
        return ""
    levels = f"one of {listed(shown(level) for level in factor.levels)}"
    ranged = factor.low is not None or factor.high is not None
    if not ranged:
        return f"not a level of {factor.name}. Allowed are {levels}."
    low = -float("inf") if factor.low is None else factor.low
    high = float("inf") if factor.high is None else factor.high
    if isinstance(value, bool | str):
        return f"not a number. Allowed are {levels}, or a number from {low} to {high}."
    if isinstance(value, float) and not any(isinstance(level, float) for level in factor.levels):
        return f"not a whole number. Allowed are {levels}, or a whole number from {low} to {high}."
    inside = low <= value <= high
    return "" if inside else f"outside the range {low} to {high} of {factor.name} (or {levels})."


def _wrong_setting(name: str, value: Scalar, workload: Workload) -> str:
    """Why a setting that is not a factor may not take a value; empty if it may."""
    default = workload.defaults[name]
    if type(value) is not type(default):
        return f"allowed is {_KINDS[type(default)]}, like the default {shown(default)}."
    if name == "epochs" and isinstance(value, int) and value < 1:
        return "allowed is a whole number of at least 1."
    sizes = dict.fromkeys([str(default), *workload.sizes])
    if name == "size" and workload.sizes and value not in sizes:
        return f"not a size of {workload.name}. Allowed is one of {listed(sizes)}."
    return ""


_KINDS: Mapping[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a word",
}


def _range(name: str, levels: RangeSpec, workload: Workload) -> Iterator[SpecProblem]:
    key = f"factors.{name}"
    factor = workload.factor(name)
    if name not in _settings(workload):
        yield _unknown(key, name, "factor", workload)
    elif factor is None or factor.low is None or factor.high is None:
        yield SpecProblem(key, f"{name} has no range in {workload.name}: give a list of levels")
    elif levels.low < factor.low or levels.high > factor.high:
        inside = f"reaches outside the range {factor.low} to {factor.high} of {name}"
        yield SpecProblem(key, inside, f"{levels.low} to {levels.high}")


def _too_many(spec: SweepSpec, workload: Workload) -> Iterator[SpecProblem]:
    if spec.design in SEARCHES:
        return
    count = trial_count(spec, workload)
    if count > MAX_TRIALS:
        message = f"makes {count:,} trials, but at most {MAX_TRIALS:,} can be planned"
        yield SpecProblem("design", message, shown(spec.design))


def _settings(workload: Workload) -> dict[str, None]:
    """Every name that may be swept or fixed, the factors first."""
    return dict.fromkeys([*(factor.name for factor in workload.factors), *workload.defaults])


def _unknown(key: str, name: str, kind: str, workload: Workload) -> SpecProblem:
    known = _settings(workload)
    message = f"unknown {kind}. {workload.name} has: {listed(known)}."
    return SpecProblem(key, message, meant=nearest(name, known))
