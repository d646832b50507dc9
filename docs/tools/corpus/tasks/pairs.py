"""Things that meet: views of one thing (InfoNCE), a person and what is rated, two rivals, an anchor
and two candidates (triplets), the nodes of a link.

N pairs · B pairs of a batch · D numbers of a view · E of an embedding
"""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from docs.tools.corpus.tasks.classes import binary_task
from docs.tools.corpus.tasks.numbers import curve_task
from docs.tools.corpus.training.nets import Net, perceptron
from docs.tools.corpus.training.settings import Settings, other_optimizer
from docs.tools.corpus.training.task import Data, Outcome, Signals, Task, matched, splits, total
from sickbay.trials.contract import TaskKind

HIDDEN = 5
VIEW = 16
EMBEDDED = 8
BATCH = 64  # among so many the partner must be found
TEMPERATURE = 0.2
PEOPLE = 50
THINGS = 40
TASTES = 3
TRAITS = 6  # of a rival
BITS = 3  # that make up the class of an item of a triplet
UNTRAINED = 0.55  # accuracy of a random encoder, at most: items of a class have a common mean
IDLE = 4  # columns of an item that are noise
NODES = 120  # of a network
ROLES = 5


class PairNet(Net):
    """One encoder for both views, which stand beside each other, (N, 2 D); the same for outputs."""

    views = 2

    def encode(self, x: Tensor) -> list[Tensor]:
        views = torch.cat(x.chunk(self.views, dim=1))
        return [torch.cat(layer.chunk(self.views), dim=1) for layer in super().encode(views)]

    def forward(self, x: Tensor) -> Tensor:
        features = torch.cat(self.features(x).chunk(self.views, dim=1))
        features = functional.dropout(features, self.dropout, self.training)
        return torch.cat(self.head(features).chunk(self.views), dim=1)


def pair_net(settings: Settings, net: type[PairNet] = PairNet, inputs: int = VIEW) -> Net:
    """The blocks of a perceptron over one view, and a linear projection."""
    plain = perceptron(inputs, EMBEDDED, settings)
    return net(list(plain.blocks), nn.Linear(settings.width, EMBEDDED), settings)


def views(settings: Settings, seed: int) -> Data:
    """Two noisy mixtures of the same five causes, and the number of the pair.

    Labels of a pair tell nothing; shuffled labels are views that do not belong together.
    """
    generator = torch.Generator().manual_seed(seed)
    fixed = torch.Generator().manual_seed(10_007)
    n = total(settings)
    hidden = torch.randn(n, HIDDEN, generator=generator)
    noise = settings.noise * torch.randn(n, 2 * VIEW, generator=generator)
    first, second = (
        (settings.signal * hidden @ torch.randn(HIDDEN, VIEW, generator=fixed)).tanh()
        for _ in range(2)
    )
    if share := max(settings.shuffled, settings.misaligned):
        rows = torch.randperm(settings.n_train, generator=generator)
        rows = rows[: round(share * settings.n_train)]
        second[rows] = second[rows.roll(1)]
    return splits(torch.cat([first, second], dim=1) + noise, torch.arange(float(n)), settings)


def similarities(output: Tensor) -> list[Tensor]:
    """Cosines over the temperature of first views (rows) to second views, batch by batch."""
    first, second = (functional.normalize(view, dim=1) for view in output.chunk(2, dim=1))
    pairs = zip(first.split(BATCH), second.split(BATCH), strict=True)
    return [a @ b.T / TEMPERATURE for a, b in pairs]


def pair_losses(output: Tensor, y: Tensor, settings: Settings) -> Tensor:
    """Cross-entropy of finding the second view of each first one."""
    parts = [
        functional.cross_entropy(
            matrix, torch.arange(len(matrix)), reduction="none", label_smoothing=settings.smoothing
        )
        for matrix in similarities(output)
    ]
    return torch.cat(parts)


def pair_hits(output: Tensor) -> Tensor:
    """Which first views lie nearest to their own second one, (N,)."""
    return torch.cat(
        [matrix.argmax(1) == torch.arange(len(matrix)) for matrix in similarities(output)]
    )


def pair_truth(output: Tensor, y: Tensor, constant: Tensor) -> Outcome:
    """The share of partners found, against one in a batch."""
    right = pair_hits(output) & torch.isfinite(output).all(1)
    return matched(right, torch.full((len(y),), 1.0 / BATCH))


def pair_measure(output: Tensor, y: Tensor, settings: Settings) -> Signals:
    """The share of partners found."""
    return {"val_accuracy": float(pair_hits(output).double().mean())}


