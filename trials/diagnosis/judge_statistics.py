"""The judge's inputs: unitless statistics, pure functions of a history.

None changes with the unit of the loss, the order of rows or classes, or a column that it does not
read. A statistic that cannot be worked out is NaN, never 0: each curve of the judge has a value of
its own for what is missing.

*Skill* is how far a model is above the best constant predictor, by whichever sound measure shows it
best: the gain of the loss G = 1 - L/H0, the accuracy over the majority share (a - p)/(1 - p), the
balanced accuracy over 1/K likewise, 2 AUROC - 1, Matthews' correlation. All are 0 at chance and 1
at perfection; what lies below -2 is as good as -2. Where nothing says what chance is (a file with
losses alone), the *curve* statistics stand in: they compare losses with their own beginning.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sickbay.trials.evidence.classes import confusion
from sickbay.trials.evidence.skill import gain, lasting, percent
from sickbay.trials.evidence.statistics import FloatArray, median, pairs, theil_sen, wilson
from sickbay.trials.evidence.thresholds import margin
from sickbay.trials.history import History

NAN = float("nan")
LEAST_SKILL = -2.0
MARGIN = 0.02  # skill that counts as some
LENT_SKILL = 0.2  # more than a floor that is an estimate lends to a model that has learnt nothing
LARGEST_Z = 30.0
SLACK_ERRORS = 2.0
DIGITS = 9  # kept of a statistic, so that the last bits of a platform's logarithm decide nothing
LONGEST = 60  # evaluations that are compared pair by pair
GRADIENT_NORMS = ("grad_norm_p50", "grad_norm_p90", "grad_norm_max")
LEAST_RATIO = -6.0
WORTHLESS = 1e300  # standard error of a measure where one class alone is there


@dataclass(frozen=True)
class Statistic:
    """One number about a history, and constraints on its contribution.

    `monotone` is -1 where more is never more pathological, 1 where more is never less so, 0 where
    either may be. `words` say what it is, `form` writes its value.
    """

    name: str
    words: str
    monotone: int
    form: Callable[[float], str]
    function: Callable[[History], float]

    def say(self, value: float) -> str:
        """Name the statistic with its value."""
        return f"{self.words} {self.form(value) if value == value else 'unknown'}"  # noqa: PLR0124


def values_of(statistics: tuple[Statistic, ...], history: History) -> FloatArray:
    """Compute statistics of a history with rows, shape (p,); NaN where unknown."""
    with np.errstate(all="ignore"):
        values = np.array(
            [statistic.function(history) for statistic in statistics], dtype=np.float64
        )
    return np.where(np.isfinite(values), np.round(values, DIGITS), np.nan)


def knows_chance(history: History) -> bool:
    """Whether a history shows what a constant predictor would reach."""
    with np.errstate(all="ignore"):
        return len(_skill(history, "val")) > 0 or len(_skill(history, "train")) > 0


def tells_too_little(history: History) -> bool:
    """Whether chance is known for the training data alone, and the trial runs or fits them.

    Each run that the judge has learnt from has a validation; what fits its training data may be
    good or not.
    """
    train = _skill(history, "train")
    if len(_skill(history, "val")) or not len(train):
        return False
    return not history.finished or lasting(train) > MARGIN


def has_skill(history: History) -> bool:
    """Whether the validation has more skill at the end than the margin; no proof."""
    return lasting(_skill(history, "val")) > MARGIN


def accuracy_lower(history: History) -> tuple[float, float]:
    """Lower bound of the lasting accuracy (Wilson), and the majority share; NaN if unknown."""
    n, majority = samples(history), majority_share(history)
    accuracy = lasting(_known(history, "val_accuracy"))
    if not (n > 0.0 and majority < 1.0 and 0.0 <= accuracy <= 1.0):
        return NAN, majority
    return wilson(round(accuracy * n), round(n), 2.0 * margin("alpha_final"))[0], majority


def samples(history: History) -> float:
    """Return the number of validation samples, recorded or from the facts; NaN if unknown."""
    recorded = lasting(_column(history, "val_n"), 1)
    known = history.facts.n.get("val")
    return recorded if np.isfinite(recorded) else NAN if known is None else float(known)


def skill_measures(history: History, split: str) -> Mapping[str, FloatArray]:
    """Every measure of skill at each evaluation, by name, shape (n,); NaN where unknown.

    The gain is that of the loss, and of the density where its floor is known: a loss can be
    cheated, so the lower of the two counts.
    """
    return history.once(("skill measures", split), lambda: _skill_measures(history, split))


def _skill_measures(history: History, split: str) -> dict[str, FloatArray]:
    measures: dict[str, FloatArray] = {}
    signals = ("val_loss", "val_density_kl") if split == "val" else ("train_loss",)
    gains = [gain(history, name) for name in signals if history.has(name)]
    known = [loss_gain.value for loss_gain in gains if loss_gain is not None]
    if known:
        measures["gain"] = known[0] if len(known) == 1 else np.minimum(known[0], known[1])
    accuracy = _column(history, f"{split}_accuracy")
    table = confusion(history) if split == "val" and history.has("val_confusion") else None
    if table is not None:
        accuracy = np.where(np.isnan(accuracy), table.accuracy, accuracy)
        occur = np.nansum(table.true, axis=0) > 0.0
        classes = int(occur.sum())
        if classes > 1:
            recall = (table.hits[:, occur] / table.true[:, occur]).mean(axis=1)
            measures["balanced"] = (recall - 1.0 / classes) / (1.0 - 1.0 / classes)
    majority = majority_share(history)
    if majority < 1.0:
        measures["accuracy"] = (accuracy - majority) / (1.0 - majority)
    if history.has(f"{split}_auroc"):
        measures["auroc"] = 2.0 * _column(history, f"{split}_auroc") - 1.0
    if history.has(f"{split}_mcc"):
        measures["mcc"] = _column(history, f"{split}_mcc")
    return {
        name: _bounded(values) for name, values in measures.items() if not np.isnan(values).all()
    }


def _bounded(skill: FloatArray) -> FloatArray:
    return np.minimum(np.maximum(skill, LEAST_SKILL), 1.0)


def majority_share(history: History) -> float:
    """Share of the most frequent class: of the samples that are scored, else by the facts."""
    table = confusion(history) if history.has("val_confusion") else None
    if table is not None:
        return lasting(table.majority_rate)
    counts = history.facts.class_counts
    return max(counts) / sum(counts) if counts and sum(counts) > 0 else NAN


def _skill(history: History, split: str) -> FloatArray:
    """The best measure of skill at each evaluation that has one, (m,)."""
    return history.once(("skill", split), lambda: _best_measure(history, split))


def _best_measure(history: History, split: str) -> FloatArray:
    """The measure that is best when two standard errors of chance are taken off each."""
    measures = skill_measures(history, split)
    if not measures:
        return np.empty(0)
    known = []
    for name, values in measures.items():
        error = _chance_error(history, name, split)
        known.append(values if math.isnan(error) else _bounded(values - SLACK_ERRORS * error))
    best: FloatArray = np.fmax.reduce(known)
    return best[~np.isnan(best)]


def _chance_error(history: History, measure: str, split: str) -> float:
    """Standard error of a measure of skill at chance; NaN if the samples are not counted.

    The gain's vanishes at chance, as its floor is measured on the same samples.
    """
    if measure == "gain":
        return 0.0
    n = samples(history) if split == "val" else float(history.facts.n.get("train", NAN))
    majority = majority_share(history)
    if measure == "accuracy":
        return float(np.sqrt(majority / ((1.0 - majority) * n)))
    # Mann, Whitney 1947: Var(AUROC) = 1 / (12 n p (1 - p)), and skill is 2 AUROC - 1
    spread = 3.0 * n * majority * (1.0 - majority)
    return WORTHLESS if spread == 0.0 else float(1.0 / np.sqrt(spread))


def _skill_z(history: History) -> float:
    """Skill in standard errors of chance: the largest over its measures."""
    scores = [NAN]
    for name, values in skill_measures(history, "val").items():
        value = lasting(values)
        if name == "gain":  # Var(l - l0) is about 2 g / h for a small gain g over h nats
            h = class_entropy(history)
            scores.append(np.sign(value) * np.sqrt(abs(value) * samples(history) * h / 2.0))
        else:
            scores.append(value / _chance_error(history, name, "val"))
    return float(np.clip(np.fmax.reduce(scores), -LARGEST_Z, LARGEST_Z))


def class_entropy(history: History) -> float:
    """Entropy of the classes in nats, at most 1; 1 where there are no classes."""
    counts = np.array(history.facts.class_counts, dtype=np.float64)
    if len(counts) < 2 or not counts.sum() > 0.0:
        return 1.0
    shares = counts[counts > 0.0] / counts.sum()
    return min(1.0, float(-(shares * np.log(shares)).sum()))


def _column(history: History, name: str) -> FloatArray:
    values = history.vectors(name)
    return values[:, 0] if values.shape[1] == 1 else np.full(len(values), np.nan)


def _known(history: History, name: str) -> FloatArray:
    values = _column(history, name)
    return values[~np.isnan(values)]


def _best(values: FloatArray) -> float:
    """Highest value that two evaluations in a row reached."""
    if len(values) < 2:
        return float(values[0]) if len(values) else NAN
    return float(np.minimum(values[1:], values[:-1]).max())


def _last_third(values: FloatArray) -> FloatArray:
    return values[-max(3, -(-len(values) // 3)) :]


def _late_mean(values: FloatArray) -> float:
    return float(_last_third(values).mean()) if len(values) else NAN


def _share(values: FloatArray) -> float:
    return float((values > MARGIN).mean()) if len(values) else NAN


def _slope(values: FloatArray) -> float:
    """Rise over the last third, by the median of the slopes between its points."""
    tail = _last_third(values)
    if len(tail) < 3:
        return NAN
    tail = _thinned(tail)
    return theil_sen(_ramp(len(tail)), tail)


@lru_cache(maxsize=LONGEST + 1)
def _ramp(n: int) -> FloatArray:
    return np.linspace(0.0, 1.0, n)


def _thinned(values: FloatArray) -> FloatArray:
    if len(values) <= LONGEST:
        return values
    return values[np.linspace(0, len(values) - 1, LONGEST).round().astype(np.intp)]


def _fall(losses: FloatArray, end: float) -> float:
    """Share of the first loss that is gone; unknown where a loss can be negative."""
    if len(losses) < 2 or not losses[0] > 0.0 or (losses < 0.0).any():
        return NAN
    return max(1.0 - end / float(losses[0]), LEAST_SKILL)


def _lowest(losses: FloatArray) -> float:
    return -_best(-losses)


def _trend(losses: FloatArray) -> float:
    """Kendall's tau of a loss against time, reversed: 1 falls always, -1 rises always."""
    kept = _thinned(losses[np.isfinite(losses)])
    if len(kept) < 3:
        return NAN
    first, second = pairs(len(kept))
    return float(np.sign(kept[first] - kept[second]).mean())


