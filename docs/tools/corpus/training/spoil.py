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
    y = _mislabelled(train.y, settings, kind, generator)
    split = {"train": Split(train.x, y), "val": data.val, "test": data.test}
    if settings.inputs_lost:
        order = torch.randperm(_columns(train.x), generator=generator)
        lost = order[: round(settings.inputs_lost * len(order))]
        split = {name: Split(_without(part.x, lost), part.y) for name, part in split.items()}
    if settings.mismatched:  # deployment sees what validation sees
        for name in ("val", "test"):
            part = split[name]
            split[name] = Split(_swapped(part.x, settings.mismatched), part.y)
    if settings.augmented_val:
        split["val"] = _augmented(split["val"], settings.augmented_val, generator)
    if settings.swapped_splits:
        both = settings.swapped_splits == "both"
        split |= {"train": split["val" if both else "train"], "val": split["train"]}
    if settings.input_scale != 1.0:
        split = {name: Split(part.x * settings.input_scale, part.y) for name, part in split.items()}
    return Data(**split)


def _mislabelled(
    y: Tensor, settings: Settings, kind: TaskKind, generator: torch.Generator
) -> Tensor:
    if settings.shuffled:
        y = reordered(y, settings.shuffled, generator)
    if settings.misaligned:
        rows = torch.rand(len(y), generator=generator) < settings.misaligned
        y = torch.where(_like(rows, y), y.roll(1, 0), y)
    if settings.one_label:
        rows = torch.rand(len(y), generator=generator) < settings.one_label
        y = torch.where(_like(rows, y) & _labelled(y, kind), _commonest(y, kind), y)
    if settings.off_by_one:
        y = _next(y, by_step=settings.off_by_one == "step")
    return y


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
        if kind is TaskKind.BINARY and train.y.dim() == 1:
            keep |= train.y.cumsum(0).le(4) & (train.y > 0.5)  # a few positives stay
    if settings.positives_dropped:
        positives = torch.nonzero(train.y > 0.5)[:, 0]
        gone = positives[torch.randperm(len(positives), generator=generator)]
        keep[gone[: min(len(gone) - 1, round(settings.positives_dropped * len(gone)))]] = False
    return Split(train.x[keep], train.y[keep])


def _like(rows: Tensor, y: Tensor) -> Tensor:
    return rows.view(-1, *[1] * (y.dim() - 1)) if y.dim() > 1 else rows


def _augmented(part: Split, noise: float, generator: torch.Generator) -> Split:
    return Split(
        part.x + noise * part.x.std() * torch.randn(part.x.shape, generator=generator), part.y
    )


def _labelled(y: Tensor, kind: TaskKind) -> Tensor:
    """Where there is a label: padding has none."""
    return y >= 0 if kind is TaskKind.MULTICLASS else torch.ones_like(y, dtype=torch.bool)


def _commonest(y: Tensor, kind: TaskKind) -> Tensor:
    """The target that a careless join gives to everybody: the commonest label, the mean number."""
    if kind in (TaskKind.BINARY, TaskKind.MULTICLASS):
        return y[y >= 0].mode().values
    return y.mean(0)


def _next(y: Tensor, *, by_step: bool) -> Tensor:
    """Labels counted from another number, or the targets of the next step of a sequence."""
    if by_step:
        return y.roll(-1, -1)
    return torch.where(y >= 0, (y + 1) % (y.max() + 1), y)


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
