"""Importance: what decides, what is noise, and what cannot be said."""

import math

import numpy as np
import optuna
import pytest
import statsmodels.api as sm
from effect_samples import trial
from optuna.importance import PedAnovaImportanceEvaluator

from sickbay.service.analysis.importance import (
    OBJECTIVE,
    PATHOLOGICAL,
    Span,
    explained_share,
    importance_table,
    ped_anova_shares,
    space_of,
)
from sickbay.trials.contract import Goal

FACTORS = ("a", "b", "c")


def grid(value, label, seeds=4):
    rng = np.random.default_rng(11)
    return [
        trial(seed, value(a, b, c, seed) + 0.1 * rng.normal(), label(a, b, c, seed), a=a, b=b, c=c)
        for a in range(3)
        for b in range(3)
        for c in (True, False)
        for seed in range(seeds)
    ]


def sick(a, b, c, seed):
    return "no_skill" if b == 2 else "divergence" if not c and seed == 0 else "healthy"


@pytest.fixture(scope="module")
def table():
    rows = grid(lambda a, b, c, seed: 10.0 * seed + a, sick)
    return importance_table(rows, FACTORS, Goal.MINIMIZE)


def target(table, name):
    return next(importance for importance in table.targets if importance.target == name)


def test_each_target_names_the_factor_that_decides_it(table):
    assert [importance.target for importance in table.targets] == [
        OBJECTIVE,
        PATHOLOGICAL,
        "no_skill",
        "divergence",
    ]
    for name, factor in ((OBJECTIVE, "a"), ("no_skill", "b"), ("divergence", "c")):
        importance = target(table, name)
        for shares in (importance.fanova, importance.ped_anova):
            assert max(shares, key=shares.get) == factor, (name, shares)
        assert sum(importance.ped_anova.values()) == pytest.approx(1.0)
        whole = sum(importance.fanova.values()) + sum(importance.pairs.values()) + importance.rest
        assert whole == pytest.approx(1.0)
    assert target(table, "no_skill").fanova["b"] > 0.8


def test_seeds_that_differ_by_far_do_not_hide_the_factors(table):
    importance = target(table, OBJECTIVE)
    assert importance.within_seeds
    assert importance.explained > 0.9
    assert target(table, "no_skill").explained == 1.0


def test_counts_are_those_of_the_trials(table):
    assert target(table, OBJECTIVE).trials == 2 * 3 * (4 + 3)
    importance = target(table, "no_skill")
    assert (importance.trials, importance.positives) == (72, 24)
    assert (importance.configurations, importance.of_configurations) == (18, 18)


def test_the_shares_of_a_full_grid_are_its_analysis_of_variance():
    """y = 2 a + b + a b over 0, 1, 2: main effects 3 a and 2 b, and (a - 1) (b - 1)."""
    rows = grid(lambda a, b, c, seed: 2.0 * a + b + a * b - 0.1, lambda *_: "healthy", seeds=400)
    one = target(importance_table(rows, FACTORS, Goal.MINIMIZE), OBJECTIVE)
    of_a, of_b, of_both = 9 * 2 / 3, 4 * 2 / 3, 4 / 9
    total = of_a + of_b + of_both
    assert one.exact
    assert one.fanova["a"] == pytest.approx(of_a / total, abs=0.01)
    assert one.fanova["b"] == pytest.approx(of_b / total, abs=0.01)
    assert one.pairs["a x b"] == pytest.approx(of_both / total, abs=0.01)
    assert one.fanova["c"] == pytest.approx(0.0, abs=0.01)


def test_an_exclusive_or_of_health_crowns_no_factor():
    rows = grid(lambda *_: 1.0, lambda a, b, c, seed: "no_skill" if (a == 2) ^ c else "healthy")
    one = target(importance_table(rows, FACTORS, Goal.MINIMIZE), PATHOLOGICAL)
    assert one.fanova["b"] == pytest.approx(0.0, abs=1e-12)
    assert max(one.pairs, key=one.pairs.get) == "a x c"
    assert one.pairs["a x c"] > 0.8


def test_without_a_full_grid_a_forest_estimates_the_shares():
    rows = grid(lambda a, b, c, seed: 3.0 * a + b, lambda *_: "healthy")
    some = [row for row in rows if (row.levels["a"], row.levels["b"]) != (2, 2)]
    one = target(importance_table(some, FACTORS, Goal.MINIMIZE), OBJECTIVE)
    assert (one.exact, one.pairs) == (False, {})
    assert max(one.fanova, key=one.fanova.get) == "a"
    assert one.rest == pytest.approx(1.0 - sum(one.fanova.values()))


