"""Sets without an order: graphs of three kinds, point sets of four shapes, offers to choose from.

N sets · M members (nodes, points, offers) · F numbers of a member
"""

import math
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from docs.tools.corpus.tasks.classes import class_task
from docs.tools.corpus.training.nets import Net, perceptron
from docs.tools.corpus.training.settings import Settings
from docs.tools.corpus.training.task import Data, splits, total

NODES = 8
FEATURES = 4
KINDS = 3
POINTS = 16
SHAPES = 4
OFFERS = 6
TRAITS = 5


class Messages(nn.Module):
    """Each node adds what its neighbours send; the graph's matrix travels along, (N, M, M + F)."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.own, self.sent = nn.Linear(inputs, width), nn.Linear(inputs, width)

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        return self.own(nodes) + edges @ self.sent(nodes) / 2.0


class GraphNet(Net):
    """Two rounds of messages and a linear block, summed over the nodes."""

    def encode(self, x: Tensor) -> list[Tensor]:
        edges, nodes = x[..., :NODES], x[..., NODES:]
        hidden: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            nodes = self.activate(
                block(nodes, edges) if isinstance(block, Messages) else block(nodes)
            )
            if index + 1 == min(self.cut, len(self.blocks)):
                nodes = nodes.detach()
            hidden.append(nodes.mean(1))
            nodes = functional.dropout(nodes, self.dropout, self.training)
        return hidden


def graph_net(settings: Settings) -> Net:
    """Return the net of the graph task."""
    width = settings.width
    blocks = [Messages(FEATURES, width), Messages(width, width), nn.Linear(width, width)]
    return GraphNet(blocks, nn.Linear(width, KINDS), settings)


def graphs(settings: Settings, seed: int) -> Data:
    """Random graphs; the kind is how alike neighbours are: unlike, neither, or alike."""
    generator = torch.Generator().manual_seed(seed)
    n = total(settings)
    edges = (torch.rand(n, NODES, NODES, generator=generator) < 0.3).float().triu(1)
    edges = edges + edges.transpose(1, 2)
    nodes = torch.randn(n, NODES, FEATURES, generator=generator)
    alike = (nodes[..., 0:1] * edges @ nodes[..., 0:1]).sum((1, 2))
    alike = alike + settings.noise * torch.randn(n, generator=generator)
    y = torch.bucketize(alike, alike.quantile(torch.tensor([0.3, 0.6])))
    return splits(torch.cat([edges, nodes], dim=2), y, settings)


class SetNet(Net):
    """Blocks over each point; the largest value over the points goes into the last block."""

    def encode(self, x: Tensor) -> list[Tensor]:
        hidden: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            pooled = x.amax(1) if index + 1 == len(self.blocks) else x
            x = self.activate(block(pooled))
            if index + 1 == min(self.cut, len(self.blocks)):
                x = x.detach()
            hidden.append(x.amax(1) if x.dim() == 3 else x)
            x = functional.dropout(x, self.dropout, self.training)
        return hidden


def point_net(settings: Settings) -> Net:
    """Return the net of the point sets."""
    width = settings.width
    blocks = [nn.Linear(2, width), nn.Linear(width, width), nn.Linear(width, width)]
    return SetNet(blocks, nn.Linear(width, SHAPES), settings)


def points(settings: Settings, seed: int) -> Data:
    """Sixteen points on a ring, in a disc, in two heaps or on a line, stretched and turned."""
    generator = torch.Generator().manual_seed(seed)
    n = total(settings)
    y = torch.randint(SHAPES, (n,), generator=generator)
    turn, radius = torch.rand(2, n, POINTS, generator=generator)
    angle = 2.0 * math.pi * turn
    ring = torch.stack([angle.cos(), angle.sin()], dim=2)
    disc = ring * radius.sqrt()[..., None]
    flat = torch.zeros_like(radius)
    heaps = torch.stack([(turn - 0.5).sign(), flat], dim=2)
    line = torch.stack([2.0 * radius - 1.0, flat], dim=2)
    x = torch.stack([ring, disc, heaps, line])[y, torch.arange(n)]
    scale = 0.7 + 0.6 * torch.rand(n, 1, 1, generator=generator)
    way = 2.0 * math.pi * torch.rand(n, generator=generator)
    axes = torch.stack([way.cos(), way.sin(), -way.sin(), way.cos()], dim=1).view(n, 2, 2)
    noise = settings.noise * torch.randn(n, POINTS, 2, generator=generator)
    return splits(settings.signal * scale * x @ axes + noise, y, settings)


class ChoiceNet(Net):
    """One net scores every offer; the scores of a set are its logits."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[..., 0]

    def features(self, x: Tensor) -> Tensor:
        return self.encode(x)[-1].mean(1)


def choice_net(settings: Settings) -> Net:
    """Return the net that scores offers."""
    plain = perceptron(TRAITS, 1, settings)
    return ChoiceNet(list(plain.blocks), plain.head, settings)


def choices(settings: Settings, seed: int) -> Data:
    """Six offers of five traits; the one of the greatest worth, a curved function, is taken."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(total(settings), OFFERS, TRAITS, generator=generator)
    worth = x[..., 0] - 0.7 * x[..., 1].square() + x[..., 2] * x[..., 3].tanh()
    uniform = torch.rand(worth.shape, generator=generator).clamp(1e-6, 1.0 - 1e-6)
    taken = settings.signal * worth - settings.noise * torch.log(-torch.log(uniform))
    return splits(x, taken.argmax(1), settings)


GRAPHS = class_task(
    "graphs",
    settings=Settings(
        n_train=1000, n_val=300, n_test=1500, batch=125, width=24, noise=0.5, lr=5e-3
    ),
    data=graphs,
    build=graph_net,
    classes=KINDS,
    epochs=25,
    vary=lambda settings, seed: replace(settings, n_val=(100, 300, 1000)[seed % 3]),
)
POINT_SETS = class_task(
    "point_sets",
    settings=Settings(n_train=800, n_val=300, n_test=1500, batch=100, width=24, noise=0.15),
    data=points,
    build=point_net,
    classes=SHAPES,
    epochs=20,
    vary=lambda settings, seed: replace(
        settings,
        **({}, {"optimizer": "sgd", "lr": 0.05})[seed % 2],
        n_val=(100, 300, 1000)[seed % 3],
    ),
)
CHOICES = class_task(
    "choices",
    settings=Settings(
        activation="tanh", n_train=1000, n_val=400, n_test=2000, batch=100, depth=2, lr=2e-3
    ),
    data=choices,
    build=choice_net,
    classes=OFFERS,
    epochs=40,
    vary=lambda settings, seed: replace(settings, schedule=("constant", "cosine")[seed % 2]),
)
