"""Rows made comparable: joint factors, skill, copies of seeds, the reference; and their SQL."""

import math
from dataclasses import replace

import pytest
from effect_samples import SWEEP, sample, trial
from report_samples import SampleTrial

from sickbay.service.analysis.rows.comparable import comparable, seed_copies
from sickbay.service.analysis.rows.load import load_rows
from sickbay.service.analysis.study import EffectOptions, load_effects, load_study
from sickbay.service.analysis.verdicts import Verdict
from sickbay.service.query.engine import query
from sickbay.service.query.lookup import SweepError
from sickbay.trials.contract import Goal

PATHOLOGICAL = {"label": "pathological", "pathology": "mixture_collapse"}


def values(seed, place):
    return (place + 0.1 * math.sin(7 * seed + 3 * place),)


def held_by_sql(store, options=EffectOptions()):  # noqa: B008 - frozen
    """The effects, after the printed SQL has given the same numbers."""
    study = load_study(store, SWEEP, ("interactions", "importance"), options)
    for text in filter(None, study.sql.values()):
        query(store, text)
    rows = {row["nr"]: row for row in query(store, study.sql["effects"]).records()}
    for nr, one in enumerate(study.effects.table.effects, start=1):
        if not one.pairs:
            assert nr not in rows
            continue
        row = rows[nr]
        assert (row["pairs"], row["sound_pairs"]) == (one.pairs, one.sound_pairs)
        expected = math.nan if row["difference"] is None else row["difference"]
        assert expected == pytest.approx(one.difference.mean, nan_ok=True)
    return study


def test_factors_that_change_together_are_one_factor(tmp_path):
    arms = [(0.1, "x"), (0.01, "z"), (1.0, "o'q")]
    trials = [
        SampleTrial({"lr": lr, "opt": opt}, seed, values(seed, place))
        for place, (lr, opt) in enumerate(arms)
        for seed in range(5)
    ]
    factors = {"lr": [0.1, 0.01, 1.0], "opt": ["x", "z", "o'q"]}
    for number, spec in enumerate(({"zip": [["lr", "opt"]]}, {"constraints": ["…"]})):
        store = sample(tmp_path / str(number), trials, factors=factors, **spec)
        table = held_by_sql(store).effects.table
        assert [one.factor for one in table.effects] == ["lr + opt"] * 2
        assert [one.level for one in table.effects] == ["0.01 + z", "1.0 + o'q"]
        assert [one.sound_pairs for one in table.effects] == [5, 5]
        assert "always change together" in table.notes[0]


def test_losses_of_different_floors_are_compared_as_gain_over_their_own_floor():
    rows = [trial(seed, 0.2 + 0.01 * seed, weight=1) for seed in range(4)]
    rows = [replace(row, floor=0.317) for row in rows]
    rows += [replace(trial(s, 0.9 + 0.1 * s, weight=100), floor=3.083) for s in range(4)]
    made = comparable(_rows(rows, {"weight": (1, 100)}))
    assert made.goal is Goal.MAXIMIZE
    assert made.signal == "gain in val_loss over its floor"
    assert made.rows[4].objective == pytest.approx(1 - 0.9 / 3.083)
    assert "0.317 to 3.08" in made.notes[0]
    same = [replace(row, floor=0.3) for row in rows]
    assert comparable(_rows(same, {"weight": (1, 100)})).signal == "val_loss"
    unknown = [replace(row, floor=None) for row in rows[:1]] + rows[1:]
    assert comparable(_rows(unknown, {"weight": (1, 100)})).signal == "val_loss"


def _rows(rows, levels):
    from sickbay.service.analysis.rows.load import SweepRows

    return SweepRows(SWEEP, "val_loss", Goal.MINIMIZE, tuple(rows), levels, {}, {}, frozenset())


def test_ten_copies_of_an_unwired_seed_are_one_observation(tmp_path):
    trials = [
        SampleTrial({"a": a}, seed, ((1.0 + a) * (1 + 1e-7 * seed),))
        for a in (0, 1)
        for seed in range(10)
    ]
    store = sample(tmp_path, trials, factors={"a": [0, 1]})
    [effect] = held_by_sql(store).effects.table.effects
    assert (effect.pairs, effect.verdict) == (1, Verdict.UNKNOWN)
    assert "the seed is not wired" in load_effects(store, SWEEP).table.notes[0]


def test_a_coarse_objective_that_agrees_by_chance_is_no_copy():
    rows = [trial(0, 0.9, a=0), trial(0, 0.9, a=1), trial(1, 0.9, a=0), trial(1, 0.9, a=1)]
    assert seed_copies(rows, ["a"]) == {}
    rows += [trial(0, 0.8, a=2), trial(1, 0.8, a=2)]
    assert seed_copies(rows, ["a"]) == {1: 0}


def test_columns_named_like_words_of_the_sql_are_recomputed(tmp_path):
    trials = [
        SampleTrial({"level": a, "y": b, "factor": "x"}, seed, values(seed, a + 3 * b))
        for a in (1, 2)
        for b in (0, 1)
        for seed in range(4)
    ]
    factors = {"level": [1, 2], "y": [0, 1], "factor": ["x"]}
    study = held_by_sql(sample(tmp_path, trials, factors=factors))
    assert [one.factor for one in study.effects.table.effects] == ["level", "y"]
    pairs = query(sample(tmp_path, trials, factors=factors), study.sql["pairs"]).records()
    assert [(row["factor"], row["level"]) for row in pairs] == [("level", "2"), ("y", "1")]


