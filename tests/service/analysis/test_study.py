"""All of a sweep's effects in one value: every group of numbers is the answer to its SQL."""

import json
import math
from dataclasses import replace

import pytest
import typer
from effect_samples import FACTORS, SWEEP, grid, sample
from typer.testing import CliRunner

from sickbay.service.analysis.study import ALL_PARTS, load_study
from sickbay.service.cli.analysis import add_verbs
from sickbay.service.query.engine import query
from sickbay.service.query.outcomes import CUT_SHORT
from sickbay.trials.contract import Health, TrialState


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return sample(tmp_path_factory.mktemp("study") / "store", grid(seeds=6))


@pytest.fixture(scope="module")
def study(store):
    return load_study(store, SWEEP, ALL_PARTS)


def answers(store, sql, *keys):
    return {tuple(row[key] for key in keys): row for row in query(store, sql).records()}


def level(value):
    return value if isinstance(value, str) else json.dumps(value)


def test_p_better_is_the_answer_to_its_sql(store, study):
    answered = answers(store, study.sql["better"], "factor", "level")
    for effect in study.effects.table.effects:
        row = answered[effect.factor, level(effect.level)]
        assert row["ranked_pairs"] == effect.ranked_pairs < effect.pairs
        assert row["p_better"] == pytest.approx(effect.improvement.value)


def test_iqm_and_seeds_are_the_answer_to_their_sql(store, study):
    answered = answers(store, study.sql["seeds"], "factor", "level")
    for effect in study.effects.table.effects:
        row = answered[effect.factor, level(effect.level)]
        assert row["seeds"] == effect.seeds
        assert row["iqm"] == pytest.approx(effect.iqm.mean)


def test_the_error_is_the_answer_to_its_sql_where_no_pair_is_missing(tmp_path):
    healthy = {"label": Health.HEALTHY, "state": TrialState.COMPLETED, "pathology": None}
    trials = [
        replace(trial, **healthy, values=(float(index * index % 17),))
        for index, trial in enumerate(grid(seeds=5))
    ]
    clean = sample(tmp_path, trials)
    study = load_study(clean, SWEEP)
    rows = answers(clean, study.sql["seeds"], "factor", "level")
    for effect in study.effects.table.effects:
        row = rows[effect.factor, level(effect.level)]
        shared = math.sqrt(effect.own * row["plain_error"] ** 2 + effect.borrowed)
        assert shared == pytest.approx(effect.difference.error)


def test_causes_are_the_answer_to_their_sql(store, study):
    answered = answers(store, study.sql["causes"], "factor", "level", "side", "outcome")
    seen = 0
    for effect in study.effects.table.effects:
        for name, side in (("level", effect.of_level), ("baseline", effect.of_baseline)):
            for cause, n in {**side.causes, "healthy": side.healthy}.items():
                row = answered[effect.factor, level(effect.level), name, cause]
                assert row["trials"] == n
                seen += 1
    assert seen == len(answered)
    assert not {row["outcome"] for row in answered.values()} & set(CUT_SHORT)


def test_interactions_are_the_answer_to_their_sql(store, study):
    keys = ("factor_a", "level_a", "factor_b", "level_b")
    answered = answers(store, study.sql["interactions"], *keys)
    assert len(answered) == len(study.interactions.interactions) == 5
    for interaction in study.interactions.interactions:
        row = answered[
            interaction.factor_a,
            level(interaction.level_a),
            interaction.factor_b,
            level(interaction.level_b),
        ]
        assert (row["quads"], row["sound_quads"]) == (interaction.quads, interaction.sound_quads)
        assert row["difference"] == pytest.approx(interaction.difference.mean)


def test_main_effects_counts_and_means_are_the_answer_to_their_sql(store, study):
    answered = answers(store, study.sql["main_effects"], "factor", "level")
    for effect in study.main_effects.effects:
        row = answered[effect.factor, level(effect.level)]
        assert (row["trials"], row["healthy"]) == (effect.trials, effect.healthy)
        assert row["mean"] == pytest.approx(effect.mean)


def test_importance_s_counts_and_share_are_the_answer_to_their_sql(store, study):
    for importance in study.importance.targets:
        [row] = query(store, study.sql[f"importance {importance.target}"]).records()
        assert row["trials"] == importance.trials
        assert row["explained"] == pytest.approx(importance.explained)
        if importance.positives is not None:
            assert row["positives"] == importance.positives
        assert (
            importance.note.startswith("unknown")
            or row["configurations"] == importance.of_configurations
        )


def test_parts_that_were_not_asked_for_are_not_there(store):
    study = load_study(store, SWEEP)
    assert study.interactions is study.main_effects is study.importance is None
    assert not set(ALL_PARTS) & set(study.as_data())


def test_the_verb_prints_every_part_that_is_asked_for(store):
    app = typer.Typer()
    add_verbs(app)
    app.command()(lambda: None)
    runner = CliRunner()
    text = runner.invoke(app, ["effects", SWEEP, "--store", store.uri, "--all"])
    assert text.exit_code == 0, text.output
    for head in ("Interactions of two factors", "Main effects over", "Importance of the factors"):
        assert head in text.stdout
    made = runner.invoke(
        app, ["effects", SWEEP, "--store", store.uri, "--json", "--interactions", "--main-effects"]
    )
    data = json.loads(made.stdout)
    assert {"interactions", "main_effects"} <= set(data)
    assert "importance" not in data
    first = data["interactions"]["interactions"][0]
    assert {"factor_a", "factor_b", "difference", "health", "cells", "verdict"} <= set(first)
    assert {effect["factor"] for effect in data["main_effects"]["effects"]} == set(FACTORS)
    assert data["effects"][0]["bootstrap"]["resamples"] >= 0
