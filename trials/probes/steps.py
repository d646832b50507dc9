"""The numerics of optimisation steps. They only read: weights stay bit-identical.

    loss.backward()
    probe.after_backward()
    norm = clip_grad_norm_(parameters, clip)      # the norm before clipping
    optimizer.step()
    probe.after_update(loss, norm)
    ...
    signals = probe.finish_epoch()                # all steps since the last call

Group signals are vectors in the order of `groups`. Nothing is copied from the device before the
epoch ends, so a GPU never waits.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.utils import get_total_norm

from sickbay.trials.probes.clearing import ClearingProbe

Signals = dict[str, float | list[float]]
SAMPLE_EVERY = 16  # steps between two measurements of the update's size


class StepProbe:
    """Collects the numerics of each step and of each parameter group over an epoch."""

    def __init__(
        self,
        groups: Mapping[str, Sequence[Parameter]],
        clip: float = math.inf,
        *,
        every: int = SAMPLE_EVERY,
    ) -> None:
        """Watch named groups of parameters; `clip` is the norm above which a step was clipped.

        The size of an update is measured in every `every`-th step.
        """
        self._groups = [list(parameters) for parameters in groups.values()]
        self._clip, self._every = clip, every
        self._copies = _Copies(self._groups)  # before a step
        self._starts = _Copies(self._groups)  # at the start of the epoch
        self._sampled = False
        self._clearing = ClearingProbe(self._groups)
        self._start_epoch()

    def after_backward(self) -> None:
        """Call while the gradients are as backward left them."""
        sampled = self._steps % self._every == 0
        for index, group in enumerate(self._groups):
            # A group that has not moved yet is looked at in every step: zero must mean zero.
            if sampled or not self._largest[index] > 0.0:
                self._largest[index] = _greater(self._largest[index], _largest_gradient(group))
        if sampled:
            self._copies.take()
            self._sampled = True
        self._steps += 1

    def after_update(self, loss: Tensor, grad_norm: Tensor | None) -> None:
        """Call after the optimiser's step, with the global gradient norm before clipping.

        Without a norm the step counts for its loss only; shares are then over the others.
        """
        self._losses.append(loss.detach())
        if grad_norm is not None:
            self._norms.append(grad_norm.detach())
        if self._sampled:
            self._updates.append(self._copies.distances())
            self._weights.append(_norms(self._groups))
            self._sampled = False

    def finish_epoch(self) -> Signals:
        """Return the signals since the last call, and start anew. NaN where nothing was measured.

        `group_grad_max`, over every 16th step, is exactly 0 only if a group's gradients were zero
        in every step, NaN without any, infinite if one was not finite.
        """
        self._clearing.end()
        signals = self._numerics() | self._group_signals()
        signals["uncleared_grad_share"] = self._clearing.finish()
        self._start_epoch()
        return signals

    def _start_epoch(self) -> None:
        self._steps = 0
        self._losses: list[Tensor] = []
        self._norms: list[Tensor] = []
        self._largest = [math.nan] * len(self._groups)  # by group, so far
        self._updates: list[Tensor] = []
        self._weights: list[Tensor] = []
        self._sampled = False
        self._starts.take()
        self._clearing.begin()

    def _numerics(self) -> Signals:
        losses, norms = _column(self._losses), _column(self._norms)
        bad_gradient = ~torch.isfinite(norms)
        finite = norms[~bad_gradient]
        return {
            "train_steps": float(self._steps),
            "train_loss": float(losses.mean()),
            "train_loss_se": float(losses.std() / math.sqrt(len(losses)))
            if len(losses) > 1
            else math.nan,
            "nonfinite_loss_steps": float((~torch.isfinite(losses)).sum()),
            "nonfinite_grad_steps": float(bad_gradient.sum()),
            "nonfinite_grad_run": float(_longest_run(bad_gradient.tolist())),
            "nonfinite_params": float(_nonfinite(self._groups)),
            "grad_norm_p50": _quantile(finite, 0.5),
            "grad_norm_p90": _quantile(finite, 0.9),
            "grad_norm_max": _quantile(finite, 1.0),
            "clipped_share": float((norms > self._clip).double().mean()),
            "zero_grad_share": float((norms == 0.0).double().mean()),
        }

    def _group_signals(self) -> Signals:
        ratio = [math.nan] * len(self._groups)
        if self._updates:
            update, weight = torch.stack(self._updates), torch.stack(self._weights)
            # An update of zero is a ratio of zero, also for a group that is zero itself.
            relative = torch.where(update == 0.0, 0.0, update / weight)
            ratio = relative.double().square().mean(dim=0).sqrt().tolist()
        return {
            "group_grad_max": list(self._largest),
            "group_update_norm": self._starts.distances().tolist(),
            "group_weight_norm": _norms(self._groups).tolist(),
            "group_update_ratio": ratio,
        }


def _largest_gradient(group: Sequence[Parameter]) -> float:
    """Return the greatest |gradient|; NaN if there is none, infinity if one is not finite."""
    gradients = [parameter.grad for parameter in group if parameter.grad is not None]
    if not gradients:
        return math.nan
    # Least and greatest of each: far cheaper than an infinity norm.
    extremes = [extreme for gradient in gradients for extreme in torch.aminmax(gradient)]
    return float(torch.stack(extremes).abs().nan_to_num(nan=math.inf).max())


def _greater(value: float, other: float) -> float:
    """Return the greater of two, where NaN means that there is none."""
    return other if math.isnan(value) else value if math.isnan(other) else max(value, other)


def _nonfinite(groups: Sequence[Sequence[Parameter]]) -> int:
    """Count the parameters that are NaN or infinite; a finite norm says at once that none is."""
    if bool(torch.isfinite(_norms(groups)).all()):
        return 0
    return sum(int((~torch.isfinite(parameter)).sum()) for group in groups for parameter in group)


class _Copies:
    """A copy of the groups in memory that is reused: to allocate anew is expensive."""

    def __init__(self, groups: Sequence[Sequence[Parameter]]) -> None:
        self._groups = groups
        self._kept: list[list[Tensor]] = []

    @torch.no_grad()
    def take(self) -> None:
        """Copy the parameters as they are."""
        if not self._kept:
            self._kept = [
                [parameter.detach().clone() for parameter in group] for group in self._groups
            ]
            return
        for group, kept in zip(self._groups, self._kept, strict=True):
            for parameter, copy in zip(group, kept, strict=True):
                copy.copy_(parameter)

    @torch.no_grad()
    def distances(self) -> Tensor:
        """How far each group has moved since, shape (groups,). Uses the copy up."""
        for group, kept in zip(self._groups, self._kept, strict=True):
            for parameter, copy in zip(group, kept, strict=True):
                copy.sub_(parameter)
        return torch.stack([get_total_norm(kept) for kept in self._kept])


@torch.no_grad()
def _norms(groups: Sequence[Sequence[Parameter]]) -> Tensor:
    return torch.stack([get_total_norm(group) for group in groups])


def _column(values: Sequence[Tensor]) -> Tensor:
    return (
        torch.stack(list(values)).double().cpu() if values else torch.empty(0, dtype=torch.float64)
    )


def _quantile(values: Tensor, share: float) -> float:
    return float(torch.quantile(values, share)) if len(values) else math.nan


def _longest_run(flags: Sequence[bool]) -> int:
    longest = current = 0
    for flag in flags:
        current = current + 1 if flag else 0
        longest = max(longest, current)
    return longest
