"""Evidence about classes, shared by detectors: the confusion table, and ranking.

A detector never calls another one: what two of them need is computed here.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sickbay.trials.contract import TaskKind
from sickbay.trials.evidence.skill import (
    alpha_quantiles,
    gain,
    lasting,
    may_recover,
    no_skill_since,
    sample_counts,
    skill_may_come,
)
from sickbay.trials.evidence.statistics import (
    BoolArray,
    FloatArray,
    average_precision_error,
    chance_ranking_error,
    clopper_pearson_upper,
    hanley_mcneil_error,
    histogram_ranking,
    normal_quantile,
    persistent,
    wilson_bounds,
)
from sickbay.trials.evidence.thresholds import margin, whole
from sickbay.trials.history import History

CLASSIFICATION = (TaskKind.BINARY, TaskKind.MULTICLASS)
COUNTS = ("val_confusion", "val_tn", "val_fp", "val_fn", "val_tp")
CONFUSION = "val_confusion|val_tp|val_recall"  # what `confusion` can make a table of, with:
CONFUSION_SOURCES = (("val_confusion",), COUNTS[1:], ("val_recall",))  # each is enough
CONFUSION_SIGNALS = (*COUNTS, "val_recall", "val_precision", "val_accuracy", "val_n")
NO_TABLE = (
    "There is no confusion table. Log `val_confusion`, or `val_tp`, `val_fp`, `val_fn` and "
    "`val_tn`, or `val_recall` with `val_precision` or `val_accuracy` and state the class counts."
)
RANKING_SIGNALS = (
    "val_auroc",
    "val_auroc_se",
    "val_auprc",
    "val_auprc_se",
    "val_scores_hist_neg",
    "val_scores_hist_pos",
    *CONFUSION_SIGNALS,
)
CLASS_SIGNALS = (
    "val_auroc",
    "val_scores_hist_pos",
    "class_gradient_share",
    "logit_min",
    *CONFUSION.split("|"),
)


def no_classes(history: History) -> str | None:
    """`not_applicable` for a task without classes; None if its kind or a signal implies classes."""
    if history.facts.kind in CLASSIFICATION or any(history.has(name) for name in CLASS_SIGNALS):
        return None
    return "The task has no classes: neither its kind nor a recorded signal says so."


@dataclass(frozen=True)
class Confusion:
    """Counts of the confusion tables: `table` (n, C, C), the others (n, C), NaN where unrecorded.

    `minority` (C,) marks the classes other than the most frequent one that occur at all.
    """

    table: FloatArray
    true: FloatArray
    predicted: FloatArray
    hits: FloatArray
    majority: int
    minority: BoolArray

    @cached_property
    def total(self) -> FloatArray:
        """Number of validation samples, shape (n,)."""
        return np.asarray(self.true.sum(axis=1), dtype=np.float64)

    @cached_property
    def accuracy(self) -> FloatArray:
        """Share of right predictions, shape (n,)."""
        return np.asarray(self.hits.sum(axis=1) / self.total, dtype=np.float64)

    @cached_property
    def majority_rate(self) -> FloatArray:
        """Share of the most frequent class among the samples, shape (n,)."""
        return self.true[:, self.majority] / self.total

    @cached_property
    def recall(self) -> FloatArray:
        """Highest recall of a minority class, shape (n,)."""
        kept = self.minority
        best = np.max(self.hits[:, kept] / self.true[:, kept], axis=1, initial=-np.inf)
        return np.asarray(best, dtype=np.float64)

    @cached_property
    def class_recall_upper(self) -> FloatArray:
        """Clopper-Pearson upper bound of each class's recall, shape (n, C); 1 without samples."""
        return clopper_pearson_upper(self.hits, self.true)

    @cached_property
    def recall_upper(self) -> FloatArray:
        """Largest Clopper-Pearson upper bound of a minority class's recall, shape (n,)."""
        upper = self.class_recall_upper[:, self.minority]
        known = ~np.isnan(self.total)
        return np.where(known, np.max(upper, axis=1, initial=-np.inf), np.nan)

    @cached_property
    def minority_predicted(self) -> FloatArray:
        """Share of minority predictions over the share of minority samples, shape (n,)."""
        predicted = 1.0 - self.predicted[:, self.majority] / self.total
        return predicted / (1.0 - self.majority_rate)


