"""What is recorded of an epoch's steps in the long-tailed system, and the signals made of it."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sickbay.models.longtail.losses import Semantic
from sickbay.models.longtail.metrics import Metrics, class_share

COMPARED = 8  # steps of an epoch in which the two losses' gradients are compared


@dataclass
class Steps:
    """Collects an epoch of `planned` steps; everything stays on the device until `signals`."""

    planned: int
    logits: list[Tensor] = field(default_factory=list)
    gradients: list[Tensor] = field(default_factory=list)  # dL/dlogit
    labels: list[Tensor] = field(default_factory=list)
    losses: list[Tensor] = field(default_factory=list)
    semantic: list[Semantic] = field(default_factory=list)
    cut: list[Tensor] = field(default_factory=list)  # whether a part's gradient was clipped
    norms: list[list[Tensor]] = field(default_factory=list)  # of each part's gradient
    pairs: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def add(self, logits_NC: Tensor, label_N: Tensor, loss: Tensor) -> None:
        """Keep a step, after backward; the logits must have kept their gradient."""
        assert logits_NC.grad is not None
        self.logits.append(logits_NC.detach())
        self.gradients.append(logits_NC.grad)
        self.labels.append(label_N)
        self.losses.append(loss.detach())

    def compares(self) -> bool:
        """Whether gradients are compared in the step to come: in eight of an epoch, spread out."""
        return len(self.losses) % max(1, self.planned // COMPARED) == 0

    def signals(self, classes: int) -> Metrics:
        """Return the signals of the epoch.

        The semantic ones are there only where a semantic loss was computed, the gradients' cosine
        only where both losses reach the encoder; it is NaN where one of the gradients is zero.
        """
        logits_NC, label_N = torch.cat(self.logits), torch.cat(self.labels)
        right_N = logits_NC.argmax(dim=1) == label_N
        signals: Metrics = {
            "train_accuracy": float(right_N.double().mean()),
            "class_gradient_share": class_share(torch.cat(self.gradients), label_N, classes),
            "supervised_targets": float(len(label_N)),
            "clipped_share": _mean(self.cut),
            "module_gradient_norms": [_mean(list(part)) for part in zip(*self.norms, strict=True)],
        }
        return signals | self._semantic() | self._compared()

    def _semantic(self) -> Metrics:
        if not self.semantic:
            return {}
        return {
            "task_losses": [_mean(self.losses), _mean([step.loss for step in self.semantic])],
            "diffusion_loss": _mean([step.diffusion for step in self.semantic]),
            "prototype_loss": _mean([step.prototype for step in self.semantic]),
            "radius_loss": _mean([step.radius for step in self.semantic]),
            "semantic_capped_share": _mean([step.capped for step in self.semantic]),
            "diffusion_gradient_norm": _mean([step[-1] for step in self.norms]),
        }

    def _compared(self) -> Metrics:
        if not self.pairs:
            return {}
        cosines, norms = [], []
        for real, pulled in self.pairs:
            gradient, other = real.double().flatten(), pulled.double().flatten()
            sizes = gradient.norm(), other.norm()
            norms.append(torch.stack(sizes))
            cosines.append(
                gradient @ other / (sizes[0] * sizes[1])
            )  # 0 / 0 is NaN, as it should be
        cosine = torch.stack(cosines)
        n = len(cosine)
        return {
            "loss_gradient_cosine": float(cosine.mean()),
            "loss_gradient_cosine_se": float(cosine.std() / math.sqrt(n)) if n > 1 else math.nan,
            "loss_gradient_batches": float(n),
            "loss_gradient_norms": torch.stack(norms).mean(dim=0).tolist(),
        }


def _mean(values: list[Tensor]) -> float:
    return float(torch.stack(values).double().mean()) if values else math.nan
