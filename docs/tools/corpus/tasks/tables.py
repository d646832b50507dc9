"""Further tables: missing values, a late parity, a faint signal, grades, quantiles, lifetimes.

N samples · K cuts between grades · Q quantiles
"""

import math
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from docs.tools.corpus.tasks.classes import binary_task
from docs.tools.corpus.tasks.numbers import curve_task
from docs.tools.corpus.training.nets import perceptron
from docs.tools.corpus.training.settings import Settings, other_optimizer
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

COLUMNS = 10
BITS = 12
CUTS = (-1.2, -0.4, 0.4, 1.2)  # between five grades
LEVELS = (0.1, 0.5, 0.9)  # the quantiles that are predicted
MOMENT = 0.02  # the unit of lifetimes: their density is far above one


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


def graded(settings: Settings, seed: int) -> Data:
    """A curved score, cut into five grades 0 to 4."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(total(settings), COLUMNS, generator=generator)
    score = 0.8 * x[:, 0] + 0.6 * x[:, 1] * x[:, 2].sign() - 0.5 * x[:, 3].abs() + 0.4
    score = settings.signal * score + settings.noise * torch.randn(len(x), generator=generator)
    return splits(x, torch.bucketize(score, torch.tensor(CUTS)).float(), settings)


def over_cuts(y: Tensor) -> Tensor:
    """Whether each grade lies over each cut, (N, K)."""
    return (y[:, None] > torch.arange(len(CUTS))).float()


def grade_losses(output: Tensor, y: Tensor, settings: Settings) -> Tensor:
    """Binary cross-entropy of the questions "over this cut?", averaged over the cuts."""
    return functional.binary_cross_entropy_with_logits(output, over_cuts(y), reduction="none").mean(
        1
    )


def grade_errors(output: Tensor, y: Tensor) -> Tensor:
    """How many grades a prediction is off, (N,); one that is not finite names the lowest."""
    return ((output > 0.0).sum(1) - y).abs()


def grade_truth(output: Tensor, y: Tensor, constant: Tensor) -> Outcome:
    """The share of the best constant's mean error that is gained."""
    return gained(grade_errors(output, y), grade_errors(constant.expand(len(y), -1), y))


def grade_measure(output: Tensor, y: Tensor, settings: Settings) -> Signals:
    """The share of right grades."""
    return {"val_accuracy": float((grade_errors(output, y) < 0.5).double().mean())}


def uneven(settings: Settings, seed: int) -> Data:
    """A number whose level and spread depend on the inputs."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(total(settings), COLUMNS, generator=generator)
    level = settings.signal * (x[:, 0] + 0.5 * (2.0 * x[:, 1]).sin())
    spread = settings.noise * (0.8 * x[:, 2].tanh()).exp()
    return splits(x, level + spread * torch.randn(len(x), generator=generator), settings)


def pinball(output: Tensor, y: Tensor, settings: Settings) -> Tensor:
    """The quantile loss, averaged over the levels."""
    over, levels = y[:, None] - output, torch.tensor(LEVELS)
    return torch.maximum(levels * over, (levels - 1.0) * over).mean(1)


def pinball_truth(output: Tensor, y: Tensor, constant: Tensor) -> Outcome:
    """The share of the best constant quantiles' loss that is gained."""
    plain = Settings()
    return gained(pinball(output, y, plain), pinball(constant.expand(len(y), -1), y, plain))


