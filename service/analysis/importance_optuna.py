"""The trials as Optuna takes them, and its importance evaluators called by plain arrays.

Optuna is imported inside: it takes a second that few readers need.
"""

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sickbay.service.analysis.codes import FloatArray, IntArray, groups
from sickbay.service.analysis.pairs import TrialRow, level_key

MOST_CONFIGURATIONS = 200  # for fANOVA, whose time grows with their square; more are drawn from
TREES, DEPTH, SEED = 16, 8, 0


@dataclass(frozen=True)
class Span:
    """A factor that is a range; `log` says how it was drawn."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Space:
    """The factors as Optuna has them: distributions, and the trials' values, (n, factors)."""

    names: tuple[str, ...]
    distributions: Mapping[str, Any]
    values: FloatArray
    configuration: IntArray
    seeds: IntArray


@dataclass(frozen=True)
class Studies:
    """Optuna's studies of all trials, and of one trial a drawn configuration.

    Made once, as that is what takes time. Values are handed in by trial number.
    """

    trials: Any
    means: Any
    drawn: IntArray
    configurations: int


def space_of(rows: Sequence[TrialRow], factors: Sequence[str], spans: Mapping[str, Span]) -> Space:
    """Write the varying factors as Optuna takes them; a level is the place in its list."""
    from optuna.distributions import (  # noqa: PLC0415 - a second that few readers need
        CategoricalDistribution,
        FloatDistribution,
    )

    distributions: dict[str, Any] = {}
    columns, codes = [], []
    for factor in factors:
        settings = [row.levels.get(factor) for row in rows]
        numbers = [float(one) for one in settings if isinstance(one, int | float)]
        span = spans.get(factor)
        places: dict[object, int] = {}
        code = [places.setdefault(level_key(one), len(places)) for one in settings]
        if len(places) < 2:
            continue
        if span and len(numbers) == len(rows):
            low, high = min([span.low, *numbers]), max([span.high, *numbers])
            distributions[factor] = FloatDistribution(low, high, log=span.log and low > 0.0)
            columns.append(numbers)
        else:
            distributions[factor] = CategoricalDistribution(tuple(range(len(places))))
            columns.append([float(one) for one in code])
        codes.append(np.array(code, dtype=np.int64))
    n = len(rows)
    values = np.array(columns).T if columns else np.zeros((n, 0))
    seeds = np.array([row.seed for row in rows], dtype=np.int64)
    return Space(tuple(distributions), distributions, values, groups(codes, n), seeds)


def studies_of(space: Space) -> Studies:
    """Make both studies; beyond MOST_CONFIGURATIONS they are drawn by a fixed seed."""
    first = np.unique(space.configuration, return_index=True)[1]
    drawn = np.arange(len(first))
    if len(first) > MOST_CONFIGURATIONS:
        drawn = np.random.default_rng(SEED).permutation(len(first))[:MOST_CONFIGURATIONS]
    return Studies(
        _study(space, space.values), _study(space, space.values[first[drawn]]), drawn, len(first)
    )


def _study(space: Space, settings: FloatArray) -> Any:
    import optuna  # noqa: PLC0415 - as above

    categorical = [
        isinstance(space.distributions[name], optuna.distributions.CategoricalDistribution)
        for name in space.names
    ]
    study = optuna.create_study()
    study.add_trials(
        [
            optuna.trial.create_trial(
                params={
                    name: int(value) if whole else float(value)
                    for name, value, whole in zip(space.names, row, categorical, strict=True)
                },
                distributions=space.distributions,
                value=0.0,
            )
            for row in settings
        ]
    )
    return study


Evaluate = Callable[..., Mapping[str, float]]


def fanova_by() -> Evaluate:
    """Give the evaluator of shares of the variance."""
    from optuna.importance import FanovaImportanceEvaluator  # noqa: PLC0415 - as above

    made = FanovaImportanceEvaluator(n_trees=TREES, max_depth=DEPTH, seed=SEED)
    found: Evaluate = made.evaluate
    return found


def ped_anova_by(share: float) -> Evaluate:
    """Give the evaluator of what tells the lowest share of the values from all."""
    from optuna.importance import PedAnovaImportanceEvaluator  # noqa: PLC0415 - as above

    made = PedAnovaImportanceEvaluator(target_quantile=share)
    found: Evaluate = made.evaluate
    return found


def shares_of(
    study: Any, names: Sequence[str], values: FloatArray, evaluate: Evaluate
) -> dict[str, float]:
    """Let an evaluator of Optuna weigh the factors; shares add up to one, {} if all are zero.

    Trials whose value is NaN are left out.
    """
    told = values.tolist()
    try:
        found = evaluate(study, params=list(names), target=lambda trial: told[trial.number])
    except (RuntimeError, ValueError, ZeroDivisionError):
        return {}
    whole = float(sum(found.values()))
    if not whole > 0.0 or not math.isfinite(whole):
        return {}
    return {name: float(found.get(name, 0.0)) / whole for name in names}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence Optuna: its log lines, and warnings about what is seen in the result anyway."""
    import optuna  # noqa: PLC0415 - as above

    loud = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(loud)
