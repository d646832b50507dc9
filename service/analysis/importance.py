"""Which factors matter: fANOVA and PED-ANOVA, for the objective and for what goes wrong.

    table = importance_table(rows, factors, Goal.MINIMIZE)

Targets: the objective of the healthy trials; `pathological`, among all labelled trials; and each
pathology. Two methods answer two questions:

    fanova      the share of the variance between configurations due to a factor by itself (Hutter,
                Hoos, Leyton-Brown 2014): exact over a full grid, with pairs; else Optuna's forest
    ped_anova   how much a factor decides whether a trial is among the best tenth, or is
                pathological (Watanabe, Bansal, Hutter 2023), over all trials

Where configurations repeat over seeds, the objective is taken less its seed's mean. fANOVA's main
effects, pairs and rest add up to one, so an exclusive-or shows as a pair; PED-ANOVA's shares add up
to one whatever the noise. `explained`, the share of the variance that lies between configurations
at all, stands beside them: near zero the shares rank noise. Pure, bit-identical.
"""

import contextlib
import math
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from scipy.special import ndtr

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
GRID = 50  # places on which PED-ANOVA compares two densities of a range: Optuna's
TINY = 1e-12  # added to its densities, so that none is zero


@dataclass(frozen=True)
class Space:
    """The factors that vary, with the trials' values, (n, factors), and the range of each or None.

    The value of a factor without a range is the index of its level.
    """

    names: tuple[str, ...]
    spans: tuple[Span | None, ...]
    values: FloatArray
    configuration: IntArray
    seeds: IntArray


def space_of(rows: Sequence[TrialRow], factors: Sequence[str], spans: Mapping[str, Span]) -> Space:
    """Lay out the factors that vary; a range is widened to hold every value."""
    names, known, columns, codes = [], [], [], []
    for factor in factors:
        settings = [row.levels.get(factor) for row in rows]
        numbers = [float(setting) for setting in settings if isinstance(setting, int | float)]
        places: dict[object, int] = {}
        code = [places.setdefault(level_key(setting), len(places)) for setting in settings]
        if len(places) < 2:
            continue
        span = spans.get(factor) if len(numbers) == len(rows) else None
        if span is not None:
            low, high = min([span.low, *numbers]), max([span.high, *numbers])
            span = Span(low, high, log=span.log and low > 0.0)
        names.append(factor)
        known.append(span)
        columns.append([float(place) for place in code] if span is None else numbers)
        codes.append(np.array(code, dtype=np.int64))
    n = len(rows)
    values = np.array(columns).T if columns else np.zeros((n, 0))
    seeds = np.array([row.seed for row in rows], dtype=np.int64)
    return Space(tuple(names), tuple(known), values, groups(codes, n), seeds)


def ped_anova_shares(space: Space, targets: FloatArray, share: float) -> dict[str, float]:
    """How much each factor decides whether a trial is among the lowest `share` of the targets.

    The Pearson divergence of the density of those trials' levels from that of all (Watanabe,
    Bansal, Hutter 2023), as Optuna computes it, scaled to add up to one; {} if nothing differs.
    `targets` are (n,), NaN for trials that are left out.
    """
    used = np.flatnonzero(np.isfinite(targets))
    order = math.ceil(share * len(used)) - 1
    lowest = used[targets[used] <= np.partition(targets[used], order)[order]]
    scores = []
    for column, span in zip(space.values.T, space.spans, strict=True):
        places, size = _places(column, span)
        density = _range_density if span else _level_density
        top, every = (density(np.bincount(places[k], minlength=size)) for k in (lowest, used))
        scores.append(float(every @ (top / every - 1.0) ** 2))
    whole = sum(scores)
    if not 0.0 < whole < math.inf:
        return {}
    return {name: score / whole for name, score in zip(space.names, scores, strict=True)}


def _places(column: FloatArray, span: Span | None) -> tuple[IntArray, int]:
    """The level, or the place on a grid over the range, of each value; and how many there are."""
    if span is None:
        return column.astype(np.int64), int(column.max()) + 1
    low, high = (math.log(span.low), math.log(span.high)) if span.log else (span.low, span.high)
    values = np.log(column) if span.log else column
    places = np.ceil((values - low) / ((high - low) / (GRID - 1)) - 0.5).astype(np.int64)
    return np.clip(places, 0, GRID - 1), GRID


