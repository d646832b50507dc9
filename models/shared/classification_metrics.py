"""Measures of a classifier's scores: ranking, decisions, calibration.

N samples · P positives · Q negatives

Everything is computed in float64 with numpy, from tensors or arrays of any shape, which are
flattened. Targets above 0.5 are positive. A sample is *called* positive if its score is above the
threshold, 0.5 unless another is given.
A score that is not finite makes every measure NaN: there is nothing to rank.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

Metrics = dict[str, float | list[float]]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
BINS = 256  # of the score histograms


def binary_metrics(
    scores_N: Tensor | ArrayLike, targets_N: Tensor | ArrayLike, threshold: float = 0.5
) -> Metrics:
    """Return the `val_*` signals of a binary classifier, `val_loss` excepted.

    `scores_N` are probabilities in [0, 1]; ValueError for a finite one outside, for no samples and
    for unequal sizes. `val_confusion` is [tn, fp, fn, tp]; the two histograms count scores in 256
    equal bins. Without both classes the ranking measures are NaN, and the MCC; with both, an MCC
    whose predictions are all alike is 0, as is usual.
    """
    scores, positive = _checked(scores_N, targets_N)
    finite = bool(np.isfinite(scores).all())
    if finite and (scores.min() < 0.0 or scores.max() > 1.0):
        raise ValueError(
            f"scores: they must be probabilities in [0, 1], not {scores.min()} to {scores.max()}; "
            "apply the sigmoid first"
        )
    auroc, error = auroc_with_error(scores, positive)
    counts = confusion(scores, positive, threshold) if finite else [math.nan] * 4
    return {
        "val_accuracy": (counts[0] + counts[3]) / len(scores),
        "val_auroc": auroc,
        "val_auroc_se": error,
        "val_auprc": auprc(scores, positive),
        "val_mcc": matthews(counts),
        "val_confusion": counts,
        "val_predicted_positive_share": (counts[1] + counts[3]) / len(scores),
        "val_mean_probability": float(scores.mean()) if finite else math.nan,
        "val_scores_hist_pos": histogram(scores[positive]),
        "val_scores_hist_neg": histogram(scores[~positive]),
    }


def auroc_with_error(
    scores_N: Tensor | ArrayLike, targets_N: Tensor | ArrayLike
) -> tuple[float, float]:
    """Return the area under the ROC curve and its standard error; ties count one half.

    The error is DeLong's, by the ranks of Sun and Xu (2014). It is NaN with fewer than two samples
    of a class, and exactly 0 for constant scores and for perfect separation: both have no spread
    *within* this sample. Both values are NaN where a class is absent or a score is not finite.
    """
    scores, positive = _checked(scores_N, targets_N)
    above_P, below_Q = scores[positive], scores[~positive]
    if not len(above_P) or not len(below_Q) or not np.isfinite(scores).all():
        return math.nan, math.nan
    rank_N = midranks(scores)
    # For each positive the share of negatives below it, for each negative that of positives above.
    win_P = (rank_N[positive] - midranks(above_P)) / len(below_Q)
    loss_Q = 1.0 - (rank_N[~positive] - midranks(below_Q)) / len(above_P)
    if len(above_P) < 2 or len(below_Q) < 2:
        return float(win_P.mean()), math.nan
    variance = win_P.var(ddof=1) / len(above_P) + loss_Q.var(ddof=1) / len(below_Q)
    return float(win_P.mean()), math.sqrt(variance)


def auprc(scores_N: Tensor | ArrayLike, targets_N: Tensor | ArrayLike) -> float:
    """Return the area under precision and recall, as average precision: no interpolation.

    Samples with equal scores enter together, so that constant scores give the prevalence. NaN where
    a class is absent or a score is not finite.
    """
    scores, positive = _checked(scores_N, targets_N)
    if positive.all() or not positive.any() or not np.isfinite(scores).all():
        return math.nan
    order_N = np.argsort(-scores, kind="stable")
    sorted_N, hits_N = scores[order_N], np.cumsum(positive[order_N])
    last_of_tie = np.append(sorted_N[1:] != sorted_N[:-1], True)
    hits = hits_N[last_of_tie]
    called = np.flatnonzero(last_of_tie) + 1
    gained = np.diff(hits, prepend=0)
    return float((gained * hits / called).sum() / hits[-1])


def confusion(
    scores_N: Tensor | ArrayLike, targets_N: Tensor | ArrayLike, threshold: float = 0.5
) -> list[float]:
    """Count [true negatives, false positives, false negatives, true positives]."""
    scores, positive = _checked(scores_N, targets_N)
    called = scores > threshold
    cells = np.bincount(2 * positive.astype(np.int64) + called, minlength=4)
    return [float(cell) for cell in cells]


def matthews(counts: Sequence[float]) -> float:
    """Return the correlation of calls and truth from [tn, fp, fn, tp].

    0 where all calls are alike, NaN where the truth is, or a count is NaN.
    """
    tn, fp, fn, tp = counts
    truth, calls = (tp + fn) * (tn + fp), (tp + fp) * (tn + fn)
    if not truth > 0.0:
        return math.nan
    return (tp * tn - fp * fn) / math.sqrt(truth * calls) if calls > 0.0 else 0.0


def histogram(scores_N: Floats) -> list[float]:
    """Count scores in 256 bins of [0, 1], 1 in the last one; all NaN if a score is not finite."""
    if not np.isfinite(scores_N).all():
        return [math.nan] * BINS
    bin_N = np.minimum((scores_N * BINS).astype(np.int64), BINS - 1)
    return [float(count) for count in np.bincount(bin_N, minlength=BINS)]


def label_flip_rate(before_N: Tensor | ArrayLike, now_N: Tensor | ArrayLike) -> float:
    """Return the share of samples whose target differs between two epochs, same ids in order.

    NaN for no samples. Labels drawn anew with probability p flip at a rate of 2p(1 - p).
    """
    before, now = _numbers(before_N), _numbers(now_N)
    if len(before) != len(now):
        raise ValueError(f"targets: {len(before)} before and {len(now)} now; compare the same ids")
    return float((before != now).mean()) if len(now) else math.nan


def class_gradient_share(
    gradient_N: Tensor | ArrayLike, targets_N: Tensor | ArrayLike, classes: int = 2
) -> list[float]:
    """Return each class's share of the sum of |dL/dlogit|; NaN where the whole sum is 0 or NaN."""
    size_N, target_N = np.abs(_numbers(gradient_N)), _numbers(targets_N).astype(np.int64)
    total_C = np.bincount(target_N, weights=size_N, minlength=classes)
    whole = float(total_C.sum())
    if not 0.0 < whole < math.inf:
        return [math.nan] * classes
    return [float(total) / whole for total in total_C]


def midranks(values_N: Floats) -> Floats:
    """Rank from 1 upwards; equal values share the mean of their ranks."""
    _, group_N, size_G = np.unique(values_N, return_inverse=True, return_counts=True)
    last_G = np.cumsum(size_G)
    ranks: Floats = (last_G - (size_G - 1) / 2.0)[group_N]
    return ranks


def _checked(scores_N: Tensor | ArrayLike, targets_N: Tensor | ArrayLike) -> tuple[Floats, Bools]:
    scores, targets = _numbers(scores_N), _numbers(targets_N)
    if not len(scores) or len(scores) != len(targets):
        raise ValueError(
            f"{len(scores)} scores and {len(targets)} targets: there must be as many of both, "
            "and at least one"
        )
    return scores, targets > 0.5


def _numbers(values: Tensor | ArrayLike) -> Floats:
    """Flatten to float64, off the graph and off the device."""
    if isinstance(values, Tensor):
        values = values.detach().cpu().double().numpy()
    return np.asarray(values, dtype=np.float64).ravel()
