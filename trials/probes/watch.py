"""Watches a model by hooks alone: one line in a training loop, no line a step.

watch = ModelWatch(model)
...                           # the loop as it stands
signals = watch.signals()     # after each evaluation
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from sickbay.trials.probes.layers import LayerProbe
from sickbay.trials.probes.probe import Probe
from sickbay.trials.probes.steps import Signals
from sickbay.trials.probes.targets import score_signals

BATCH = 256  # samples of the first batch through which the layers are looked at
FROM_LOSSES = ("train_loss", "train_loss_se", "nonfinite_loss_steps")  # a hook sees no loss


class ModelWatch:
    """A `Probe` that is fed by hooks: before every step of an optimizer that holds the model.

    Gradients are seen as the optimizer sees them, after clipping. The layers are looked at through
    the first batch that the model is called with. Weights, modes and random states stay as they
    are, see `Probe`.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer | None = None) -> None:
        """Begin; without an optimizer every one that holds a parameter of the model is watched."""
        self._probe = Probe(model)
        self._mine = {id(parameter) for parameter in model.parameters()}
        self._layers: LayerProbe | None = None
        self._hooks: list[Any] = [
            register_optimizer_step_pre_hook(self._before_step)
            if optimizer is None
            else optimizer.register_step_pre_hook(self._before_step)
        ]
        self._first = model.register_forward_pre_hook(self._before_forward, with_kwargs=True)
        self.groups = self._probe.groups

    def signals(self) -> Signals:
        """The signals since the last call, without those that only the loss could give."""
        signals = self._probe.evaluation()
        if self._layers is not None:
            signals |= self._layers.measure()
        return {name: value for name, value in signals.items() if name not in FROM_LOSSES}

    def close(self) -> None:
        """Take the hooks off."""
        for hook in (*self._hooks, self._first):
            hook.remove()

    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        del args, kwargs
        held = (parameter for group in optimizer.param_groups for parameter in group["params"])
        if any(id(parameter) in self._mine for parameter in held):
            self._probe.step(0.0)

    def _before_forward(self, model: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> None:
        self._first.remove()  # once; the look itself calls the model again
        batch = {name: _cut(value) for name, value in kwargs.items()} or tuple(map(_cut, args))
        if args and kwargs:
            return
        with suppress(RuntimeError, ValueError, TypeError):  # a model that cannot be cut so
            self._layers = LayerProbe(model, batch)


def class_signals(outputs: Tensor, targets: Tensor) -> Signals:
    """What outputs show beside their targets (n,): confusion, accuracy, histograms of two classes.

    `outputs` are logits, (n, C), or of two classes (n,) or (n, 1).
    """
    logits = outputs.detach()
    labels = targets.detach().flatten().long()
    if logits.dim() == 1 or logits.shape[1] == 1:
        return score_signals(torch.sigmoid(logits.flatten()), labels)
    if logits.shape[1] == 2:
        return score_signals(torch.softmax(logits, dim=1)[:, 1], labels)
    classes, said = logits.shape[1], logits.argmax(dim=1)
    table = torch.bincount(labels * classes + said, minlength=classes**2)
    right = float((labels == said).double().mean())
    return {"val_confusion": table.double().tolist(), "val_accuracy": right}


def _cut(value: Any) -> Any:
    """The first samples of a tensor, or of all tensors in a tuple or list."""
    if isinstance(value, Tensor):
        return value.detach()[:BATCH].clone()
    return type(value)(map(_cut, value)) if isinstance(value, tuple | list) else value
