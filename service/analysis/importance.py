"""Which factors matter: fANOVA and PED-ANOVA, for the objective and for what goes wrong.

    table = importance_table(rows, factors, Goal.MINIMIZE)

Targets: the objective of the healthy trials; `pathological`, among all labelled trials; and each
pathology by its name. Two of Optuna's evaluators stand side by side, as they answer two questions:

    fanova      how much of the variance between configurations a factor accounts for by itself
                (Hutter, Hoos, Leyton-Brown 2014). Over a full grid it is exact, the analysis of
                variance of the configurations' means, and pairs of factors have their shares, too;
                else a forest estimates it
    ped_anova   how much a factor decides whether a trial is among the best tenth, or is
                pathological (Watanabe, Bansal, Hutter 2023), over all trials

Where configurations repeat over seeds, the objective is taken less its seed's mean: seeds are
drawn, not chosen. fANOVA's shares are not scaled: main effects, pairs and the rest add up to one,
so that an exclusive-or is seen as a pair and crowns no factor. PED-ANOVA's add up to one whatever
the noise. `explained` stands beside them: the share of the variance that lies between
configurations at all. Where it is near zero the shares rank noise. Pure, and repeatable to the last
bit: rows in, a table out.
"""

import contextlib
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from sickbay.service.analysis.rows.pairs import (
    FloatArray,
    IntArray,
    Span,
    TrialRow,
    groups,
    level_key,
)
from sickbay.service.query.outcomes import HEALTHY
from sickbay.trials.contract import Goal, Health, label_stands

MOST_CONFIGURATIONS = 200  # for fANOVA, whose time grows with their square; more are drawn from
TREES, DEPTH, SEED = 16, 8, 0


@dataclass(frozen=True)
class Space:
    """The factors as Optuna distributions, and the trials' values, (n, factors)."""

    names: tuple[str, ...]
    distributions: Mapping[str, Any]
    values: FloatArray
    configuration: IntArray
    seeds: IntArray


@dataclass(frozen=True)
class Studies:
    """Optuna studies of all trials, and of one trial per drawn configuration.

    `first` is the number of each configuration's first trial.
    Made once, as that is what takes time. Values are handed in by trial number.
    """

    trials: Any
    means: Any
    drawn: IntArray
    first: IntArray
    configurations: int


def space_of(rows: Sequence[TrialRow], factors: Sequence[str], spans: Mapping[str, Span]) -> Space:
    """Convert the varying factors for Optuna; a level becomes its index in the list of levels."""
    from optuna.distributions import (  # noqa: PLC0415 - a second that few readers need
        CategoricalDistribution,
        FloatDistribution,
    )

    distributions: dict[str, Any] = {}
    columns, codes = [], []
    for factor in factors:
        settings = [row.levels.get(factor) for row in rows]
        numbers = [float(setting) for setting in settings if isinstance(setting, int | float)]
        span = spans.get(factor)
        places: dict[object, int] = {}
        code = [places.setdefault(level_key(setting), len(places)) for setting in settings]
        if len(places) < 2:
            continue
        if span and len(numbers) == len(rows):
            low, high = min([span.low, *numbers]), max([span.high, *numbers])
            distributions[factor] = FloatDistribution(low, high, log=span.log and low > 0.0)
            columns.append(numbers)
        else:
            distributions[factor] = CategoricalDistribution(tuple(range(len(places))))
            columns.append([float(place) for place in code])
        codes.append(np.array(code, dtype=np.int64))
    n = len(rows)
    values = np.array(columns).T if columns else np.zeros((n, 0))
    seeds = np.array([row.seed for row in rows], dtype=np.int64)
    return Space(tuple(distributions), distributions, values, groups(codes, n), seeds)


def studies_of(space: Space) -> Studies:
    """Make both studies; of more than MOST_CONFIGURATIONS, a sample is drawn by a fixed seed."""
    first = np.unique(space.configuration, return_index=True)[1]
    drawn = np.arange(len(first))
    if len(first) > MOST_CONFIGURATIONS:
        drawn = np.random.default_rng(SEED).permutation(len(first))[:MOST_CONFIGURATIONS]
    means = _study(space, space.values[first[drawn]])
    return Studies(_study(space, space.values), means, drawn, first, len(first))


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
    """Return the evaluator of shares of the variance (fANOVA)."""
    from optuna.importance import FanovaImportanceEvaluator  # noqa: PLC0415 - as above

    made = FanovaImportanceEvaluator(n_trees=TREES, max_depth=DEPTH, seed=SEED)
    evaluate: Evaluate = made.evaluate
    return evaluate


