"""What the targets and the heads show while training: labels that change, classes, several losses.

Each of these is fed a batch before `backward` and asked once an evaluation.
"""

import itertools
import math
from collections.abc import Hashable, Mapping, Sequence

import torch
from torch import Tensor

Signals = dict[str, float | list[float]]
WATCHED = 1024  # fixed samples whose targets are compared between epochs
COMPARED = 8  # batches an epoch whose losses' gradients are compared
BINS = 256


class LabelProbe:
    """Remembers the targets of the first samples it sees, and counts those that change."""

    def __init__(self) -> None:
        """Watch no sample yet."""
        self._before: dict[Hashable, float] = {}
        self._now: dict[Hashable, float] = {}
        self._classes = True

    def add(self, ids: Sequence[Hashable] | Tensor, targets: Tensor) -> None:
        """See a batch: one id and one target (a class, or a number) a sample, before mixing."""
        if targets.is_floating_point() and not bool((targets == targets.round()).all()):
            self._classes = False
        flat = targets.detach().reshape(len(targets), -1)[:, 0].tolist()
        names = ids.tolist() if isinstance(ids, Tensor) else ids
        fixed = self._before or None
        for name, target in zip(names, flat, strict=True):
            if name in fixed if fixed is not None else len(self._now) < WATCHED:
                self._now[name] = float(target)

    def finish(self) -> Signals:
        """Compare with the epoch before; nothing in the first epoch."""
        before, now = self._before, self._now
        self._before, self._now = now or before, {}
        both = [name for name in now if name in before]
        if not both:
            return {}
        if self._classes:
            flips = sum(now[name] != before[name] for name in both)
            return {"label_flip_rate": flips / len(both), "label_flip_n": float(len(both))}
        old = torch.tensor([before[name] for name in both], dtype=torch.float64)
        new = torch.tensor([now[name] for name in both], dtype=torch.float64)
        spread = float(old.std())
        return {"target_change": float((new - old).abs().mean()) / spread if spread else math.nan}