def _descent(losses: FloatArray) -> float:
    """Logarithm of the fall since the start in units of the noise between evaluations, signed."""
    kept = losses[np.isfinite(losses)]
    if len(kept) < 5:
        return NAN
    noise = median(np.abs(np.diff(kept, 2)))
    fall = float(kept[0]) - lasting(kept)
    if noise == 0.0:
        return 0.0 if fall == 0.0 else float(np.sign(fall)) * 8.0
    return float(np.clip(np.sign(fall) * np.log1p(abs(fall) / noise), -8.0, 8.0))


def _gradient_ratio(history: History) -> float:
    """Decimal logarithm of the late over the early gradient norm, medians of a quarter each."""
    norms = next((known for name in GRADIENT_NORMS if len(known := _known(history, name))), None)
    if norms is None or len(norms) < 4:
        return NAN
    quarter = len(norms) // 4
    early, late = median(norms[:quarter]), median(norms[-quarter:])
    if not early > 0.0:
        return NAN
    return float(np.clip(np.log10(late / early), LEAST_RATIO, -LEAST_RATIO))


def _loss_ratio(history: History) -> float:
    """Logarithm of the validation loss over the training loss at the end."""
    val, train = lasting(_known(history, "val_loss")), lasting(_known(history, "train_loss"))
    return float(np.clip(np.log(val / train), -3.0, 3.0)) if val > 0.0 and train > 0.0 else NAN


