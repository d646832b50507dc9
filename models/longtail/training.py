"""One step of Strategy A: classifier, encoder and diffusion model, trained together.

    loss = CE(head(f), y) + 0.15 CE(head(generated), y') + λ S

joint             one optimiser; both losses reach the encoder
detach_features   one optimiser; the diffusion model sees detached features
decoupled         two optimisers, one after the other; for the second the features are computed
                  again, since the first has changed the encoder that made them

The encoder is frozen, in evaluation mode, for the first steps (warmup). At the very step that
unfreezes it, its batch normalisation switches to the batch's own statistics, unless set otherwise.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_

from sickbay.models.longtail.losses import Semantic, SemanticOptions, semantic_loss
from sickbay.models.longtail.network import LongtailNet, known
from sickbay.models.longtail.steps import Steps

MODES = ("joint", "detach_features", "decoupled")
BN_MODES = ("train", "eval")
WARMUPS = ("share", "diffusion")
SETTLED = 0.05  # share by which a loss must fall in an epoch to be falling still
CLIP = 5.0  # norm to which each part's gradient is cut
GENERATED = 0.15  # weight of the loss on generated features
GENERATE_EVERY = 10  # steps
GENERATE_FROM = 0.075  # share of the run before features are generated


class Watch(Protocol):
    """Observes the gradients and the change of each step."""

    def after_backward(self) -> None:
        """Look at gradients as backward left them."""

    def after_update(self, loss: Tensor, grad_norm: Tensor) -> None:
        """Look at what an optimiser has done."""


@dataclass(frozen=True)
class StrategyOptions:
    """How the parts are trained. Rates are Adam's; `warm` and `generate_from` count steps."""

    mode: str
    bn_mode: str
    encoder_lr: float
    head_lr: float
    diffusion_lr: float
    weight: float  # λ; at 0 there is no diffusion model
    semantic: SemanticOptions
    warm: int
    generate_from: int
    ddim_steps: int
    decay: float = 0.0  # of all weights, by Adam
    warm_until: str = "share"  # or "diffusion": until its loss no longer falls, if that is earlier

    def __post_init__(self) -> None:
        """Raise ValueError for an unknown mode."""
        known("grad_mode", self.mode, MODES)
        known("bn_mode", self.bn_mode, BN_MODES)
        known("warmup_until", self.warm_until, WARMUPS)

    @classmethod
    def of(cls, config: Mapping[str, Any], steps: int) -> "StrategyOptions":
        """Read the settings of a run that takes so many steps; `loss_cap` is a number or "none"."""
        cap = config["loss_cap"]
        semantic = SemanticOptions(
            eta_p=float(config["eta_p"]),
            eta_r=float(config["eta_r"]),
            radius=str(config["radius"]),
            cap=math.inf if cap == "none" else float(cap),
        )
        return cls(
            mode=str(config["grad_mode"]),
            bn_mode=str(config["bn_mode"]),
            encoder_lr=float(config["encoder_lr"]),
            head_lr=float(config["head_lr"]),
            diffusion_lr=float(config["lr"]),
            weight=float(config["lambda_sem"]),
            semantic=semantic,
            warm=round(float(config["warmup"]) * steps),
            generate_from=round(GENERATE_FROM * steps),
            ddim_steps=int(config["ddim_steps"]),
            decay=float(config["weight_decay"]),
            warm_until=str(config["warmup_until"]),
        )


