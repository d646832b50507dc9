"""Pretrained states and generated data: made once on a machine, kept by the hash of their recipe.

The recipe names all that can change the state (settings, seed, data, code, the machine's
arithmetic), so a kept state equals a new one to the last bit. Files lie in
`~/.cache/sickbay/pretrained` and `data`, and may be deleted at any time:

    NAME-HASH.pt            the state
    NAME-HASH.csv           how it was trained: step, loss, learning rate
    NAME-HASH.checkpoint    where training has got to; removed when it has ended
    NAME-HASH.lock          held while it is made, so that other trials wait for it
"""

import fcntl
import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from types import ModuleType
from typing import Any

import torch

from sickbay.trials.contract import Scalar
from sickbay.trials.store.checkpoints import pack, unpack

State = dict[str, Any]
CHECKPOINT_SECONDS = 60.0  # how much of a pretraining a killed worker may cost
DATA_BYTES = 4 * 2**30  # of generated data are kept: beyond that, those used last


@dataclass(frozen=True)
class Recipe:
    """What a state is made of: the workload's `name`, the modules (`code`) that make it.

    A package in `code` stands for all of its modules. `settings` hold all that the making reads,
    for data in files their identity, too.
    """

    name: str
    settings: Mapping[str, Scalar]
    seed: int
    device: str
    code: tuple[ModuleType, ...]

    def digest(self) -> str:
        """Hash everything that can change the state, the source text of the modules included."""
        sources = [
            hashlib.sha256(path.read_bytes()).hexdigest()
            for module in self.code
            for path in _sources(module)
        ]
        machine = [platform.machine(), torch.__version__, torch.get_num_threads(), self.device]
        if self.device != "cpu":
            machine.append(torch.cuda.get_device_name(self.device))
        content = [self.name, dict(self.settings), self.seed, sources, machine]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass
class PretrainingLog:
    """The rows and checkpoints of one pretraining, from which a killed one continues."""

    path: Path
    seconds: float = CHECKPOINT_SECONDS
    _saved: float = field(default_factory=monotonic)

    def restore(self) -> State | None:
        """Return the checkpoint of a pretraining that was killed, None where there is none."""
        return _read(self.path.with_suffix(".checkpoint"))

    def save(self, make: Callable[[], State]) -> None:
        """Keep what `make` returns, unless the last checkpoint is less than a minute old."""
        if monotonic() - self._saved >= self.seconds:
            _write(self.path.with_suffix(".checkpoint"), pack(make()))
            self._saved = monotonic()

    def write(self, rows: list[tuple[int, float, float]]) -> None:
        """Write all rows so far, (step, loss, learning rate), as a CSV file with a header."""
        lines = [("step", "loss", "lr"), *rows]
        text = "".join(",".join(map(str, line)) + "\n" for line in lines)
        _write(self.path.with_suffix(".csv"), text.encode())

    def end(self) -> None:
        """Remove the checkpoint: the state is kept."""
        with suppress(OSError):
            self.path.with_suffix(".checkpoint").unlink(missing_ok=True)


def pretrained(
    recipe: Recipe, make: Callable[[PretrainingLog], State], folder: Path | None = None
) -> State:
    """Return the state of a recipe: the kept one, else what `make` returns, which is then kept.

    `make` returns tensors, numbers, strings and containers of them, with torch's generators seeded
    by the recipe (and restored afterwards). The state is a copy on the CPU. A damaged file is made
    anew; one that cannot be written is skipped. Concurrent trials wait for the one that makes it;
    if that is killed, the next continues from its last checkpoint.
    """
    path = (folder or kept_in()) / f"{recipe.name}-{recipe.digest()[:32]}.pt"
    log = PretrainingLog(path)

    def made() -> State:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(recipe.seed)
            return make(log)

    return _made_once(path, made, log.end)


def generated(recipe: Recipe, make: Callable[[], State], folder: Path | None = None) -> State:
    """Return generated data of a recipe: the kept ones, else those of `make`, which are then kept.

    As `pretrained`, without rows and checkpoints; `make` draws from its own generators. At most
    `DATA_BYTES` are kept on a machine, the least recently used go first.
    """
    path = (folder or kept_in().with_name("data")) / f"{recipe.name}-{recipe.digest()[:32]}.pt"
    state = _made_once(path, make, lambda: _trim(path.parent))
    with suppress(OSError):
        os.utime(path)
    return state


def _made_once(path: Path, make: Callable[[], State], kept: Callable[[], None]) -> State:
    """Read a file, or write what `make` gives, under a lock; `kept` is called after writing."""
    state = _read(path)
    if state is not None:
        return state
    with _locked(path.with_suffix(".lock")):
        state = _read(path)  # made by another trial while this one waited
        if state is None:
            data = pack(make())
            _write(path, data)
            kept()
            state = unpack(data)
    return state


def _trim(folder: Path) -> None:
    """Delete what was not used for longest until the rest is within the bound."""
    with suppress(OSError):
        files = [(path.stat(), path) for path in folder.glob("*.pt")]
        files.sort(key=lambda file: file[0].st_mtime, reverse=True)
        total = 0
        for facts, path in files:
            total += facts.st_size
            if total > DATA_BYTES:
                path.unlink(missing_ok=True)
                path.with_suffix(".lock").unlink(missing_ok=True)


def _sources(module: ModuleType) -> list[Path]:
    """The files of a module, or of a package and all that is below it."""
    file = Path(str(module.__file__))
    return sorted(file.parent.rglob("*.py")) if hasattr(module, "__path__") else [file]


def kept_in() -> Path:
    """Where states are kept: below the user's home, or the folder for temporary files without."""
    try:
        home = Path.home() / ".cache"
    except RuntimeError:
        home = Path(tempfile.gettempdir())
    return home / "sickbay" / "pretrained"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a file's lock, which the kernel releases when its holder ends; skip it if impossible."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    except OSError:
        yield
        return
    with file:
        with suppress(OSError):  # two may train at once then: each gets the same state
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _read(path: Path) -> State | None:
    try:
        return unpack(path.read_bytes())
    except (OSError, ValueError):  # not there, not ours to read, or not whole
        return None


def _write(path: Path, data: bytes) -> None:
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except OSError:  # a full disk or a read-only home: the next trial makes it again
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
