"""Small graphs of three kinds, classified by a message-passing net.

N graphs · M nodes · F numbers of a node
"""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from docs.tools.corpus.tasks.classes import (
    class_constant,
    class_losses,
    class_measure,
    class_truth,
)
from docs.tools.corpus.training.nets import Net
from docs.tools.corpus.training.settings import Settings
from docs.tools.corpus.training.task import Data, Task, splits, total
from sickbay.trials.contract import TaskKind

NODES = 8
FEATURES = 4
KINDS = 3


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


GRAPHS = Task(
    name="graphs",
    kind=TaskKind.MULTICLASS,
    settings=Settings(
        n_train=1000, n_val=300, n_test=1500, batch=125, width=24, noise=0.5, lr=5e-3
    ),
    data=graphs,
    build=graph_net,
    losses=class_losses,
    constant=lambda y, settings: class_constant(y, settings, KINDS),
    truth=class_truth,
    measure=class_measure,
    predicted=lambda output: output.softmax(-1),
    wanted=lambda y: functional.one_hot(y, KINDS).float(),
    epochs=25,
    vary=lambda settings, seed: replace(settings, n_val=(100, 300, 1000)[seed % 3]),
)
