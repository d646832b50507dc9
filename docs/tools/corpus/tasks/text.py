"""Bags of words: one of twelve classes of very different size, and six labels at once.

N documents · V words · C classes · L labels
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from docs.tools.corpus.tasks.classes import class_task
from docs.tools.corpus.training.nets import perceptron
from docs.tools.corpus.training.settings import Settings
from docs.tools.corpus.training.task import Data, Outcome, Signals, Task, splits, total
from sickbay.models.shared.classification_metrics import auroc_with_error
from sickbay.trials.contract import TaskKind

WORDS = 150
LENGTH = 20
CLASSES = 12
LABELS = 6
INPUTS = 20
SHARES = torch.tensor([0.5, 0.4, 0.3, 0.25, 0.2, 0.15])  # of documents that bear each label


def documents(settings: Settings, seed: int) -> Data:
    """Twenty words of a Zipf vocabulary a document; each class prefers some; classes are Zipf."""
    generator = torch.Generator().manual_seed(seed)
    fixed = torch.Generator().manual_seed(10_007)
    n = total(settings)
    zipf = 1.0 / torch.arange(1, CLASSES + 1)
    y = torch.multinomial(zipf, n, replacement=True, generator=generator)
    base = -torch.log(torch.arange(1.0, WORDS + 1))
    chance = (base + settings.signal * torch.randn(CLASSES, WORDS, generator=fixed)).softmax(1)
    tokens = torch.multinomial(chance[y], LENGTH, replacement=True, generator=generator)
    x = functional.one_hot(tokens, WORDS).sum(1).float()
    return splits(x, y, settings)


def many_labels(settings: Settings, seed: int) -> Data:
    """Six labels, each given by two columns and one product; of some, training may know nothing."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(total(settings), INPUTS, generator=generator)
    index = torch.arange(LABELS)
    score = x[:, index] + x[:, index + 6] + 0.8 * x[:, index + 12] * x[:, index].sign()
    score = settings.signal * score + torch.randn(score.shape, generator=generator)
    cut = torch.stack([score[:, i].quantile(1.0 - float(SHARES[i])) for i in range(LABELS)])
    y = (score > cut).float()
    for label in range(settings.dead_labels):
        order = torch.randperm(settings.n_train, generator=generator)
        y[: settings.n_train, label] = y[order, label]
    return splits(x, y, settings)


def label_losses(output: Tensor, y: Tensor, settings: Settings) -> Tensor:
    """Binary cross-entropy, averaged over the labels of each sample."""
    return functional.binary_cross_entropy_with_logits(output, y, reduction="none").mean(1)


def label_areas(output: Tensor, y: Tensor) -> Tensor:
    """The AUROC of each label and its error, (L, 2)."""
    return torch.tensor([auroc_with_error(output[:, i], y[:, i]) for i in range(y.shape[1])])


def label_truth(output: Tensor, y: Tensor, constant: Tensor) -> Outcome:
    """The mean AUROC; every label must be ranked better than by chance."""
    area, error = label_areas(output, y).unbind(1)
    return Outcome(float(area.mean()), float((area - 1.645 * error).min()) - 0.5)


def label_measure(output: Tensor, y: Tensor, settings: Settings) -> Signals:
    """The mean AUROC, and the loss of each label beside its entropy, the best constant's loss."""
    losses = functional.binary_cross_entropy_with_logits(output, y, reduction="none").mean(0)
    share = y.mean(0)
    return {
        "val_auroc": float(label_areas(output, y)[:, 0].mean()),
        "task_losses": losses.tolist(),
        "task_floors": functional.binary_cross_entropy(share.expand_as(y), y, reduction="none")
        .mean(0)
        .tolist(),
    }


TEXT = class_task(
    "text",
    settings=Settings(n_train=2000, n_val=500, n_test=2000, batch=100, depth=2, width=32, lr=2e-3),
    data=documents,
    build=lambda settings: perceptron(WORDS, CLASSES, settings),
    classes=CLASSES,
    epochs=8,
    vary=lambda settings, seed: replace(settings, n_val=(150, 500, 2000)[seed % 3]),
)
MULTILABEL = Task(
    name="multilabel",
    kind=TaskKind.UNKNOWN,
    settings=Settings(n_train=1500, n_val=400, n_test=3000, batch=300, depth=2, lr=3e-3),
    data=many_labels,
    build=lambda settings: perceptron(INPUTS, LABELS, settings),
    losses=label_losses,
    constant=lambda y, settings: torch.logit(y.mean(0).clamp(1e-4, 1.0 - 1e-4))[None],
    truth=label_truth,
    measure=label_measure,
    predicted=torch.sigmoid,
    epochs=30,
    vary=lambda settings, seed: replace(settings, n_val=(200, 400, 1000)[seed % 3]),
)
