"""Classification tasks: imbalanced tables (1:20, 1:200), small images, sequences, many classes.

N samples · T steps of a sequence · C classes
"""

import math
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from docs.tools.corpus.training.nets import Net, Recurrent, perceptron
from docs.tools.corpus.training.settings import Settings
from docs.tools.corpus.training.task import Data, Outcome, Signals, Task, matched, splits, total
from sickbay.models.shared.classification_metrics import auroc_with_error, binary_metrics
from sickbay.trials.contract import TaskKind

COLUMNS = 12
WORDS = 8
STEPS = 8
SIDE = 12
SHAPES = 4
SPECIES = 30
MARKS = 16  # columns by which a species is told


def table(settings: Settings, seed: int) -> Data:
    """Rare positives: four columns are shifted, two more tell by their product."""
    generator = torch.Generator().manual_seed(seed)
    n = total(settings)
    y = torch.zeros(n)
    for start, count in (
        (0, settings.n_train),
        (settings.n_train, settings.n_val),
        (settings.n_train + settings.n_val, settings.n_test),
    ):  # exact counts in each split, in random places
        positives = max(2, round(count * settings.positive_rate))
        y[start + torch.randperm(count, generator=generator)[:positives]] = 1.0
    x = torch.randn(n, COLUMNS, generator=generator)
    x[:, :4] += 1.1 * settings.signal * y[:, None]
    x[:, 4] += 0.8 * settings.signal * y * x[:, 5].sign()
    return splits(x, y, settings)


def weight_of_positives(y: Tensor, settings: Settings) -> float:
    """Return negatives / positives, times the factor that a fault may set."""
    positives = float(y.sum())
    return settings.class_weight * (len(y) - positives) / max(positives, 1.0)


def table_losses(output: Tensor, y: Tensor, settings: Settings) -> Tensor:
    """Weighted binary cross-entropy of each sample, scaled so that equal weights give 1."""
    rate = settings.positive_rate
    weight = settings.class_weight * (1.0 - rate) / rate
    plain = functional.binary_cross_entropy_with_logits(output[:, 0], y, reduction="none")
    return plain * torch.where(y > 0.5, weight, 1.0) / (1.0 - rate + rate * weight)


def table_constant(y: Tensor, settings: Settings) -> Tensor:
    """The logit of wπ / (wπ + 1 − π)."""
    rate, prior = settings.positive_rate, float(y.mean())
    weight = settings.class_weight * (1.0 - rate) / rate
    return torch.full((1, 1), math.log(weight * prior / (1.0 - prior)))


def table_truth(output: Tensor, y: Tensor, constant: Tensor) -> Outcome:
    """AUROC: no constant can rank."""
    area, error = auroc_with_error(output[:, 0], y)
    error = error if error == error else 0.0  # noqa: PLR0124  NaN with too few positives
    return Outcome(area, area - 1.645 * error - 0.5)


def table_measure(output: Tensor, y: Tensor, settings: Settings) -> Signals:
    """Every signal of a binary classifier but the histograms, which the AUROC makes needless."""
    metrics = binary_metrics(torch.sigmoid(output[:, 0]), y)
    return {name: value for name, value in metrics.items() if "hist" not in name}


def images(settings: Settings, seed: int) -> Data:
    """Bars in four directions at random places, in noise; (N, 1, 12, 12)."""
    generator = torch.Generator().manual_seed(seed)
    n = total(settings)
    y = torch.randint(SHAPES, (n,), generator=generator)
    row, column = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    centre = torch.rand(n, 2, 1, 1, generator=generator) * 6.0 + 3.0
    angle = (y * math.pi / SHAPES)[:, None, None]
    down, across = row - centre[:, 0], column - centre[:, 1]
    off = down * torch.cos(angle) - across * torch.sin(angle)
    along = down * torch.sin(angle) + across * torch.cos(angle)
    bar = torch.exp(-((off / 0.8) ** 2) - (along / 3.5) ** 4)
    noise = torch.randn(n, SIDE, SIDE, generator=generator)
    return splits((1.5 * settings.signal * bar + settings.noise * noise)[:, None], y, settings)


def image_net(settings: Settings) -> Net:
    """Two strided convolutions, a linear block, a linear head."""
    blocks = [
        nn.Conv2d(1, 8, 3, stride=2, padding=1),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.Sequential(nn.Flatten(), nn.Linear(16 * 9, settings.width)),
    ]
    return Net(blocks, nn.Linear(settings.width, SHAPES), settings)


def class_losses(output: Tensor, y: Tensor, settings: Settings) -> Tensor:
    """Cross-entropy of each sample; label smoothing is part of the loss that is trained."""
    return functional.cross_entropy(output, y, reduction="none", label_smoothing=settings.smoothing)


def class_constant(y: Tensor, settings: Settings, classes: int = SHAPES) -> Tensor:
    """The log of the (smoothed) class shares."""
    share = torch.bincount(y.flatten(), minlength=classes).float() / y.numel()
    smooth = settings.smoothing
    return torch.log((1.0 - smooth) * share + smooth / classes + 1e-9)[None]


def class_truth(output: Tensor, y: Tensor, constant: Tensor) -> Outcome:
    """Accuracy against the commonest class."""
    commonest = int(constant.flatten().argmax())
    right = (output.argmax(1) == y) & torch.isfinite(output).all(1)
    return matched(right, y == commonest)


