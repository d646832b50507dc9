"""Main effects by models: against means, against least squares by hand, and on odd data."""

import itertools
import math

import numpy as np
import pytest
from effect_samples import trial
from scipy import stats

from sickbay.service.analysis.main_effects import CONTRASTS, FIXED, MIXED, main_effect_table
from sickbay.service.analysis.rows.pairs import coded, shares_of_places
from sickbay.service.analysis.verdicts import Verdict
from sickbay.trials.contract import Goal

LEVELS = {"a": (0, 1), "b": (0, 1), "c": (0, 1)}
EFFECTS = {"a": 1.0, "b": -0.5, "c": 0.0}


def factorial(seeds=5, half=False, noise=0.2, label=lambda levels, seed: "healthy"):
    """A 2³ design, or the half of it in which c = a xor b; seeds differ by far."""
    rng = np.random.default_rng(5)
    rows = []
    for seed in range(seeds):
        shift = 3.0 * rng.normal()
        for a, b, c in itertools.product((0, 1), repeat=3):
            levels = {"a": a, "b": b, "c": c}
            value = shift + sum(EFFECTS[f] * on for f, on in levels.items()) + noise * rng.normal()
            if not half or c == a ^ b:
                rows.append(trial(seed, value, label(levels, seed), **levels))
    return rows


def table(rows, levels=LEVELS):
    return main_effect_table(rows, levels, Goal.MINIMIZE)


def by_hand(rows):
    """Ordinary least squares with a constant for each seed, by the normal equations."""
    seeds = sorted({row.seed for row in rows})
    design = np.array(
        [
            [*(row.levels[f] for f in LEVELS), *(float(row.seed == seed) for seed in seeds)]
            for row in rows
        ],
        dtype=float,
    )
    y = np.array([row.objective for row in rows])
    inverse = np.linalg.inv(design.T @ design)
    coefficients = inverse @ design.T @ y
    rest = y - design @ coefficients
    degrees = len(y) - design.shape[1]
    errors = np.sqrt(np.diag(inverse) * (rest @ rest) / degrees)
    return coefficients[:3], errors[:3], degrees


def by_seed(rows):
    """Every seed's own coefficients by least squares, then their mean and standard error."""
    found = []
    for seed in sorted({row.seed for row in rows}):
        mine = [row for row in rows if row.seed == seed]
        design = np.array([[1.0, *(row.levels[f] for f in LEVELS)] for row in mine])
        found.append(np.linalg.lstsq(design, [row.objective for row in mine], rcond=None)[0][1:])
    return np.mean(found, axis=0), stats.sem(found), len(found) - 1


def test_of_a_whole_factorial_it_is_the_difference_of_the_means():
    rows = factorial()
    fit = table(rows)
    coefficients, errors, degrees = by_seed(rows)
    assert fit.method == CONTRASTS
    for effect, mean, error in zip(fit.effects, coefficients, errors, strict=True):
        on = np.mean([row.objective for row in rows if row.levels[effect.factor] == 1])
        off = np.mean([row.objective for row in rows if row.levels[effect.factor] == 0])
        assert effect.difference.mean == pytest.approx(on - off) == pytest.approx(mean)
        assert effect.difference.error == pytest.approx(error)
        assert effect.difference.degrees == degrees == 4
        half = stats.t.isf(0.025, degrees) * error
        assert effect.difference.high == pytest.approx(mean + half)
        assert effect.mean == pytest.approx(on)
    assert [effect.verdict for effect in fit.effects][:2] == [Verdict.WORSE, Verdict.BETTER]
    assert 0.9 < fit.seed_share < 1.0


def test_a_half_fraction_shows_main_effects_without_any_pair():
    rows = factorial(half=True)
    coefficients, errors, _ = by_seed(rows)
    for effect, mean, error in zip(table(rows).effects, coefficients, errors, strict=True):
        assert effect.difference.mean == pytest.approx(mean)
        assert effect.difference.error == pytest.approx(error)
        assert abs(effect.difference.mean - EFFECTS[effect.factor]) < 5 * error


