"""Pretrained states that many trials start from, made once and kept by the hash of their recipe.

The recipe names all that can change the state: settings, seed, data, the code that makes it, and
the machine's arithmetic. So a kept state is the very one that would be made anew, to the last bit,
and a trial yields the same rows whether it finds one or makes one. Files lie in
`~/.cache/sickbay/pretrained`; they may be deleted at any time.
"""

import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from sickbay.trials.contract import Scalar
from sickbay.trials.store.checkpoints import pack, unpack

State = dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """What a state is made of. `name` is the workload's; `code` the modules that make the state.

    `settings` hold every setting that the making reads; for data in files, the data's identity too.
    """

    name: str
    settings: Mapping[str, Scalar]
    seed: int
    device: str
    code: tuple[ModuleType, ...]

    def digest(self) -> str:
        """Hash everything that can change the state, the source text of the modules included."""
        sources = [
            hashlib.sha256(Path(str(module.__file__)).read_bytes()).hexdigest()
            for module in self.code
        ]
        machine = [platform.machine(), torch.__version__, torch.get_num_threads(), self.device]
        if self.device != "cpu":
            machine.append(torch.cuda.get_device_name(self.device))
        content = [self.name, dict(self.settings), self.seed, sources, machine]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def pretrained(recipe: Recipe, make: Callable[[], State], folder: Path | None = None) -> State:
    """Return the state of a recipe: the kept one, else what `make` gives, which is then kept.

    `make` returns tensors, numbers, strings and containers of them. It is called with torch's
    generators seeded by the recipe, and leaves them as they were. The state comes back on the CPU,
    as a copy of the caller's own. A file that is damaged is made anew; one that cannot be written
    is done without. Safe among processes: each writes a file of its own and renames it.
    """
    path = (folder or kept_in()) / f"{recipe.name}-{recipe.digest()[:32]}.pt"
    kept = _read(path)
    if kept is not None:
        return kept
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(recipe.seed)
        data = pack(make())
    _write(path, data)
    return unpack(data)


def kept_in() -> Path:
    """Where states are kept: below the user's home, or the folder for temporary files without."""
    try:
        home = Path.home() / ".cache"
    except RuntimeError:
        home = Path(tempfile.gettempdir())
    return home / "sickbay" / "pretrained"


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