def share_done(history: History) -> float:
    """Share of the plan that is done; all of it for a run that came to its own end."""
    if history.finished or history.epochs_planned < 1:
        return 1.0
    return min(1.0, float(history.epochs[-1]) / history.epochs_planned)


def _of_skill(split: str, reduce: Callable[[FloatArray], float]) -> Callable[[History], float]:
    return lambda history: reduce(_skill(history, split))


def _of_gain(split: str, reduce: Callable[[FloatArray], float]) -> Callable[[History], float]:
    return lambda history: reduce(_gains(history, split))


def _gains(history: History, split: str) -> FloatArray:
    """Gain of the loss at each evaluation that has one, (m,)."""
    values = skill_measures(history, split).get("gain", np.empty(0))
    return values[~np.isnan(values)]


def _of(name: str, reduce: Callable[[FloatArray], float]) -> Callable[[History], float]:
    return lambda history: reduce(_known(history, name))


def _number(value: float) -> str:
    return f"{value:.2f}"


def _power(value: float) -> str:
    return f"{10.0**value:.3g}"


def _still(values: FloatArray) -> float:
    return float((np.diff(values) == 0.0).mean()) if len(values) >= 4 else NAN


def _rise(history: History) -> float:
    """Largest rise of skill since the first evaluation, on either split.

    A floor that is itself an estimate may lend skill to a model that has learnt nothing; it does
    not let it rise. Skill that both splits show at the first evaluation, and that is more than such
    a floor can lend, counts as risen: a tuned model and a long first epoch have it.
    """
    courses = [skill for skill in (_skill(history, "val"), _gains(history, "train")) if len(skill)]
    if max(map(len, courses), default=0) < 2:
        return NAN
    first = min(float(skill[0]) for skill in courses)
    rises = [_best(skill) - float(skill[0]) for skill in courses]
    return max(*rises, first if first > LENT_SKILL else LEAST_SKILL)