class Meeting(nn.Module):
    """Embeddings of a person and a thing, added and multiplied."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.people, self.things = nn.Linear(PEOPLE, width), nn.Linear(THINGS, width)

    def forward(self, x: Tensor) -> Tensor:
        person, thing = self.people(x[:, :PEOPLE]), self.things(x[:, PEOPLE:])
        return person + thing + 4.0 * person * thing


def rating_net(settings: Settings) -> Net:
    """Embeddings, a linear block, a linear head."""
    width = settings.width
    return Net([Meeting(width), nn.Linear(width, width)], nn.Linear(width, 1), settings)


def ratings(settings: Settings, seed: int) -> Data:
    """How much a person likes a thing: both have a level, and tastes that may agree."""
    generator = torch.Generator().manual_seed(seed)
    fixed = torch.Generator().manual_seed(10_007)
    person = torch.randint(PEOPLE, (total(settings),), generator=generator)
    thing = torch.randint(THINGS, (total(settings),), generator=generator)
    people = torch.randn(PEOPLE, 1 + TASTES, generator=fixed)
    things = torch.randn(THINGS, 1 + TASTES, generator=fixed)
    agreed = (people[person, 1:] * things[thing, 1:]).mean(1)
    clean = 0.7 * people[person, 0] + things[thing, 0] + agreed
    noise = settings.noise * torch.randn(len(clean), generator=generator)
    x = torch.cat(
        [functional.one_hot(person, PEOPLE), functional.one_hot(thing, THINGS)], dim=1
    ).float()
    return splits(x, settings.signal * clean + noise, settings)


class DuelNet(Net):
    """One net rates both rivals, who stand beside each other (N, 2 D); the odds are the gap."""

    def encode(self, x: Tensor) -> list[Tensor]:
        rivals = torch.cat(x.chunk(2, dim=1))
        return [torch.cat(layer.chunk(2), dim=1) for layer in super().encode(rivals)]

    def forward(self, x: Tensor) -> Tensor:
        features = torch.cat(self.features(x).chunk(2, dim=1))
        first, second = self.head(functional.dropout(features, self.dropout, self.training)).chunk(
            2
        )
        return first - second


def duel_net(settings: Settings) -> Net:
    """The blocks of a perceptron over one rival, and a head that rates."""
    plain = perceptron(TRAITS, 1, settings)
    return DuelNet(list(plain.blocks), plain.head, settings)


def duels(settings: Settings, seed: int) -> Data:
    """Whether the first of two rivals wins, by the gap between curved strengths (Bradley-Terry)."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(total(settings), 2 * TRAITS, generator=generator)
    first, second = (
        side[:, 0] * side[:, 1].tanh() + side[:, 2] - 0.5 * side[:, 3].square()
        for side in x.chunk(2, dim=1)
    )
    chance = (2.0 * settings.signal * (first - second)).sigmoid()
    return splits(x, torch.bernoulli(chance, generator=generator), settings)


class TripletNet(PairNet):
    """One encoder for the anchor and the two candidates, (N, 3 D)."""

    views = 3


def triplets(settings: Settings, seed: int) -> Data:
    """Which of two candidates is of the anchor's class: 1 for the first, -1 for the second.

    A class is three bits. Each is whether the signs of two columns agree, so no column is
    informative by itself; four more columns are noise.
    """
    generator = torch.Generator().manual_seed(seed)
    n = total(settings)
    same = 2.0 * torch.randint(2, (n, 1, BITS), generator=generator) - 1.0
    turned = torch.randint(1, 2**BITS, (n, 1, 1), generator=generator)  # one bit at least
    other = same * (1.0 - 2.0 * (turned >> torch.arange(BITS) & 1))
    y = 2.0 * torch.randint(2, (n,), generator=generator) - 1.0
    pair = torch.where(
        y[:, None, None] > 0.0, torch.cat([same, other], 1), torch.cat([other, same], 1)
    )
    bits = settings.signal * torch.cat([same, pair], dim=1)
    free = 2.0 * torch.randint(2, (n, 3, BITS), generator=generator) - 1.0
    x = torch.cat([free, bits * free], dim=2)
    x = x + settings.noise * torch.randn(x.shape, generator=generator)
    idle = torch.randn(n, 3, IDLE, generator=generator)
    return splits(torch.cat([x, idle], dim=2).flatten(1), y, settings)


def nearer(output: Tensor, y: Tensor) -> Tensor:
    """How much nearer to the anchor the right candidate is than the other one, (N,)."""
    anchor, first, second = output.chunk(3, dim=1)
    distance = functional.pairwise_distance
    return y * (distance(anchor, second) - distance(anchor, first))


