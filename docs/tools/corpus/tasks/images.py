"""Images: ten classes of shifted patterns, a mask of pixels, one picture from its coordinates, the
next frame of a video.

N images (of the one picture: places) · S side · W waves
"""

import math
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from docs.tools.corpus.tasks.classes import SIDE, class_task, table_measure
from docs.tools.corpus.tasks.numbers import curve_task, vector_task
from docs.tools.corpus.training.nets import Net, perceptron
from docs.tools.corpus.training.settings import Settings
from docs.tools.corpus.training.task import (
    Data,
    Outcome,
    Signals,
    Task,
    mean_and_error,
    splits,
    total,
)
from sickbay.trials.contract import TaskKind

CLASSES = 10
SMALL = 8
WAVES = 6


class PixelNet(Net):
    """Convolutions that keep the size; a pixel's score at every place, (N, S²)."""

    def features(self, x: Tensor) -> Tensor:
        return self.encode(x)[-1].mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).flatten(1)


def pixel_net(settings: Settings, channels: int = 1) -> Net:
    """Two 3x3 convolutions, a wide one, a head on every pixel."""
    width = settings.width
    blocks = [
        nn.Conv2d(channels, width, 3, padding=1),
        nn.Conv2d(width, width, 3, padding=1),
        nn.Conv2d(width, width, 3, padding=2, dilation=2),
    ]
    return PixelNet(blocks, nn.Conv2d(width, 1, 1), settings)


def masks(settings: Settings, seed: int) -> Data:
    """A smooth blob anywhere on a torus, in noise; its pixels are the mask, (N, S²)."""
    generator = torch.Generator().manual_seed(seed)
    n = total(settings)
    blob = _blob(torch.rand(n, 2, generator=generator) * SIDE, 8.0)
    noise = torch.randn(n, SIDE, SIDE, generator=generator)
    x = 2.0 * settings.signal * blob + settings.noise * noise
    return splits(x[:, None], (blob > 0.5).float().flatten(1), settings)


def _blob(centre: Tensor, size: float) -> Tensor:
    """Smooth blobs around (N, 2) places, (N, S, S)."""
    place, centre = torch.arange(float(SIDE)), centre[..., None, None]
    down = _around(place[:, None] - centre[:, 0])
    across = _around(place[None, :] - centre[:, 1])
    return torch.exp(-(down**2 + across**2) / size)


def _around(distance: Tensor) -> Tensor:
    return (distance + SIDE / 2) % SIDE - SIDE / 2


def pixel_losses(output: Tensor, y: Tensor, settings: Settings) -> Tensor:
    """Binary cross-entropy, averaged over the pixels of each image."""
    return functional.binary_cross_entropy_with_logits(output, y, reduction="none").mean(1)


def pixel_truth(output: Tensor, y: Tensor, constant: Tensor) -> Outcome:
    """Intersection over union of each image; an empty mask, which is the trivial one, has none."""
    called = output > 0.0
    shared = (called & (y > 0.5)).double().sum(1)
    overlap = shared / (called | (y > 0.5)).double().sum(1).clamp_min(1.0)
    all_over = (y > 0.5).double().mean(1)  # what calling every pixel comes to
    mean, error = mean_and_error(overlap - all_over)
    return Outcome(float(overlap.mean()), mean - 1.645 * error)


def pixel_measure(output: Tensor, y: Tensor, settings: Settings) -> Signals:
    """Every signal of a binary classifier of pixels."""
    return table_measure(output.reshape(-1, 1), y.flatten(), settings)


def patterns(settings: Settings, seed: int) -> Data:
    """Ten fixed patterns of 8x8, shifted by up to two pixels, in noise; (N, 1, 8, 8)."""
    generator = torch.Generator().manual_seed(seed)
    n = total(settings)
    fixed = torch.randn(CLASSES, 4, 4, generator=torch.Generator().manual_seed(10_007))
    large = functional.interpolate(fixed[:, None], size=SMALL, mode="bilinear")[:, 0]
    y = torch.randint(CLASSES, (n,), generator=generator)
    shift = torch.randint(-2, 3, (n, 2, 1), generator=generator)
    place = torch.arange(SMALL)
    down, across = (place - shift[:, 0]) % SMALL, (place - shift[:, 1]) % SMALL
    clean = large[y[:, None, None], down[:, :, None], across[:, None, :]]
    noise = torch.randn(clean.shape, generator=generator)
    return splits((settings.signal * clean + settings.noise * noise)[:, None], y, settings)


