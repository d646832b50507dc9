"""Two-way interactions: differences of differences, by hand, by scipy and by a saturated model."""

import itertools
import math

import numpy as np
import pytest
import statsmodels.api as sm
from effect_samples import trial
from scipy import stats

from sickbay.service.analysis.interactions import InteractionVerdict, interaction_table
from sickbay.trials.contract import Goal

LEVELS = {"a": ("off", "on"), "b": (0, 1)}


def crossed(seeds, value, label=lambda a, b, seed: "healthy", levels=LEVELS):
    return [
        trial(seed, value(a, b, seed), label(a, b, seed), a=a, b=b)
        for a, b in itertools.product(levels["a"], levels["b"])
        for seed in range(seeds)
    ]


def drawn(seeds, together=1.5, noise=0.3):
    rng = np.random.default_rng(3)
    table = {}

    def value(a, b, seed):
        effect = 0.7 * (a == "on") - 0.4 * b + together * (a == "on") * b
        return table.setdefault((a, b, seed), seed + effect + noise * rng.normal())

    return value


def only(rows, levels=LEVELS, goal=Goal.MINIMIZE):
    [interaction] = interaction_table(rows, levels, goal).interactions
    return interaction


def test_it_is_the_t_test_of_the_differences_of_differences():
    value = drawn(6)
    interaction = only(crossed(6, value))
    contrasts = [
        (value("on", 1, s) - value("off", 1, s)) - (value("on", 0, s) - value("off", 0, s))
        for s in range(6)
    ]
    independent = stats.ttest_1samp(contrasts, 0.0)
    assert interaction.difference.mean == pytest.approx(np.mean(contrasts))
    assert interaction.difference.p_value == pytest.approx(independent.pvalue)
    interval = independent.confidence_interval(0.95)
    assert (interaction.difference.low, interaction.difference.high) == pytest.approx(
        tuple(interval)
    )
    assert interaction.verdict is InteractionVerdict.INTERACTS
    assert (
        interaction.quads,
        interaction.sound_quads,
        interaction.seeds,
        interaction.contexts,
    ) == (6, 6, 6, 1)
    assert interaction.p_holm == interaction.difference.p_value  # there is one test


def test_it_is_the_coefficient_of_a_saturated_model():
    rows = crossed(5, drawn(5))
    a = np.array([row.levels["a"] == "on" for row in rows], dtype=float)
    b = np.array([row.levels["b"] for row in rows], dtype=float)
    design = np.column_stack([np.ones(len(rows)), a, b, a * b])
    fit = sm.OLS([row.objective for row in rows], design).fit()
    assert only(rows).difference.mean == pytest.approx(fit.params[3])


def test_the_four_means_add_up_to_it():
    interaction = only(crossed(4, drawn(4)))
    neither, first, other, both = (cell.mean for cell in interaction.cells)
    assert interaction.difference.mean == pytest.approx((both - other) - (first - neither))


def test_what_is_pathological_only_together_is_seen_where_no_quad_is_sound():
    ill = lambda a, b, seed: "no_skill" if a == "on" and b == 1 else "healthy"  # noqa: E731
    interaction = only(crossed(6, drawn(6), ill))
    assert interaction.sound_quads == 0
    assert interaction.verdict is InteractionVerdict.UNKNOWN
    assert math.isnan(interaction.difference.mean)
    assert interaction.health.mean == -1.0
    assert interaction.health.p_value == pytest.approx(2 / 2**6)
    assert [cell.healthy for cell in interaction.cells] == [6, 6, 6, 0]


def test_two_seeds_are_unknown_and_keep_their_mean():
    interaction = only(crossed(2, drawn(2)))
    assert interaction.verdict is InteractionVerdict.UNKNOWN
    assert math.isfinite(interaction.difference.mean)
    assert math.isnan(interaction.difference.low)
    assert math.isnan(interaction.health.p_value)


def test_one_factor_at_a_time_has_none_and_says_so():
    rows = [row for row in crossed(5, drawn(5)) if row.levels != {"a": "on", "b": 1}]
    table = interaction_table(rows, LEVELS, Goal.MINIMIZE)
    assert table.interactions == ()
    assert "all four combinations" in table.skipped["a x b"]


def test_cut_short_and_doubled_trials_are_in_no_quad():
    rows = crossed(5, drawn(5))
    rows[0] = trial(0, 1.0, "cancelled", a="off", b=0)
    interaction = only([*rows, trial(4, 9.0, a="on", b=1)])
    assert (interaction.cut_short, interaction.quads) == (1, 3)


def test_contexts_count_the_same_and_a_range_is_part_of_them():
    levels = {**LEVELS, "lr": ()}
    rows = []
    for lr, together, seeds in ((0.1, 1.0, 5), (0.2, 3.0, 1)):
        quads = crossed(seeds, drawn(seeds, together, noise=0.0))
        rows += [trial(row.seed, row.objective, **row.levels, lr=lr) for row in quads]
    interaction = only(rows, levels)
    assert interaction.contexts == 2
    assert interaction.difference.mean == pytest.approx(2.0)


def test_every_pair_of_levels_is_compared_and_holm_counts_them_all():
    levels = {"a": ("off", "on", "half"), "b": (0, 1)}
    table = interaction_table(crossed(5, drawn(5), levels=levels), levels, Goal.MINIMIZE)
    assert [(interaction.level_a, interaction.level_b) for interaction in table.interactions] == [
        ("on", 1),
        ("half", 1),
    ]
    least = min(table.interactions, key=lambda interaction: interaction.difference.p_value)
    assert least.p_holm == pytest.approx(min(1.0, 2 * least.difference.p_value))