def class_measure(output: Tensor, y: Tensor, settings: Settings) -> Signals:
    """Accuracy and the confusion table."""
    classes = output.shape[1]
    if not bool(torch.isfinite(output).all()):
        return {"val_accuracy": math.nan, "val_confusion": [math.nan] * classes**2}
    called = output.argmax(1)
    cells = torch.bincount(y * classes + called, minlength=classes**2)
    return {
        "val_accuracy": float((called == y).double().mean()),
        "val_confusion": [float(cell) for cell in cells],
    }


def sequences(settings: Settings, seed: int) -> Data:
    """A word's successor depends on the two before it; the target is the word after the last."""
    generator = torch.Generator().manual_seed(10_007)  # one language for all seeds
    pull = torch.randn(WORDS, WORDS, WORDS, generator=generator) * 2.0 * settings.signal
    chance = (pull + torch.randn(WORDS, generator=generator)).softmax(-1)
    generator.manual_seed(seed)
    n = total(settings)
    tokens = torch.randint(WORDS, (n, STEPS + 1), generator=generator)
    for step in range(2, STEPS + 1):
        share = chance[tokens[:, step - 2], tokens[:, step - 1]]
        tokens[:, step] = torch.multinomial(share, 1, generator=generator)[:, 0]
    one_hot = functional.one_hot(tokens[:, :-1], WORDS).float()
    return splits(one_hot, tokens[:, -1], settings)


class SequenceNet(Net):
    """A linear embedding, a GRU, a linear block; the head sees the last step."""

    def encode(self, x: Tensor) -> list[Tensor]:
        hidden = super().encode(x)
        return [layer[:, -1] for layer in hidden]


def sequence_net(settings: Settings) -> Net:
    """Return the net of the sequence task."""
    blocks = [
        nn.Linear(WORDS, settings.width),
        Recurrent(settings.width, settings.width),
        nn.Linear(settings.width, settings.width),
    ]
    return SequenceNet(blocks, nn.Linear(settings.width, WORDS), settings)


def species(settings: Settings, seed: int) -> Data:
    """Thirty equal classes in six families: a centre of the family and a smaller one of its own."""
    generator = torch.Generator().manual_seed(seed)
    fixed = torch.Generator().manual_seed(10_007)
    y = torch.randint(SPECIES, (total(settings),), generator=generator)
    family, own = torch.randn(2, SPECIES, MARKS, generator=fixed)
    centre = 1.2 * family[torch.arange(SPECIES) % 6] + 0.8 * own
    x = settings.signal * centre[y] + torch.randn(len(y), MARKS, generator=generator)
    return splits(x, y, settings)


def plain_losses(output: Tensor, y: Tensor, settings: Settings) -> Tensor:
    """Binary cross-entropy of each sample, towards labels that may be smoothed."""
    wanted = y * (1.0 - settings.smoothing) + 0.5 * settings.smoothing
    return functional.binary_cross_entropy_with_logits(output[:, 0], wanted, reduction="none")


def plain_constant(y: Tensor, settings: Settings) -> Tensor:
    """The log odds of the (smoothed) share of positives."""
    share = y.mean() * (1.0 - settings.smoothing) + 0.5 * settings.smoothing
    return torch.logit(share.clamp(1e-4, 1.0 - 1e-4))[None, None]


def binary_task(name: str, settings: Settings, data, build, **others) -> Task:
    """A task of two classes under plain cross-entropy, but for what is set otherwise."""
    same = {
        "losses": plain_losses,
        "constant": plain_constant,
        "truth": table_truth,
        "measure": table_measure,
        "predicted": torch.sigmoid,
        "wanted": lambda y: y[:, None],
    }
    return Task(name, TaskKind.BINARY, settings, data, build, **(same | others))


def class_task(name: str, settings: Settings, data, build, classes: int, **others) -> Task:
    """A task of several classes under cross-entropy."""
    return Task(
        name,
        TaskKind.MULTICLASS,
        settings,
        data,
        build,
        losses=class_losses,
        constant=lambda y, settings: class_constant(y, settings, classes),
        truth=class_truth,
        measure=class_measure,
        predicted=lambda output: output.softmax(-1),
        wanted=lambda y: functional.one_hot(y, classes).float(),
        **others,
    )


TABULAR_20 = binary_task(
    "tabular_20",
    Settings(
        n_train=2520, n_val=2100, n_test=6300, batch=504, positive_rate=1 / 21, lr=1.5e-3, width=16
    ),
    table,
    lambda settings: perceptron(COLUMNS, 1, settings),
    losses=table_losses,
    constant=table_constant,
)
TABULAR_200 = replace(
    TABULAR_20,
    name="tabular_200",
    settings=Settings(
        n_train=6030,
        n_val=10050,
        n_test=20100,
        batch=1206,
        positive_rate=1 / 201,
        lr=1e-3,
        width=16,
        signal=1.2,
        weight_decay=1e-3,
    ),
)
CNN = class_task(
    "cnn",
    Settings(n_train=600, n_val=400, n_test=1024, batch=150, noise=0.35),
    images,
    image_net,
    SHAPES,
)
SEQUENCE = class_task(
    "sequence",
    Settings(n_train=1200, n_val=400, n_test=1024, batch=300, lr=7e-3, width=24, signal=1.5),
    sequences,
    sequence_net,
    WORDS,
)
MANY_CLASSES = class_task(
    "many_classes",
    Settings(n_train=2000, n_val=500, n_test=4000, batch=100, depth=2, lr=0.1, optimizer="sgd"),
    species,
    lambda settings: perceptron(MARKS, SPECIES, settings),
    SPECIES,
    epochs=20,
    vary=lambda settings, seed: replace(
        settings, schedule="cosine", n_val=(100, 500, 10_000)[seed % 3]
    ),
)
