"""Numbers over time: the next, the next six, rare events, a likelihood that falls below zero,
symbols without their times (CTC).

N samples · T steps · F channels
"""

import functools
import math
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from docs.tools.corpus.tasks.classes import table_measure, table_truth
from docs.tools.corpus.tasks.numbers import INPUTS, curve_task, vector_task
from docs.tools.corpus.training.nets import Net, Recurrent, perceptron
from docs.tools.corpus.training.settings import Settings, other_optimizer
from docs.tools.corpus.training.task import (
    Data,
    Outcome,
    Signals,
    Task,
    judged_by,
    mean_and_error,
    splits,
    total,
)
from sickbay.trials.contract import TaskKind

STEPS = 12
CHANNELS = 3
MOMENTS = 24  # of a recording in which rare events are sought
AHEAD = 6  # steps that are forecast at once
SYMBOLS = 3  # of a recording that is transcribed
ROOM = 5  # moments around each symbol
ALPHABET = 4
UNIT = 0.05  # of the target whose likelihood is learnt: its density is far above one


class LastStep(Net):
    """A head that sees the last step alone."""

    def encode(self, x: Tensor) -> list[Tensor]:
        return [layer[:, -1] for layer in super().encode(x)]


def series_net(settings: Settings) -> Net:
    """A linear embedding, a GRU, a linear block."""
    width = settings.width
    blocks = [nn.Linear(CHANNELS, width), Recurrent(width, width)]
    return LastStep([*blocks, nn.Linear(width, width)], nn.Linear(width, 1), settings)


def waves(settings: Settings, seed: int) -> Data:
    """A damped wave of its own period and phase, and two channels that move it; the next value."""
    generator = torch.Generator().manual_seed(seed)
    n = total(settings)
    period = 4.0 + 6.0 * torch.rand(n, 1, generator=generator)
    phase = 2.0 * math.pi * torch.rand(n, 1, generator=generator)
    time = torch.arange(STEPS + 1.0)
    wave = torch.sin(2.0 * math.pi * time / period + phase)
    others = torch.randn(n, STEPS + 1, CHANNELS - 1, generator=generator)
    pushed = wave + 0.5 * others[..., 0].cumsum(1).tanh() * others[..., 1].sign()
    noise = settings.noise * torch.randn(n, STEPS + 1, generator=generator)
    whole = settings.signal * pushed + noise
    x = torch.cat([whole[:, :-1, None], others[:, 1:]], dim=2)
    return splits(x, whole[:, -1], settings)


def scattered(settings: Settings, seed: int) -> Data:
    """A small target whose mean and spread both depend on the inputs."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(total(settings), INPUTS, generator=generator)
    mean = settings.signal * (torch.sin(1.5 * x[:, 0]) + 0.5 * x[:, 1])
    spread = settings.noise * torch.exp(0.7 * x[:, 2].tanh())
    return splits(x, UNIT * (mean + spread * torch.randn(len(x), generator=generator)), settings)


def gaussian_losses(output: Tensor, y: Tensor, settings: Settings) -> Tensor:
    """Minus the log density of a Gaussian with its own mean and deviation for each sample."""
    log_spread = output[:, 1].clamp(-8.0, 8.0) + math.log(UNIT)
    error = (y - UNIT * output[:, 0]) / log_spread.exp()
    return 0.5 * error**2 + log_spread + 0.5 * math.log(2.0 * math.pi)


def gaussian_constant(y: Tensor, settings: Settings) -> Tensor:
    """The Gaussian of the whole sample."""
    return torch.stack([y.mean() / UNIT, (y.std() / UNIT).clamp_min(1e-3).log()])[None]


def gaussian_truth(output: Tensor, y: Tensor, constant: Tensor) -> Outcome:
    """Nats gained over the Gaussian of the whole sample."""
    settings = Settings()
    gain = gaussian_losses(constant.expand(len(y), 2), y, settings)
    gain = (gain - gaussian_losses(output, y, settings)).clamp_min(-20.0)
    mean, error = mean_and_error(gain)
    return Outcome(mean, mean - 1.645 * error)


class Detector(Net):
    """Convolutions over time; a score for every moment."""

    def encode(self, x: Tensor) -> list[Tensor]:
        return super().encode(x.transpose(1, 2))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[:, 0]

    def features(self, x: Tensor) -> Tensor:
        return self.encode(x)[-1].mean(2)


def event_net(settings: Settings) -> Net:
    """Two convolutions of five moments and a head over channels."""
    width = settings.width
    blocks = [nn.Conv1d(CHANNELS, width, 5, padding=2), nn.Conv1d(width, width, 5, padding=2)]
    return Detector(blocks, nn.Conv1d(width, 1, 1), settings)


def events(settings: Settings, seed: int) -> Data:
    """Noise in three channels; an event swings up in one of them and down in the next moment."""
    generator = torch.Generator().manual_seed(seed)
    n = total(settings)
    x = torch.randn(n, MOMENTS, CHANNELS, generator=generator)
    y = (torch.rand(n, MOMENTS, generator=generator) < settings.positive_rate).float()
    y[:, -1] = 0.0
    x[..., 0] += 2.0 * settings.signal * (y - y.roll(1, 1))
    x[..., 1] += settings.signal * y
    return splits(x, y, settings)


def event_losses(output: Tensor, y: Tensor, settings: Settings) -> Tensor:
    """Binary cross-entropy, averaged over the moments of each recording."""
    return functional.binary_cross_entropy_with_logits(output, y, reduction="none").mean(1)


def flat_moments(output: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The scores (M, 1) and labels (M,) of all moments."""
    return output.reshape(-1, 1), y.reshape(-1)