@pytest.fixture
def broken_baseline(tmp_path):
    trials = [
        SampleTrial(
            {"init": init, "loss": loss},
            seed,
            values(seed, 1 + (loss == "u")),
            **({} if init == "random" else PATHOLOGICAL),
        )
        for init in ("zeros", "preset", "random")
        for loss in ("p", "u")
        for seed in range(5)
    ]
    factors = {"init": ["zeros", "preset", "random"], "loss": ["p", "u"]}
    return sample(tmp_path, trials, factors=factors)


def test_the_best_healthy_arm_is_the_reference_where_the_baseline_is_not_healthy(broken_baseline):
    table = held_by_sql(broken_baseline).effects.table
    assert (table.reference.name, table.reference.origin) == ("init=random, loss=p", "chosen")
    zeros, preset, loss = table.effects
    assert zeros.conclusion == "broken (10 of 10 pathological, mixture_collapse)"
    assert (zeros.baseline, preset.baseline, loss.verdict) == ("random", "random", Verdict.WORSE)
    # two healthy arms of six: one difference, but three times the tests of health (and three rows)
    assert loss.p_holm == loss.difference.p_value
    assert zeros.health_p_holm == pytest.approx(min(1.0, 3 * 3 * zeros.health.p_value))
    assert "the best healthy arm" in table.notes[0]


def test_the_reference_can_be_named(broken_baseline):
    declared = held_by_sql(broken_baseline, EffectOptions("baseline")).effects.table
    assert declared.reference.name == "init=zeros, loss=p"
    assert declared.effects[1].conclusion == "unknown, healthier (10 of 10 against 0 of 10)"
    named = held_by_sql(broken_baseline, EffectOptions("init=random, loss=u")).effects.table
    assert [one.baseline for one in named.effects] == ["random", "random", "u"]
    assert named.effects[2].difference.mean < 0
    every = held_by_sql(broken_baseline, EffectOptions(all_pairs=True, smallest_effect=5.0))
    assert [(one.baseline, one.level) for one in every.effects.table.effects[:3]] == [
        ("random", "zeros"),
        ("random", "preset"),
        ("zeros", "preset"),
    ]
    assert every.effects.table.effects[3].conclusion == "equivalent within ±5"
    with pytest.raises(SweepError, match="no level 'ones'; there are"):
        load_effects(broken_baseline, SWEEP, EffectOptions("init=ones"))


def test_levels_are_compared_within_strata(tmp_path):
    """An effect of another sign in each stratum: none on average, one in each."""
    trials = [
        SampleTrial({"a": a, "loss": loss}, seed, (a * (1 if loss == "p" else -1) + noise,))
        for loss in ("p", "u")
        for a in (0, 1)
        for seed in range(5)
        for noise in [0.1 * math.sin(7 * seed + 3 * a + (loss == "u"))]
    ]
    store = sample(tmp_path / "both", trials, factors={"a": [0, 1], "loss": ["p", "u"]})
    averaged = held_by_sql(store).effects.table.effects[0]
    within = held_by_sql(store, EffectOptions(within=("loss",))).effects.table.effects
    assert averaged.verdict is Verdict.UNCLEAR
    assert [one.where for one in within] == ["a where loss=p", "a where loss=u"]
    assert [one.verdict for one in within] == [Verdict.WORSE, Verdict.BETTER]
    for one, loss in zip(within, ("p", "u"), strict=True):
        alone = [row for row in trials if row.levels["loss"] == loss]
        own = sample(tmp_path / loss, alone, factors={"a": [0, 1], "loss": [loss]})
        [same] = load_effects(own, SWEEP).table.effects
        assert same.difference == one.difference
    smallest = min(within, key=lambda one: one.difference.p_value)
    assert smallest.p_holm == pytest.approx(2 * smallest.difference.p_value)  # Holm over strata
    with pytest.raises(SweepError, match="--within b: no factor with levels has this name"):
        load_effects(store, SWEEP, EffectOptions(within=("b",)))


def test_the_spec_declares_the_reference(tmp_path):
    trials = [SampleTrial({"a": a}, seed, values(seed, a)) for a in (0, 1) for seed in range(4)]
    store = sample(tmp_path, trials, factors={"a": [0, 1]}, reference={"a": 1}, smallest_effect=9.0)
    [effect] = load_effects(store, SWEEP).table.effects
    assert (effect.level, effect.baseline) == (0, 1)
    assert effect.conclusion == "equivalent within ±9"


def test_a_fraction_shows_its_main_effects(tmp_path):
    runs = [(0, 0, 0), (1, 1, 0), (1, 0, 1), (0, 1, 1)]
    trials = [
        SampleTrial(dict(zip("fgh", run, strict=True)), seed, values(seed, run[0] + 2 * run[1]))
        for run in runs
        for seed in range(4)
    ]
    study = held_by_sql(sample(tmp_path, trials, factors={factor: [0, 1] for factor in "fgh"}))
    assert [one.pairs for one in study.effects.table.effects] == [0, 0, 0]
    assert study.main_effects is not None
    assert study.main_effects.effects[1].difference.mean == pytest.approx(2.0, abs=0.1)
    assert load_rows(sample(tmp_path / "x", trials), SWEEP).rows
