"""A PointNet++ whose head predicts a mixture of von Mises: the ways in which an object may face.

B clouds · N points · S centroids · M neighbours · C channels · K components

After Qi et al., PointNet++ (2017), with the departures of the system this re-creates: in training,
centroids are a random subset instead of farthest points; neighbours are the nearest M instead of a
ball. In evaluation the centroids are farthest points, so that it is deterministic.

The trap this model is about lies in the μ head. It predicts a vector per component whose direction
is the angle. With weights and biases at zero the vector is (0, 0), and there every usual formula
for the angle has gradient exactly zero, so that the head never moves, under any loss.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sickbay.models.orientation.mixture import Mixture
from sickbay.models.shared.compilation import Layers

INITIALIZATIONS = ("zeros", "preset", "random", "tiny", "same")
GUARDS = ("where", "none", "eps-shift")
KAPPA_MAX = 200.0
TINY_STD = 1e-2
SAME_ANGLE = math.radians(40.0)  # any angle but 0 will do


@dataclass(frozen=True)
class Stage:
    """One set abstraction: how many centroids, how many neighbours each, the channels after it."""

    centroids: int
    neighbours: int
    channels: tuple[int, ...]


@dataclass(frozen=True)
class Architecture:
    """Stages that group, the channels of the global stage, then the fully connected trunk."""

    stages: tuple[Stage, ...]
    whole: tuple[int, ...]
    trunk: tuple[int, ...]


ARCHITECTURES = {
    "small": Architecture((Stage(32, 16, (32, 64)),), (128, 256), (128,)),
    "full": Architecture(
        (Stage(128, 32, (64, 64, 128)), Stage(32, 32, (128, 128, 256))),
        (256, 512, 1024),
        (512, 256),
    ),
}


@dataclass(frozen=True)
class HeadOptions:
    """The choices of the head: components, how μ starts, how its angle is taken, temperature.

    `offset` turns the angles that μ starts from, in radians; `fixed` keeps its bias, and with it
    those angles, from being trained.
    """

    components: int
    initialization: str
    guard: str
    temperature: float
    offset: float = 0.0
    fixed: bool = False


class OrientationNet(nn.Module):
    """Cloud (B, N, 3) -> mixture of K von Mises over the yaw."""

    def __init__(self, size: str, head: HeadOptions, dropout: float) -> None:
        """Build by size name. Raises ValueError for an unknown size, initialization or guard."""
        super().__init__()
        _require("size", size, tuple(ARCHITECTURES))
        _require("initialization", head.initialization, INITIALIZATIONS)
        _require("atan2_guard", head.guard, GUARDS)
        architecture = ARCHITECTURES[size]
        self.size = size
        self.head = head
        self.stages = nn.ModuleList()
        features = 0
        for stage in architecture.stages:
            self.stages.append(SetAbstraction(stage, features + 3))
            features = stage.channels[-1]
        self.whole = _shared_mlp(features + 3, architecture.whole)
        self.trunk = _trunk(architecture.whole[-1], architecture.trunk, dropout)
        width = architecture.trunk[-1]
        self.head_pi = nn.Linear(width, head.components)
        self.head_mu = nn.Linear(width, 2 * head.components)
        self.head_kappa = nn.Linear(width, head.components)
        nn.init.zeros_(self.head_pi.weight)
        nn.init.zeros_(self.head_pi.bias)
        nn.init.zeros_(self.head_kappa.bias)
        initialize_mu(self.head_mu, head.initialization, head.offset)
        self.head_mu.bias.requires_grad_(not head.fixed)

    def forward(self, points_BN3: Tensor, generator: torch.Generator | None = None) -> Mixture:
        """Predict. In training mode centroids are drawn with `generator`; else it is not used."""
        features_BNC: Tensor | None = None
        for stage in self.stages:
            points_BN3, features_BNC = stage(points_BN3, features_BNC, generator)
        joined = points_BN3 if features_BNC is None else torch.cat([points_BN3, features_BNC], -1)
        feature_BC = self.trunk(_pooled(self.whole, joined))
        return self._mixture(feature_BC)

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """Name the parameters by group, from input to output, as `group_names` does."""
        heads = (self.head_pi, self.head_mu, self.head_kappa)
        modules: list[nn.Module] = [*self.stages, self.whole, self.trunk, *heads]
        parameters = [[p for p in module.parameters() if p.requires_grad] for module in modules]
        return dict(zip(group_names(self.size), parameters, strict=True))

    def layers(self) -> list[nn.Module]:
        """Return the parts that compute: all but the choice of centroids and neighbours."""
        stages = [layer for stage in self.stages for layer in stage.children()]
        return [*stages, self.whole, self.trunk, self.head_pi, self.head_mu, self.head_kappa]

    def component_gradients(self) -> Tensor | None:
        """Return what gradients each component's μ and κ rows hold, (K, D); None without any."""
        mu, kappa = self.head_mu, self.head_kappa
        gradients = (mu.weight.grad, mu.bias.grad, kappa.weight.grad, kappa.bias.grad)
        rows = [g.reshape(self.head.components, -1) for g in gradients if g is not None]
        return torch.cat(rows, dim=1).detach() if rows else None

    def _mixture(self, feature_BC: Tensor) -> Mixture:
        components = self.head.components
        raw_BK2 = self.head_mu(feature_BC).float().reshape(-1, components, 2)
        kappa_BK = functional.softplus(self.head_kappa(feature_BC).float()) + 1e-6
        if components == 1:
            # One weight is always 1. Leaving the head out gives it no gradient, instead of a zero.
            log_weight_BK = torch.zeros_like(kappa_BK)
        else:
            logits_BK = self.head_pi(feature_BC).float() / self.head.temperature
            log_weight_BK = functional.log_softmax(logits_BK, dim=-1)
        mu_BK = angle(raw_BK2, self.head.guard)
        return Mixture(mu_BK, kappa_BK.clamp(max=KAPPA_MAX), log_weight_BK)


