"""Statistics for detectors: pure functions of arrays.

Shapes: a series has shape (n,), one entry per evaluation; windows have shape (m, w). NaN marks a
value that does not exist and is left out; infinities are legal and compare as usual.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv, gammaincinv, ndtr, ndtri, stdtrit

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

SHORT = 64  # up to here Python's own sorting is quicker than numpy's median
EXACT_LIMIT = 12  # up to here the null distribution of Kendall's score is counted, not approximated
MAD_TO_SIGMA = (
    1.4826  # a normal distribution's standard deviation over its median absolute deviation
)


def mann_kendall(values: FloatArray, *, rising: bool) -> float:
    """One-sided p-value of the Mann-Kendall trend test against "no trend".

    Exact for at most 12 values without ties, else normal with tie-corrected variance and continuity
    correction (Kendall 1975, Rank Correlation Methods, chapters 4 and 5). Under two values: 1.0.
    """
    kept = values[~np.isnan(values)]
    if len(kept) < 2:
        return 1.0
    return float(_trend_p(kept[None, :], 1 if rising else -1)[0])


def mann_kendall_windows(values: FloatArray, width: int, *, rising: bool) -> FloatArray:
    """`mann_kendall` over the last `width` values at each place, shape (n,); NaN before."""
    p_values = np.full(len(values), np.nan)
    if len(values) < width:
        return p_values
    windows = sliding_window_view(values, width)
    whole = ~np.isnan(windows).any(axis=1)
    p_values[width - 1 :][whole] = _trend_p(windows[whole], 1 if rising else -1)
    for index in np.flatnonzero(~whole):
        p_values[width - 1 + index] = mann_kendall(windows[index], rising=rising)
    return p_values


def theil_sen(x: FloatArray, y: FloatArray) -> float:
    """Median of the slopes between all pairs of points (Sen 1968); NaN without two different x."""
    kept = np.isfinite(x) & np.isfinite(y)
    first, second = pairs(int(kept.sum()))
    run = x[kept][second] - x[kept][first]
    rise = y[kept][second] - y[kept][first]
    steep = run != 0.0
    return median(rise[steep] / run[steep])


def theil_sen_windows(x: FloatArray, y: FloatArray, width: int) -> FloatArray:
    """`theil_sen` over the last `width` points at each place, x ascending; NaN before."""
    slopes = np.full(len(y), np.nan)
    if len(y) < width:
        return slopes
    xs, ys = sliding_window_view(x, width), sliding_window_view(y, width)
    whole = np.isfinite(ys).all(axis=1)
    first, second = pairs(width)
    rise = ys[whole][:, second] - ys[whole][:, first]
    run = xs[whole][:, second] - xs[whole][:, first]
    slopes[width - 1 :][whole] = np.median(rise / run, axis=1) if len(rise) else np.nan
    for index in np.flatnonzero(~whole):
        slopes[width - 1 + index] = theil_sen(xs[index], ys[index])
    return slopes


def clopper_pearson_upper(hits: ArrayLike, n: ArrayLike, alpha: float = 0.05) -> FloatArray:
    """Exact one-sided upper bound of a share (Clopper, Pearson 1934); 1.0 if nothing was drawn."""
    k, m = np.asarray(hits, dtype=np.float64), np.asarray(n, dtype=np.float64)
    inner = k < m
    bound = betaincinv(k + 1.0, np.where(inner, m - k, 1.0), 1.0 - alpha)
    return np.where(inner, bound, 1.0)


def clopper_pearson_lower(hits: ArrayLike, n: ArrayLike, alpha: float = 0.05) -> FloatArray:
    """Exact one-sided lower bound of a share (Clopper, Pearson 1934); 0.0 if nothing was drawn."""
    k, m = np.asarray(hits, dtype=np.float64), np.asarray(n, dtype=np.float64)
    inner = k > 0.0
    bound = betaincinv(np.where(inner, k, 1.0), np.maximum(m - k, 0.0) + 1.0, alpha)
    return np.where(inner, bound, 0.0)


def wilson(hits: int, n: int, alpha: float = 0.05) -> tuple[float, float]:
    """Two-sided score interval of a share (Wilson 1927); (0, 1) if nothing was drawn."""
    low, high = wilson_bounds(hits, n, alpha)
    return float(low), float(high)


def wilson_bounds(
    hits: ArrayLike, n: ArrayLike, alpha: float = 0.05
) -> tuple[FloatArray, FloatArray]:
    """`wilson` for arrays; NaN where a count is."""
    k, m = np.asarray(hits, dtype=np.float64), np.asarray(n, dtype=np.float64)
    z2, empty = normal_quantile(alpha / 2.0) ** 2, m == 0.0
    m = np.where(empty, 1.0, m)
    share = k / m
    centre = share + z2 / (2.0 * m)
    half = np.sqrt(z2 * (share * (1.0 - share) / m + z2 / (4.0 * m * m)))
    low, high = (centre - half) / (1.0 + z2 / m), (centre + half) / (1.0 + z2 / m)
    return np.where(empty, 0.0, low), np.where(empty, 1.0, high)


def variance_upper(variance: FloatArray, n: FloatArray, alpha: FloatArray) -> FloatArray:
    """One-sided upper bound of a variance from n normal values: s² (n-1) / chi²(alpha, n-1).

    Where n is unknown (NaN) or below two the estimate itself is returned.
    """
    known = np.nan_to_num(n, nan=0.0) >= 2
    degrees = np.where(known, n, 2.0) - 1.0
    # the inverse is slow, and mostly asked for the same thing again
    cases, which = np.unique(np.stack([degrees, alpha]), axis=1, return_inverse=True)
    factors = cases[0] / (2.0 * gammaincinv(cases[0] / 2.0, cases[1]))
    return np.where(known, variance * factors[which.ravel()], variance)


def spent_alpha(alpha: float, look: FloatArray) -> FloatArray:
    """Error that look number 1, 2, 3, … may spend so that all looks together spend `alpha`.

    alpha_t = alpha * 6 / (pi² t²), whose sum over all t is alpha.
    """
    return alpha * 6.0 / (np.pi**2 * look**2)


def normal_quantile(alpha: float) -> float:
    """Return the z above which a standard normal value lies with probability alpha."""
    return float(-ndtri(alpha))


def normal_quantiles(alpha: FloatArray) -> FloatArray:
    """`normal_quantile` for a series of alphas, shape (n,)."""
    return np.asarray(-ndtri(alpha), dtype=np.float64)


def holm(p_values: Sequence[float], alpha: float) -> tuple[bool, ...]:
    """Which hypotheses Holm's step-down procedure rejects at the joint error alpha (Holm 1979)."""
    return tuple(p_value <= alpha for p_value in holm_adjusted(p_values))


