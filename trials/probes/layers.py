"""What a probe batch shows of a net's layers: dead and saturated units, rank and drift of features.

Measured in one forward pass in evaluation mode without gradients; random state, modes and hooks are
restored afterwards.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

Signals = dict[str, float | list[float]]
RECTIFIERS: set[Any] = {functional.relu, functional.relu6, functional.threshold}
RECTIFIERS |= {torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}
# The lower and upper bound of each. No softmax: most weights of an attention are near 0.
BOUNDED: dict[Any, tuple[float, float]] = {
    functional.hardtanh: (-1.0, 1.0),
    functional.softsign: (-1.0, 1.0),
    functional.hardsigmoid: (0.0, 1.0),
    torch.tanh: (-1.0, 1.0),
    Tensor.tanh: (-1.0, 1.0),
    torch.sigmoid: (0.0, 1.0),
    Tensor.sigmoid: (0.0, 1.0),
}
Seen = tuple[Any, Tensor, Tensor]  # the function, its very output, and a copy of that
SHOWN = 256  # samples whose features are compared
TAIL = 0.99  # of the half range: beyond it an output is saturated


class LayerProbe:
    """Looks at a model through one fixed batch, and compares with what it saw first.

    `batch` is what the model is called with: a tensor, a tuple (positional) or a mapping (by name).
    Activations are seen whether a module or a function applies them. `features` names the module
    whose output is the representation, by default the input of the last linear layer.
    """

    def __init__(self, model: nn.Module, batch: Any, *, features: str = "") -> None:
        """Look once, before training: the start of rank and drift."""
        self._model, self._batch = unwrapped(model), batch
        modules = dict(self._model.named_modules())
        if features and features not in modules:
            raise ValueError(f"the model has no module {features!r}; it has {sorted(modules)[:20]}")
        self._features = modules[features] if features else None
        self._start = self._look()[1]
        self._rank = math.nan if self._start is None else rank_of(self._start)

    def measure(self) -> Signals:
        """Signals of now: shares of dead and saturated units, rank, and CKA to the start."""
        signals, features = self._look()
        if features is not None and self._start is not None:
            signals["feature_rank"] = rank_of(features)
            signals["feature_rank_start"] = self._rank
            signals["feature_cka"] = alignment(self._start, features)
        return signals

    def _look(self) -> tuple[Signals, Tensor | None]:
        named: list[Tensor] = []
        entered: list[Tensor] = []
        if self._features is None:
            hooks = [
                module.register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0]))
                for module in self._model.modules()
                if isinstance(module, nn.Linear)
            ]
        else:
            hooks = [self._features.register_forward_hook(_keep(named))]
        try:
            with _undisturbed(self._model), torch.no_grad(), _Activations() as activations:
                output = called(self._model, self._batch)
        finally:
            for hook in hooks:
                hook.remove()
        last = _first_tensor(output)
        hidden = [(by, kept) for by, value, kept in activations.seen if value is not last]
        features = named or entered[-1:]
        return _shares(hidden), _flat(features[-1]) if features else None


class _Activations(TorchFunctionMode):
    """Keeps the outputs of activation functions, by whichever spelling they are called."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Seen] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if (func in RECTIFIERS or func in BOUNDED) and output.dim() > 1:
            self.seen.append((func, output, _copy(output)))
        return output


def _shares(seen: Sequence[tuple[Any, Tensor]]) -> Signals:
    signals: Signals = {}
    rectified = [value for function, value in seen if function in RECTIFIERS]
    if rectified:
        signals["dead_unit_share"] = [_dead_share(value) for value in rectified]
        signals["dead_unit_n"] = float(len(rectified[0]))
        signals["layer_units"] = [float(_by_unit(value).shape[1]) for value in rectified]
    bounded = [(BOUNDED[function], value) for function, value in seen if function in BOUNDED]
    if bounded:
        signals["saturated_share"] = [_saturated_share(value, *span) for span, value in bounded]
    return signals


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the module under `torch.compile` or a data-parallel wrapper."""
    for name in ("_orig_mod", "module"):
        inner = getattr(model, name, None)
        if isinstance(inner, nn.Module):
            return unwrapped(inner)
    return model


def called(model: Callable[..., Any], batch: Any) -> Any:
    """Call a model with a batch: a tensor, a tuple or list of arguments, or a mapping by name."""
    if isinstance(batch, Mapping):
        return model(**batch)
    return model(*batch) if isinstance(batch, (tuple, list)) else model(batch)


def rank_of(features: Tensor) -> float:
    """RankMe: exp of the entropy of the normalised singular values of features, shape (n, d)."""
    if not bool(torch.isfinite(features).all()):
        return math.nan
    wide = features.shape[1] > features.shape[0]
    gram = features @ features.T if wide else features.T @ features
    sigma = torch.linalg.eigvalsh(gram).clamp_min(0.0).sqrt()
    shares = sigma / sigma.sum().clamp_min(1e-30)
    return float(torch.exp(torch.special.entr(shares).sum()))


def alignment(features: Tensor, other: Tensor) -> float:
    """Linear CKA (Kornblith et al. 2019) of features (n, d) and (n, e) of the same samples."""
    left, right = features - features.mean(dim=0), other - other.mean(dim=0)
    if max(left.shape[1], right.shape[1]) > len(left):  # the same by way of the samples
        left, right = left @ left.T, right @ right.T
        scale = left.norm() * right.norm()
        shared = (left * right).sum()
    else:
        scale = (left.T @ left).norm() * (right.T @ right).norm()
        shared = (left.T @ right).square().sum()
    return float(shared / scale) if float(scale) > 0.0 else math.nan


def _flat(features: Tensor) -> Tensor:
    return features.detach()[:SHOWN].flatten(1).double()


def _by_unit(value: Tensor) -> Tensor:
    """Lay the units into the second axis: (n, C, …) with four axes or more, else (…, C)."""
    return value.flatten(2).movedim(1, 2).flatten(0, 1) if value.dim() > 3 else value.flatten(0, -2)


def _dead_share(value: Tensor) -> float:
    units = _by_unit(value)
    # the greatest of each unit, NaN if one is: cheaper than to compare every single activation
    highest = units.amax(dim=0)
    return math.nan if bool(highest.isnan().any()) else float((highest <= 0.0).double().mean())


def _saturated_share(value: Tensor, low: float, high: float) -> float:
    scaled = (2.0 * value - (low + high)) / (high - low)
    return float((scaled.abs() > TAIL).double().mean())


def _keep(seen: list[Tensor]) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
    def hook(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, Tensor) and output.dim() > 1:
            seen.append(_copy(output))

    return hook


def _copy(output: Tensor) -> Tensor:
    """An in-place operation further on must not change what was seen."""
    return output.detach().float().clone()


def _first_tensor(output: Any) -> Tensor | None:
    if isinstance(output, Tensor):
        return output
    if isinstance(output, (tuple, list)) and output:
        return _first_tensor(output[0])
    return None


@contextlib.contextmanager
def _undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; modes and random states as they were outside."""
    modes = [(module, module.training) for module in model.modules()]
    devices = sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices):
        model.eval()
        try:
            yield
        finally:
            for module, training in modes:
                module.training = training