class SetAbstraction(nn.Module):
    """Summarise the M nearest points around each of S centroids."""

    def __init__(self, stage: Stage, inputs: int) -> None:
        """Take `inputs` channels a point, the 3 of its relative position included."""
        super().__init__()
        self.stage = stage
        self.mlp = _shared_mlp(inputs, stage.channels)

    def forward(
        self, points_BN3: Tensor, features_BNC: Tensor | None, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Return the centroids (B, S, 3) and their features (B, S, C)."""
        row_B11 = torch.arange(len(points_BN3), device=points_BN3.device)[:, None, None]
        centre_BS3 = points_BN3[row_B11[:, 0], self._centroids(points_BN3, generator)]
        neighbour_BSM = nearest(centre_BS3, points_BN3, self.stage.neighbours)
        grouped = points_BN3[row_B11, neighbour_BSM] - centre_BS3[:, :, None]
        if features_BNC is not None:
            grouped = torch.cat([grouped, features_BNC[row_B11, neighbour_BSM]], dim=-1)
        return centre_BS3, _pooled(self.mlp, grouped)

    def _centroids(self, points_BN3: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return indices (1 or B, S): drawn in training, in evaluation the farthest points."""
        available = points_BN3.shape[1]
        count = min(self.stage.centroids, available)
        if not self.training:
            return farthest(points_BN3, count)
        order_N = torch.randperm(available, generator=generator)
        return order_N[None, :count].to(points_BN3.device)


@torch.no_grad()
def farthest(points_BN3: Tensor, count: int) -> Tensor:
    """Return the indices of `count` points, each the farthest from those before it, (B, S).

    The first one is the point farthest from the origin, the first of several: no randomness.
    """
    gap_BN = torch.full_like(points_BN3[..., 0], math.inf)
    chosen_B1 = points_BN3.square().sum(dim=-1).argmax(dim=-1, keepdim=True)
    chosen = [chosen_B1]
    for _ in range(count - 1):
        centre_B13 = points_BN3.gather(1, chosen_B1[:, :, None].expand(-1, -1, 3))
        gap_BN = torch.minimum(gap_BN, (points_BN3 - centre_B13).square().sum(dim=-1))
        chosen_B1 = gap_BN.argmax(dim=-1, keepdim=True)
        chosen.append(chosen_B1)
    return torch.cat(chosen, dim=1)


def nearest(centre_BS3: Tensor, points_BN3: Tensor, count: int) -> Tensor:
    """Return the indices of the `count` nearest points of each centre, (B, S, M)."""
    with torch.no_grad():
        distance_BSN = torch.cdist(centre_BS3, points_BN3)
        count = min(count, points_BN3.shape[1])
        if distance_BSN.device.type == "cpu":  # numpy needs less than half of torch's time here
            order_BSN = np.argpartition(distance_BSN.numpy(), count - 1, axis=-1)
            return torch.from_numpy(order_BSN[..., :count])
        return distance_BSN.topk(count, dim=-1, largest=False, sorted=False).indices


def angle(raw_BK2: Tensor, guard: str) -> Tensor:
    """Turn (cos, sin) of any length into an angle, shape (B, K), by one of three formulas.

    At raw = (0, 0) the gradient is exactly 0 for `where` (the constants (1, 0) replace the vector)
    and for `none` (atan2's own derivative masks 0/0), and about 1e6 for `eps-shift`.
    """
    if guard == "eps-shift":
        return torch.atan2(raw_BK2[..., 1], raw_BK2[..., 0] + 1e-6)
    unit_BK2 = functional.normalize(raw_BK2, dim=-1, eps=1e-4)
    if guard == "none":
        return torch.atan2(unit_BK2[..., 1], unit_BK2[..., 0])
    short_BK = unit_BK2.detach().norm(dim=-1) < 1e-3
    cosine_BK = torch.where(short_BK, torch.ones_like(unit_BK2[..., 0]), unit_BK2[..., 0])
    sine_BK = torch.where(short_BK, torch.zeros_like(unit_BK2[..., 1]), unit_BK2[..., 1])
    return torch.atan2(sine_BK, cosine_BK)


def group_names(size: str) -> tuple[str, ...]:
    """Name the parameter groups of a size, from input to output. Raises ValueError for another."""
    _require("size", size, tuple(ARCHITECTURES))
    stages = len(ARCHITECTURES[size].stages) + 1
    names = [f"sa{index + 1}" for index in range(stages)]
    return (*names, "trunk", "head_pi", "head_mu", "head_kappa")


def initialize_mu(head_mu: nn.Linear, initialization: str, offset: float = 0.0) -> None:
    """Start the μ head, whose rows are (cos, sin) of each component; `random` leaves it unchanged.

    `offset`, in radians, is added to the angles of `preset` and `same`; the others have none.
    """
    if initialization == "random":
        return
    components = head_mu.out_features // 2
    angles = {
        "preset": [2.0 * math.pi * k / components for k in range(components)],
        "same": [SAME_ANGLE] * components,
    }
    nn.init.zeros_(head_mu.weight)
    if initialization == "zeros":
        nn.init.zeros_(head_mu.bias)
    elif initialization == "tiny":
        nn.init.normal_(head_mu.bias, std=TINY_STD)
    else:
        turned = [theta + offset for theta in angles[initialization]]
        rows = [[math.cos(theta), math.sin(theta)] for theta in turned]
        with torch.no_grad():
            head_mu.bias.copy_(torch.tensor(rows).flatten())


def _shared_mlp(inputs: int, channels: tuple[int, ...]) -> Layers:
    """Build layers for rows of points, without the last ReLU: it comes in `_pooled`."""
    layers: list[nn.Module] = []
    for width in channels:
        # The normalisation brings its own shift: a bias before it would never get a gradient.
        layers += [
            nn.Linear(inputs, width, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(inplace=True),
        ]
        inputs = width
    return Layers(*layers[:-1])


def _trunk(inputs: int, channels: tuple[int, ...], dropout: float) -> Layers:
    layers: list[nn.Module] = []
    for width in channels:
        layers += [nn.Linear(inputs, width), nn.LayerNorm(width), nn.ReLU(), nn.Dropout(dropout)]
        inputs = width
    return Layers(*layers)


class _Maximum(torch.autograd.Function):
    """The maximum over the last but one dimension, with a cheaper gradient than `amax` has.

    Ties all receive the whole gradient instead of a share; they occur only where points coincide.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        largest = values.amax(dim=-2)
        ctx.save_for_backward(values, largest)
        return largest

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        values, largest = ctx.saved_tensors
        # In place: the comparison yields 0.0 and 1.0, in half the time of a cast from bool.
        chosen: Tensor = values.clone().eq_(largest.unsqueeze(-2))
        return chosen.mul_(gradient.unsqueeze(-2))


def _pooled(mlp: Layers, grouped: Tensor) -> Tensor:
    """Apply a shared MLP to (…, M, C) and take the maximum over M: ReLU commutes with it."""
    rows: Tensor = mlp(grouped.flatten(0, -2))
    largest: Tensor = _Maximum.apply(rows.reshape(*grouped.shape[:-1], -1))  # type: ignore[no-untyped-call]
    return functional.relu(largest)


def _require(key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{key}: {value!r} is not known; choose one of {', '.join(allowed)}")
