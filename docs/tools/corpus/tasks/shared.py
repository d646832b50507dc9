"""Two tasks with more than a net and a loss: a shared pretrained encoder, and a weight map.

N samples · C channels · F side of the feature map
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from docs.tools.corpus.tasks.classes import (
    SHAPES,
    SIDE,
    class_constant,
    class_losses,
    class_measure,
    class_truth,
)
from docs.tools.corpus.training.nets import Net, perceptron
from docs.tools.corpus.training.settings import Settings
from docs.tools.corpus.training.task import (
    Data,
    Outcome,
    Signals,
    Task,
    gained,
    mean_and_error,
    splits,
    total,
)
from sickbay.trials.contract import TaskKind

HIDDEN = 6
INPUTS = 16
REFERENCES = 512
PRETRAINING = 60
BATCHES = 8  # in which the losses' gradients are compared
FIELD = SIDE // 2


def world(n: int, seed: int, noise: float) -> tuple[Tensor, Tensor]:
    """Return inputs (N, 16) and the six hidden causes (N, 6)."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(HIDDEN, INPUTS, generator=torch.Generator().manual_seed(10_007))
    hidden = torch.randn(n, HIDDEN, generator=generator)
    x = hidden @ mixing / math.sqrt(HIDDEN)
    return x + noise * torch.randn(n, INPUTS, generator=generator), hidden


def references(hidden: Tensor) -> Tensor:
    """The four classes of the pretraining task: the quadrant of the first two causes."""
    return (2 * (hidden[:, 0] > 0) + (hidden[:, 1] > 0)).long()


def two_targets(settings: Settings, seed: int) -> Data:
    """Two numbers to predict at once, from causes that the pretraining task does not need."""
    x, hidden = world(total(settings), seed, settings.noise)
    first = hidden[:, 2].tanh() + 0.5 * hidden[:, 0]
    second = hidden[:, 3] + 0.5 * hidden[:, 4] * hidden[:, 1].sign()
    return splits(x, settings.signal * torch.stack([first, second], dim=1), settings)


def parts(output: Tensor, y: Tensor, settings: Settings) -> Tensor:
    """The two losses of each sample, (N, 2); a fault lets the second pull at the first's output."""
    losses = (output - y) ** 2
    against = settings.opposed * (output[:, 0] + y[:, 0]) ** 2
    return torch.stack([losses[:, 0], losses[:, 1] + against], dim=1)


def shared_truth(output: Tensor, y: Tensor, constant: Tensor) -> Outcome:
    """Judge each task by its explained variance; the worse one's skill counts."""
    each = [gained((output[:, i] - y[:, i]) ** 2, (constant[:, i] - y[:, i]) ** 2) for i in (0, 1)]
    return Outcome(
        sum(outcome.score for outcome in each) / 2.0, min(outcome.lower for outcome in each)
    )