def confusion(history: History) -> Confusion | None:
    """Read or assemble the confusion table; None if there is none of two or more classes.

    Taken from `val_confusion`, else from the four counts of a binary task, else from its recall
    with its precision or accuracy and the sizes of its two classes.
    """
    return history.once("confusion", lambda: _confusion(history))


def _confusion(history: History) -> Confusion | None:
    if not any(history.has(*names) for names in CONFUSION_SOURCES):
        return None
    flat = _counts(history)
    size = round(np.sqrt(flat.shape[1]))
    if size < 2 or size * size != flat.shape[1]:
        return None
    sound = np.isfinite(flat).all(axis=1) & (flat >= 0.0).all(axis=1) & (flat.sum(axis=1) > 0.0)
    if not sound.any() or flat[sound].sum() > 1e15:  # more than counts can be
        return None
    table = np.where(sound[:, None], flat, np.nan).reshape(-1, size, size)
    true, predicted = table.sum(axis=2), table.sum(axis=1)
    hits = np.diagonal(table, axis1=1, axis2=2)
    counts = np.nansum(true, axis=0)
    # of equally frequent classes the one that is predicted most
    majority = int(np.lexsort((-np.nansum(predicted, axis=0), -counts))[0])
    minority = counts > 0.0
    minority[majority] = False
    return Confusion(table, true, predicted, hits, majority, minority)


def _counts(history: History) -> FloatArray:
    """Confusion tables row by row, shape (n, C²); (n, 1) where there is none."""
    if history.has("val_confusion"):
        return history.vectors("val_confusion")
    if history.has(*COUNTS[1:]):
        return np.stack([history.column(name) for name in COUNTS[1:]], axis=1)
    positives, negatives = _expected_sizes(history)
    recall = _share(history.column("val_recall"))
    hits = recall * positives
    # precision is undefined, or written as 0, where nothing was predicted positive
    precision = _share(history.column("val_precision"))
    with np.errstate(divide="ignore", invalid="ignore"):
        false = np.where((recall == 0.0) | (precision == 0.0), 0.0, hits / precision - hits)
    accuracy = _share(history.column("val_accuracy"))
    by_accuracy = negatives - (accuracy * (positives + negatives) - hits)
    known = history.has("val_precision") | ~np.isnan(accuracy)
    false = np.where(np.isnan(accuracy), np.where(known, false, np.nan), by_accuracy)
    parts = (negatives - false, false, positives - hits, hits)
    return np.maximum(np.round(np.stack(parts, axis=1)), 0.0)


def _expected_sizes(history: History) -> tuple[FloatArray, FloatArray]:
    """Positives and negatives among the validation samples, by the training shares, each (n,)."""
    counts, n = history.facts.class_counts, sample_counts(history)
    share = counts[1] / sum(counts) if len(counts) == 2 and sum(counts) > 0 else np.nan
    positives = np.round(share * n)
    return positives, n - positives


def collapse_since(history: History) -> int | None:
    """Index since which provably only the most frequent class is predicted; or None."""
    return history.once("collapse", lambda: _collapse_since(history))


def _collapse_since(history: History) -> int | None:
    confusions = confusion(history)
    if confusions is None or not confusions.minority.any():
        return None
    few, rare, slack = (
        margin("minority_recall"),
        margin("minority_predicted"),
        margin("hysteresis"),
    )
    enter = (
        (confusions.recall_upper <= few)
        & (confusions.minority_predicted < rare)
        & _at_base_rate(confusions)
    )
    leave = (confusions.recall > slack * few) | (confusions.minority_predicted >= slack * rare)
    return persistent(enter, leave, np.isnan(confusions.total), whole("persistence"))


def collapse_is_fatal(history: History) -> bool:
    """Whether a collapse is permanent, and not only a matter of the threshold."""
    confusions = confusion(history)
    if confusions is None or collapse_since(history) is None or threshold_only(history) is not None:
        return False
    return classes_may_recover(history, confusions.recall) is None


