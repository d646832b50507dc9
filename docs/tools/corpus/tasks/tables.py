"""Further tables: values that are missing, a parity that jumps late, a signal that is faint.

N samples
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from docs.tools.corpus.tasks.classes import table_measure, table_truth
from docs.tools.corpus.tasks.numbers import curve_truth, squares
from docs.tools.corpus.training.nets import perceptron
from docs.tools.corpus.training.settings import Settings
from docs.tools.corpus.training.task import Data, Task, splits, total
from sickbay.trials.contract import TaskKind

COLUMNS = 10
BITS = 12


def with_gaps(settings: Settings, seed: int) -> Data:
    """Three in ten values are missing: zero, and a second column that says so; 3 in 10 positive."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(total(settings), COLUMNS, generator=generator)
    missing = torch.rand(x.shape, generator=generator) < 0.3
    score = x[:, 0] + x[:, 1] - x[:, 2] + x[:, 3] * x[:, 4] + 0.8 * missing[:, 5].float()
    score = settings.signal * score + torch.randn(len(x), generator=generator)
    y = (score > score.quantile(0.7)).float()
    return splits(torch.cat([x * ~missing, missing.float()], dim=1), y, settings)


def parities(settings: Settings, seed: int) -> Data:
    """Twelve signs; the label is the parity of the first few. Nothing shows before it is found."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(2, (total(settings), BITS), generator=generator) * 2.0 - 1.0
    y = (x[:, : settings.parity_bits].prod(1) > 0.0).float()
    wrong = torch.rand(len(y), generator=generator) < 0.02
    return splits(x, torch.where(wrong, 1.0 - y, y), settings)


def faint(settings: Settings, seed: int) -> Data:
    """A smooth function under noise that hides all but a few hundredths of its variance."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(total(settings), COLUMNS, generator=generator)
    clean = x[:, 0] + 0.7 * x[:, 1] - 0.5 * x[:, 2].tanh()
    noise = torch.randn(len(x), generator=generator)
    return splits(x, settings.signal * clean + settings.noise * noise, settings)


def plain_losses(output: Tensor, y: Tensor, settings: Settings) -> Tensor:
    """Binary cross-entropy of each sample, towards labels that may be smoothed."""
    wanted = y * (1.0 - settings.smoothing) + 0.5 * settings.smoothing
    return functional.binary_cross_entropy_with_logits(output[:, 0], wanted, reduction="none")


def plain_constant(y: Tensor, settings: Settings) -> Tensor:
    """The log odds of the (smoothed) share of positives."""
    share = y.mean() * (1.0 - settings.smoothing) + 0.5 * settings.smoothing
    return torch.logit(share.clamp(1e-4, 1.0 - 1e-4))[None, None]


def _binary(name: str, settings: Settings, data, columns: int, **others) -> Task:
    return Task(
        name=name,
        kind=TaskKind.BINARY,
        settings=settings,
        data=data,
        build=lambda settings: perceptron(columns, 1, settings),
        losses=plain_losses,
        constant=plain_constant,
        truth=table_truth,
        measure=table_measure,
        predicted=torch.sigmoid,
        wanted=lambda y: y[:, None],
        **others,
    )


def _other_optimizer(settings: Settings, seed: int) -> Settings:
    changes = (
        {},
        {"optimizer": "sgd", "lr": 0.05},
        {"optimizer": "schedule_free", "lr": 0.5},
    )
    return replace(settings, **changes[seed % 3])


MISSING = _binary(
    "missing",
    Settings(n_train=2000, n_val=10_000, n_test=4000, batch=200, depth=2, lr=2e-3),
    with_gaps,
    2 * COLUMNS,
    epochs=20,
    vary=_other_optimizer,
)
PARITY = _binary(
    "parity",
    Settings(
        n_train=1000,
        n_val=200,
        n_test=2000,
        batch=250,
        depth=1,
        width=64,
        lr=5e-3,
        parity_bits=3,
        weight_decay=0.1,
    ),
    parities,
    BITS,
    epochs=120,
)
FAINT = Task(
    name="faint",
    kind=TaskKind.REGRESSION,
    settings=Settings(
        n_train=3000,
        n_val=3000,
        n_test=6000,
        batch=1000,
        depth=2,
        width=8,
        lr=1e-3,
        signal=0.2,
        noise=1.1,
    ),
    data=faint,
    build=lambda settings: perceptron(COLUMNS, 1, settings),
    losses=squares,
    constant=lambda y, settings: y.mean()[None, None],
    truth=curve_truth,
    wanted=lambda y: y[:, None],
    epochs=200,
    vary=lambda settings, seed: replace(settings, n_val=(1000, 3000, 10_000)[seed % 3]),
)
