"""A residual encoder, a classifier head, a diffusion model of its features, and prototypes.

N images · C classes · D feature dimensions

WCDAS (wrapped Cauchy distributed angular softmax, Han et al. 2023):

    logit = s · (1 / 2π) · (1 − γ²) / (1 + γ² − 2 γ cos θ),   γ = σ(g_class),  s = softplus(s') + 1

where θ is the angle between the feature and the class vector. The encoder is a ResNet-32 with
shortcuts of type A (He et al. 2016), or three blocks in small; features are averaged over the
image after a ReLU.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from sickbay.models.longtail.diffusion import Diffusion

SIZES = ("small", "full")
HEADS = ("ce", "wcdas")
# (blocks, channels, stride) of each stage
STAGES = {
    "small": ((1, 16, 2), (1, 32, 1), (1, 64, 2)),
    "full": ((5, 16, 1), (5, 32, 2), (5, 64, 2)),
}
GROUPS = ("encoder", "diffusion", "head")
BRIGHT = 0.96  # quantile of the features that becomes 1 in the latents
KEPT = 0.7  # of a prototype at each step


@dataclass(frozen=True)
class HeadOptions:
    """Which head: "ce" (linear) or "wcdas", with its starting scale s' and concentration g."""

    kind: str
    scale: float
    concentration: float