def classes_may_recover(history: History, values: FloatArray) -> str | None:
    """Why a running classifier may still recover: `values` rise, or the validation loss falls.

    While it falls, a model first learns how frequent its classes are; what it knows of the inputs
    shows in rankings and recalls only later.
    """
    return may_recover(history, values, recovery_rises=True) or skill_may_come(
        history, history.column("val_loss")
    )


def ranks_well(history: History) -> str | None:
    """State that the scores provably rank far better than chance; None if not proven.

    Far better: the AUROC's lower bound is over 0.60. Then the model has skill whatever its loss
    says, and only the scale of its scores is wrong.
    """
    if history.facts.kind not in CLASSIFICATION:
        return None
    lower = ranking_lower(history)
    if lower is None or lower <= 0.5 + margin("ranking_margin"):
        return None
    return f"the scores rank well (AUROC at least {lower:.3f}): only their scale is wrong"


def classifies_well(history: History) -> str | None:
    """State that the accuracy is provably above the most frequent class's share; else None.

    Over it: the lower bound of (accuracy - share) / (1 - share) is over 0.10.
    """
    if history.facts.kind not in CLASSIFICATION:
        return None
    confusions, n = confusion(history), sample_counts(history)
    counts = np.asarray(history.facts.class_counts, dtype=np.float64)
    if confusions is not None:
        accuracy, n, common = confusions.accuracy, confusions.total, confusions.majority_rate
    elif len(counts) >= 2 and counts.sum() > 0.0:
        accuracy, common = _share(history.column("val_accuracy")), counts.max() / counts.sum()
    else:
        return None
    known = ~np.isnan(accuracy + n + common) & (n >= 1.0)
    if not known.any():
        return None
    z = alpha_quantiles(history)
    error = np.sqrt(np.maximum(accuracy * (1.0 - accuracy), 1.0 / n) / n)
    lower = lasting(np.where(known, (accuracy - z * error - common) / (1.0 - common), np.nan))
    if not lower > margin("had_skill_gain"):
        return None
    return (
        f"the accuracy of {lasting(accuracy):.3f} is well over the share of the most frequent "
        f"class: only the scale of the scores is wrong"
    )


def metric_skill(history: History) -> str | None:
    """Which metric proves skill, whatever the loss says; None if none does."""
    return history.once("metric skill", lambda: ranks_well(history) or classifies_well(history))


def worthless_since(history: History) -> int | None:
    """Index since which neither loss nor metrics can prove skill; or None."""
    return None if metric_skill(history) else no_skill_since(history)


def skill_on_its_way(history: History, loss: FloatArray) -> str | None:
    """Why a running trial may still gain skill: by its loss, or by its ranking.

    As `skill_may_come`; and a classifier waits while its scores rank better than chance for sure,
    or better and better. Rankings come before the loss where classes are rare.
    """
    again = skill_may_come(history, loss)
    rankings = None if again or history.finished else ranking(history)
    if rankings is None or history.facts.kind not in CLASSIFICATION:
        return again
    lower = lasting(rankings.lower, 1)
    if lower > 0.5:
        return f"the scores rank better than chance (AUROC at least {lower:.3f})"
    return may_recover(history, rankings.auroc, recovery_rises=True)


def threshold_only(history: History) -> str | None:
    """What proves that the scores separate the classes, whatever the threshold; or None."""
    lower = ranking_lower(history)
    if lower is not None and lower > 0.5:
        return f"the AUROC is over {lower:.3f}"
    gains = gain(history)
    if gains is not None and lasting(gains.lower) > margin("skill_gain"):
        return "the validation loss proves skill"
    return None


def _at_base_rate(confusions: Confusion) -> BoolArray:
    low, high = wilson_bounds(confusions.hits.sum(axis=1), confusions.total)
    return (low <= confusions.majority_rate) & (confusions.majority_rate <= high)


@dataclass(frozen=True)
class Ranking:
    """How well scores rank at each evaluation, all of shape (n,), NaN where unknown.

    `lower` and `upper` spend the error of `alphas` over the looks, `near` is the upper bound that
    an equivalence test compares with chance and a margin. `precision_ratio` is the upper bound of
    the average precision over the base rate.
    """

    auroc: FloatArray
    lower: FloatArray
    upper: FloatArray
    near: FloatArray
    precision_ratio: FloatArray
    positives: FloatArray


