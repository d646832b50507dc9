"""Torch measurements for any training loop. They only read: weights stay bit-identical.

    probe = Probe(model)
    for epoch in range(1, epochs + 1):
        for x, y in batches:
            optimizer.zero_grad()
            loss = loss_of(model(x), y)
            loss.backward()
            probe.step(loss)                     # between backward and clipping or the update
            optimizer.step()
        signals = probe.evaluation(val_losses)   # a dictionary of signals, ready for a Row

`for x, y in probe.batches(loader)` also times how long the loop waits for its data.
`Probe(model, batch=x[:256])` also looks at the layers. `probe.before(...)`, a line before
`backward`, watches labels, classes and several losses. `StepProbe` (in probe_steps.py) is the part
that watches the optimisation, for workloads that place its two calls themselves.
"""

import math
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.nn.utils import get_total_norm

from sickbay.trials.execution.machine.groups import note_groups
from sickbay.trials.execution.machine.loader import Batch, LoaderClock
from sickbay.trials.probes.layers import LayerProbe, unwrapped
from sickbay.trials.probes.steps import SAMPLE_EVERY, Signals, StepProbe
from sickbay.trials.probes.targets import (
    ConflictProbe,
    LabelProbe,
    LogitProbe,
    loss_signals,
    score_signals,
)

UPDATES_EVERY = 128  # steps between two measurements of an update's size: the expensive ones
NORMS_EVERY = 16  # and of the gradient's norm
__all__ = ["SAMPLE_EVERY", "Probe", "Signals", "StepProbe"]


class Probe:
    """Watches the training of a model: one line a step, one an evaluation.

    `groups` are named parameters from input to output, by default of the model's direct children;
    their names become facts of a workload that names none. With a `batch` (256 to 1024 fixed
    inputs) every evaluation also looks at the layers; `features` names a module, see `LayerProbe`.
    `clip` is the norm above which your loop clips.
    """

    def __init__(
        self,
        model: nn.Module,
        groups: Mapping[str, Sequence[Parameter]] | None = None,
        *,
        batch: Any = None,
        features: str = "",
        clip: float = math.inf,
    ) -> None:
        """Begin; with a batch the layers are looked at once, as they are before training."""
        named = groups_of(model) if groups is None else groups
        if not any(len(list(group)) for group in named.values()):
            raise ValueError("there is nothing to watch: the model has no parameter that trains")
        self.groups = tuple(named)
        note_groups(self.groups)
        self._parameters = [parameter for group in named.values() for parameter in group]
        self._steps = StepProbe(named, clip, every=UPDATES_EVERY)
        self._count = 0
        self._pending: tuple[Tensor, Tensor | None] | None = None
        self._nonfinite = False
        self._loader = LoaderClock()
        self._labels, self._logits, self._conflict = LabelProbe(), LogitProbe(), ConflictProbe()
        self._layers = None if batch is None else LayerProbe(model, batch, features=features)

    def batches(self, loader: Iterable[Batch]) -> Iterator[Batch]:
        """Yield the loader's batches, and time how long the loop waits for each."""
        return self._loader.batches(loader)

    def before(
        self,
        *,
        logits: Tensor | None = None,
        targets: Tensor | None = None,
        ids: Sequence[Hashable] | Tensor | None = None,
        losses: Mapping[str, Tensor] | None = None,
        shared: Tensor | None = None,
    ) -> None:
        """Call before `backward` with what there is: `targets` with `logits`, `ids` or both.

        `losses` are the parts of a loss by name, `shared` the features that all of them stand on.
        """
        if logits is not None and targets is not None:
            self._logits.add(logits, targets)
        if ids is not None and targets is not None:
            self._labels.add(ids, targets)
        if losses is not None and shared is not None:
            self._conflict.add(losses, shared)

    def step(self, loss: Tensor | float, grad_norm: Tensor | None = None) -> None:
        """Call after `backward` (and `scaler.unscale_`), before clipping and the update.

        Every 16th gradient norm is measured, and every one after a non-finite one; hand in
        `grad_norm`, the norm before clipping, if your loop computes it anyway.
        """
        self._flush()
        if grad_norm is None and (self._count % NORMS_EVERY == 0 or self._nonfinite):
            gradients = [
                parameter.grad for parameter in self._parameters if parameter.grad is not None
            ]
            grad_norm = get_total_norm(gradients) if gradients else torch.zeros(())
            self._nonfinite = not bool(torch.isfinite(grad_norm))
        self._count += 1
        self._steps.after_backward()
        self._pending = (torch.as_tensor(loss).detach(), grad_norm)

    def evaluation(
        self,
        val_losses: Tensor | None = None,
        *,
        scores: Tensor | None = None,
        targets: Tensor | None = None,
    ) -> Signals:
        """Return the signals since the last evaluation, ready for a Row.

        `val_losses` are the losses of single validation samples. `scores` (probabilities of the
        positive class) and `targets` give histograms from which rankings are judged, and more.
        """
        self._flush()
        self._count = 0
        signals = dict(self._steps.finish_epoch())
        signals |= self._loader.finish()
        for part in (self._labels, self._logits, self._conflict):
            signals |= part.finish()
        if self._layers is not None:
            signals |= self._layers.measure()
        if val_losses is not None:
            signals |= loss_signals(val_losses)
        if scores is not None and targets is not None:
            signals |= score_signals(scores, targets)
        return signals

    def _flush(self) -> None:
        """Finish the step before: its update is there by now."""
        if self._pending is not None:
            self._steps.after_update(*self._pending)
            self._pending = None


def groups_of(model: nn.Module) -> dict[str, list[Parameter]]:
    """The parameters that train, by the direct children of the model, in their order."""
    inner = unwrapped(model)
    children = {
        name: [parameter for parameter in child.parameters() if parameter.requires_grad]
        for name, child in inner.named_children()
    }
    own = [parameter for parameter in inner.parameters(recurse=False) if parameter.requires_grad]
    groups = {"own": own, **children} if own else children
    return {name: parameters for name, parameters in groups.items() if parameters}