def ped_anova_by(share: float) -> Evaluate:
    """Return the evaluator of what separates the lowest values from all (PED-ANOVA)."""
    from optuna.importance import PedAnovaImportanceEvaluator  # noqa: PLC0415 - as above

    made = PedAnovaImportanceEvaluator(target_quantile=share)
    evaluate: Evaluate = made.evaluate
    return evaluate


def shares_of(
    study: Any, names: Sequence[str], values: FloatArray, evaluate: Evaluate, *, scaled: bool
) -> dict[str, float]:
    """Run an Optuna evaluator over the factors; {} if all shares are zero.

    Trials whose value is NaN are left out. `scaled` shares add up to one.
    """
    targets = values.tolist()
    try:
        shares = evaluate(study, params=list(names), target=lambda trial: targets[trial.number])
    except (RuntimeError, ValueError, ZeroDivisionError):
        return {}
    whole = float(sum(shares.values()))
    if not whole > 0.0 or not math.isfinite(whole):
        return {}
    return {name: float(shares.get(name, 0.0)) / (whole if scaled else 1.0) for name in names}


def exact_shares(
    codes: FloatArray, means: FloatArray, names: Sequence[str]
) -> tuple[dict[str, float], dict[str, float]] | None:
    """Split the variance of a full grid's means into main effects and pairs of factors.

    `codes` are the levels, (configurations, factors), `means` (configurations,). Main effect: the
    variance of a factor's level means; pair: that of the two factors' means less both main effects
    (Fisher 1925). None where some combination of levels is missing or there twice.
    """
    places = [np.unique(column, return_inverse=True)[1] for column in codes.T]
    shape = tuple(int(column.max(initial=-1)) + 1 for column in places)
    cells = np.full(shape, np.nan)
    cells[tuple(places)] = means
    if len(means) != cells.size or np.isnan(cells).any() or not cells.var() > 0.0:
        return None
    off = cells - cells.mean()
    main = [
        off.mean(axis=tuple(k for k in range(off.ndim) if k != axis), keepdims=True)
        for axis in range(off.ndim)
    ]
    pairs = {}
    for a, b in combinations(range(off.ndim), 2):
        joint = off.mean(axis=tuple(k for k in range(off.ndim) if k not in (a, b)), keepdims=True)
        pairs[f"{names[a]} x {names[b]}"] = float(np.var(joint - main[a] - main[b]) / off.var())
    shares = {
        name: float(np.var(main_effect) / off.var())
        for name, main_effect in zip(names, main, strict=True)
    }
    return shares, pairs


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence Optuna's log lines, and its warnings about what the result shows anyway."""
    import optuna  # noqa: PLC0415 - as above

    loud = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(loud)


__all__ = ["Importance", "ImportanceTable", "Span", "importance_table"]

OBJECTIVE = "objective"
PATHOLOGICAL = "pathological"
FEWEST_TRIALS = 10
FEWEST_OF_A_KIND = 3  # pathological, and not: fewer say nothing about where they come from
BEST_SHARE = 0.1  # of the objective's values: PED-ANOVA's default


@dataclass(frozen=True)
class Importance:
    """The factors' shares of one target; {} where unknown.

    `fanova` are main effects' shares of the variance between configurations, `pairs` those of two
    factors together, known where the shares are `exact`, and `rest` what neither accounts for (NaN
    where unknown). `ped_anova` adds up to one.
    `trials` could be used, by `within_seeds` less the mean of their seed; `positives` of them are
    the target (None for the objective). `configurations` went into fANOVA, of
    `of_configurations`. `explained` is the share of the variance between configurations (the
    adjusted R² of their means; below zero if there is less than chance would have), NaN where none
    repeats. `note` says what cannot be said, and why.
    """

    target: str
    trials: int
    positives: int | None
    within_seeds: bool
    configurations: int
    of_configurations: int
    explained: float
    fanova: Mapping[str, float]
    ped_anova: Mapping[str, float]
    note: str
    pairs: Mapping[str, float] = field(default_factory=dict)
    rest: float = math.nan
    exact: bool = False


@dataclass(frozen=True)
class ImportanceTable:
    """All targets: the objective, `pathological`, then pathologies, the most common first."""

    goal: Goal
    factors: tuple[str, ...]
    targets: tuple[Importance, ...]