def test_a_factor_that_does_not_do_the_same_in_every_seed_gives_no_false_alarm():
    """500 sweeps of a 2² design: the slope of `a` is drawn by seed, with mean zero."""
    rng = np.random.default_rng(3)
    alarms = 0
    for _ in range(500):
        rows = [
            trial(seed, slope * a + 0.1 * rng.normal(), a=a, b=b)
            for seed, slope in enumerate(rng.normal(size=5))
            for a in (0, 1)
            for b in (0, 1)
        ]
        found = main_effect_table(rows, {"a": (0, 1), "b": (0, 1)}, Goal.MINIMIZE)
        alarms += found.effects[0].difference.p_value <= 0.05
    assert alarms / 500 <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 500)


def test_gaps_are_met_by_the_model_and_counted():
    ill = lambda levels, seed: "no_skill" if levels["a"] and seed < 3 else "healthy"  # noqa: E731
    rows = factorial(label=ill)
    fit = table(rows)
    healthy = [row for row in rows if row.label == "healthy"]
    coefficients, errors, _ = by_hand(healthy)
    assert fit.method == MIXED  # two seeds alone have all four combinations
    assert fit.left_out == {"no_skill": 12}
    assert fit.used == len(healthy)
    for effect, mean, error in zip(fit.effects, coefficients, errors, strict=True):
        assert effect.difference.mean == pytest.approx(mean, abs=0.1 * error)
    assert fit.effects[0].rank.mean > 0.2  # among all trials it falls far behind


def test_places_are_mid_ranks_within_the_seed_and_pathological_trials_tie_last():
    rows = [
        trial(0, 1.0, a=0),
        trial(0, 2.0, a=1),
        trial(0, -9.0, "no_skill", a=2),
        trial(0, math.nan, a=3),
        trial(0, 0.0, "cancelled", a=4),
        trial(1, 5.0, a=0),
    ]
    places = shares_of_places(coded(rows, {"a": tuple(range(5))}), Goal.MINIMIZE)
    assert places[[0, 1, 2, 3, 5]] == pytest.approx([0.125, 0.375, 0.75, 0.75, 0.5])
    assert math.isnan(places[4])


def test_factors_that_always_change_together_are_not_distinguished():
    rows = [trial(r.seed, r.objective, **r.levels, twin=r.levels["a"]) for r in factorial()]
    fit = table(rows, {**LEVELS, "twin": (0, 1)})
    known = {effect.factor: effect.difference.mean for effect in fit.effects}
    assert math.isnan(known["a"])
    assert math.isnan(known["twin"])
    assert known["b"] == pytest.approx(-0.5, abs=0.2)
    assert any("a, twin: confounded" in note for note in fit.notes)


def test_a_baseline_that_is_never_healthy_leaves_its_factor_unknown():
    fit = table(factorial(label=lambda levels, seed: "healthy" if levels["a"] else "no_skill"))
    known = {effect.factor: effect for effect in fit.effects}
    assert known["a"].verdict is Verdict.UNKNOWN
    assert known["a"].rank.mean < -0.3  # but the places tell
    assert known["b"].verdict is Verdict.BETTER


def test_one_factor_at_a_time_has_no_model():
    rows = [row for row in factorial() if sum(row.levels.values()) < 2]
    fit = table(rows)
    assert fit.effects == ()
    assert set(fit.skipped) == set(LEVELS)


def test_a_single_seed_is_least_squares():
    assert table(factorial(seeds=1)).method == FIXED


@pytest.mark.parametrize(
    ("rows", "note"),
    [
        (factorial(label=lambda levels, seed: "no_skill"), "no trial can be used"),
        (factorial(seeds=1, half=True), "degrees of freedom"),
        ([trial(r.seed, 1.0, **r.levels) for r in factorial()], "identical"),
        (
            [trial(r.seed, float(r.levels["a"]), **r.levels) for r in factorial()],
            "explain every value exactly",
        ),
    ],
    ids=["all ill", "too few", "constant", "no noise"],
)
def test_odd_data_leave_a_note_and_no_numbers(rows, note):
    fit = table(rows)
    assert any(note in line for line in fit.notes), fit.notes
    assert all(math.isnan(effect.difference.mean) for effect in fit.effects)
    assert all(effect.verdict is Verdict.UNKNOWN for effect in fit.effects)