def event_measure(output: Tensor, y: Tensor, settings: Settings) -> Signals:
    """Every signal of a binary classifier, over all moments."""
    return table_measure(*flat_moments(output, y), settings)


class Forecaster(Net):
    """Convolutions over time, flattened before the last block."""

    def encode(self, x: Tensor) -> list[Tensor]:
        return super().encode(x.transpose(1, 2))


def forecast_net(settings: Settings) -> Net:
    """Two convolutions of three steps, a linear block, a head of all steps ahead."""
    width = settings.width
    blocks = [
        nn.Conv1d(2, width, 3, padding=1),
        nn.Conv1d(width, width, 3, padding=1),
        nn.Sequential(nn.Flatten(), nn.Linear(width * STEPS, width)),
    ]
    return Forecaster(blocks, nn.Linear(width, AHEAD), settings)


def loads(settings: Settings, seed: int) -> Data:
    """A daily wave with a level that drifts and an outer cause; the next six steps, (N, 6)."""
    generator = torch.Generator().manual_seed(seed)
    n, whole = total(settings), STEPS + AHEAD
    start = 2.0 * math.pi * torch.rand(n, 1, generator=generator)
    size = 0.5 + torch.rand(n, 1, generator=generator)
    drift = 0.15 * torch.randn(n, whole, generator=generator).cumsum(1)
    cause = torch.randn(n, whole, generator=generator)
    wave = size * torch.sin(2.0 * math.pi * torch.arange(float(whole)) / 8.0 + start)
    load = settings.signal * (wave + drift + 0.4 * cause.roll(1, 1))
    load = load + settings.noise * torch.randn(n, whole, generator=generator)
    x = torch.stack([load, cause], dim=2)[:, :STEPS]
    return splits(x, load[:, STEPS:], settings)


class Reader(Detector):
    """Convolutions over time; the logits of the blank and each symbol at each moment, (N, T C)."""

    def forward(self, x: Tensor) -> Tensor:
        return Net.forward(self, x).transpose(1, 2).flatten(1)


def reading_net(settings: Settings) -> Net:
    """Two convolutions of three moments and a head over channels."""
    width = settings.width
    blocks = [nn.Conv1d(CHANNELS, width, 3, padding=1), nn.Conv1d(width, width, 3, padding=1)]
    return Reader(blocks, nn.Conv1d(width, 1 + ALPHABET, 1), settings)


def recordings(settings: Settings, seed: int) -> Data:
    """Three symbols in noise, each two or three moments long, at unknown times; which, (N, 3)."""
    generator = torch.Generator().manual_seed(seed)
    fixed = torch.Generator().manual_seed(10_007)
    n = total(settings)
    y = torch.randint(1, 1 + ALPHABET, (n, SYMBOLS), generator=generator)
    start, longer = torch.randint(2, (2, n, SYMBOLS, 1), generator=generator)
    moment = torch.arange(ROOM)
    active = (moment >= start) & (moment < start + 2 + longer)
    symbol = (y[..., None] * active).flatten(1)
    shape = settings.signal * torch.randn(1 + ALPHABET, CHANNELS, generator=fixed)
    shape[0] = 0.0
    noise = settings.noise * torch.randn(n, SYMBOLS * ROOM, CHANNELS, generator=generator)
    return splits(shape[symbol] + noise, y, settings)


