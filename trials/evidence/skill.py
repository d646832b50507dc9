"""Evidence of skill, shared by detectors, and whether a running trial may recover.

A detector never asks another one. Where a rule says "and the loss shows no skill", both work it out
from the history with the functions of this file.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import ndtr

from sickbay.trials.contract import TaskFacts
from sickbay.trials.evidence.statistics import (
    BoolArray,
    FloatArray,
    information_gain,
    mann_kendall,
    median,
    noise,
    normal_quantiles,
    persistent,
    spent_alpha,
    spread,
    theil_sen_windows,
)
from sickbay.trials.evidence.thresholds import margin, whole
from sickbay.trials.history import History


@dataclass(frozen=True)
class Gain:
    """Gain over the best constant predictor at each evaluation, shape (n,); NaN where the loss is.

    `lower` and `upper` are one-sided bounds at the error of `alphas`; `error` is the standard error
    behind the upper one. `estimated` says that no standard error was recorded, and that the noise
    between evaluations stands in for it.
    """

    value: FloatArray
    lower: FloatArray
    upper: FloatArray
    error: FloatArray
    estimated: bool


def alphas(history: History) -> FloatArray:
    """Error that may be spent at each evaluation, shape (n,).

    A finished trial is looked at once; a running one after every evaluation, so its looks share.
    """
    return _alphas(len(history), finished=history.finished)


def alpha_quantiles(history: History) -> FloatArray:
    """How many standard errors each of the `alphas` stands for, shape (n,)."""
    return _alpha_quantiles(len(history), finished=history.finished)


@lru_cache(maxsize=64)
def _alphas(n: int, *, finished: bool) -> FloatArray:
    looks = np.arange(1, n + 1, dtype=np.float64)
    shares = (
        np.full(n, margin("alpha_final"))
        if finished
        else spent_alpha(margin("alpha_online"), looks)
    )
    shares.setflags(write=False)
    return shares


@lru_cache(maxsize=64)
def _alpha_quantiles(n: int, *, finished: bool) -> FloatArray:
    quantiles = normal_quantiles(_alphas(n, finished=finished))
    quantiles.setflags(write=False)
    return quantiles


def gain(history: History, signal: str = "val_loss") -> Gain | None:
    """Gain in `signal` over its floor; None if the floor or every value of the signal is unknown.

    The floor is measured on the same samples, so most of the sampling error cancels in L - H0. The
    standard error of that may be recorded (`val_floor_gap_se`). Otherwise the lower bound, which
    proves skill, takes all of SE(L), while the upper bound asks whether a model of gain g = 0.02
    could look so bad: see `_paired_error`. Without SE(L) the noise between evaluations stands in.
    A finished trial whose gain is between -0.02 and 0.005, but for that noise, has no skill
    however few the samples are: to know their number or scatter must not hide a loss at its floor.
    """
    return history.once(("gain", signal), lambda: _gain(history, signal))


def _gain(history: History, signal: str) -> Gain | None:
    floor = floor_of(history.facts, signal)
    loss = history.column(signal)
    if floor is None or not np.isfinite(floor) or np.isnan(loss).all():
        return None
    scale = _gain_scale(history, signal, floor, loss)
    z = alpha_quantiles(history)
    value = information_gain(loss, floor, scale)
    if signal == "val_loss" and np.isfinite(history.column("val_floor_gap_se")).any():
        error = paired = _filled(history.column("val_floor_gap_se")) / scale
    else:
        error = _filled(history.column(f"{signal}_se")) / scale
        paired = _paired_error(error, sample_counts(history))
    between = np.full(len(loss), noise(loss) / scale)
    estimated = bool(np.isnan(error).all())
    if estimated:
        error, paired = between, np.hypot(between, np.nan_to_num(paired, nan=0.0))
    if history.finished:  # a gain that ends this near to none is none, however few the samples
        limit = margin("skill_gain")
        stays = between + (limit - margin("floor_gain")) / z
        paired = np.where(value > -limit, np.fmin(paired, stays), paired)
    return Gain(value, value - z * error, value + z * paired, paired, estimated)


def no_skill_since(history: History) -> int | None:
    """Index since which the validation loss is provably no better than a constant, or None.

    "Provably": the upper bound of the gain is within the margin, and at no earlier evaluation was
    its lower bound above.
    """
    gains = gain(history)
    if gains is None:
        return None
    limit = margin("skill_gain")
    shown = np.fmax.accumulate(np.nan_to_num(gains.lower, nan=-np.inf)) > limit
    enter = (gains.upper <= limit) & ~shown
    leave = (gains.upper > limit * margin("hysteresis")) | shown
    return persistent(enter, leave, np.isnan(gains.upper), whole("persistence"))


def skill_gone_since(history: History) -> int | None:
    """Index since which the upper bound of the gain is within the margin, or None.

    Other than `no_skill_since` it does not mind what the model knew before.
    """
    gains = gain(history)
    if gains is None:
        return None
    limit = margin("skill_gain")
    leave = gains.upper > limit * margin("hysteresis")
    return persistent(gains.upper <= limit, leave, np.isnan(gains.upper), whole("persistence"))


def no_gain_p(gains: Gain) -> float:
    """Probability of gains as small as the last three, if the true one were over the margin."""
    limit = margin("skill_gain")
    known = ~np.isnan(gains.value)
    value, error = gains.value[known][-3:], gains.error[known][-3:]
    exact = np.where(value <= limit, -np.inf, np.inf)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(error > 0.0, (value - limit) / error, exact)
    return float(ndtr(np.max(z)))


def percent(value: float) -> str:
    """Format a share in per cent; in powers of ten where it is extreme."""
    return f"{value:.1%}" if abs(value) < 100.0 else f"{100.0 * value:.2g}%"


def lasting(values: FloatArray, count: int = 3) -> float:
    """Median of the last `count` finite values, robust to one odd evaluation."""
    return median(values[~np.isnan(values)][-count:])


def may_recover(history: History, values: FloatArray, *, recovery_rises: bool) -> str | None:
    """Why a running trial may still recover, as the end of a sentence; None if it may not.

    A finished trial recovers no more, nor does one whose parameters stand still. Another one is
    given ten evaluations and a quarter of its plan, and longer as long as `values` move in the
    direction of recovery.
    """
    if history.finished or stands_still(history):
        return None
    granted, share = whole("online_evaluations"), margin("online_share")
    if len(history) < granted:
        return f"a running trial is judged from {granted} evaluations on; this has {len(history)}"
    if history.epochs[-1] < share * history.epochs_planned:
        return (
            f"a running trial is judged from {share:.0%} of its {history.epochs_planned} epochs on"
        )
    p_value = mann_kendall(values[-whole("trend_window") :], rising=recovery_rises)
    if p_value <= margin("trend_p"):
        return f"the last evaluations move towards recovery (Mann-Kendall p = {p_value:.2g})"
    return None


def skill_may_come(history: History, loss: FloatArray) -> str | None:
    """Why a running trial without skill may still gain some; else None.

    As `may_recover` of a falling loss; but a validation loss that lies far over the floor, and
    falls too slowly to reach it in the epochs to come, is no hope.
    """
    again = may_recover(history, loss, recovery_rises=False)
    if again is None or len(history) < whole("online_evaluations"):
        return again
    if history.epochs[-1] < margin("online_share") * history.epochs_planned:
        return again
    return None if out_of_reach(history) else again


def stands_still(history: History) -> bool:
    """Whether no parameter group can move noticeably in the remaining steps.

    Even if every step went in the same direction as the largest of the last ones, each group would
    move by under a thousandth of its size. Five evaluations, and no growth of the steps in them (a
    warmup), are asked for. False where the steps are not measured.
    """
    return history.once("stands still", lambda: _stands_still(history))


def _stands_still(history: History) -> bool:
    needed = whole("still_evaluations")
    if len(history) < needed or not history.has("group_update_ratio"):
        return False
    ratios = history.vectors("group_update_ratio")[-whole("trend_window") :]
    known = ~np.isnan(ratios).all(axis=0)  # the others have no gradient, and do not move either
    if not known.any() or not np.isfinite(ratios[:, known]).all():
        return False
    largest = ratios[:, known].max(axis=1)
    passed, taken = float(history.epochs[-1]), float(history.steps[-1])
    if taken < passed:  # they were not counted
        return False
    to_come = max(taken / passed * (history.epochs_planned - passed), 1.0)
    if float(largest[-needed:].max()) * to_come >= margin("still_movement"):
        return False
    return mann_kendall(largest, rising=True) > margin("trend_p")


def out_of_reach(history: History) -> bool:
    """Whether the validation loss is far above the floor and will not reach it in time.

    Far: twice the floor. Its logarithm over the floor's is carried on along its slope of the last
    ten evaluations, at twice the speed, to the end of the plan. Losses that approach their end by
    a power law or exponentially get slower on that scale, not faster.
    """
    return history.once("out of reach", lambda: _out_of_reach(history))


def _out_of_reach(history: History) -> bool:
    gains, window = gain(history), whole("trend_window")
    if gains is None or len(history) < window:
        return False
    floor, loss = floor_of(history.facts, "val_loss"), history.column("val_loss")
    if floor is None or least_loss(history.facts, "val_loss", loss, floor) is None:
        return False
    over = 1.0 - gains.value[-window:]  # the loss in units of the floor
    if not (over >= margin("cap_over_floor")).all():  # NaN and infinity are for other detectors
        return False
    epochs = history.epochs[-window:].astype(np.float64)
    slope = float(theil_sen_windows(epochs, np.log(over), window)[-1])
    left = float(history.epochs_planned - history.epochs[-1])
    return bool(np.log(over[-1]) + margin("reach_speed") * slope * left > 0.0)


def epoch_at(history: History, index: int) -> int:
    """Return the epoch of an evaluation, as a plain number."""
    return int(history.epochs[index])


def stepped(history: History) -> BoolArray:
    """Whether training steps lie between an evaluation and the one before, shape (n,)."""
    return history.once("stepped", lambda: _stepped(history))


def _stepped(history: History) -> BoolArray:
    if history.has("train_steps"):
        return np.nan_to_num(history.column("train_steps"), nan=1.0) > 0
    return np.diff(history.steps, prepend=0) > 0


def perfect_fit(history: History) -> BoolArray:
    """Where the training loss is at its least value and the model has skill, shape (n,).

    Only then is a vanished gradient a success.
    """
    return history.once("perfect fit", lambda: _perfect_fit(history))


def _perfect_fit(history: History) -> BoolArray:
    gains = gain(history)
    if gains is None:
        return np.zeros(len(history), dtype=np.bool_)
    return loss_is_zero(history) & (gains.lower > margin("had_skill_gain"))


def loss_is_zero(history: History, share: float | None = None) -> BoolArray:
    """Where the training loss is at its least value, within a share of the floor, shape (n,)."""
    return history.once(("loss is zero", share), lambda: _loss_is_zero(history, share))


def _loss_is_zero(history: History, share: float | None) -> BoolArray:
    loss = history.column("train_loss") - (history.facts.loss_minimum or 0.0)
    floor = floor_of(history.facts, "train_loss")
    limit = margin("zero_loss") if share is None else share
    return np.abs(loss) <= limit * (abs(floor) if floor else 1.0)


def floor_of(facts: TaskFacts, signal: str) -> float | None:
    """Look up what the best constant predictor reaches; the training loss borrows `val_loss`."""
    return facts.floors.get(signal, facts.floor_loss if signal == "train_loss" else None)


def least_loss(facts: TaskFacts, signal: str, loss: FloatArray, floor: float) -> float | None:
    """The lower bound of a loss: declared, or zero if no value was negative."""
    if signal == "val_density_kl":
        return 0.0  # a Kullback-Leibler divergence
    if facts.loss_minimum is not None:
        return facts.loss_minimum
    values = loss[~np.isnan(loss)]
    return 0.0 if floor >= 0.0 and bool((values >= 0.0).all()) else None


def _paired_error(error: FloatArray, n: FloatArray) -> FloatArray:
    """Standard error of the gain of a model whose true gain is the margin, shape (n,).

    Relative to the floor, Var(l - l_constant) of one sample is 2 g s² in a calibrated Gaussian
    regression, where s² = Var(l) = 2, and 2 g / H0 for a log loss in nats; 4 g is no less than
    the latter down to H0 = 0.5, and below that 2 g s² is. So: max(2 g SE², 4 g / n), but never more
    than SE itself. Where n is unknown nothing can be said beyond SE.
    """
    g = margin("skill_gain")
    least = 4.0 * g / np.where(n >= 2.0, n, np.nan)
    if np.isnan(error).all():
        return np.sqrt(least)
    paired = np.sqrt(np.maximum(2.0 * g * error**2, least))
    return np.where(np.isnan(least), error, np.minimum(error, paired))


def sample_counts(history: History) -> FloatArray:
    """Number of validation samples at each evaluation, recorded or from the facts; else NaN."""
    known = history.facts.n.get("val", np.nan)
    recorded = history.column("val_n")
    return np.where(np.isnan(recorded), float(known), recorded)


def _filled(errors: FloatArray) -> FloatArray:
    """Fill a missing standard error with the usual one; NaN if there is none."""
    known = errors[np.isfinite(errors)]
    return np.where(np.isfinite(errors), errors, median(known)) if len(known) else errors


def _gain_scale(history: History, signal: str, floor: float, loss: FloatArray) -> float:
    """What counts as a gain of 100 %: the floor's height over the least loss.

    A log density has no least value. Its scale is the distance between floor and losses over the
    course, at least their spread, a tenth of the floor, and the distance at which the trial began,
    as far as that is no more than the floor: a flat course has hardly any spread, and is no reason
    to call a gap of a few thousandths large.
    """
    least = least_loss(history.facts, signal, loss, floor)
    if least is not None and floor > least:
        return floor - least
    apart = np.abs(floor - loss[np.isfinite(loss)])
    if not len(apart):
        return 1.0
    begun = min(float(apart[0]), abs(floor))
    return max(spread(loss), float(np.median(apart)), begun, 0.1 * abs(floor)) or 1.0