def pattern_net(settings: Settings) -> Net:
    """A convolution, a strided one, a linear block, a linear head."""
    blocks = [
        nn.Conv2d(1, 8, 3, padding=1),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.Sequential(nn.Flatten(), nn.Linear(16 * 16, settings.width)),
    ]
    return Net(blocks, nn.Linear(settings.width, CLASSES), settings)


def field(settings: Settings, seed: int) -> Data:
    """Places of a smooth picture as sines and cosines, (N, 8), and how bright it is there."""
    generator = torch.Generator().manual_seed(seed)
    fixed = torch.Generator().manual_seed(10_007)
    place = 2.0 * torch.rand(total(settings), 2, generator=generator) - 1.0
    way = 3.0 * torch.randn(2, WAVES, generator=fixed)
    phase = 2.0 * math.pi * torch.rand(WAVES, generator=fixed)
    clean = torch.sin(place @ way + phase).mean(1) * WAVES**0.5
    angles = math.pi * torch.cat([place, 2.0 * place], dim=1)
    noise = settings.noise * torch.randn(len(place), generator=generator)
    return splits(
        torch.cat([angles.sin(), angles.cos()], dim=1), settings.signal * clean + noise, settings
    )


def videos(settings: Settings, seed: int) -> Data:
    """Two noisy frames of a blob that moves on a torus by up to two pixels; the next, (N, S²)."""
    generator = torch.Generator().manual_seed(seed)
    n = total(settings)
    start = torch.rand(n, 2, generator=generator) * SIDE
    speed = 4.0 * torch.rand(n, 2, generator=generator) - 2.0
    frames = torch.stack([_blob(start + step * speed, 4.0) for step in range(3)], dim=1)
    noise = settings.noise * torch.randn(n, 2, SIDE, SIDE, generator=generator)
    return splits(settings.signal * frames[:, :2] + noise, frames[:, 2].flatten(1), settings)


DIGITS = class_task(
    "digits",
    settings=Settings(n_train=1000, n_val=1000, n_test=1024, batch=100, noise=0.7, lr=2e-3),
    data=patterns,
    build=pattern_net,
    classes=CLASSES,
    epochs=15,
    vary=lambda settings, seed: replace(
        settings, **({"optimizer": "sgd", "lr": 0.05} if seed % 2 else {})
    ),
)
SEGMENTATION = Task(
    name="segmentation",
    kind=TaskKind.BINARY,
    settings=Settings(n_train=200, n_val=60, n_test=300, batch=20, width=12, noise=0.6, lr=5e-3),
    data=masks,
    build=pixel_net,
    losses=pixel_losses,
    constant=lambda y, settings: torch.logit(y.mean())[None, None].expand(1, SIDE * SIDE),
    truth=pixel_truth,
    measure=pixel_measure,
    predicted=torch.sigmoid,
    flat=lambda output, y: (output.reshape(-1, 1), y.flatten()),
    epochs=20,
    vary=lambda settings, seed: replace(settings, n_val=(50, 120)[seed % 2]),
)
FIELD = curve_task(
    "field",
    settings=Settings(
        activation="gelu", n_train=400, n_val=10_000, n_test=4000, batch=200, lr=3e-3, noise=0.3
    ),
    data=field,
    build=lambda settings: perceptron(8, 1, settings),
    epochs=100,
    vary=lambda settings, seed: replace(
        settings, n_val=(10_000, 1000)[seed % 2], schedule=("cosine", "constant")[seed // 2 % 2]
    ),
)
FRAMES = vector_task(
    "frames",
    settings=Settings(n_train=300, n_val=100, n_test=500, batch=20, width=12, noise=0.2, lr=3e-3),
    data=videos,
    build=lambda settings: pixel_net(settings, 2),
    epochs=12,
    vary=lambda settings, seed: replace(
        settings, **({}, {"optimizer": "sgd", "lr": 0.3})[seed % 2], n_val=(50, 200)[seed // 2 % 2]
    ),
)