def pretrain(net: Net, settings: Settings, seed: int) -> dict[str, Any]:
    """Train the encoder on the reference task, and remember what it knew before the tuning."""
    x, hidden = world(3 * REFERENCES + 1024, seed + 500_000, settings.noise)
    label = references(hidden)
    head = nn.Linear(settings.width, 4)
    optimizer = torch.optim.Adam([*net.blocks.parameters(), *head.parameters()], lr=3e-3)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(PRETRAINING):
        rows = torch.randint(1024, (128,), generator=generator)
        loss = functional.cross_entropy(head(net.features(x[rows])), label[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    net.zero_grad()
    net.eval()
    memory = {"x": x[1024:-REFERENCES], "label": label[1024:-REFERENCES]}
    memory |= {"hidden_x": x[-REFERENCES:], "hidden_label": label[-REFERENCES:]}
    memory["hits"] = reference_hits(net, memory)
    memory["features"] = net.features(memory["x"][:256]).detach()
    return memory


@torch.no_grad()
def reference_hits(net: Net, memory: dict[str, Any], hidden: bool = False) -> Tensor:
    """Which reference samples lie nearest to their own class's mean, (512,)."""
    features, label = net.features(memory["x"]), memory["label"]
    known, asked = features[:REFERENCES], features[REFERENCES:]
    means = torch.stack([known[label[:REFERENCES] == c].mean(0) for c in range(4)])
    if hidden:
        asked, wanted = net.features(memory["hidden_x"]), memory["hidden_label"]
    else:
        wanted = label[REFERENCES:]
    return torch.cdist(asked, means).argmin(1) == wanted


@torch.no_grad()
def hidden_reference(net: Net, memory: dict[str, Any]) -> float:
    """The reference skill on samples that no signal was measured on."""
    return float(reference_hits(net, memory, hidden=True).double().mean())


def shared_watch(net: Net, data: Data, settings: Settings, memory: dict[str, Any]) -> Signals:
    """What is left of the reference skill, and how the two losses' gradients meet."""
    return reference_signals(net, memory) | _gradients(net, data, settings)


def reference_signals(net: Net, memory: dict[str, Any]) -> Signals:
    """What is left of the reference skill, and how far the features have moved."""
    hits, start = reference_hits(net, memory), memory["hits"]
    _, error = mean_and_error(start.double() - hits.double())
    return {
        "encoder_reference_skill": float(hits.double().mean()),
        "encoder_reference_skill_start": float(start.double().mean()),
        "encoder_reference_n": float(REFERENCES),
        "encoder_reference_drop_se": max(error, 1.0 / REFERENCES),
        "encoder_cka": alignment(net.features(memory["x"][:256]).detach(), memory["features"]),
    }


def alignment(features: Tensor, other: Tensor) -> float:
    """Linear CKA of two sets of features of the same samples."""
    features, other = (part.double() - part.double().mean(0) for part in (features, other))
    cross = (features.T @ other).square().sum()
    return float(cross / ((features.T @ features).norm() * (other.T @ other).norm()))


def _gradients(net: Net, data: Data, settings: Settings) -> Signals:
    cosines, norms, losses = [], [], []
    x, y = data.train.x[: BATCHES * 32], data.train.y[: BATCHES * 32]
    with torch.enable_grad():
        features = net.features(x).detach().requires_grad_()
        each = parts(net.head(features), y, settings).mean(0)
        grads = [torch.autograd.grad(loss, features, retain_graph=True)[0] for loss in each]
    for first, second in zip(*(grad.split(32) for grad in grads), strict=True):
        cosines.append(float(functional.cosine_similarity(first.sum(0), second.sum(0), dim=0)))
    norms = [float(grad.norm()) for grad in grads]
    losses = each.tolist()
    constant = SHARED.constant(data.train.y, settings).expand(len(y), 2)
    return {
        "loss_gradient_cosine": cosines,
        "loss_gradient_norms": norms,
        "task_losses": losses,
        "task_floors": parts(constant, y, settings).mean(0).tolist(),
    }


def placed_bars(settings: Settings, seed: int) -> Data:
    """Two bars in one image; the target is the direction of the one near the given place.

    Inputs are the image's pixels and the place, (N, 146).
    """
    generator = torch.Generator().manual_seed(seed)
    n = total(settings)
    row, column = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    y = torch.randint(SHAPES, (n, 2), generator=generator)
    left = torch.rand(n, 2, generator=generator) * torch.tensor([7.0, 2.0]) + 2.0
    right = torch.rand(n, 2, generator=generator) * torch.tensor([7.0, 2.0]) + torch.tensor(
        [2.0, 7.5]
    )
    image = settings.noise * torch.randn(n, SIDE, SIDE, generator=generator)
    for index, place in enumerate((left, right)):
        angle = (y[:, index] * math.pi / SHAPES)[:, None, None]
        down, across = row - place[:, :1, None], column - place[:, 1:, None]
        off = down * torch.cos(angle) - across * torch.sin(angle)
        along = down * torch.sin(angle) + across * torch.cos(angle)
        bar = torch.exp(-((off / 0.8) ** 2) - (along / 2.5) ** 4)
        image = image + 1.5 * settings.signal * bar
    asked = torch.randint(2, (n,), generator=generator)
    place = torch.where(asked[:, None] == 0, left, right)
    x = torch.cat([image.flatten(1), place], dim=1)
    return splits(x, y.gather(1, asked[:, None])[:, 0], settings)


class MapNet(Net):
    """A convolution, a Gaussian weight map over its features, a convolution, a linear block."""

    def __init__(self, settings: Settings) -> None:
        blocks = [
            nn.Conv2d(1, 8, 3, stride=2, padding=1),
            nn.Conv2d(8, 16, 3, stride=2, padding=1),
            nn.Sequential(nn.Flatten(), nn.Linear(16 * 9, settings.width)),
        ]
        super().__init__(blocks, nn.Linear(settings.width, SHAPES), settings)
        self.settings = settings
        self.modulated = True

    def maps(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the map as composed and as multiplied with the features, each (N, F, F)."""
        options = self.settings
        grid = torch.arange(FIELD) * 2.0
        near = (grid[None, :, None] - x[:, -2, None, None]) ** 2
        near = near + (grid[None, None, :] - x[:, -1, None, None]) ** 2
        bump = torch.exp(-near / (2.0 * options.map_sigma**2))
        before = options.map_base + (1.0 - options.map_base) * bump
        return before, before * options.map_gain / options.map_divisor

    def encode(self, x: Tensor) -> list[Tensor]:
        image = x[:, :-2].view(-1, 1, SIDE, SIDE)
        first = self.activate(self.blocks[0](image))
        if self.cut >= 1:
            first = first.detach()
        seen = first * self.maps(x)[1][:, None] if self.modulated else first
        second = self.activate(
            self.blocks[1](functional.dropout(seen, self.dropout, self.training))
        )
        third = self.activate(self.blocks[2](second.detach() if self.cut == 2 else second))
        return [first, second, third.detach() if self.cut >= 3 else third]


@torch.no_grad()
def map_watch(net: MapNet, data: Data, settings: Settings, memory: dict[str, Any]) -> Signals:
    """The map before and after, the energy it leaves, and the loss without it."""
    x, y = data.val.x, data.val.y
    before, after = net.maps(x[:128])
    features = net.encode(x[:128])[0].square().sum((1, 2, 3))
    weighted = (net.encode(x[:128])[0] * after[:, None]).square().sum((1, 2, 3))
    ratio = weighted / features.clamp_min(1e-30)
    pixels = after.flatten(1)
    support = pixels.sum(1) ** 2 / pixels.square().sum(1).clamp_min(1e-30) / pixels.shape[1]
    with_map = class_losses(net(x), y, settings)
    net.modulated = False
    without = class_losses(net(x), y, settings)
    net.modulated = True
    plain, plain_error = mean_and_error(without)
    return {
        "map_mean_before": float(before.mean()),
        "map_mean_after": float(after.mean()),
        "map_max": float(after.max()),
        "map_min": float(after.min()),
        "map_effective_support": float(support.mean()),
        "feature_energy_ratio": float(weighted.sum() / features.sum().clamp_min(1e-30)),
        "feature_energy_ratio_se": mean_and_error(ratio)[1],
        "val_loss_unmodulated": plain,
        "val_loss_unmodulated_se": plain_error,
        "val_modulation_gap_se": mean_and_error(with_map - without)[1],
    }


SHARED = Task(
    name="shared",
    kind=TaskKind.REGRESSION,
    settings=Settings(n_train=512, batch=128, noise=0.2, lr=4e-3),
    data=two_targets,
    build=lambda settings: perceptron(INPUTS, 2, settings),
    losses=lambda output, y, settings: parts(output, y, settings).sum(1),
    constant=lambda y, settings: torch.stack(
        [y[:, 0].mean() * (1.0 - settings.opposed) / (1.0 + settings.opposed), y[:, 1].mean()]
    )[None],
    truth=shared_truth,
    watch=shared_watch,
    prepare=pretrain,
    kept=hidden_reference,
)
WEIGHT_MAP = Task(
    name="weight_map",
    kind=TaskKind.MULTICLASS,
    settings=Settings(n_train=600, n_val=400, n_test=1024, batch=150, noise=0.2, map_base=0.3),
    data=placed_bars,
    build=MapNet,
    losses=class_losses,
    constant=class_constant,
    truth=class_truth,
    measure=class_measure,
    watch=map_watch,
    predicted=lambda output: output.softmax(-1),
    wanted=lambda y: functional.one_hot(y, SHAPES).float(),
    bounds={"map_max": (0.0, 1.0)},
)