@np.errstate(over="ignore", invalid="ignore")  # squares of absurdly large values: infinity
def importance_table(
    rows: Sequence[TrialRow],
    factors: Sequence[str],
    goal: Goal,
    spans: Mapping[str, Span] | None = None,
) -> ImportanceTable:
    """Importance of every factor that varies: categorical, or numeric where `spans` has its range.

    The order of the rows means nothing. Cancelled and failed trials are in no target.
    """
    ordered = sorted(rows, key=lambda row: (row.seed, row.trial_id))
    kept = [row for row in ordered if row.label and label_stands(row.state, row.label)]
    outcomes = [row.outcome for row in kept]
    space = space_of(kept, factors, spans or {})
    pathologies = Counter(
        row.pathology for row in kept if row.label == Health.PATHOLOGICAL and row.pathology
    )
    values = np.array(
        [
            float(row.objective or 0.0) if word == HEALTHY else math.nan
            for row, word in zip(kept, outcomes, strict=True)
        ]
    )
    named = sorted(pathologies.items(), key=lambda entry: (-entry[1], entry[0]))
    targets = {
        OBJECTIVE: values if goal is Goal.MINIMIZE else -values,
        PATHOLOGICAL: np.array([float(row.label == Health.PATHOLOGICAL) for row in kept]),
        **{name: np.array([float(row.pathology == name) for row in kept]) for name, _ in named},
    }
    with quiet():
        studies = studies_of(space)
        importances = tuple(_importance(name, y, space, studies) for name, y in targets.items())
    return ImportanceTable(goal, space.names, importances)


def explained_share(values: FloatArray, configuration: IntArray) -> float:
    """Share of the variance of values, (n,), between configurations: adjusted R² of their means.

    1 - (sum of squares within / (n - c)) / (total / (n - 1)); NaN where no configuration repeats,
    or nothing varies.
    """
    _, place = np.unique(configuration, return_inverse=True)
    n, c = len(values), int(place.max(initial=-1)) + 1
    if n <= c or n < 2:
        return math.nan
    means = np.bincount(place, weights=values) / np.bincount(place)
    total = float(((values - values.mean()) ** 2).sum()) / (n - 1)
    within = float(((values - means[place]) ** 2).sum()) / (n - c)
    return 1.0 - within / total if total > 0.0 else math.nan


def _importance(target: str, values: FloatArray, space: Space, studies: Studies) -> Importance:
    """Importance of the factors for one target; `values` are NaN for excluded trials."""
    there = np.isfinite(values)
    y, configuration = values[there], space.configuration[there]
    positives = None if target == OBJECTIVE else int(y.sum())
    note = _too_little(y, positives, space)
    within = target == OBJECTIVE and len(np.unique(configuration)) < len(y)
    if within:
        y = y - _seed_means(y, space.seeds[there])
    explained = explained_share(y, configuration)
    if note:
        return Importance(target, len(y), positives, within, 0, 0, explained, {}, {}, note)
    share = BEST_SHARE if positives is None else (positives - 0.5) / len(y)
    # PED-ANOVA looks at the lowest values: the pathological are to be those.
    all_values = np.full(len(values), np.nan)
    all_values[there] = y if positives is None else -y
    ped = shares_of(studies.trials, space.names, all_values, ped_anova_by(share), scaled=True)
    counts = np.bincount(configuration, minlength=studies.configurations)
    sums = np.bincount(configuration, weights=y, minlength=studies.configurations)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    drawn_means = means[studies.drawn]
    fanova: Mapping[str, float] = {}
    pairs: Mapping[str, float] = {}
    exact = exact_shares(space.values[studies.first], means, space.names)
    if exact is not None:
        fanova, pairs = exact
    elif np.unique(drawn_means[np.isfinite(drawn_means)]).size > 1:
        fanova = shares_of(studies.means, space.names, drawn_means, fanova_by(), scaled=False)
    notes = []
    if explained <= 0.0:
        notes.append("configurations differ no more than seeds do: the shares only rank noise")
    if not (ped and fanova):
        notes.append("no factor stands out at all")
    fit = int(np.isfinite(drawn_means).sum()), int((counts > 0).sum()), explained
    rest = max(0.0, 1.0 - sum(fanova.values()) - sum(pairs.values())) if fanova else math.nan
    return Importance(
        target,
        len(y),
        positives,
        within,
        *fit,
        fanova,
        ped,
        "; ".join(notes),
        pairs,
        rest,
        exact is not None,
    )


def _seed_means(values: FloatArray, seeds: IntArray) -> FloatArray:
    _, place = np.unique(seeds, return_inverse=True)
    return np.asarray((np.bincount(place, weights=values) / np.bincount(place))[place])


def _too_little(y: FloatArray, positives: int | None, space: Space) -> str:
    if not space.names:
        return "unknown: no factor varies"
    if len(y) < FEWEST_TRIALS:
        return f"unknown: {len(y)} trials, and {FEWEST_TRIALS} are needed"
    if positives is None:
        if not math.isfinite(float(y.var())):
            return "unknown: the values are too large to be squared"
        return "" if float(np.ptp(y)) > 0.0 else "unknown: all values are identical"
    few = min(positives, len(y) - positives)
    if few < FEWEST_OF_A_KIND:
        return (
            f"unknown: {positives} of {len(y)} trials, and {FEWEST_OF_A_KIND} of each kind are "
            "needed"
        )
    return ""
