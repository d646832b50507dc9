"""Generated data, and floors of them, that a machine makes once for all processes that need them.

Real data are read anew by each process, as their files may change.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, is_dataclass
from types import ModuleType
from typing import Any, TypeVar, get_type_hints

import numpy as np
import torch
from torch import Tensor

import sickbay.datasets.formats as formats_code
import sickbay.datasets.shared as shared_data_code
import sickbay.models.shared as shared_model_code
from sickbay.trials.contract import Scalar
from sickbay.trials.store.pretrained import Recipe, generated

SYNTHETIC = "synthetic"
SHARED = (formats_code, shared_data_code, shared_model_code)  # what every system's packages import
T = TypeVar("T")


def kept_splits(
    code: ModuleType, spec: Any, kind: type[T], make: Callable[[Any], tuple[T, ...]]
) -> tuple[T, ...]:
    """Return `make(spec)`, splits of a dataclass `kind`; those of generated data are kept.

    `code` is the package that makes them.
    """
    if spec.dataset != SYNTHETIC:
        return make(spec)
    recipe = _recipe("data", asdict(spec), code)
    state = generated(recipe, lambda: {"splits": [_plain(split) for split in make(spec)]})
    return tuple(_rebuilt(kind, split) for split in state["splits"])


def kept_floor(
    code: tuple[ModuleType, ...],
    spec: Any,
    settings: Mapping[str, Scalar],
    make: Callable[[], Tensor],
) -> Tensor:
    """Return what `make` fits to the data of a spec under these settings, kept as its data are."""
    if spec.dataset != SYNTHETIC:
        return make()
    recipe = _recipe("floor", {**asdict(spec), **settings}, *code)
    floor: Tensor = generated(recipe, lambda: {"floor": make()})["floor"]
    return floor


def _recipe(kind: str, settings: Mapping[str, Scalar], *code: ModuleType) -> Recipe:
    name = f"{code[0].__name__.rpartition('.')[2]}-{kind}"
    return Recipe(name, {**settings, "numpy": np.__version__}, 0, "cpu", (*code, *SHARED))


def _plain(value: Any) -> Any:
    """Turn dataclasses, tuples and arrays into what a file of tensors may hold."""
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def _rebuilt(kind: Any, value: Any) -> Any:
    """Turn back what `_plain` has made of a dataclass `kind`; a tuple in it holds arrays."""
    if is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind)
        return kind(**{name: _rebuilt(hints[name], part) for name, part in value.items()})
    return tuple(part.numpy() for part in value) if isinstance(value, list) else value