def _gap(history: History) -> float:
    return lasting(_skill(history, "train")) - lasting(_skill(history, "val"))


SKILL = (
    Statistic("skill_best", "best validation skill", -1, percent, _of_skill("val", _best)),
    Statistic(
        "skill_late",
        "mean validation skill of the last third",
        -1,
        percent,
        _of_skill("val", _late_mean),
    ),
    Statistic(
        "skill_share", "share of evaluations with skill", -1, percent, _of_skill("val", _share)
    ),
    Statistic(
        "skill_slope",
        "rise of validation skill over the last third",
        -1,
        percent,
        _of_skill("val", _slope),
    ),
    Statistic("skill_z", "validation skill in standard errors", -1, _number, _skill_z),
    Statistic(
        "train_gain_end", "training gain at the end", -1, percent, _of_gain("train", lasting)
    ),
    Statistic(
        "train_slope",
        "rise of the training gain over the last third",
        -1,
        percent,
        _of_gain("train", _slope),
    ),
    Statistic("train_trend", "trend of the training loss", -1, _number, _of("train_loss", _trend)),
    Statistic("rise", "largest rise of skill since the first evaluation", -1, percent, _rise),
    Statistic("gap", "training skill over validation skill", 1, percent, _gap),
    Statistic("gradient_ratio", "late over early gradient norm", 0, _power, _gradient_ratio),
    Statistic("log_n_val", "validation samples", 0, _power, lambda h: float(np.log10(samples(h)))),
    Statistic("log_evaluations", "evaluations", 0, _power, lambda h: float(np.log10(len(h)))),
    Statistic("done", "share of the plan done", 0, percent, share_done),
)
CURVE = (
    Statistic(
        "val_fall",
        "fall of the validation loss",
        -1,
        percent,
        _of("val_loss", lambda v: _fall(v, lasting(v))),
    ),
    Statistic(
        "val_fall_best",
        "largest fall of the validation loss",
        -1,
        percent,
        _of("val_loss", lambda v: _fall(v, _lowest(v))),
    ),
    Statistic(
        "val_rise",
        "rise of the validation loss since its least",
        1,
        percent,
        _of("val_loss", lambda v: _fall(v, _lowest(v)) - _fall(v, lasting(v))),
    ),
    Statistic("val_trend", "trend of the validation loss", -1, _number, _of("val_loss", _trend)),
    Statistic(
        "val_descent",
        "fall of the validation loss in its noise, log",
        -1,
        _number,
        _of("val_loss", _descent),
    ),
    Statistic(
        "train_fall",
        "fall of the training loss",
        -1,
        percent,
        _of("train_loss", lambda v: _fall(v, lasting(v))),
    ),
    Statistic("train_trend", "trend of the training loss", -1, _number, _of("train_loss", _trend)),
    Statistic(
        "train_descent",
        "fall of the training loss in its noise, log",
        -1,
        _number,
        _of("train_loss", _descent),
    ),
    Statistic("loss_ratio", "validation over training loss, log", 1, _number, _loss_ratio),
    Statistic("accuracy_end", "accuracy", -1, percent, _of("val_accuracy", lasting)),
    Statistic(
        "accuracy_rise",
        "rise of the accuracy",
        -1,
        percent,
        _of("val_accuracy", lambda v: lasting(v) - v[0] if len(v) else NAN),
    ),
    Statistic(
        "accuracy_still",
        "share of evaluations with an unchanged accuracy",
        1,
        percent,
        _of("val_accuracy", _still),
    ),
    Statistic("gradient_ratio", "late over early gradient norm", 0, _power, _gradient_ratio),
)
