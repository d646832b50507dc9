"""Read YAML or JSON into a plain mapping, safely and without implicit conversions.

YAML follows the 1.2 core rules: `yes`, `no`, `on`, `off` and dates stay text, `1e-3` is a number.
Aliases, tags, duplicate keys, deep nesting and oversized text are refused.
"""

import json
import re
from collections import Counter
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from sickbay.trials.errors import SpecError, SpecProblem, shown

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 12  # a spec needs 3
MAX_NODES = 50_000  # a second of PyYAML
START = 200  # characters of a broken text that tell what it is

_BOOL = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
_INT = re.compile(r"^[-+]?[0-9]+$")
_FLOAT = re.compile(
    r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)


def read_file(path: Path) -> dict[str, Any]:
    """Read a spec file; raises SpecError when it cannot be read or is no mapping."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
            size = max(len(data), path.stat().st_size)
    except OSError as error:
        raise _wrong(f"cannot read {path}: {error.strerror or error}") from None
    if size > MAX_BYTES:
        raise _too_large(size)
    return read_text(data)


def read_text(text: str | bytes) -> dict[str, Any]:
    """Read YAML or JSON text into a mapping; raises SpecError for everything else."""
    data = text.encode(errors="replace") if isinstance(text, str) else text
    if len(data) > MAX_BYTES:
        raise _too_large(len(data))
    try:
        decoded = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _wrong(f"the text is not UTF-8 (byte {error.start})") from None
    value = _parse(decoded)
    refuse_depth(value)
    if not isinstance(value, dict):
        kind = "empty" if value is None else f"a {type(value).__name__}, {shown(value)}"
        raise _wrong(f"a spec is a mapping of keys to values, but this is {kind}")
    return value


def refuse_depth(value: object, depth: int = 1) -> None:
    """Raise SpecError if lists and mappings are nested too deeply to be walked safely."""
    if depth > MAX_DEPTH:
        raise _wrong(f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for part in value:
            refuse_depth(part, depth + 1)


def _parse(text: str) -> Any:
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text, object_pairs_hook=_no_duplicates)
        except json.JSONDecodeError:
            pass  # YAML's flow mappings begin the same way: let YAML judge
        except (RecursionError, ValueError) as error:
            raise _as_problem(error) from None
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader, and stricter
    except yaml.MarkedYAMLError as error:
        raise _wrong(_where(error)) from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise _as_problem(error) from None


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    count = Counter(key for key, _ in pairs)
    if len(count) < len(pairs):
        twice = [key for key, times in count.items() if times > 1]
        raise SpecError(SpecProblem(key, "this key is given twice: keep one") for key in twice)
    return dict(pairs)


class _Loader(yaml.SafeLoader):
    """The safe loader without its surprises."""

    depth = 0
    nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _refusal(
                "anchors and aliases (& and *) are not supported: repeat the value", event
            )
        if (getattr(event, "tag", None) or "!") != "!":
            raise _refusal(f"the tag {event.tag!r} is not supported: write a plain value", event)
        self.depth += 1
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise _refusal(f"more than {MAX_NODES} values: is this the right file?", event)
        if self.depth > MAX_DEPTH:
            raise _refusal(f"nested deeper than {MAX_DEPTH} levels", event)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_decimal(self, node: yaml.ScalarNode) -> int:
        """`010` is ten, not octal."""
        return int(node.value)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 - PyYAML's signature
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value == "<<" or not isinstance(key, yaml.ScalarNode):
                raise _refusal("a key must be a plain word", key)
            if key.value in seen:
                raise _refusal(f"the key {key.value!r} is given twice: keep one", key)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _core_resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    table: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    for tag, pattern, first in (
        ("bool", _BOOL, "tTfF"),
        ("null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
        ("int", _INT, "-+0123456789"),
        ("float", _FLOAT, "-+.0123456789"),
    ):
        for character in first:
            table.setdefault(character, []).append((f"tag:yaml.org,2002:{tag}", pattern))
    return table


_Loader.yaml_implicit_resolvers = _core_resolvers()
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_decimal)


def _refusal(message: str, at: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=message, problem_mark=at.start_mark)


def _where(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    text = (error.problem or error.context or "not valid YAML").replace("'\\t'", "a tab")
    hint = "; indent with spaces" if "a tab" in text else ""
    return f"{place}{text}{hint}"


def _as_problem(error: Exception) -> SpecError:
    if isinstance(error, SpecError):
        return error
    if isinstance(error, RecursionError):
        return _wrong(f"nested deeper than {MAX_DEPTH} levels")
    return _wrong(f"this is neither YAML nor JSON: {str(error).splitlines()[0][:START]}")


def _too_large(size: int) -> SpecError:
    return _wrong(
        f"the spec has {size / MAX_BYTES:.1f} MiB, and at most {MAX_BYTES // 1024**2} MiB is read:"
        " is this the right file?"
    )


def _wrong(message: str) -> SpecError:
    return SpecError([SpecProblem("", message)])
