"""Procedural colour images of classes that differ in texture and outline, at any pose.

N images · H = W pixels

A class is a design: the outline of a flower with n petals, three sine waves of fixed frequency and
direction painted in it, and two colours. A sample turns, shifts and scales the whole, moves the
phases of the waves and their shares, and adds noise; so no pixel and no mean colour gives a class
away. The designs follow from the class alone: only the samples follow from a seed.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Pixels = NDArray[np.float32]

NOISE = 0.25
SPREAD = 0.2  # of the colours between classes
CONTRAST = 0.35  # of the waves
WAVES = 3
_DESIGNS = 2_017  # seed of the designs: the same classes in every trial
_PETALS = (3, 4, 5, 6, 7)


@dataclass(frozen=True)
class Design:
    """A class: petals of the outline and their depth, waves (frequency, angle), colours (2, 3)."""

    petals: int
    depth: float
    frequencies: FloatArray
    angles: FloatArray
    colours: FloatArray


def design(category: int) -> Design:
    """Return the design of a class, always the same one."""
    rng = np.random.default_rng([_DESIGNS, category])
    return Design(
        petals=_PETALS[category % len(_PETALS)],
        depth=rng.uniform(0.15, 0.4),
        frequencies=rng.uniform(0.6, 2.4, WAVES),
        angles=rng.uniform(0.0, math.pi, WAVES),
        colours=rng.uniform(-SPREAD, SPREAD, (2, 3)),
    )


def draw(category: int, count: int, width: int, rng: np.random.Generator) -> Pixels:
    """Draw `count` images of a class, (N, 3, H, W), values around 0 with a spread of about 0.5."""
    look = design(category)
    turn, x0, y0 = _column(rng, count, math.pi), _column(rng, count, 0.2), _column(rng, count, 0.2)
    size = 0.7 + _column(rng, count, 0.12)
    axis = (np.arange(width) + 0.5) / width * 2.0 - 1.0
    x = axis[None, None, :] - x0
    y = axis[None, :, None] - y0
    u = (x * np.cos(turn) + y * np.sin(turn)) / size
    v = (y * np.cos(turn) - x * np.sin(turn)) / size
    radius, angle = np.hypot(u, v), np.arctan2(v, u)
    outline = 1.0 + look.depth * np.cos(look.petals * angle)
    inside = 1.0 / (1.0 + np.exp((radius - outline) * 12.0))
    paint = _waves(look, u, v, rng)
    first, second = look.colours[:, None, :, None, None]
    images = inside[:, None] * (first + paint[:, None] * (second + CONTRAST))
    images += 0.15 * rng.normal(size=(count, 3, 1, 1))  # the light
    images += NOISE * rng.normal(size=images.shape)
    drawn: Pixels = images.astype(np.float32)
    return drawn


def _waves(look: Design, u: FloatArray, v: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Add up the waves, each at a random phase and share."""
    count = len(u)
    total = np.zeros(u.shape)
    for frequency, angle in zip(look.frequencies, look.angles, strict=True):
        phase = _column(rng, count, math.pi)
        share = 0.6 + _column(rng, count, 0.3)
        along = u * math.cos(angle) + v * math.sin(angle)
        total += share * np.sin(2.0 * math.pi * frequency * along + phase)
    return total / math.sqrt(WAVES)


def _column(rng: np.random.Generator, count: int, half: float) -> FloatArray:
    """Draw one number in ±half for each image, (N, 1, 1)."""
    return rng.uniform(-half, half, (count, 1, 1))