class LogitProbe:
    """Adds up |dL/dlogit| by the true class as backward passes through, and sees their range."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._sums: Tensor | None = None
        self._ranges: list[Tensor] = []

    def add(self, logits: Tensor, targets: Tensor) -> None:
        """Watch the logits of a batch, (n,), (n, 1) or (n, C), and their classes (n,)."""
        if not logits.requires_grad:
            return
        self._ranges.append(_range_of(logits.detach()))
        labels = targets.detach().reshape(len(targets), -1)[:, 0].long()
        classes = max(2, logits.shape[1] if logits.dim() > 1 else 2)

        def hook(gradient: Tensor) -> None:
            sizes = gradient.detach().abs().reshape(len(labels), -1).sum(dim=1).double()
            sums = torch.zeros(classes, dtype=torch.float64, device=sizes.device)
            sums.index_add_(0, labels.to(sizes.device), sizes)
            self._sums = sums if self._sums is None else self._sums + sums

        logits.register_hook(hook)  # type: ignore[no-untyped-call]

    def finish(self) -> Signals:
        """Range of the logits and shares by class since the last call; nothing if none came."""
        sums, self._sums = self._sums, None
        ranges, self._ranges = self._ranges, []
        signals: Signals = {}
        if ranges:
            low, high, apart = torch.stack(ranges).double().amax(dim=0).tolist()
            signals |= {"logit_min": -low, "logit_max": high}
            if not math.isnan(apart):
                signals["logit_row_sum_deviation"] = apart
        if sums is not None and float(sums.sum()) > 0.0:
            signals["class_gradient_share"] = (sums / sums.sum()).tolist()
        return signals


def _range_of(logits: Tensor) -> Tensor:
    """Greatest of -logit, of logit, and of |row sum - 1| (NaN for one column), shape (3,)."""
    low, high = torch.aminmax(logits.float())
    several = logits.dim() > 1 and logits.shape[1] > 1
    apart = (logits.float().sum(dim=1) - 1.0).abs().max() if several else low * math.nan
    return torch.stack([-low, high, apart])


class ConflictProbe:
    """Compares the gradients of several losses at the features that they share."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._cosines: list[float] = []
        self._norms: list[Tensor] = []
        self._losses: list[list[Tensor]] = []

    def add(self, losses: Mapping[str, Tensor], shared: Tensor) -> None:
        """See the losses of a batch before backward; the first 8 batches are compared.

        One backward pass a loss, from the shared features only; the graph is kept.
        """
        values = list(losses.values())
        self._losses.append([value.detach() for value in values])
        if len(values) < 2 or len(self._norms) >= COMPARED or not shared.requires_grad:
            return
        gradients = [
            torch.autograd.grad(value, shared, retain_graph=True, allow_unused=True)[0]
            for value in values
        ]
        flat = torch.stack(
            [torch.zeros_like(shared) if gradient is None else gradient for gradient in gradients]
        ).flatten(1)
        norms = flat.norm(dim=1)
        cosines = [
            float((flat[i] @ flat[j]) / (norms[i] * norms[j]))
            for i, j in itertools.combinations(range(len(values)), 2)
            if float(norms[i]) > 0.0 and float(norms[j]) > 0.0
        ]
        self._norms.append(norms)
        self._cosines.append(min(cosines, default=math.nan))

    def finish(self) -> Signals:
        """Cosines batch by batch, mean norms and mean losses since the last call."""
        cosines, norms, losses = self._cosines, self._norms, self._losses
        self._cosines, self._norms, self._losses = [], [], []
        signals: Signals = {}
        if losses:
            columns = [torch.stack(column).double().mean() for column in zip(*losses, strict=True)]
            signals["task_losses"] = [float(column) for column in columns]
        if norms:
            signals["loss_gradient_cosine"] = list(cosines)
            signals["loss_gradient_batches"] = float(len(cosines))
            signals["loss_gradient_norms"] = torch.stack(norms).double().mean(dim=0).tolist()
        return signals


def score_signals(scores: Tensor, targets: Tensor) -> Signals:
    """What probabilities of the positive class show beside their targets, both of shape (n,).

    Histograms of positives and negatives in 256 equal bins over [0, 1], the confusion table at one
    half, and the variance of the scores over that of the targets.
    """
    flat, positive = scores.detach().flatten().double().cpu(), targets.flatten().cpu() > 0.5
    if len(flat) and not (float(flat.min()) >= 0.0 and float(flat.max()) <= 1.0):
        raise ValueError(
            "scores must be probabilities in [0, 1]: hand in torch.sigmoid(logits), not the logits"
        )
    called = flat > 0.5
    pairs = ((~positive, ~called), (~positive, called), (positive, ~called), (positive, called))
    confusion = [float((true & said).sum()) for true, said in pairs]
    n, spread = len(flat), float(positive.double().var(correction=0)) if len(flat) else 0.0
    signals: Signals = {
        f"val_scores_hist_{name}": torch.histc(flat[where], BINS, 0.0, 1.0).tolist()
        for name, where in (("pos", positive), ("neg", ~positive))
    }
    signals["val_confusion"] = confusion
    if n and spread > 0.0:
        signals["val_accuracy"] = (confusion[0] + confusion[3]) / n
        signals["val_predicted_positive_share"] = (confusion[1] + confusion[3]) / n
        signals["val_mean_probability"] = float(flat.mean())
        signals["output_variance_ratio"] = float(flat.var(correction=0)) / spread
    return signals


def loss_signals(losses: Tensor) -> Signals:
    """Mean, standard error and number of the validation losses of single samples, shape (n,)."""
    values = losses.detach().flatten().double()
    n = len(values)
    error = float(values.std() / math.sqrt(n)) if n > 1 else math.nan
    return {"val_loss": float(values.mean()), "val_loss_se": error, "val_n": float(n)}
