"""Small nets of three blocks and a head, with the handles that faults take hold of.

B samples · L layers · G parameter groups, from input to output
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import Parameter, functional

from docs.tools.corpus.training.settings import Settings

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "gelu": functional.gelu,
    "none": lambda x: x,
}


class Net(nn.Module):
    """Blocks with an activation after each, then a head. `cut` blocks get no gradient."""

    def __init__(self, blocks: Sequence[nn.Module], head: nn.Module, settings: Settings) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.head = head
        self.activate = ACTIVATIONS[settings.activation]
        self.dropout = settings.dropout
        self.cut = settings.cut_groups

    def encode(self, x: Tensor) -> list[Tensor]:
        """Return the output of every block, after its activation."""
        hidden: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            x = self.activate(block(x))
            if index + 1 == min(self.cut, len(self.blocks)):
                x = x.detach()
            hidden.append(x)
            x = functional.dropout(x, self.dropout, self.training)
        return hidden

    def features(self, x: Tensor) -> Tensor:
        """Return what the head sees, without dropout, flattened to (B, D)."""
        return self.encode(x)[-1].flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        features = functional.dropout(self.encode(x)[-1], self.dropout, self.training)
        return self.head(features)

    def groups(self) -> dict[str, list[Parameter]]:
        """Return the parameters by group, from input to output."""
        named = [(f"block{i + 1}", block) for i, block in enumerate(self.blocks)]
        named.append(("head", self.head))
        groups = {name: list(module.parameters()) for name, module in named}
        return {name: parameters for name, parameters in groups.items() if parameters}


class Recurrent(nn.Module):
    """A GRU whose output at every step is handed on."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.gru = nn.GRU(inputs, width, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.gru(x)[0]


def perceptron(inputs: int, outputs: int, settings: Settings) -> Net:
    """Return `depth` linear blocks of `width` units and a linear head."""
    sizes = [inputs] + [settings.width] * settings.depth
    blocks = [nn.Linear(a, b) for a, b in pairwise(sizes)]
    return Net(blocks, nn.Linear(settings.width, outputs), settings)


@torch.no_grad()
def spoil_start(net: nn.Module, settings: Settings) -> None:
    """Scale, zero or shift the initial parameters as the settings say."""
    groups = list(net.groups().values())
    zeroed = {"": [], "last": groups[-1:], "hidden": groups[:-1], "all": groups}[settings.zeroed]
    for group in groups:
        for parameter in group:
            if parameter.dim() > 1:
                parameter.mul_(settings.init_scale)
    for parameter in (parameter for group in zeroed for parameter in group):
        parameter.zero_()
    if settings.hidden_bias:
        for parameter in (parameter for group in groups[:-1] for parameter in group):
            if parameter.dim() == 1:
                parameter.fill_(settings.hidden_bias)


@torch.no_grad()
def layer_signals(hidden: Sequence[Tensor], activation: str) -> dict[str, float | list[float]]:
    """Return, by layer, the share of units dead on the probe batch and of outputs in the tails."""
    flat = [layer.flatten(1) if layer.dim() < 4 else layer.amax((2, 3)) for layer in hidden]
    signals: dict[str, float | list[float]] = {}
    if activation == "relu":
        dead = [float((layer <= 0.0).all(0).double().mean()) for layer in flat]
        signals["dead_unit_share"] = dead
        signals["dead_unit_n"] = float(len(flat[0]))
        signals["layer_units"] = [float(layer.shape[1]) for layer in flat]
    if activation in ("tanh", "sigmoid"):
        tail = [
            layer.abs() if activation == "tanh" else (2.0 * layer - 1.0).abs() for layer in flat
        ]
        signals["saturated_share"] = [float((layer > 0.99).double().mean()) for layer in tail]
    return signals


@torch.no_grad()
def spread(features: Tensor) -> float:
    """Return the root of the mean variance of (B, D) features; NaN if one is not finite."""
    return float(features.double().var(dim=0).mean().sqrt())


@torch.no_grad()
def effective_rank(features: Tensor) -> float:
    """Return RankMe, exp of the entropy of the normalised singular values; NaN if not finite."""
    features = features.double()
    if not bool(torch.isfinite(features).all()):
        return math.nan
    if not bool((features != 0.0).any()):
        return 1.0
    gram = features.T @ features if features.shape[1] <= len(features) else features @ features.T
    values = torch.linalg.eigvalsh(gram).clamp_min(0.0).sqrt()
    share = values / values.sum()
    return float(torch.exp(-(share * torch.log(share + 1e-12)).sum()))