def triplet_losses(output: Tensor, y: Tensor, settings: Settings) -> Tensor:
    """The triplet loss: how much of the margin of 1 is lacking."""
    return (1.0 - nearer(output, y)).relu()


def triplet_truth(output: Tensor, y: Tensor, constant: Tensor) -> Outcome:
    """How often the right candidate is the nearer one, against a random encoder."""
    return matched(nearer(output, y) > 0.0, torch.full((len(y),), UNTRAINED))


class LinkNet(PairNet):
    """One encoder for both nodes. Halves of their embeddings are multiplied crosswise, so that the
    score is symmetric and nodes of different roles may be linked.
    """

    def forward(self, x: Tensor) -> Tensor:
        first, second = super().forward(x).chunk(2, dim=1)
        return (first * second.roll(EMBEDDED // 2, 1)).sum(1, keepdim=True)


def links(settings: Settings, seed: int) -> Data:
    """Whether two nodes of a network are linked, from two thirds of the other links of each.

    A hidden role decides with which other roles a node is linked.
    """
    generator = torch.Generator().manual_seed(seed)
    role = torch.randint(ROLES, (NODES,), generator=generator)
    apart = (role[:, None] - role) % ROLES
    chance = (
        torch.where((apart == 1) | (apart == ROLES - 1), 0.5, 0.05) * settings.positive_rate / 0.23
    )
    linked = (torch.rand(NODES, NODES, generator=generator) < chance).triu(1)
    shown = linked & (torch.rand(NODES, NODES, generator=generator) < 0.67)
    ends = torch.triu_indices(NODES, NODES, 1)
    pairs = ends[:, torch.randint(ends.shape[1], (total(settings),), generator=generator)]
    rows = 3.0 * settings.signal * (shown | shown.T).float()[pairs]
    for end in (0, 1):
        rows[end].scatter_(1, pairs[1 - end][:, None], 0.0)
    return splits(torch.cat([*rows], dim=1), linked[*pairs].float(), settings)


PAIRS = Task(
    name="pairs",
    kind=TaskKind.UNKNOWN,
    settings=Settings(
        n_train=640, n_val=256, n_test=1024, batch=BATCH, depth=2, noise=0.3, lr=2e-3
    ),
    data=views,
    build=pair_net,
    losses=pair_losses,
    constant=lambda y, settings: torch.full((1, 2 * EMBEDDED), EMBEDDED**-0.5),
    truth=pair_truth,
    measure=pair_measure,
    wanted=lambda y: y[:, None],
    epochs=25,
)
RATINGS = curve_task(
    "ratings",
    settings=Settings(
        activation="gelu", n_train=1500, n_val=300, n_test=3000, batch=150, noise=0.8, lr=3e-3
    ),
    data=ratings,
    build=rating_net,
    epochs=12,
    vary=lambda settings, seed: replace(
        settings, weight_decay=(0.0, 0.5)[seed % 2], n_val=(100, 300, 2000)[seed % 3]
    ),
)
DUELS = binary_task(
    "duels",
    settings=Settings(n_train=2000, n_val=200, n_test=4000, batch=50, depth=2, width=24, lr=2e-3),
    data=duels,
    build=duel_net,
    epochs=8,
    vary=lambda settings, seed: replace(
        other_optimizer(settings, seed), n_val=(100, 400, 1500)[seed % 3]
    ),
)
TRIPLETS = Task(
    name="triplets",
    kind=TaskKind.UNKNOWN,
    settings=Settings(n_train=3000, n_val=500, n_test=2000, batch=100, depth=2, noise=0.3, lr=4e-3),
    data=triplets,
    build=lambda settings: pair_net(settings, TripletNet, 2 * BITS + IDLE),
    losses=triplet_losses,
    constant=lambda y, settings: torch.zeros(1, 3 * EMBEDDED),
    truth=triplet_truth,
    wanted=lambda y: y[:, None],
    epochs=25,
    vary=lambda settings, seed: replace(settings, n_val=(100, 500, 2000)[seed % 3]),
)
LINKS = binary_task(
    "links",
    settings=Settings(n_train=3000, n_test=4000, batch=50, depth=2, positive_rate=0.23, lr=3e-3),
    data=links,
    build=lambda settings: pair_net(settings, LinkNet, NODES),
    epochs=8,
    vary=lambda settings, seed: replace(
        other_optimizer(settings, seed, sgd_lr=0.1), n_val=(500, 10_000)[seed % 2]
    ),
)
