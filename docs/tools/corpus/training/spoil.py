"""What faults do to data and gradients. The hidden test split stays as the world makes it.

N samples
"""

import torch
from torch import Tensor
from torch.nn import Parameter

from docs.tools.corpus.training.settings import Settings
from docs.tools.corpus.training.task import Data, Split
from sickbay.trials.contract import TaskKind


def spoiled(data: Data, settings: Settings, kind: TaskKind, seed: int) -> Data:
    """Return the data as the faulty pipeline hands them on."""
    generator = torch.Generator().manual_seed(seed + 77)
    train = _fewer(data.train, settings, kind, generator)
    y = train.y
    if settings.shuffled:
        y = reordered(y, settings.shuffled, generator)
    if settings.misaligned:
        rows = torch.rand(len(y), generator=generator) < settings.misaligned
        y = torch.where(_like(rows, y), y.roll(1, 0), y)
    split = {"train": Split(train.x, y), "val": data.val, "test": data.test}
    if settings.inputs_lost:
        order = torch.randperm(_columns(train.x), generator=generator)
        lost = order[: round(settings.inputs_lost * len(order))]
        split = {name: Split(_without(part.x, lost), part.y) for name, part in split.items()}
    if settings.mismatched:  # deployment sees what validation sees
        for name in ("val", "test"):
            part = split[name]
            split[name] = Split(_swapped(part.x, settings.mismatched), part.y)
    if settings.input_scale != 1.0:
        split = {name: Split(part.x * settings.input_scale, part.y) for name, part in split.items()}
    return Data(**split)


def reordered(y: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Return the targets with a share of them permuted among themselves."""
    rows = torch.randperm(len(y), generator=generator)[: round(share * len(y))]
    y = y.clone()
    y[rows.sort().values] = y[rows]
    return y


def spoil_gradients(parameters: list[Parameter], settings: Settings, *, ascend: bool) -> None:
    """Turn gradients round, or send them through half precision without a loss scaler."""
    for parameter in parameters:
        if parameter.grad is None:
            continue
        if ascend:
            parameter.grad.neg_()
        if settings.half_overflow:
            parameter.grad.copy_((parameter.grad * settings.half_overflow).half().float())
            parameter.grad.div_(settings.half_overflow)


def _fewer(train: Split, settings: Settings, kind: TaskKind, generator: torch.Generator) -> Split:
    keep = torch.ones(len(train), dtype=torch.bool)
    if settings.kept_samples < 1.0:
        rows = torch.randperm(len(train), generator=generator)
        keep[rows[max(8, round(settings.kept_samples * len(rows))) :]] = False
        if kind is TaskKind.BINARY:
            keep |= train.y.cumsum(0).le(4) & (train.y > 0.5)  # a few positives stay
    if settings.positives_dropped:
        positives = torch.nonzero(train.y > 0.5)[:, 0]
        gone = positives[torch.randperm(len(positives), generator=generator)]
        keep[gone[: min(len(gone) - 1, round(settings.positives_dropped * len(gone)))]] = False
    return Split(train.x[keep], train.y[keep])


def _like(rows: Tensor, y: Tensor) -> Tensor:
    return rows.view(-1, *[1] * (y.dim() - 1)) if y.dim() > 1 else rows


def _columns(x: Tensor) -> int:
    return x.shape[-1]


def _without(x: Tensor, columns: Tensor) -> Tensor:
    x = x.clone()
    x[..., columns] = 0.0
    return x


def _swapped(x: Tensor, share: float) -> Tensor:
    """The first columns arrive in reverse order: another pipeline than in training."""
    count = round(share * _columns(x))
    return torch.cat([x[..., :count].flip(-1), x[..., count:]], dim=-1)
