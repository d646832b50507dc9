"""Fit an additive monotone model, calibrate it on tasks that it has not seen, choose thresholds.

The fit is scikit-learn's histogram gradient boosting of stumps with monotone constraints. As every
tree splits on one statistic, the sum of a statistic's trees is a step function: that is what is
stored, and scikit-learn is not needed to evaluate it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.ensemble import HistGradientBoostingClassifier

from docs.tools.judge.examples import Examples
from sickbay.trials.diagnosis.judge import STATISTICS

STEPS, RATE, LEAF, RIDGE, BINS = 150, 0.1, 20, 1.0, 64
# Facts and signals that many logs lack: hidden from a copy of the examples, by these groups.
HIDDEN = (
    ("skill_z", "log_n_val"),
    (
        "train_gain_end",
        "train_gain_best",
        "train_slope",
        "train_trend",
        "train_fall",
        "train_descent",
        "gap",
        "loss_ratio",
    ),
    ("gradient_ratio",),
    ("accuracy_end", "accuracy_rise", "accuracy_still"),
)
HIDING = 0.3
MAY_LACK = frozenset(name for group in HIDDEN for name in group)  # others count nothing if missing

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class StepCurve:
    """Log odds of one statistic, as `sickbay.trials.diagnosis.judge.Curve` has them."""

    statistic: str
    cuts: Floats
    log_odds: Floats
    missing: float

    def at(self, values: Floats) -> Floats:
        """Contributions of many values."""
        log_odds = self.log_odds[np.searchsorted(self.cuts, values, side="left")]
        return np.where(np.isnan(values), self.missing, log_odds)


@dataclass(frozen=True)
class Additive:
    """A fitted model: log odds are the bias and the sum of the curves."""

    bias: float
    curves: tuple[StepCurve, ...]

    def log_odds(self, values: Floats) -> Floats:
        """Log odds of examples (m, p), to (m,)."""
        parts = [curve.at(values[:, index]) for index, curve in enumerate(self.curves)]
        return self.bias + np.sum(parts, axis=0)

    def scaled(self, slope: float, intercept: float) -> "Additive":
        """Return the model whose log odds are a straight line of this one's."""
        curves = tuple(
            StepCurve(curve.statistic, curve.cuts, curve.log_odds * slope, curve.missing * slope)
            for curve in self.curves
        )
        return Additive(self.bias * slope + intercept, curves)


def fit(examples: Examples, used: Sequence[str]) -> Additive:
    """Fit to runs without skill against healthy ones; those that are merely worse take no part."""
    rows = examples.select(examples.fitted & np.isin(examples.why, ("", "no_skill")))
    target = rows.why == "no_skill"
    weight = balance(rows, target)
    statistics = STATISTICS[examples.table.removesuffix("_running")]
    names = [statistic.name for statistic in statistics]
    values = np.vstack([rows.values, hide(rows.values, names)])
    kept = [
        index
        for index, name in enumerate(names)
        if name in used and not np.isnan(values[:, index]).all()
    ]
    model = HistGradientBoostingClassifier(
        max_depth=1,
        max_iter=STEPS,
        learning_rate=RATE,
        min_samples_leaf=LEAF,
        l2_regularization=RIDGE,
        max_bins=BINS,
        monotonic_cst=[statistics[index].monotone for index in kept],
        early_stopping=False,
        random_state=0,
    )
    model.fit(values[:, kept], np.tile(target, 2), np.tile(weight, 2))
    curves = {names[index]: curve for index, curve in zip(kept, curves_of(model), strict=True)}
    flat = (np.empty(0), np.zeros(1), 0.0)
    return _centred(
        float(model._baseline_prediction[0, 0]),
        tuple(StepCurve(name, *curves.get(name, flat)) for name in names if name in used),
        rows.values[:, [index for index, name in enumerate(names) if name in used]],
        weight,
    )


def hide(values: Floats, names: Sequence[str]) -> Floats:
    """Return a copy in which each group of statistics is missing from some rows."""
    draw, hidden = np.random.default_rng(0), values.copy()
    for group in HIDDEN:
        rows = draw.random(len(values)) < HIDING
        for name in group:
            if name in names:
                hidden[rows, names.index(name)] = np.nan
    return hidden


