"""The shape of a spec: unknown keys, missing keys, values of the wrong type. Needs no workload.

pydantic finds the problems; this module words them and keeps the valid parts, so that the rest of
the spec is still checked.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from sickbay.trials.contract import TRIAL_COLUMNS, Scalar
from sickbay.trials.errors import SpecError, SpecProblem, listed, nearest, shown
from sickbay.trials.spec.command import COMMAND, command_problems
from sickbay.trials.spec.model import (
    DESIGNS,
    LEVELS_OR_RANGE,
    PLANNED,
    SCHEDULERS,
    ConfirmedSeeds,
    ObjectiveSpec,
    RangeSpec,
    SequentialSeeds,
    Source,
    SweepSpec,
)
from sickbay.trials.spec.reader import read_file, read_text, refuse_depth
from sickbay.trials.spec.rules import design_problems

# The other tables' own columns: a factor of the same name would be ambiguous in a join.
OTHER_COLUMNS = (
    "epoch",
    "step",
    "seconds",
    "detector",
    "detector_version",
    "severity",
    "statistic",
    "threshold",
    "confidence",
    "evidence",
    "outcome",  # of the view `outcomes`
)
RESERVED = frozenset({*TRIAL_COLUMNS, *OTHER_COLUMNS})
LEVEL = "a number, a word, true or false"
STAND_INS = {"name": "unnamed", "workload": "unknown"}  # let the rest of a broken spec be checked

Path_ = tuple[int | str, ...]


def parse_spec(source: Source) -> SweepSpec:
    """Read YAML or JSON text, a file, or a mapping; SpecError lists every problem of form."""
    spec, problems = salvage(read_source(source))
    if problems or spec is None:
        raise SpecError(problems)
    return spec


def read_source(source: Source) -> dict[str, Any]:
    """Convert any source to a plain mapping; raises SpecError if that fails."""
    if isinstance(source, Mapping):
        refuse_depth(source)
        raw = copy.deepcopy(dict(source))
    else:
        raw = read_file(source) if isinstance(source, Path) else read_text(source)
    return {"workload": COMMAND, **raw} if "command" in raw else raw


def salvage(raw: Mapping[str, Any]) -> tuple[SweepSpec | None, list[SpecProblem]]:
    """Return every problem of form, and a spec of the valid parts (None if too few).

    A broken name or workload is replaced by a placeholder, any other value by its default.
    """
    problems: list[SpecProblem] = []
    raw = _with_word_keys(raw, "", problems)
    try:
        spec = SweepSpec.model_validate(raw)
    except ValidationError as error:
        details = error.errors(include_url=False)
        problems.extend(_translate(details, raw))
        pruned = _without(raw, [_path(detail, raw) for detail in details])
        try:
            spec = SweepSpec.model_validate(STAND_INS | pruned)
        except ValidationError:
            return None, problems
    return spec, [*problems, *_beyond_types(spec, raw)]


def _with_word_keys(raw: Any, key: str, problems: list[SpecProblem]) -> Any:
    """Drop every key that is not a string (YAML's `1: x`), and report it."""
    if not isinstance(raw, Mapping):
        return raw
    kept = {}
    for name, value in raw.items():
        if isinstance(name, str):
            kept[name] = _with_word_keys(value, f"{key}.{name}".removeprefix("."), problems)
        else:
            message = "a key must be a word: write it in quotes"
            problems.append(SpecProblem(f"{key}[{shown(name)}]", message))
    return kept


def _translate(details: list[ErrorDetails], raw: Mapping[str, Any]) -> list[SpecProblem]:
    by_path: dict[str, SpecProblem] = {}
    for detail in details:
        path = _path(detail, raw)
        by_path.setdefault(_dotted(path), _problem(detail, path))
    return list(by_path.values())


def _problem(detail: ErrorDetails, path: Path_) -> SpecProblem:
    key, word = _dotted(path), path[-1]
    if detail["type"] == "extra_forbidden":
        model = _seeds_model(detail) or _model_at(path[:-1])
        known = model.model_fields if model else {}
        where = f"`{_dotted(path[:-1])}`" if path[:-1] else "a spec"
        return SpecProblem(
            key, f"unknown key. {where} has: {listed(known)}.", meant=nearest(word, known)
        )
    allowed = _allowed(path, _seeds_model(detail))
    if detail["type"] == "missing":
        return SpecProblem(key, f"this key is required: {allowed}.")
    value = detail["input"]
    hint = ""
    if isinstance(value, str) and detail["type"].startswith(("int", "float", "bool", "tuple")):
        hint = " (write it without quotes)" if _is_number(value) or value == "true" else ""
    if path == ("objective",) and value == []:
        hint = " (no objective: leave the key out for the workload's own)"
    if path == ("seeds",) and value in (0, (), []):
        hint = " (at least one seed is needed)"
    meant = nearest(value, ("minimize", "maximize")) if word == "goal" else None
    return SpecProblem(key, f"allowed is {allowed}{hint}.", shown(value), meant)


def _beyond_types(spec: SweepSpec, raw: Mapping[str, Any]) -> list[SpecProblem]:
    """Find problems that involve several values or a table of names."""
    return [
        *_known_word("design", spec.design, DESIGNS),
        *_known_word("early_stop.scheduler", spec.early_stop.scheduler, SCHEDULERS),
        *_factor_problems(spec, raw.get("factors") or {}),
        *_duplicates("seeds", spec.seed_list),
        *design_problems(spec),
        *command_problems(spec),
        *([] if spec.seed_list else [SpecProblem("seeds", "at least one seed is needed", "[]")]),
    ]


def _known_word(key: str, word: str, table: Sequence[str]) -> Iterator[SpecProblem]:
    if word not in table:
        known = f"unknown. Available: {listed(table)}."
        yield SpecProblem(key, known, shown(word), nearest(word, table))


def _factor_problems(spec: SweepSpec, raw: Mapping[str, Any]) -> Iterator[SpecProblem]:
    for name, levels in spec.factors.items():
        key = f"factors.{name}"
        if name.casefold() in RESERVED:
            yield SpecProblem(key, "this is a column of the result tables: rename the factor")
        if name in spec.fixed:
            yield SpecProblem(key, "is in `fixed` too: a setting is either swept or fixed")
        if isinstance(levels, RangeSpec):
            yield from _range_problems(key, levels, spec.design)
        elif not raw[name]:
            yield SpecProblem(key, "has no levels: give at least one", "[]")
        elif isinstance(raw[name], list | tuple):
            yield from _duplicates(key, raw[name])  # the text's own list: its positions are right
    yield from _named_levels(spec)


def _named_levels(spec: SweepSpec) -> Iterator[SpecProblem]:
    for part in ("baseline", "reference"):
        for name in sorted(getattr(spec, part).keys() - spec.factors.keys()):
            message = (
                f"not a factor of this sweep (its factors: {listed(spec.factors)}). Or use `fixed`?"
            )
            yield SpecProblem(f"{part}.{name}", message, meant=nearest(name, spec.factors))
    for name, level in spec.reference.items():
        known = spec.factors.get(name, ())
        if not isinstance(known, RangeSpec) and name in spec.factors and level not in known:
            message = f"not a level of {name} in this sweep (its levels: {listed(known)})"
            yield SpecProblem(f"reference.{name}", message, shown(level))


def _range_problems(key: str, levels: RangeSpec, design: str) -> Iterator[SpecProblem]:
    if levels.low >= levels.high:
        yield SpecProblem(f"{key}.high", "must be above `low`", shown(levels.high))
    if levels.log and levels.low <= 0:
        yield SpecProblem(f"{key}.low", "must be above 0 where `log` is true", shown(levels.low))
    if design in PLANNED:
        yield SpecProblem(key, f"the design {design} needs a list of levels, not a range")


def _duplicates(key: str, values: Sequence[Any]) -> Iterator[SpecProblem]:
    seen: dict[tuple[bool, Scalar], int] = {}
    for index, value in enumerate(values):
        if not isinstance(value, Scalar):
            continue
        first = seen.setdefault((isinstance(value, bool), value), index)
        if first != index:
            yield SpecProblem(
                f"{key}[{index}]", f"is listed twice, first as {key}[{first}]", shown(value)
            )


def _path(detail: ErrorDetails, raw: Any) -> Path_:
    """The path to the bad value in the spec, without pydantic's own tags."""
    path: list[int | str] = []
    value = raw
    for part in detail["loc"]:
        if _holds(value, part):
            value = value[part]
        elif not (detail["type"] == "missing" and part == detail["loc"][-1]):
            continue
        path.append(part)
    return tuple(path)


def _holds(value: Any, part: int | str) -> bool:
    if isinstance(value, list | tuple):
        return isinstance(part, int) and part < len(value)
    return isinstance(value, Mapping) and part in value


def _dotted(path: Path_) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def _model_at(path: Path_) -> type[BaseModel] | None:
    """Find the model that describes the value at a path."""
    if not path:
        return SweepSpec
    if path[0] == "factors":
        return RangeSpec if len(path) == 2 else None
    if path[0] == "objective" and len(path) > 1:
        return ObjectiveSpec
    options = SweepSpec.model_fields[str(path[0])].annotation if len(path) == 1 else None
    models = [options, *getattr(options, "__args__", ())]
    return next((m for m in models if isinstance(m, type) and issubclass(m, BaseModel)), None)


def _seeds_model(detail: ErrorDetails) -> type[BaseModel] | None:
    """The model of `seeds` that an error is about, by the tag that pydantic chose; else None."""
    top, tag = [*detail["loc"], "", ""][:2]
    models: Mapping[str, type[BaseModel]]
    models = {"sequential": SequentialSeeds, "confirmed": ConfirmedSeeds}
    return models.get(str(tag)) if top == "seeds" else None


def _allowed(path: Path_, model: type[BaseModel] | None = None) -> str:
    """What is allowed at a path; `model` has its last key where the path is ambiguous."""
    top = str(path[0])
    if top in {"factors", "baseline", "reference", "fixed"} and len(path) > 1:
        field = RangeSpec.model_fields.get(str(path[2])) if len(path) > 2 else None
        if field is not None:
            return _described(field)
        return LEVELS_OR_RANGE if top == "factors" and len(path) == 2 else LEVEL
    if top == "conditions" and len(path) > 2:
        return LEVEL if len(path) > 3 else "a list of the levels with which it matters"
    model_at = (model or _model_at(path[:-1])) if len(path) > 1 else None
    if model_at is not None and path[-1] in model_at.model_fields:
        return _described(model_at.model_fields[str(path[-1])])
    return _described(SweepSpec.model_fields[top])


def _described(field: FieldInfo) -> str:
    """The docstring of a field, on one line."""
    return " ".join(str(field.description).split())


def _without(raw: Mapping[str, Any], paths: list[Path_]) -> dict[str, Any]:
    """Drop what is invalid, and as little else as possible: a factor keeps its valid levels."""
    pruned = {key: value for key, value in raw.items() if key in SweepSpec.model_fields}
    pruned = copy.deepcopy(pruned)
    for path in sorted(paths, key=_dotted, reverse=True):
        parent = pruned.get(str(path[0]))
        if len(path) == 1 or path[0] in ("objective", "seeds") or not isinstance(parent, dict):
            pruned.pop(str(path[0]), None)
        elif path[0] == "factors" and isinstance(path[1], str):
            bad = {levels[2] for levels in paths if levels[:2] == path[:2] and len(levels) > 2}
            levels = raw["factors"][path[1]]
            good = levels if isinstance(levels, list) else []
            parent[path[1]] = [level for index, level in enumerate(good) if index not in bad]
        else:
            parent.pop(path[1], None)
    return pruned


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
