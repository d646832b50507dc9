"""The version of training code: a hash over the source of a workload or a script.

What counts is the module itself, everything it imports from beside it, followed to the end without
running anything, and the version of every installed package on that way. Python's own library and
Sickbay do not count: a built-in workload's version says what it is. Files are taken byte for byte.
"""

import ast
import functools
import hashlib
import importlib.metadata
import platform
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import CodeType

from sickbay.trials.errors import parse_python

DIGITS = 12  # of the hash: a few hundred versions of one code do not collide
INSTALLED = ("site-packages", "dist-packages")
TRAINING_LIBRARIES = ("numpy", "scipy", "torch", "ray", "lightning", "transformers", "keras")
LARGE = 16 * 2**20  # bytes: of larger files, data most likely, only the size counts


def module_code(module: str) -> str:
    """Hash the source behind a module that can be imported here."""
    return _digest(_walk([module], ()))


def command_code(command: Sequence[str], folder: Path) -> str:
    """Hash the files that a command names, and the modules that its Python scripts import.

    Relative names are looked up in `folder`, where the command runs.
    """
    files = [path for word in command for path in _files_named(word, folder)]
    scripts = [path for path in files if path.suffix == ".py"]
    modules = [command[i + 1] for i, word in enumerate(command[:-1]) if word == "-m"]
    imported = [name for script in scripts for name in _imports(script, "")]
    search = tuple(dict.fromkeys([*(str(script.parent) for script in scripts), str(folder)]))
    contents = dict(_walk([*modules, *imported], search))
    contents |= {f"file {path.name}": _content(path) for path in files}
    return _digest(contents.items())


def function_code(function: Callable[..., object]) -> str:
    """Hash a function without a file (in a notebook), and the functions it calls there."""
    rest, seen = [function], dict[str, str]()
    while rest:
        candidate = rest.pop()
        code = getattr(candidate, "__code__", None)
        if code is None or candidate.__name__ in seen:
            continue
        seen[candidate.__name__] = hashlib.sha256(repr(_compiled(code)).encode()).hexdigest()
        names = (
            vars(sys.modules[candidate.__module__]) if candidate.__module__ in sys.modules else {}
        )
        called = (names.get(name) for name in code.co_names)
        rest += [
            each
            for each in called
            if callable(each) and getattr(each, "__module__", "") == candidate.__module__
        ]
    return _digest(seen.items())


def _compiled(code: CodeType) -> tuple[object, ...]:
    """The content of a function: instructions, names and constants, nested ones included."""
    parts = (
        _compiled(constant) if isinstance(constant, CodeType) else constant
        for constant in code.co_consts
    )
    return code.co_code, code.co_names, tuple(parts)


def locate(module: str, search: Sequence[str] = ()) -> ModuleSpec | None:
    """Find a module as `import` would, in the folders of `search` first, importing no parent."""
    spec, path = None, None
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        name = ".".join(parts[:depth])
        spec = PathFinder.find_spec(name, list(search)) if depth == 1 and search else None
        if spec is None:
            specs = (finder.find_spec(name, path) for finder in sys.meta_path)
            spec = next((each for each in specs if each is not None), None)
        if spec is None or (spec.submodule_search_locations is None and depth < len(parts)):
            return None
        path = spec.submodule_search_locations
    return spec


def _walk(modules: Sequence[str], search: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Every local module imported with its content's hash, every package with its version."""
    rest, seen, installed = list(modules), set[str](), set[str]()
    while rest:
        name = rest.pop()
        top = name.partition(".")[0]
        if name in seen or top in {*sys.stdlib_module_names, *installed, "sickbay"}:
            continue
        seen.add(name)
        spec = _located(name, search)
        if spec is None:
            continue
        file = Path(spec.origin) if spec.origin and Path(spec.origin).is_file() else None
        if file is not None and set(INSTALLED) & set(file.parts):
            installed.add(top)
            yield f"package {top}", _version(top)
            continue
        if "." in name:
            rest.append(name.rpartition(".")[0])
        if file is not None:
            yield f"module {name}", _content(file)
            package = name if spec.submodule_search_locations else name.rpartition(".")[0]
            rest += _imports(file, package)


def _located(name: str, search: Sequence[str]) -> ModuleSpec | None:
    try:
        return locate(name, search)
    except (ImportError, ValueError, AttributeError):  # a finder's own trouble
        return None


def _imports(file: Path, package: str) -> list[str]:
    """The modules that a Python file may import; `from a import b` may mean a.b or a."""
    if file.suffix != ".py":
        return []
    try:
        tree = parse_python(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return []
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node.module or "", node.level, package)
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)] if base else []
    return names


def _absolute(module: str, level: int, package: str) -> str:
    """The full name of `from ..module import`, with as many dots as `level`."""
    parts = package.split(".")
    above = parts[: len(parts) - level + 1] if level else []
    return ".".join([*above, *filter(None, [module])])


def _files_named(word: str, folder: Path) -> Iterator[Path]:
    """The file that a word of a command names, also as `--config=file.yaml`."""
    for part in (word, word.partition("=")[2]):
        if part and "{" not in part and (folder / part).is_file():
            path = folder / part
            if not set(INSTALLED) & set(path.parts) and path.parent != Path(sys.executable).parent:
                yield path


def _content(file: Path) -> str:
    if file.stat().st_size > LARGE:
        return f"{file.stat().st_size} bytes"
    return hashlib.sha256(file.read_bytes()).hexdigest()


def library_versions() -> str:
    """The versions of Python and of the installed packages that train: `python 3.11.9, …`."""
    versions = [("python", platform.python_version())]
    for name in TRAINING_LIBRARIES:
        try:
            versions.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(" ".join(pair) for pair in versions)


@functools.cache
def _version(top: str) -> str:
    """The version of the distribution that provides a package, without the build's `+cpu`."""
    try:
        return importlib.metadata.version(top).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        pass
    brought = _distributions().get(top, ())
    return importlib.metadata.version(brought[0]).partition("+")[0] if brought else "unknown"


@functools.cache
def _distributions() -> dict[str, list[str]]:
    """Which distributions provide which package; reads the records of all of them."""
    return dict(importlib.metadata.packages_distributions())


def _digest(parts: Iterable[tuple[str, str]]) -> str:
    lines = sorted({f"{name} {content}" for name, content in parts})
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:DIGITS]