def balance(rows: Examples, target: Flags) -> Floats:
    """Weights under which each class of each task counts by the root of its number of rows."""
    weight = np.zeros(len(target))
    for task in np.unique(rows.task):
        for side in (False, True):
            members = (rows.task == task) & (target == side)
            if members.any():
                weight[members] = 1.0 / np.sqrt(members.sum())
    return weight / weight.mean()


def curves_of(model: HistGradientBoostingClassifier) -> list[tuple[Floats, Floats, float]]:
    """Sum the stumps of each column to a step function: cuts, log odds between them, missing."""
    steps: dict[int, list[tuple[float, float, float, float]]] = {}
    for (predictor,) in model._predictors:
        root, left, right = _stump(predictor.nodes)
        if root is None:
            continue
        missing = left if root["missing_go_to_left"] else right
        steps.setdefault(int(root["feature_idx"]), []).append(
            (float(root["num_threshold"]), left, right, missing)
        )
    curves = []
    for column in range(model.n_features_in_):
        parts = steps.get(column, [])
        cuts = np.unique([cut for cut, *_ in parts])
        heights = np.zeros(len(cuts) + 1)
        for cut, left, right, _ in parts:
            place = int(np.searchsorted(cuts, cut, side="left"))
            heights[: place + 1] += left
            heights[place + 1 :] += right
        curves.append((cuts, heights, sum(part[3] for part in parts)))
    return curves


def _stump(nodes: np.ndarray) -> tuple[np.void | None, float, float]:
    root = nodes[0]
    if root["is_leaf"]:
        return None, 0.0, 0.0
    return root, float(nodes[root["left"]]["value"]), float(nodes[root["right"]]["value"])


def _centred(
    bias: float, curves: tuple[StepCurve, ...], values: Floats, weight: Floats
) -> Additive:
    """Move each curve's mean over the examples into the bias: contributions are then signed."""
    centred = []
    for index, curve in enumerate(curves):
        column = values[:, index]
        known = ~np.isnan(column)
        if not known.any():
            centred.append(curve)
            continue
        mean = float(np.average(curve.at(column[known]), weights=weight[known]))
        missing = curve.missing - mean if curve.statistic in MAY_LACK else 0.0
        bias += mean
        centred.append(StepCurve(curve.statistic, curve.cuts, curve.log_odds - mean, missing))
    return Additive(bias, tuple(centred))


def out_of_task(examples: Examples, used: Sequence[str]) -> Floats:
    """Log odds of every row by a model that has not seen its task, (m,)."""
    scores = np.full(len(examples.task), np.nan)
    for task in np.unique(examples.task):
        rows = examples.task == task
        model = fit(examples.select(~rows), used)
        scores[rows] = model.log_odds(chosen(examples, used)[rows])
    return scores


def chosen(examples: Examples, used: Sequence[str]) -> Floats:
    """Columns of the statistics in use."""
    names = [statistic.name for statistic in STATISTICS[examples.table.removesuffix("_running")]]
    return examples.values[:, [index for index, name in enumerate(names) if name in used]]


def line(log_odds: Floats, target: Flags, weight: Floats) -> tuple[float, float]:
    """Slope and intercept of Platt's calibration (1999), with his smoothed targets."""
    positive, negative = weight[target].sum(), weight[~target].sum()
    goal = np.where(target, (positive + 1.0) / (positive + 2.0), 1.0 / (negative + 2.0))

    def cost(parameters: Floats) -> float:
        z = parameters[0] * log_odds + parameters[1]
        return float(np.average(np.logaddexp(0.0, z) - goal * z, weights=weight))

    slope, intercept = minimize(cost, np.array([1.0, 0.0]), method="Nelder-Mead").x
    return float(slope), float(intercept)


def as_table(model: Additive, thresholds: Mapping[str, object]) -> dict[str, object]:
    """Write a model down as plain data, numbers to six decimals."""
    return {
        "bias": round(model.bias, 6),
        **thresholds,
        "curves": [
            {
                "statistic": curve.statistic,
                "cuts": [round(float(cut), 6) for cut in curve.cuts],
                "log_odds": [round(float(value), 4) for value in curve.log_odds],
                "missing": round(curve.missing, 4),
            }
            for curve in model.curves
        ],
    }