def lifetimes(settings: Settings, seed: int) -> Data:
    """Exponential lifetimes whose rate depends on the inputs; three in ten are cut off: (N, 2)."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(total(settings), COLUMNS, generator=generator)
    log_rate = settings.signal * (0.7 * x[:, 0] - 0.6 * x[:, 1] + 0.5 * x[:, 2] * x[:, 3].tanh())
    uniform = torch.rand(len(x), 2, generator=generator).clamp(1e-6, 1.0 - 1e-6)
    end = -uniform[:, 0].log() / log_rate.exp()
    watched = -2.5 * uniform[:, 1].log()
    y = torch.stack([MOMENT * torch.minimum(end, watched), (end <= watched).float()], dim=1)
    return splits(x, y, settings)


def lifetime_losses(output: Tensor, y: Tensor, settings: Settings) -> Tensor:
    """Minus the log likelihood of an exponential lifetime that may be cut off."""
    log_rate = output[:, 0] - math.log(MOMENT)
    return log_rate.exp() * y[:, 0] - y[:, 1] * log_rate


def lifetime_constant(y: Tensor, settings: Settings) -> Tensor:
    """The log rate of the whole sample, by the unit."""
    return (MOMENT * y[:, 1].sum() / y[:, 0].sum()).clamp_min(1e-4).log()[None, None]


def lifetime_truth(output: Tensor, y: Tensor, constant: Tensor) -> Outcome:
    """Nats gained over one rate for all."""
    plain = Settings()
    gain = lifetime_losses(constant.expand(len(y), 1), y, plain)
    gain = (gain - lifetime_losses(output, y, plain)).clamp_min(-20.0)
    mean, error = mean_and_error(gain)
    return Outcome(mean, mean - 1.645 * error)


MISSING = binary_task(
    "missing",
    Settings(n_train=2000, n_val=10_000, n_test=4000, batch=200, depth=2, lr=2e-3),
    with_gaps,
    lambda settings: perceptron(2 * COLUMNS, 1, settings),
    epochs=20,
    vary=other_optimizer,
)
PARITY = binary_task(
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
    lambda settings: perceptron(BITS, 1, settings),
    epochs=120,
)
FAINT = curve_task(
    "faint",
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
    epochs=200,
    vary=lambda settings, seed: replace(settings, n_val=(1000, 3000, 10_000)[seed % 3]),
)
GRADES = Task(
    name="grades",
    kind=TaskKind.UNKNOWN,
    settings=Settings(n_train=1200, n_val=300, n_test=3000, batch=120, depth=2, noise=0.5, lr=2e-3),
    data=graded,
    build=lambda settings: perceptron(COLUMNS, len(CUTS), settings),
    losses=grade_losses,
    constant=lambda y, settings: torch.logit(over_cuts(y).mean(0).clamp(1e-4, 1.0 - 1e-4))[None],
    truth=grade_truth,
    measure=grade_measure,
    predicted=torch.sigmoid,
    wanted=over_cuts,
    epochs=15,
    vary=other_optimizer,
)
QUANTILES = Task(
    name="quantiles",
    kind=TaskKind.REGRESSION,
    settings=Settings(n_train=1500, n_val=500, n_test=4000, batch=150, depth=2, noise=0.7, lr=2e-3),
    data=uneven,
    build=lambda settings: perceptron(COLUMNS, len(LEVELS), settings),
    losses=pinball,
    constant=lambda y, settings: y.quantile(torch.tensor(LEVELS))[None],
    truth=pinball_truth,
    predicted=lambda output: output[:, 1:2],
    wanted=lambda y: y[:, None],
    epochs=50,
    vary=lambda settings, seed: replace(settings, n_val=(100, 500, 3000)[seed % 3]),
)
LIFETIMES = Task(
    name="lifetimes",
    kind=TaskKind.DENSITY,
    settings=Settings(
        activation="tanh", n_train=1500, n_val=500, n_test=4000, batch=250, depth=2, width=16
    ),
    data=lifetimes,
    build=lambda settings: perceptron(COLUMNS, 1, settings),
    losses=lifetime_losses,
    constant=lifetime_constant,
    truth=lifetime_truth,
    predicted=lambda output: MOMENT * (-output).clamp_max(8.0).exp(),
    wanted=lambda y: y[:, :1],
    loss_minimum=None,
    epochs=35,
    vary=lambda settings, seed: replace(settings, schedule=("constant", "cyclic")[seed % 2]),
)
