"""Workloads and detectors by name, from the entry points of every installed package.

Loading is lazy: a listing imports no plugin, so it imports no torch either. A broken plugin is
listed with its error and does not affect the others. A workload may also be named as
"module:ATTRIBUTE".
"""

import contextlib
import functools
import importlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import NoReturn, cast

from sickbay.trials.contract import Workload
from sickbay.trials.detector import Detector, as_detector
from sickbay.trials.errors import ends_worker, listed, nearest, parse_python
from sickbay.trials.source import function_code, locate, module_code

WORKLOADS = "sickbay.workloads"
DETECTORS = "sickbay.detectors"


class RegistryError(ValueError):
    """A name that refers to no workload or detector; the message says what to do."""


@dataclass(frozen=True)
class Entry:
    """One registered name: its target "module:ATTRIBUTE", who installed it, what is wrong."""

    name: str
    target: str
    package: str
    error: str | None = None


def workload(name: str) -> Workload:
    """Load a workload by its registered name, or by "module:ATTRIBUTE"; its `code` is set.

    Raises RegistryError if there is none, if two packages offer it, or if it cannot be loaded.
    """
    if ":" in name:
        return _as_workload(name, name)
    entry = _find(WORKLOADS, name, "workload")
    loaded = _as_workload(name, entry.target)
    if loaded.name != name:
        raise RegistryError(
            f"{entry.package} registers {entry.target} as {name!r}, but the workload calls itself "
            f"{loaded.name!r}: give both one name"
        )
    return loaded


def detector(name: str) -> Detector:
    """Load a detector by its registered name; raises RegistryError as `workload` does."""
    entry = _find(DETECTORS, name, "detector")
    try:
        loaded = as_detector(name, _load(name, entry.target))  # type: ignore[arg-type]
    except ValueError as error:
        raise RegistryError(str(error)) from error
    if loaded.name != name:
        raise RegistryError(
            f"{entry.package} registers {entry.target} as {name!r}, but the detector calls itself "
            f"{loaded.name!r}: give both one name"
        )
    return loaded


def workload_entries(*, load: bool = False) -> tuple[Entry, ...]:
    """List every registered workload, sorted by name, each broken one with its error.

    Without `load` nothing is imported: then only what can be seen from outside is an error (a name
    that stands twice, a module that does not exist or does not parse).
    """
    return tuple(_with_errors(WORKLOADS, load=load))


def detector_entries(*, load: bool = False) -> tuple[Entry, ...]:
    """List every registered detector as `workload_entries` does."""
    return tuple(_with_errors(DETECTORS, load=load))


def all_detectors() -> tuple[Detector, ...]:
    """Load every detector that works, sorted by name; the broken ones are in `detector_entries`."""
    return tuple(_working_detectors())


def _working_detectors() -> Iterator[Detector]:
    for entry in _with_errors(DETECTORS, load=True):
        if entry.error is None:
            yield detector(entry.name)


def _with_errors(group: str, *, load: bool) -> Iterator[Entry]:
    entries = _entries(group)
    for entry in entries:
        others = [other.package for other in entries if other.name == entry.name]
        error = _twice(entry.name, others) if len(others) > 1 else _seen_from_outside(entry.target)
        if error is None and load:
            error = _load_error(group, entry.name)
        yield replace(entry, error=error)


def _load_error(group: str, name: str) -> str | None:
    try:
        if group == WORKLOADS:
            workload(name)
        else:
            detector(name)
    except RegistryError as error:
        return str(error)
    return None


def _find(group: str, name: str, kind: str) -> Entry:
    entries = _entries(group)
    matches = [entry for entry in entries if entry.name == name]
    if len(matches) > 1:
        raise RegistryError(_twice(name, [entry.package for entry in matches]))
    if not matches:
        names = [entry.name for entry in entries]
        close = nearest(name, names)
        hint = f" Did you mean {close!r}?" if close else ""
        door = ' (or name it as "module:ATTRIBUTE")' if kind == "workload" else ""
        raise RegistryError(f"no {kind} {name!r}.{hint} Installed: {listed(names)}{door}.")
    return matches[0]


def _twice(name: str, packages: list[str]) -> str:
    return f"{name!r} is registered by {' and by '.join(packages)}: uninstall one of them"


def _entries(group: str) -> tuple[Entry, ...]:
    return _entries_on(group, tuple(sys.path))


@functools.lru_cache(maxsize=8)
def _entries_on(group: str, path: tuple[str, ...]) -> tuple[Entry, ...]:
    """Read the entry points of the packages on `path`, which is `sys.path`; reads many files."""
    del path  # the key of the memory: another path, other packages
    points = entry_points(group=group)
    entries = {
        Entry(point.name, point.value, point.dist.name if point.dist else "an unnamed package")
        for point in points
    }
    return tuple(sorted(entries, key=lambda entry: (entry.name, entry.package)))


def _seen_from_outside(target: str) -> str | None:
    """Say what is wrong with "module:ATTRIBUTE" as far as can be seen without running it."""
    module, _, attribute = target.partition(":")
    if not module or not attribute:
        return f'{target!r} is not of the form "module:ATTRIBUTE"'
    spec = locate(module)
    if spec is None:
        return f"there is no module {module!r}"
    if spec.origin is None or not spec.origin.endswith(".py"):
        return None
    try:
        parse_python(Path(spec.origin).read_bytes())
    except (OSError, SyntaxError, ValueError) as error:
        return f"{module} cannot be read: {error}"
    return None


def _load(name: str, target: str) -> object:
    module, _, attribute = target.partition(":")
    if not module or not attribute:
        raise RegistryError(f'{target!r} is not of the form "module:ATTRIBUTE"')
    try:
        with _exit_raises():
            loaded = functools.reduce(
                getattr, attribute.split("."), importlib.import_module(module)
            )
    except ModuleNotFoundError as error:
        if error.name and (module == error.name or module.startswith(f"{error.name}.")):
            raise RegistryError(
                f"there is no module {error.name!r}: is it installed, or its folder on PYTHONPATH?"
            ) from error
        raise RegistryError(f"{name!r} cannot be loaded: {error}") from error
    except (Exception, SystemExit) as error:  # whatever a plugin's module does when it is imported
        if ends_worker(error):
            raise
        raise RegistryError(
            f"{name!r} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    return cast("object", loaded)


@contextlib.contextmanager
def _exit_raises() -> Iterator[None]:
    """Make `os._exit` raise: a module that calls it would end this process silently.

    A process that was forked meanwhile still ends.
    """
    exit_now, here = os._exit, os.getpid()

    def refuse(code: int) -> NoReturn:
        if os.getpid() != here:
            exit_now(code)
        raise SystemExit(f"its module calls os._exit({code}) when it is imported")

    os._exit = refuse  # type: ignore[assignment]
    try:
        yield
    finally:
        os._exit = exit_now


def _as_workload(name: str, target: str) -> Workload:
    value = _load(name, target)
    if not isinstance(value, Workload):
        raise RegistryError(
            f"{name!r} is a {type(value).__name__}, not a sickbay.trials.contract.Workload"
        )
    module = target.partition(":")[0]
    in_notebook = module == "__main__"
    return replace(value, code=function_code(value.train) if in_notebook else _code(module))


@functools.cache
def _code(module: str) -> str:
    """The hash of a workload's source, computed once: later edits do not affect imported code."""
    return "" if module.partition(".")[0] == "sickbay" else module_code(module)