def by_moment(output: Tensor) -> Tensor:
    """The logits at each moment, (N, T, C)."""
    return output.view(len(output), SYMBOLS * ROOM, 1 + ALPHABET)


def reading_losses(output: Tensor, y: Tensor, settings: Settings) -> Tensor:
    """Minus the log likelihood of the symbols over all alignments (CTC), per symbol."""
    logits = by_moment(output).log_softmax(2).transpose(0, 1)
    moments, symbols = (torch.full((len(y),), count) for count in (len(logits), SYMBOLS))
    return functional.ctc_loss(logits, y, moments, symbols, reduction="none") / SYMBOLS


def reading_constant(y: Tensor, settings: Settings) -> Tensor:
    """The best logits that do not depend on the recording, by descent."""
    return _best_constant(y.numpy().tobytes())


@functools.lru_cache(maxsize=8)
def _best_constant(key: bytes) -> Tensor:
    y = torch.frombuffer(bytearray(key), dtype=torch.int64).view(-1, SYMBOLS)
    logits = torch.zeros(1, SYMBOLS * ROOM * (1 + ALPHABET), requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = reading_losses(logits.expand(len(y), -1), y, Settings()).mean()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    return logits.detach()


SERIES = curve_task(
    "series",
    settings=Settings(
        activation="tanh", n_train=500, n_val=50, n_test=1500, batch=100, width=16, lr=5e-3
    ),
    data=waves,
    build=series_net,
    epochs=30,
    vary=lambda settings, seed: replace(settings, n_val=(50, 100, 300)[seed % 3]),
)
LIKELIHOOD = Task(
    name="likelihood",
    kind=TaskKind.DENSITY,
    settings=Settings(
        n_train=1500, n_val=1000, n_test=3000, batch=250, depth=2, width=16, lr=2e-3, noise=0.3
    ),
    data=scattered,
    build=lambda settings: perceptron(INPUTS, 2, settings),
    losses=gaussian_losses,
    constant=gaussian_constant,
    truth=gaussian_truth,
    predicted=lambda output: UNIT * output[:, :1],
    wanted=lambda y: y[:, None],
    loss_minimum=None,
    epochs=60,
    vary=lambda settings, seed: replace(settings, schedule=("constant", "cosine")[seed % 2]),
)
EVENTS = Task(
    name="events",
    kind=TaskKind.BINARY,
    settings=Settings(
        n_train=400, n_val=100, n_test=600, batch=50, width=12, lr=3e-3, positive_rate=0.06
    ),
    data=events,
    build=event_net,
    losses=event_losses,
    constant=lambda y, settings: torch.logit(y.mean().clamp(1e-4, 0.999)).expand(1, MOMENTS),
    truth=lambda output, y, constant: table_truth(*flat_moments(output, y), constant),
    measure=event_measure,
    predicted=torch.sigmoid,
    flat=flat_moments,
    epochs=30,
    vary=lambda settings, seed: other_optimizer(settings, seed, sgd_lr=0.1),
)
FORECAST = vector_task(
    "forecast",
    settings=Settings(n_train=600, n_val=200, n_test=1500, batch=60, width=16, lr=2e-3),
    data=loads,
    build=forecast_net,
    epochs=15,
    vary=lambda settings, seed: replace(
        settings, weight_decay=(0.0, 0.1)[seed % 2], n_val=(50, 200, 1000)[seed % 3]
    ),
)
ALIGNMENTS = Task(
    name="alignments",
    kind=TaskKind.UNKNOWN,
    settings=Settings(n_train=600, n_val=200, n_test=1500, batch=50, width=16, noise=0.6, lr=3e-3),
    data=recordings,
    build=reading_net,
    losses=reading_losses,
    constant=reading_constant,
    truth=judged_by(reading_losses),
    predicted=lambda output: by_moment(output).softmax(2)[..., 1:].sum(1),
    wanted=lambda y: functional.one_hot(y, 1 + ALPHABET)[..., 1:].float().sum(1),
    epochs=40,
    vary=lambda settings, seed: replace(
        settings, n_val=(50, 300)[seed % 2], schedule=("constant", "warmup")[seed // 2 % 2]
    ),
)