class Block(nn.Module):
    """Two 3×3 convolutions and a shortcut without parameters (type A)."""

    def __init__(self, channels: int, wider: int, stride: int) -> None:
        """Make a block from `channels` to `wider` channels."""
        super().__init__()
        self.first = nn.Conv2d(channels, wider, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(wider)
        self.second = nn.Conv2d(wider, wider, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(wider)
        self.stride, self.more = stride, wider - channels

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, wider, H / stride, W / stride)."""
        hidden = nn.functional.relu(self.first_norm(self.first(x)))
        hidden = self.second_norm(self.second(hidden))
        short = x[:, :, :: self.stride, :: self.stride]
        if self.more:
            half = self.more // 2
            short = nn.functional.pad(short, (0, 0, 0, 0, half, self.more - half))
        return nn.functional.relu(hidden + short)


class Encoder(nn.Module):
    """Images (N, 3, H, W) to features (N, D), all of them at least 0."""

    def __init__(self, size: str) -> None:
        """Make the encoder of a size. Raises ValueError for an unknown one."""
        super().__init__()
        known("size", size, SIZES)
        layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, 1, 1, bias=False)]
        layers += [nn.BatchNorm2d(16), nn.ReLU()]
        channels = 16
        for blocks, wider, stride in STAGES[size]:
            for index in range(blocks):
                layers.append(Block(channels, wider, 1 if index else stride))
                channels = wider
        self.layers = nn.Sequential(*layers)
        self.dimensions = channels
        # Channels last is 1.5 times as fast on one core.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> Tensor:
        """Return the features."""
        maps: Tensor = self.layers(images.contiguous(memory_format=torch.channels_last))
        return maps.mean(dim=(2, 3)).float()


class WcdasHead(nn.Module):
    """Logits from the angle between features and class vectors, bounded by scale and γ."""

    def __init__(self, dimensions: int, classes: int, options: HeadOptions) -> None:
        """Make a head that starts at the scale s' and concentration g of the options."""
        super().__init__()
        self.weight = Parameter(torch.randn(classes, dimensions) / math.sqrt(dimensions))
        self.concentration = Parameter(torch.full((classes,), options.concentration))
        self.raw_scale = Parameter(torch.tensor(options.scale))

    def forward(self, features_ND: Tensor) -> Tensor:
        """Return logits, (N, C)."""
        cosine_NC = nn.functional.linear(
            nn.functional.normalize(features_ND, dim=1), nn.functional.normalize(self.weight, dim=1)
        )
        return wrapped_cauchy(cosine_NC, self.gamma(), self.scale())

    def least_loss(self) -> Tensor:
        """Return the least cross-entropy that any features could have, mean over the classes.

        The right class at an angle of 0, all others at 180 degrees, by today's s and γ.
        """
        scale, gamma_C = self.scale().detach(), self.gamma().detach()
        ends_2C = wrapped_cauchy(gamma_C.new_tensor([[1.0], [-1.0]]), gamma_C, scale)
        best_C, worst_C = ends_2C.double().exp()
        others_C = worst_C.sum() - worst_C
        return torch.log1p(others_C / best_C).mean()

    def gamma(self) -> Tensor:
        """Return the concentration of each class, (C,), in (0, 1)."""
        return torch.sigmoid(self.concentration)

    def scale(self) -> Tensor:
        """Return s, above 1."""
        return nn.functional.softplus(self.raw_scale) + 1.0


def wrapped_cauchy(cosine_NC: Tensor, gamma_C: Tensor, scale: Tensor) -> Tensor:
    """Return s times the density of a wrapped Cauchy distribution at the angle, (N, C)."""
    spread = 1.0 + gamma_C.square() - 2.0 * gamma_C * cosine_NC
    return scale / (2.0 * math.pi) * (1.0 - gamma_C.square()) / spread


def wcdas_range(options: HeadOptions) -> tuple[float, float]:
    """Return the least and the greatest logit that WCDAS can give as it starts."""
    gamma = torch.sigmoid(torch.tensor(options.concentration, dtype=torch.float64))
    scale = nn.functional.softplus(torch.tensor(options.scale, dtype=torch.float64)) + 1.0
    ends = wrapped_cauchy(torch.tensor([-1.0, 1.0], dtype=torch.float64), gamma, scale)
    return float(ends[0]), float(ends[1])


class LongtailNet(nn.Module):
    """Everything that trains, and the prototypes that follow."""

    def __init__(self, size: str, classes: int, head: HeadOptions) -> None:
        """Make the net of a size. Raises ValueError for an unknown size or head."""
        super().__init__()
        known("classifier", head.kind, HEADS)
        self.encoder = Encoder(size)
        wide = self.encoder.dimensions
        self.diffusion = Diffusion(size, wide, classes)
        self.head: nn.Module = (
            nn.Linear(wide, classes) if head.kind == "ce" else WcdasHead(wide, classes, head)
        )
        self.register_buffer("bright", torch.ones(()))
        self.register_buffer("prototype_CD", torch.zeros(classes, wide))
        self.register_buffer("radius_C", torch.zeros(classes))

    def groups(self) -> dict[str, list[Parameter]]:
        """Return the parameters by group, from input to output."""
        parts = (self.encoder, self.diffusion, self.head)
        return {n: list(part.parameters()) for n, part in zip(GROUPS, parts, strict=True)}

    def latents(self, features_ND: Tensor) -> Tensor:
        """Scale features to about [−1, 1]: 2 f / bright − 1."""
        return 2.0 * features_ND / self.get_buffer("bright") - 1.0

    def features_of(self, latents_ND: Tensor) -> Tensor:
        """Undo `latents`."""
        features_ND: Tensor = (latents_ND + 1.0) * self.get_buffer("bright") / 2.0
        return features_ND

    @torch.no_grad()
    def start_prototypes(self, features_ND: Tensor, label_N: Tensor) -> None:
        """Set the scale of the latents and each class's mean and mean distance from it."""
        flat = features_ND.flatten().double().sort().values
        bright = flat[int(BRIGHT * (len(flat) - 1))].float()
        self.get_buffer("bright").copy_(bright.clamp(min=1e-6))
        self._move(self.latents(features_ND), label_N, kept=0.0)

    @torch.no_grad()
    def follow(self, latents_ND: Tensor, label_N: Tensor) -> None:
        """Move the prototypes and radii of a batch's classes by 0.3 towards the batch's."""
        self._move(latents_ND, label_N, KEPT)

    def _move(self, latents_ND: Tensor, label_N: Tensor, kept: float) -> None:
        prototype_CD, radius_C = self.get_buffer("prototype_CD"), self.get_buffer("radius_C")
        class_C = torch.arange(len(radius_C), device=label_N.device)
        hot_NC = (label_N[:, None] == class_C).to(latents_ND.dtype)
        count_C = hot_NC.sum(dim=0)
        there_C, size_C = count_C > 0.0, count_C.clamp(min=1.0)
        mean_CD = hot_NC.T @ latents_ND / size_C[:, None]
        moved_CD = kept * prototype_CD + (1.0 - kept) * mean_CD
        prototype_CD.copy_(torch.where(there_C[:, None], moved_CD, prototype_CD))
        away_N = (latents_ND - hot_NC @ prototype_CD).norm(dim=1)
        moved_C = kept * radius_C + (1.0 - kept) * (hot_NC.T @ away_N) / size_C
        radius_C.copy_(torch.where(there_C, moved_C, radius_C))


def group_names(*, encoder: bool, diffusion: bool) -> tuple[str, ...]:
    """Name the groups that are meant to train: an encoder at rate 0 and an unused part are not."""
    idle = {name for name, trains in (("encoder", encoder), ("diffusion", diffusion)) if not trains}
    return tuple(name for name in GROUPS if name not in idle)


def known(key: str, value: str, allowed: Sequence[str]) -> None:
    """Raise ValueError for a value that is not allowed."""
    if value not in allowed:
        raise ValueError(f"{key}: {value!r} is not known; choose one of {', '.join(allowed)}")