class Strategy:
    """The optimisers of a net, and the step."""

    def __init__(self, net: LongtailNet, options: StrategyOptions) -> None:
        """Make the optimisers; the net must be on its device already."""
        self.net, self.options = net, options
        groups = net.groups()
        encoder = {"params": groups["encoder"], "lr": options.encoder_lr}
        head = {"params": groups["head"], "lr": options.head_lr}
        diffusion = {"params": groups["diffusion"], "lr": options.diffusion_lr}
        apart = options.mode == "decoupled"
        parts = [[encoder, head], [dict(encoder), diffusion]] if apart else None
        parts = parts or [[encoder, head, diffusion]]
        self.optimizers = [
            torch.optim.Adam(part, weight_decay=options.decay, fused=True) for part in parts
        ]
        self.taken = 0  # steps
        self.warm = options.warm  # steps after which the encoder is unfrozen
        self._diffusion = math.inf  # its loss in the epoch before
        self._frozen: bool | None = None
        self.moved = False  # whether the encoder may have changed since this was last set back

    def stays_frozen(self, steps: int) -> bool:
        """Whether the encoder changes in none of the next steps: neither weights nor statistics."""
        options = self.options
        still = options.encoder_lr == 0.0 and options.bn_mode == "eval"
        return still or self.taken + steps <= self.warm

    def follow(self, diffusion_loss: float) -> None:
        """Take the diffusion model's loss of an epoch; end the warmup if that is what decides it.

        The encoder is unfrozen once the loss has fallen by less than a twentieth from one epoch to
        the next, at the latest after the steps that were set.
        """
        settled = diffusion_loss > (1.0 - SETTLED) * self._diffusion
        if self.options.warm_until == "diffusion" and settled:
            self.warm = min(self.warm, self.taken)
        self._diffusion = diffusion_loss

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must hold."""
        states = [optimizer.state_dict() for optimizer in self.optimizers]
        counts = {"taken": self.taken, "warm": self.warm, "diffusion": self._diffusion}
        return {"net": self.net.state_dict(), "optimizers": states, **counts}

    def load(self, state: dict[str, Any]) -> None:
        """Take over what `state` has returned."""
        self.net.load_state_dict(state["net"])
        self.taken, self.moved = state["taken"], True
        self.warm, self._diffusion = state["warm"], state["diffusion"]
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)

    def step(
        self,
        batch: tuple[Tensor, Tensor],
        generator: torch.Generator,
        watch: Watch,
        steps: Steps,
        *,
        encoded: bool = False,
    ) -> None:
        """Take a step on images and labels; all draws come from `generator`, on the CPU.

        `encoded` says that the batch holds the features of a frozen encoder instead of images.
        """
        images, labels = batch
        options = self.options
        frozen = self._settle()
        features = images if encoded else self._encode(images, frozen=frozen)
        logits = self.net.head(features).float()
        logits.retain_grad()
        real = functional.cross_entropy(logits, labels)
        loss = real + self._generated(labels, generator)
        compares = not frozen and options.mode != "detach_features" and steps.compares()
        real_pull = _pull(real, features) if compares and options.weight > 0.0 else None
        semantic, apart = None, len(self.optimizers) == 2
        if not apart and options.weight > 0.0:
            semantic = self._semantic(features, labels, generator)
            loss = loss + options.weight * semantic.loss
            self._compare(steps, real_pull, semantic, features)
        norms = self._descend(0, loss, watch)
        if apart and options.weight > 0.0:
            features = images if encoded else self._encode(images, frozen=frozen)
            semantic = self._semantic(features, labels, generator)
            self._compare(steps, real_pull, semantic, features)
            norms += self._descend(1, options.weight * semantic.loss, None)
        watch.after_update(real, torch.stack(norms).norm())
        steps.add(logits, labels, real)
        steps.cut.append(torch.stack(norms).amax() > CLIP)
        steps.norms.append(norms)
        if semantic is not None:
            steps.semantic.append(semantic.detached())
        self.taken += 1

    def _settle(self) -> bool:
        """Put the parts in the mode of this step; return whether the encoder is frozen."""
        warm, encoder = self.taken < self.warm, self.net.encoder
        frozen = warm or self.options.encoder_lr == 0.0
        learns = not warm and self.options.bn_mode == "train"
        self.moved |= learns or not frozen
        if not self.net.training or encoder.training != learns or self._frozen != frozen:
            self.net.train()
            encoder.train(learns)
            for parameter in encoder.parameters():
                parameter.requires_grad_(not frozen)
            self._frozen = frozen
        return frozen

    def _encode(self, images: Tensor, *, frozen: bool) -> Tensor:
        with torch.set_grad_enabled(not frozen):
            features: Tensor = self.net.encoder(images)
        return features

    def _semantic(self, features: Tensor, labels: Tensor, generator: torch.Generator) -> Semantic:
        if self.options.mode == "detach_features":
            features = features.detach()
        latents = self.net.latents(features)
        semantic = semantic_loss(self.net, latents, labels, self.options.semantic, generator)
        self.net.follow(latents.detach(), labels)
        return semantic

    def _generated(self, labels: Tensor, generator: torch.Generator) -> Tensor | float:
        """Return the weighted loss on features drawn for classes drawn with equal probability."""
        due = self.taken >= self.options.generate_from and self.taken % GENERATE_EVERY == 0
        if not due or self.options.weight == 0.0:
            return 0.0
        classes = len(self.net.get_buffer("radius_C"))
        drawn = torch.randint(classes, (len(labels),), generator=generator).to(labels.device)
        latents = self.net.diffusion.sample(drawn, self.options.ddim_steps, generator)
        logits = self.net.head(self.net.features_of(latents)).float()
        return GENERATED * functional.cross_entropy(logits, drawn)

    def _compare(
        self, steps: Steps, real_pull: Tensor | None, semantic: Semantic, features: Tensor
    ) -> None:
        if real_pull is not None:
            steps.pairs.append((real_pull, _pull(self.options.weight * semantic.loss, features)))

    def _descend(self, which: int, loss: Tensor, watch: Watch | None) -> list[Tensor]:
        """Step an optimiser down a loss; return each part's gradient norm before clipping."""
        optimizer = self.optimizers[which]
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if watch is not None:  # of two optimisers' gradients it sees the other's from the last step
            watch.after_backward()
        norms = [clip_grad_norm_(group["params"], CLIP) for group in optimizer.param_groups]
        optimizer.step()
        return norms


def _pull(loss: Tensor, features: Tensor) -> Tensor:
    """Return the gradient of a loss at the features; the graph is kept."""
    (gradient,) = torch.autograd.grad(loss, features, retain_graph=True)
    return gradient
