"""Sequences of tokens: a small transformer that predicts the next one, tagging, copying backwards.

N sequences · T steps · V words · C tags
"""

import math
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from docs.tools.corpus.training.nets import Net
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

WORDS = 10
STEPS = 12
BACK = 3  # how far the language repeats itself
TAGS = 5
PADDING = -100
COPIED = 6  # words that are read, then written
BLANK = WORDS - 1  # the input while words are written


class Positions(nn.Module):
    """A linear embedding of one-hot words, and one of their places."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.words = nn.Linear(vocabulary, width)
        self.places = nn.Parameter(0.3 * torch.randn(STEPS, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.words(x) + self.places


class Attention(nn.Module):
    """A pre-norm transformer layer: attention with two heads, causal or not, and a feed-forward."""

    def __init__(self, width: int, *, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.norm, self.norm_wide = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, steps, width = x.shape
        parts = self.query_key_value(self.norm(x)).view(n, steps, 3, 2, width // 2)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        x = x + self.out(seen.transpose(1, 2).reshape(n, steps, width))
        return x + self.narrow(functional.gelu(self.wide(self.norm_wide(x))))


def transformer(settings: Settings, outputs: int, *, causal: bool) -> Net:
    """An embedding, two layers, a linear head on every step."""
    width = settings.width
    layers = [Attention(width, causal=causal) for _ in range(2)]
    return Net([Positions(WORDS, width), *layers], nn.Linear(width, outputs), settings)


def language(settings: Settings, seed: int) -> Data:
    """Words follow their predecessor, or repeat the word three steps back; all are predicted."""
    generator = torch.Generator().manual_seed(seed)
    chance = torch.randn(WORDS, WORDS, generator=torch.Generator().manual_seed(10_007))
    chance = (2.0 * settings.signal * chance).softmax(1)
    n = total(settings)
    tokens = torch.randint(WORDS, (n, STEPS + 1), generator=generator)
    repeats = torch.rand(n, STEPS + 1, generator=generator) < 0.5
    for step in range(1, STEPS + 1):
        follows = torch.multinomial(chance[tokens[:, step - 1]], 1, generator=generator)[:, 0]
        back = tokens[:, max(step - BACK, 0)]
        tokens[:, step] = torch.where(repeats[:, step] & (step >= BACK), back, follows)
    return splits(functional.one_hot(tokens[:, :-1], WORDS).float(), tokens[:, 1:], settings)


def tags(settings: Settings, seed: int) -> Data:
    """A word's tag depends on it and its predecessor; sequences end in padding without a tag."""
    generator = torch.Generator().manual_seed(seed)
    table = torch.randn(WORDS, WORDS, TAGS, generator=torch.Generator().manual_seed(10_007))
    table[..., 0] += 0.8  # the tag of most words: none of interest
    rule = table.argmax(-1)
    n = total(settings)
    tokens = torch.randint(WORDS, (n, STEPS), generator=generator)
    y = rule[tokens, tokens.roll(1, 1)]
    other = torch.randint(TAGS, y.shape, generator=generator)
    y = torch.where(torch.rand(y.shape, generator=generator) < settings.noise, other, y)
    length = torch.randint(STEPS // 2, STEPS + 1, (n, 1), generator=generator)
    padded = torch.arange(STEPS) >= length
    x = functional.one_hot(tokens, WORDS).float() * ~padded[..., None]
    return splits(x, y.masked_fill(padded, PADDING), settings)


def copies(settings: Settings, seed: int) -> Data:
    """Six words and then blanks, in whose place the words are written backwards."""
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(BLANK, (total(settings), COPIED), generator=generator)
    blanks = torch.full((len(words), STEPS - COPIED), BLANK)
    y = torch.cat([torch.full_like(words, PADDING), words.flip(1)], dim=1)
    kept = torch.rand(words.shape, generator=generator) >= settings.noise  # others are lost
    tokens = torch.cat([torch.where(kept, words, BLANK), blanks], dim=1)
    return splits(functional.one_hot(tokens, WORDS).float(), y, settings)


def step_losses(output: Tensor, y: Tensor, settings: Settings) -> Tensor:
    """Cross-entropy, averaged over the steps of each sequence that have a label."""
    losses = functional.cross_entropy(
        output.transpose(1, 2),
        y,
        reduction="none",
        ignore_index=PADDING,
        label_smoothing=settings.smoothing,
    )
    return losses.sum(1) / (y != PADDING).sum(1)


def step_constant(y: Tensor, settings: Settings, classes: int) -> Tensor:
    """The log of the (smoothed) class shares, at every step."""
    share = torch.bincount(y[y != PADDING], minlength=classes).float()
    smooth = settings.smoothing
    logits = torch.log((1.0 - smooth) * share / share.sum() + smooth / classes + 1e-9)
    return logits.expand(1, STEPS, classes)


def step_truth(output: Tensor, y: Tensor, constant: Tensor) -> Outcome:
    """Accuracy of each sequence against that of the commonest class."""
    known = y != PADDING
    right = (output.argmax(2) == y) & torch.isfinite(output).all(2) & known
    trivial = (y == constant[0, 0].argmax()) & known
    hits, chance = (flags.double().sum(1) / known.sum(1) for flags in (right, trivial))
    mean, error = mean_and_error(hits - chance)
    return Outcome(float(hits.mean()), mean - 1.645 * error)


def flat_steps(output: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The scores and labels of all steps that have one."""
    known = y != PADDING
    return output[known], y[known]


def step_measure(output: Tensor, y: Tensor, settings: Settings) -> Signals:
    """Accuracy and the confusion table over all steps."""
    output, y = flat_steps(output, y)
    classes = output.shape[1]
    if not bool(torch.isfinite(output).all()):
        return {"val_accuracy": math.nan, "val_confusion": [math.nan] * classes**2}
    called = output.argmax(1)
    cells = torch.bincount(y * classes + called, minlength=classes**2)
    return {
        "val_accuracy": float((called == y).double().mean()),
        "val_confusion": [float(cell) for cell in cells],
    }


def _task(name: str, settings: Settings, data, classes: int, **others) -> Task:
    return Task(
        name=name,
        kind=TaskKind.MULTICLASS,
        settings=settings,
        data=data,
        losses=step_losses,
        constant=lambda y, settings: step_constant(y, settings, classes),
        truth=step_truth,
        measure=step_measure,
        predicted=lambda output: output.softmax(-1),
        wanted=lambda y: functional.one_hot(y.clamp_min(0), classes).float(),
        flat=flat_steps,
        **others,
    )


LANGUAGE = _task(
    "language",
    Settings(activation="none", n_train=800, n_val=200, n_test=500, batch=100, width=24, lr=5e-3),
    language,
    WORDS,
    build=lambda settings: transformer(settings, WORDS, causal=True),
    epochs=20,
    vary=lambda settings, seed: replace(settings, schedule=("constant", "cosine")[seed % 2]),
)
TAGGING = _task(
    "tagging",
    Settings(
        activation="none",
        n_train=600,
        n_val=100,
        n_test=500,
        batch=100,
        width=24,
        lr=5e-3,
        noise=0.1,
    ),
    tags,
    TAGS,
    build=lambda settings: transformer(settings, TAGS, causal=False),
    epochs=25,
    vary=lambda settings, seed: replace(settings, weight_decay=(0.0, 0.1)[seed % 2]),
)
COPYING = _task(
    "copying",
    Settings(activation="none", n_train=600, n_test=600, batch=100, width=24, lr=3e-3, noise=0.1),
    copies,
    BLANK,
    build=lambda settings: transformer(settings, BLANK, causal=True),
    epochs=24,
    vary=lambda settings, seed: replace(
        settings, n_val=(50, 300)[seed % 2], schedule=("constant", "cosine", "warmup")[seed % 3]
    ),
)
