"""Check an installation and say what to fix."""

import importlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from sickbay.trials import registry
from sickbay.trials.store.files import locate_store, remove_file, write_file

OLDEST_PYTHON = (3, 11)
LEAST_FREE_GB = 1.0


@dataclass(frozen=True)
class Check:
    """One check: what was found, and how to fix it."""

    what: str
    ok: bool
    found: str
    advice: str = ""


def examine(store_uri: str) -> tuple[Check, ...]:
    """Check Python, the packages, Ray, the GPU, the plugins and the store. Starts no Ray."""
    checks: tuple[Callable[[], Check], ...] = (
        _python,
        *(lambda name=name: _package(name) for name in ("sickbay", "torch", "ray", "duckdb")),
        _gpu,
        _plugins,
        _memory,
        lambda: _store(store_uri),
    )
    return tuple(check() for check in checks)


def _python() -> Check:
    current = ".".join(map(str, sys.version_info[:3]))
    wanted = ".".join(map(str, OLDEST_PYTHON))
    return Check("Python", sys.version_info >= OLDEST_PYTHON, current, f"install {wanted} or newer")


def _package(name: str) -> Check:
    try:
        installed = version(name)
        if name != "sickbay":
            importlib.import_module(name)
    except PackageNotFoundError:
        return Check(
            name, ok=False, found="not installed", advice="run `make demo`, or pip install"
        )
    except Exception as error:  # noqa: BLE001 - a broken native library raises whatever it likes
        return Check(name, ok=False, found=f"cannot be imported: {error}", advice="reinstall it")
    return Check(name, ok=True, found=installed)


def _gpu() -> Check:
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        return Check("GPU", ok=True, found="not checked: torch is missing")
    if not torch.cuda.is_available():
        return Check("GPU", ok=True, found="torch sees none: trials run on the CPU")
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return Check("GPU", ok=True, found=", ".join(names))


def _plugins() -> Check:
    entries = (*registry.workload_entries(load=True), *registry.detector_entries(load=True))
    broken = [f"{entry.name} ({entry.package}): {entry.error}" for entry in entries if entry.error]
    return Check(
        "workloads and detectors",
        not broken,
        f"{len(entries) - len(broken)} of {len(entries)} can be loaded"
        + (f", broken: {'; '.join(broken)}" if broken else ""),
        "fix or uninstall the packages named above; the others are not affected",
    )


def _memory() -> Check:
    shared = Path("/dev/shm")  # noqa: S108 - looked at, not written to
    if not shared.is_dir():
        return Check("shared memory", ok=True, found="not checked on this system")
    free = shutil.disk_usage(shared).free / 2**30
    advice = "Ray stores objects there: give the container more (--shm-size=2g)"
    return Check("shared memory", free > LEAST_FREE_GB / 4, f"{free:.1f} GiB free", advice)


def _store(uri: str) -> Check:
    probe = f".sickbay-doctor-{os.getpid()}"
    try:
        store = locate_store(uri)
        if store.is_local and not Path(store.root).exists():
            return _place_for(Path(store.root), uri)
        write_file(store, f"{store.root}/{probe}", b"")
        remove_file(store, f"{store.root}/{probe}")
    except (OSError, ValueError) as error:
        return Check("store", ok=False, found=str(error), advice="choose another with --store")
    if not store.is_local:
        return Check("store", ok=True, found=f"{uri} can be written")
    free = shutil.disk_usage(store.root).free / 2**30
    advice = f"free some space, or choose another store than {uri}"
    return Check(
        "store", free > LEAST_FREE_GB, f"{uri} can be written, {free:.0f} GiB free", advice
    )


def _place_for(root: Path, uri: str) -> Check:
    parent = next(folder for folder in root.absolute().parents if folder.is_dir())
    try:
        with tempfile.TemporaryFile(dir=parent):
            return Check("store", ok=True, found=f"{uri} does not exist yet and can be created")
    except OSError as error:
        return Check("store", ok=False, found=str(error), advice="choose another with --store")