def _level_density(counts: IntArray) -> FloatArray:
    """Density over levels: kernels about the levels that occur, and a uniform prior of weight 1."""
    levels, trials = len(counts), counts.sum()
    kernels = np.count_nonzero(counts) + 1
    smoothed = (counts + trials / kernels) / (1.0 + levels / kernels)
    return np.asarray((smoothed + 1.0 / levels) / (trials + 1.0) + TINY)


def _range_density(counts: IntArray) -> FloatArray:
    """Density over a grid: truncated normals by Scott's rule, and a wide prior of weight 1."""
    seen = np.flatnonzero(counts)
    weights, trials = counts[seen], counts.sum()
    mean = seen @ weights / trials
    deviation = math.sqrt((seen - mean) ** 2 @ weights / max(1, trials - 1))
    upto = np.cumsum(weights)
    first = np.searchsorted(upto, trials // 4, side="left")
    third = np.searchsorted(upto, trials * 3 // 4, side="right")
    quartiles = seen[min(seen.size - 1, third)] - seen[first]
    width = max(1.059 * min(quartiles / 1.34, deviation) * trials**-0.2, 0.5 / 1.64)
    middles = np.append(seen, (len(counts) - 1) / 2)
    widths = np.append(np.full(seen.size, width), len(counts))
    edges = ndtr((np.arange(len(counts) + 1)[:, None] - 0.5 - middles) / widths)
    kernels = np.diff(edges, axis=0) / (edges[-1] - edges[0])
    return np.asarray(kernels @ np.append(weights, 1.0) / (trials + 1.0) + TINY)


def forest_shares(space: Space, settings: FloatArray, means: FloatArray) -> dict[str, float]:
    """Main effects' shares of the variance by Optuna's fANOVA; {} if it finds none.

    `settings` are the configurations, (c, factors), and `means` their values, (c,).
    """
    import optuna  # noqa: PLC0415 - a second that few readers need
    from optuna.importance import FanovaImportanceEvaluator  # noqa: PLC0415 - another

    distributions = {
        name: optuna.distributions.FloatDistribution(span.low, span.high, log=span.log)
        if span
        else optuna.distributions.CategoricalDistribution(range(int(space.values[:, k].max()) + 1))
        for k, (name, span) in enumerate(zip(space.names, space.spans, strict=True))
    }
    with _quiet():
        study = optuna.create_study()
        for row, mean in zip(settings, means.tolist(), strict=True):
            pairs = zip(space.names, row.tolist(), space.spans, strict=True)
            params = {name: value if span else int(value) for name, value, span in pairs}
            study.add_trial(
                optuna.trial.create_trial(params=params, distributions=distributions, value=mean)
            )
        forest = FanovaImportanceEvaluator(n_trees=TREES, max_depth=DEPTH, seed=SEED)
        try:
            shares = forest.evaluate(study, params=list(space.names))
        except (RuntimeError, ValueError, ZeroDivisionError):
            return {}
    if not 0.0 < sum(shares.values()) < math.inf:
        return {}
    return {name: float(shares.get(name, 0.0)) for name in space.names}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
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
    factors (where `exact`), `rest` what neither accounts for (NaN where unknown). `ped_anova` adds
    up to one. `trials` could be used, `within_seeds` less their seed's mean; `positives` are the
    target (None for the objective). `configurations` of `of_configurations` went into fANOVA.
    `explained` is the adjusted R² of the configurations' means, NaN where none repeats. `note` says
    what is unknown.
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
    importances = tuple(_importance(name, y, space) for name, y in targets.items())
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


def _importance(target: str, values: FloatArray, space: Space) -> Importance:
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
    ped = ped_anova_shares(space, all_values, share)
    present, first = np.unique(configuration, return_index=True)
    settings = space.values[there][first]
    place = np.searchsorted(present, configuration)
    means = np.bincount(place, weights=y) / np.bincount(place)
    drawn = np.arange(len(present))
    if len(present) > MOST_CONFIGURATIONS:
        drawn = np.random.default_rng(SEED).permutation(len(present))[:MOST_CONFIGURATIONS]
    fanova: Mapping[str, float] = {}
    pairs: Mapping[str, float] = {}
    exact = exact_shares(settings, means, space.names)
    if exact is not None:
        fanova, pairs = exact
    elif np.unique(means[drawn]).size > 1:
        fanova = forest_shares(space, settings[drawn], means[drawn])
    notes = []
    if explained <= 0.0:
        notes.append("configurations differ no more than seeds do: the shares only rank noise")
    if not (ped and fanova):
        notes.append("no factor stands out at all")
    fit = len(drawn), len(present), explained
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