def holm_adjusted(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values (Holm 1979), in the order given; NaN is no test and stays NaN.

    Compared with 0.05, they keep the chance of any false alarm among all of them below 5 %.
    """
    tested = sorted((p, index) for index, p in enumerate(p_values) if not np.isnan(p))
    adjusted = [float("nan")] * len(p_values)
    highest = 0.0
    for rank, (p, index) in enumerate(tested):
        highest = max(highest, min(1.0, (len(tested) - rank) * p))
        adjusted[index] = highest
    return adjusted


def hanley_mcneil_error(
    auroc: FloatArray, positives: ArrayLike, negatives: ArrayLike
) -> FloatArray:
    """Standard error of an area under the ROC curve from the class sizes alone, shape (n,).

    Hanley, McNeil 1982, Radiology 143: for when DeLong's was not recorded.
    """
    m, n = np.asarray(positives, dtype=np.float64), np.asarray(negatives, dtype=np.float64)
    two_positives, two_negatives = auroc / (2.0 - auroc), 2.0 * auroc**2 / (1.0 + auroc)
    square = auroc**2
    variance = (
        auroc * (1.0 - auroc)
        + (m - 1.0) * (two_positives - square)
        + (n - 1.0) * (two_negatives - square)
    )
    return np.asarray(np.sqrt(np.maximum(variance, 0.0) / (m * n)), dtype=np.float64)


def chance_ranking_error(positives: ArrayLike, negatives: ArrayLike) -> FloatArray:
    """Standard deviation of the area under the ROC curve of random scores (Mann, Whitney 1947)."""
    m, n = np.asarray(positives, dtype=np.float64), np.asarray(negatives, dtype=np.float64)
    return np.asarray(np.sqrt((m + n + 1.0) / (12.0 * m * n)), dtype=np.float64)


def average_precision_error(value: FloatArray, positives: ArrayLike, base: ArrayLike) -> FloatArray:
    """Approximate standard error of an average precision near chance, shape (n,).

    value * 0.65 base^-0.3 / sqrt(positives), fitted to simulated rankings at and a little over
    chance with 30 to 400 positives and base rates of 0.01 to 0.3. The binomial interval of Boyd et
    al. 2013 is two to three times as wide there.
    """
    relative = 0.65 * np.asarray(base, dtype=np.float64) ** -0.3
    return np.asarray(value * relative / np.sqrt(np.asarray(positives, dtype=np.float64)))


def histogram_ranking(
    positive: FloatArray, negative: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Area under the ROC curve, its DeLong error, and average precision of binned scores.

    Both histograms have shape (n, bins), bins ascending by score; scores within a bin are ties.
    DeLong et al. 1988, Biometrics 44. NaN where a class is empty.
    """
    m, n = positive.sum(axis=1, keepdims=True), negative.sum(axis=1, keepdims=True)
    below = (np.cumsum(negative, axis=1) - 0.5 * negative) / n  # negatives under a positive
    above = 1.0 - (np.cumsum(positive, axis=1) - 0.5 * positive) / m
    auroc = (positive * below).sum(axis=1) / m[:, 0]
    of_positives = (positive * (below - auroc[:, None]) ** 2).sum(axis=1) / (m[:, 0] - 1.0)
    of_negatives = (negative * (above - auroc[:, None]) ** 2).sum(axis=1) / (n[:, 0] - 1.0)
    error = np.sqrt(of_positives / m[:, 0] + of_negatives / n[:, 0])
    true_positives = np.cumsum(positive[:, ::-1], axis=1)
    shown = true_positives + np.cumsum(negative[:, ::-1], axis=1)
    precision = np.where(shown > 0.0, true_positives / np.maximum(shown, 1.0), 0.0)
    return auroc, error, (positive[:, ::-1] * precision).sum(axis=1) / m[:, 0]


def matthews(table: FloatArray) -> FloatArray:
    """Matthews' correlation of confusion tables (n, C, C), true by predicted, to (n,).

    Gorodkin 2004 for several classes; 0 where only one class is predicted or only one exists.
    """
    true, predicted = table.sum(axis=2), table.sum(axis=1)
    total, hits = true.sum(axis=1), np.trace(table, axis1=1, axis2=2)
    joint = hits * total - (true * predicted).sum(axis=1)
    scale = (total**2 - (predicted**2).sum(axis=1)) * (total**2 - (true**2).sum(axis=1))
    return np.where(scale > 0.0, joint / np.sqrt(np.where(scale > 0.0, scale, 1.0)), 0.0)


def student_quantiles(alpha: float, degrees: ArrayLike) -> FloatArray:
    """Return the t above which Student's t of these degrees of freedom lies with error alpha."""
    return np.asarray(-stdtrit(np.asarray(degrees, dtype=np.float64), alpha), dtype=np.float64)


def rank_correlation(series: FloatArray, other: FloatArray) -> float:
    """Spearman's correlation of two series, ties at their mean rank; NaN if one is constant."""
    kept = np.isfinite(series) & np.isfinite(other)
    ranks = [_mean_ranks(values[kept]) for values in (series, other)]
    if kept.sum() < 2 or any(np.ptp(rank) == 0.0 for rank in ranks):
        return float("nan")
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def median(values: FloatArray) -> float:
    """Median of values (n,) that are not NaN; NaN without values."""
    if len(values) > SHORT:
        return float(np.median(values))
    ascending: list[float] = sorted(values.tolist())
    if not ascending:
        return float("nan")
    middle = len(ascending) // 2
    if len(ascending) % 2:
        return ascending[middle]
    return (ascending[middle - 1] + ascending[middle]) / 2.0


def spread(values: FloatArray) -> float:
    """Robust standard deviation, 1.4826 times the median absolute deviation; NaN without values."""
    kept = values[np.isfinite(values)]
    if len(kept) == 0:
        return float("nan")
    return MAD_TO_SIGMA * median(np.abs(kept - median(kept)))


def noise(values: FloatArray) -> float:
    """Robust standard deviation of a series around its own trend, from its successive differences.

    The trend is taken away by centring the differences on their median; NaN under three values.
    """
    kept = values[np.isfinite(values)]
    return spread(kept[1:] - kept[:-1]) / np.sqrt(2.0) if len(kept) >= 3 else float("nan")


def effective_number(shares: FloatArray) -> FloatArray:
    """Perplexity exp H(p) of each row of shares, (n, K) to (n,); NaN where a row has no value."""
    total = np.nansum(shares, axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        normed = shares / total
        entropy = -np.nansum(np.where(normed > 0.0, normed * np.log(normed), 0.0), axis=1)
    return np.where(total[:, 0] > 0.0, np.exp(entropy), np.nan)


def information_gain(loss: FloatArray, floor: float, scale: float) -> FloatArray:
    """G = (H0 - L) / scale; with scale = H0 - L_min this is 1 - (L - L_min) / (H0 - L_min)."""
    return (floor - loss) / scale


def persistent(
    enter: BoolArray, leave: BoolArray, gap: BoolArray | None = None, k: int = 3
) -> int | None:
    """Index at which the state that still holds at the end began; None if none holds.

    The state is entered after k evaluations in a row with `enter`, and left only after k in a row
    with `leave`, which should ask for more than the mere opposite (hysteresis). A `gap` (a value
    that is NaN) closes a run that has begun: the state is then entered at once and never left. A
    gap before any run counts for nothing.
    """
    if not enter.any():
        return None
    onset, run, calm, latched = 0, 0, 0, False
    active = False
    gaps = np.zeros(len(enter), dtype=np.bool_) if gap is None else gap
    # plain lists: to ask an array for one value after another is slow
    steps = zip(enter.tolist(), leave.tolist(), gaps.tolist(), strict=True)
    for index, (enters, leaves, missing) in enumerate(steps):
        if missing:
            latched = latched or active or run > 0
            active = active or latched
        elif enters:
            onset = onset if active or run else index
            run, calm = run + 1, 0
            active = active or run >= k
        else:
            calm = calm + 1 if leaves else 0
            active = active and (calm < k or latched)
            run = run if active else 0
    return onset if active else None


def _trend_p(windows: FloatArray, sign: int) -> FloatArray:
    """One-sided p-values of Kendall's score times `sign`, windows (m, w) without NaN to (m,)."""
    n = windows.shape[1]
    first, second = pairs(n)
    earlier, later = windows[:, first], windows[:, second]
    score = sign * ((later > earlier).sum(axis=1) - (later < earlier).sum(axis=1))
    # each value's number of equals, itself included, counts the groups of ties
    equals = (windows[:, :, None] == windows[:, None, :]).sum(axis=2)
    tied = ((equals - 1) * (2 * equals + 5)).sum(axis=1)
    variance = (n * (n - 1) * (2 * n + 5) - tied) / 18.0
    # the score moves in steps of two: half a step belongs to the value itself
    z = (score - 1) / np.sqrt(np.where(variance > 0.0, variance, np.inf))
    p_values: FloatArray = np.where(variance > 0.0, ndtr(-z), 1.0)
    if n <= EXACT_LIMIT:
        exact = _inversion_cdf(n)[(n * (n - 1) // 2 - score) // 2]
        return np.where(tied == 0, exact, p_values)
    return p_values


def _mean_ranks(values: FloatArray) -> FloatArray:
    below = (values[None, :] < values[:, None]).sum(axis=1)
    ties = (values[None, :] == values[:, None]).sum(axis=1)
    return np.asarray(below + 0.5 * ties, dtype=np.float64)


@lru_cache(maxsize=32)
def pairs(n: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The indices of the earlier and the later of each pair of n values, in order."""
    return np.triu_indices(n, k=1)


@lru_cache(maxsize=EXACT_LIMIT + 1)
def _inversion_cdf(n: int) -> FloatArray:
    """Share of the permutations of n that have at most 0, 1, 2, … inversions (Mahonian numbers)."""
    counts = [1]
    for size in range(2, n + 1):
        grown = [0] * (len(counts) + size - 1)
        for inversions, count in enumerate(counts):
            for added in range(size):
                grown[inversions + added] += count
        counts = grown
    return np.cumsum(np.asarray(counts, dtype=np.float64)) / sum(counts)