def test_the_explained_share_is_the_adjusted_r_squared():
    rng = np.random.default_rng(2)
    cells = np.repeat(np.arange(6), 4)
    y = 0.5 * cells + rng.normal(size=24)
    dummies = (cells[:, None] == np.arange(6)).astype(float)
    assert explained_share(y, cells) == pytest.approx(sm.OLS(y, dummies).fit().rsquared_adj)
    assert math.isnan(explained_share(y, np.arange(24)))


def test_noise_is_called_noise():
    rng = np.random.default_rng(0)
    rows = [
        trial(seed, rng.normal(), a=a, b=b) for a in range(3) for b in range(3) for seed in range(5)
    ]
    notes = []
    for shift in range(4):
        moved = [trial(r.seed, (r.objective * 7919 + shift) % 1, **r.levels) for r in rows]
        importance = target(importance_table(moved, ("a", "b"), Goal.MINIMIZE), OBJECTIVE)
        assert importance.explained < 0.4
        notes.append(importance.note)
    assert any("noise" in note for note in notes)


@pytest.mark.parametrize(
    ("rows", "name", "why"),
    [
        (grid(lambda *_: 1.0, lambda a, b, c, seed: "healthy"), PATHOLOGICAL, "0 of 72"),
        (grid(lambda *_: 1.0, lambda a, b, c, seed: "no_skill"), OBJECTIVE, "0 trials"),
        (grid(lambda *_: 1.0, lambda a, b, c, seed: "no_skill"), PATHOLOGICAL, "72 of 72"),
        ([trial(seed, 1.0 * seed, a=0) for seed in range(20)], OBJECTIVE, "no factor varies"),
        ([], OBJECTIVE, "no factor varies"),
        ([trial(s, math.nan, a=s % 2) for s in range(20)], OBJECTIVE, "0 trials"),
    ],
)
def test_what_cannot_be_said_is_unknown(rows, name, why):
    importance = target(importance_table(rows, FACTORS, Goal.MINIMIZE), name)
    assert importance.note.startswith("unknown: ")
    assert why in importance.note
    assert importance.fanova == importance.ped_anova == {}


def test_ranges_are_numbers_and_more_is_drawn_than_asked_for():
    rng = np.random.default_rng(4)
    rows = []
    for number in range(60):
        lr, other = float(10 ** rng.uniform(-5, -1)), int(rng.integers(2))
        rows.append(trial(number, abs(math.log10(lr) + 3), a=lr, b=other))
    spans = {"a": Span(1e-4, 1e-2, log=True)}  # some lie beyond: earlier specs drew them
    importance = target(importance_table(rows, ("a", "b"), Goal.MINIMIZE, spans), OBJECTIVE)
    assert importance.fanova["a"] > 0.8
    assert not importance.within_seeds
    assert math.isnan(importance.explained)


@pytest.mark.filterwarnings("ignore:PedAnova")
def test_ped_anova_is_optunas():
    """Levels and a logarithmic range, with trials left out, by Optuna's own evaluator."""
    rng = np.random.default_rng(7)
    rows = [
        trial(number, 0.0, a=float(10 ** rng.uniform(-4, -1)), b=int(rng.integers(3)))
        for number in range(80)
    ]
    targets = np.array(
        [abs(math.log10(row.levels["a"]) + 3) + 0.2 * row.levels["b"] for row in rows]
    )
    targets[::9] = math.nan
    space = space_of(rows, ("a", "b"), {"a": Span(1e-4, 1e-1, log=True)})
    study = optuna.create_study()
    kinds = {
        "a": optuna.distributions.FloatDistribution(1e-4, 1e-1, log=True),
        "b": optuna.distributions.CategoricalDistribution([0, 1, 2]),
    }
    for row, target in zip(rows, targets, strict=True):
        if math.isfinite(target):
            study.add_trial(
                optuna.trial.create_trial(params=row.levels, distributions=kinds, value=target)
            )
    for share in (0.1, 0.4):
        evaluator = PedAnovaImportanceEvaluator(target_quantile=share)
        theirs = evaluator.evaluate(study, params=["a", "b"], target=lambda one: one.value)
        whole = sum(theirs.values())
        assert ped_anova_shares(space, targets, share) == pytest.approx(
            {name: value / whole for name, value in theirs.items()}, rel=1e-9
        )


def test_the_order_of_the_rows_means_nothing(table):
    rows = grid(lambda a, b, c, seed: 10.0 * seed + a, sick)
    again = importance_table(rows[::-1], FACTORS, Goal.MINIMIZE)
    assert again == table
