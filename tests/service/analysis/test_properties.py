"""What must hold of all effects, whatever the trials: order, names and odd values."""

import math
from dataclasses import asdict, replace

from effect_samples import trial
from hypothesis import given, settings
from hypothesis import strategies as st

from sickbay.service.analysis.effects import effect_table
from sickbay.service.analysis.importance import importance_table
from sickbay.service.analysis.interactions import interaction_table
from sickbay.service.analysis.main_effects import main_effect_table
from sickbay.trials.contract import Goal

LEVELS = {"a": ("off", "on", "half"), "b": (0, 1)}
LABELS = ("healthy", "healthy", "healthy", "no_skill", "inconclusive", "failed", "cancelled")
VALUES = st.one_of(
    st.floats(-3.0, 3.0), st.sampled_from([None, math.nan, math.inf, -math.inf, 1e308, 0.0])
)
TABLES = (effect_table, interaction_table, main_effect_table)


@st.composite
def sweeps(draw, most=6):
    """Any part of a grid, in which trials ended in any way."""
    seeds = range(draw(st.integers(1, most)))
    places = [(a, b, seed) for seed in seeds for a in LEVELS["a"] for b in LEVELS["b"]]
    kept = draw(st.lists(st.sampled_from(places), unique=True, min_size=1))
    return [
        trial(seed, draw(VALUES), draw(st.sampled_from(LABELS)), a=a, b=b) for a, b, seed in kept
    ]


def text(table):
    """A table as text, in which NaN equals NaN."""
    return repr(asdict(table))


@settings(max_examples=40, deadline=None)
@given(sweeps(), st.randoms(use_true_random=False))
def test_the_order_of_the_trials_means_nothing(rows, drawn):
    shuffled = list(rows)
    drawn.shuffle(shuffled)
    for table in TABLES:
        assert text(table(shuffled, LEVELS, Goal.MINIMIZE)) == text(
            table(rows, LEVELS, Goal.MINIMIZE)
        )


@settings(max_examples=40, deadline=None)
@given(sweeps())
def test_the_names_of_factors_and_levels_mean_nothing(rows):
    names = {"off": "zeros", "on": "random", "half": "preset"}
    other = [
        replace(row, levels={"init": names[row.levels["a"]], "b": row.levels["b"]}) for row in rows
    ]
    levels = {"init": tuple(names[level] for level in LEVELS["a"]), "b": LEVELS["b"]}
    for table in TABLES:
        renamed = text(table(rows, LEVELS, Goal.MINIMIZE)).replace("'a'", "'init'")
        for before, after in names.items():
            renamed = renamed.replace(f"'{before}'", f"'{after}'")
        assert text(table(other, levels, Goal.MINIMIZE)).replace("init x b", "a x b") == renamed


@settings(max_examples=40, deadline=None)
@given(sweeps())
def test_a_goal_turned_round_turns_the_verdict_and_no_number(rows):
    turned = [
        row if row.objective is None else replace(row, objective=-row.objective) for row in rows
    ]
    for effect, other in zip(
        effect_table(rows, LEVELS, Goal.MINIMIZE).effects,
        effect_table(turned, LEVELS, Goal.MAXIMIZE).effects,
        strict=True,
    ):
        assert effect.verdict == other.verdict
        assert effect.improvement == other.improvement or math.isnan(effect.improvement.value)
        assert effect.of_level.healthy == other.of_level.healthy
        close = math.isclose(effect.difference.mean, -other.difference.mean, rel_tol=1e-9)
        assert close or math.isnan(effect.difference.mean)


@settings(max_examples=60, deadline=None)
@given(sweeps())
def test_nothing_is_lost_and_no_interval_is_upside_down(rows):
    table = effect_table(rows, LEVELS, Goal.MINIMIZE)
    for effect in table.effects:
        assert effect.pairs == effect.sound_pairs + sum(effect.left_out.values())
        for side in (effect.of_level, effect.of_baseline):
            assert side.trials == side.healthy + sum(side.causes.values())
            assert 0.0 <= side.low <= side.high <= 1.0
        for estimate in (effect.difference, effect.iqm):
            assert not estimate.low > estimate.mean
            assert not estimate.high < estimate.mean
        assert not effect.bootstrap.low > effect.bootstrap.high
        assert effect.p_holm >= effect.difference.p_value or math.isnan(effect.p_holm)


@settings(max_examples=25, deadline=None)
@given(sweeps(most=1))
def test_one_seed_is_never_more_than_unknown(rows):
    for estimated in effect_table(rows, LEVELS, Goal.MINIMIZE).effects:
        assert estimated.verdict == "unknown"
        assert math.isnan(estimated.difference.low)
    for estimated in interaction_table(rows, LEVELS, Goal.MINIMIZE).interactions:
        assert estimated.verdict == "unknown"


@settings(max_examples=25, deadline=None)
@given(sweeps())
def test_all_pathological_is_unknown_everywhere_and_counted(rows):
    ill = [replace(row, state="completed", label="pathological", pathology="x") for row in rows]
    table = effect_table(ill, LEVELS, Goal.MINIMIZE)
    for estimated in table.effects:
        assert estimated.verdict == "unknown"
        assert estimated.sound_pairs == estimated.of_level.healthy == 0
        assert estimated.of_level.causes == ({"x": estimated.pairs} if estimated.pairs else {})
        assert estimated.improvement.value == 0.5 or not estimated.pairs
    for estimated in main_effect_table(ill, LEVELS, Goal.MINIMIZE).effects:
        assert estimated.verdict == "unknown"
    for estimated in importance_table(ill, ("a", "b"), Goal.MINIMIZE).targets:
        assert estimated.note.startswith("unknown")