def ranking(history: History) -> Ranking | None:
    """Read the ranking off AUROC and average precision, or off histograms of the scores."""
    return history.once("ranking", lambda: _ranking(history))


def ranking_lower(history: History) -> float | None:
    """Lower bound of the AUROC that lasts (median of the last three); None if there is none."""
    rankings = ranking(history)
    lower = np.nan if rankings is None else lasting(rankings.lower)
    return None if np.isnan(lower) else float(lower)


def chance_since(history: History) -> int | None:
    """Index since which the scores provably rank no better than random ones; or None."""
    return history.once("chance ranking", lambda: _chance_since(history))


def _chance_since(history: History) -> int | None:
    rankings = ranking(history)
    if rankings is None:
        return None
    over, ratio, slack = (
        margin("ranking_margin"),
        margin("ranking_precision"),
        margin("hysteresis"),
    )
    enter = (
        (rankings.near <= 0.5 + over)
        & (rankings.precision_ratio <= ratio)
        & ~(rankings.lower > 0.5)
    )
    leave = (rankings.near > 0.5 + slack * over) | (rankings.lower > 0.5)
    leave |= rankings.precision_ratio > 1.0 + slack * (ratio - 1.0)
    return persistent(enter, leave, np.isnan(rankings.near), whole("persistence"))


def _ranking(history: History) -> Ranking | None:
    auroc, error = history.column("val_auroc"), history.column("val_auroc_se")
    precision = history.column("val_auprc")
    positives, negatives = class_sizes(history)
    logged = ~np.isnan(auroc + error + precision)
    binned = None if logged.all() else _binned(history)
    if binned is not None:
        auroc, error, precision = (
            np.where(np.isnan(known), own, known)
            for known, own in zip((auroc, error, precision), binned, strict=True)
        )
    auroc, precision = _share(auroc), _share(precision)
    if np.isnan(auroc).all():
        return None
    error = np.where(np.isnan(error), hanley_mcneil_error(auroc, positives, negatives), error)
    # DeLong's error is zero for a perfect ranking of however few: chance level needs its own error
    chance = np.fmax(error, chance_ranking_error(positives, negatives))
    z = alpha_quantiles(history)
    near = normal_quantile(margin("ranking_alpha"))
    base = positives / (positives + negatives)
    recorded = history.column("val_auprc_se")
    spread = average_precision_error(precision, positives, base)
    spread = np.where(np.isnan(recorded), spread, recorded)
    return Ranking(
        auroc=auroc,
        lower=auroc - z * chance,
        upper=auroc + z * chance,
        near=auroc + near * error,
        precision_ratio=(precision + near * spread) / base,
        positives=positives,
    )


def class_sizes(history: History) -> tuple[FloatArray, FloatArray]:
    """Positives and negatives among the validation samples, each (n,); NaN where unknown.

    Counted in the confusion table, else in the histograms, else from the class shares in training.
    """
    confusions = confusion(history)
    if confusions is not None and confusions.true.shape[1] == 2:
        negatives, positives = confusions.true[:, 0], confusions.true[:, 1]
    else:
        positives = history.vectors("val_scores_hist_pos").sum(axis=1)
        negatives = history.vectors("val_scores_hist_neg").sum(axis=1)
    expected = _expected_sizes(history)
    positives = np.where(np.isnan(positives), expected[0], positives)
    negatives = np.where(np.isnan(negatives), expected[1], negatives)
    return _positive(positives), _positive(negatives)


def _binned(history: History) -> tuple[FloatArray, FloatArray, FloatArray] | None:
    high, low = history.vectors("val_scores_hist_pos"), history.vectors("val_scores_hist_neg")
    if high.shape != low.shape or high.shape[1] < 2:
        return None
    return histogram_ranking(high, low)


def _share(values: FloatArray) -> FloatArray:
    return np.where((values >= 0.0) & (values <= 1.0), values, np.nan)


def _positive(counts: FloatArray) -> FloatArray:
    return np.where((counts > 0.0) & np.isfinite(counts), counts, np.nan)
