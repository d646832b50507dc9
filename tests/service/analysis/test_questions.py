"""Effects out of a store: read by SQL, recomputed by SQL, printed, and given as JSON."""

import io
import json
import random
import time

import pytest
import toy_sweeps
import typer
from effect_samples import SWEEP, grid, sample
from report_samples import SampleTrial
from rich.console import Console
from typer.testing import CliRunner

from sickbay.service.analysis.effects import effect_table
from sickbay.service.analysis.rows.load import known_levels
from sickbay.service.analysis.rows.pairs import TrialRow
from sickbay.service.analysis.sql import pairs_sql
from sickbay.service.analysis.study import load_effects
from sickbay.service.analysis.verdicts import Verdict
from sickbay.service.cli.analysis import add_verbs
from sickbay.service.query.engine import query
from sickbay.service.query.lookup import SweepError
from sickbay.service.reports.terminal import print_effects
from sickbay.service.sweeps.runner import Options, run
from sickbay.trials.contract import Goal, Health
from sickbay.trials.store import SweepRecord, open_store, write_sweep


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return sample(tmp_path_factory.mktemp("effects") / "store", grid())


def printed(effects):
    console = Console(width=160, record=True, file=io.StringIO())
    print_effects(console, effects, sql=True)
    return console.export_text()


def test_every_number_is_the_answer_to_the_sql_that_is_printed(store):
    effects = load_effects(store, SWEEP)
    rows = query(store, effects.sql["pairs"]).records()
    assert len(rows) == len(effects.table.effects) == 4
    by_level = {(row["factor"], row["level"]): row for row in rows}
    for effect in effects.table.effects:
        level = effect.level if isinstance(effect.level, str) else json.dumps(effect.level)
        row = by_level[effect.factor, level]
        assert row["pairs"] == effect.pairs
        assert row["sound_pairs"] == effect.sound_pairs < effect.pairs
        assert row["level_healthy"] == effect.of_level.healthy
        assert row["baseline_healthy"] == effect.of_baseline.healthy
        assert row["difference"] == pytest.approx(effect.difference.mean)
    assert query(store, effects.sql["trials"]).table.num_rows == effects.table.trials == 48


def test_what_is_not_healthy_is_named(store):
    causes = [effect.of_level.causes for effect in load_effects(store, SWEEP).table.effects]
    seen = {cause for some in causes for cause in some}
    assert seen == {"no_skill", "failed", "inconclusive", "objective_not_finite"}


def test_a_real_sweep_from_its_spec_to_its_table(tmp_path):
    spec = toy_sweeps.spec(factors={"fault": ["none", "nan"], "lr": [0.1, 0.05]}, seeds=4)
    result = run(spec, str(tmp_path), Options(in_process=True))
    effects = load_effects(open_store(result.store), result.sweep_id)
    nan, slower = sorted(effects.table.effects, key=lambda effect: effect.factor)
    assert nan.verdict is Verdict.UNKNOWN
    assert (nan.of_level.healthy, nan.of_level.trials) == (0, 8)
    assert nan.of_level.causes == {"non_finite": 8}
    assert nan.improvement.value == 0.0
    assert (slower.pairs, slower.sound_pairs) == (8, 4)
    assert slower.left_out == {"both": 4}
    assert slower.difference.low < slower.difference.mean < slower.difference.high
    assert effects.signal == "val_loss"


def test_levels_of_several_kinds_are_distinguished(tmp_path):
    factors = {"clip": ["none", 0.5, 1, True]}
    trials = [
        SampleTrial({"clip": level}, seed, (0.1 * index + 0.01 * seed * index,))
        for index, level in enumerate(factors["clip"])
        for seed in range(3)
    ]
    store = sample(tmp_path, trials, factors=factors)
    effects = load_effects(store, SWEEP)
    assert [effect.level for effect in effects.table.effects] == [0.5, 1, True]
    rows = query(store, effects.sql["pairs"]).records()
    means = {row["level"]: row["difference"] for row in rows}
    assert means == pytest.approx({"0.5": 0.11, "1": 0.22, "true": 0.33})
    assert [effect.difference.mean for effect in effects.table.effects] == pytest.approx(
        [0.11, 0.22, 0.33]
    )


def test_the_spec_names_the_baseline_and_the_goal(tmp_path):
    trials = [
        SampleTrial({"lr": lr}, seed, (lr + 0.01 * lr * seed,))
        for lr in (0.1, 0.2)
        for seed in range(4)
    ]
    spec = {"factors": {"lr": [0.1, 0.2]}, "baseline": {"lr": 0.2}}
    store = sample(tmp_path, trials, **spec, objective={"signal": "auroc", "goal": "maximize"})
    effects = load_effects(store, SWEEP)
    [effect] = effects.table.effects
    assert (effect.level, effect.baseline) == (0.1, 0.2)
    assert (effects.table.goal, effects.signal) == (Goal.MAXIMIZE, "auroc")
    assert effect.verdict is Verdict.WORSE


def test_ranges_and_single_levels_are_named_and_not_compared(tmp_path):
    trials = [SampleTrial({"lr": 0.1 * seed, "init": "zeros"}, seed, (1.0,)) for seed in range(3)]
    factors = {"lr": {"low": 0.0, "high": 1.0}, "init": ["zeros"]}
    store = sample(tmp_path, trials, factors=factors)
    effects = load_effects(store, SWEEP)
    assert effects.table.effects == ()
    assert list(effects.table.skipped) == ["init", "lr"]
    assert effects.sql["pairs"] == ""
    text = printed(effects)
    assert "lr: is a range" in text
    assert "init: has only one level" in text


def test_factors_of_earlier_specs_are_not_forgotten():
    configs = [{"a": 1, "b": 0}, {"a": 2, "b": 0}, {"a": 1, "b": 5}, {"a": 1, "b": 0, "c": 1}]
    changed = [(), ("a",), ("b",), ("c",)]
    levels, skipped = known_levels({"factors": {"a": [1, 2, 3]}}, configs, changed)
    assert levels == {"a": [1, 2, 3], "b": [0, 5]}
    assert list(skipped) == ["c"]


def test_a_context_is_made_of_factors_that_cannot_be_compared_too(tmp_path):
    trials = [
        SampleTrial({"lr": lr, "init": init}, seed, (seed + lr,))
        for seed, (lr, init) in enumerate([(0.1, "zeros"), (0.2, "zeros"), (0.2, "random")])
    ]
    trials += [SampleTrial({"lr": 0.1, "init": "random"}, 1, (9.0,))]
    factors = {"init": ["zeros", "random"], "lr": {"low": 0.0, "high": 1.0}}
    effects = load_effects(sample(tmp_path, trials, factors=factors), SWEEP)
    [effect] = effects.table.effects
    assert effect.pairs == 0  # same seed, but another lr


def test_the_table_says_what_it_leaves_out(store):
    text = printed(load_effects(store, SWEEP))
    assert "val_loss, lower is better; 48 trials, " in text
    assert "[preset]" in text  # brackets are no markup
    assert "pairs are not in the difference" in text
    assert "no_skill" in text
    assert "Holm" in text
    assert "FROM outcomes WHERE sweep_id = 'sample-abc123'" in text


def test_unknown_is_never_printed_as_no_effect(tmp_path):
    text = printed(load_effects(sample(tmp_path, grid(seeds=2)), SWEEP))
    assert text.count("? unknown") == 4
    assert (
        "unknown, not 'no effect': an interval needs 3 seeds with a healthy pair, and there are 2"
        in text
    )
    assert "[unknown]" in text


def test_better_where_healthy_but_worse_over_all_is_said(tmp_path):
    sick = {"label": Health.PATHOLOGICAL, "pathology": "divergence"}
    trials = [SampleTrial({"a": "off"}, seed, (1.0 + 0.01 * seed,)) for seed in range(8)]
    trials += [
        SampleTrial({"a": "on"}, seed, (0.5 + 0.011 * seed,), **(sick if seed < 5 else {}))
        for seed in range(8)
    ]
    effects = load_effects(sample(tmp_path, trials, factors={"a": ["off", "on"]}), SWEEP)
    assert effects.table.effects[0].verdict is Verdict.BETTER
    assert "over all pairs it loses more often than it wins" in printed(effects)


def test_the_verb_prints_a_table_and_json(store):
    app = typer.Typer()
    add_verbs(app)
    app.command()(lambda: None)  # with one command alone, typer asks for no verb
    runner = CliRunner()
    table = runner.invoke(app, ["effects", SWEEP, "--store", store.uri])
    assert table.exit_code == 0, table.output
    assert "verdict" in table.stdout
    made = runner.invoke(app, ["effects", "sample", "--store", store.uri, "--json"])
    data = json.loads(made.stdout)
    assert data["sweep_id"] == SWEEP
    assert data["goal"] == "minimize"
    first = data["effects"][0]
    assert {"factor", "level", "baseline", "difference", "improvement", "of_level"} <= set(first)
    assert first["difference"]["low"] <= first["difference"]["mean"] <= first["difference"]["high"]
    assert data["sql"]["pairs"] == load_effects(store, SWEEP).sql["pairs"]


def test_a_spec_without_objective_and_a_sweep_that_is_none_are_mistakes(tmp_path):
    store = open_store(str(tmp_path))
    write_sweep(store, SweepRecord("s", "s", "toy", "grid", '{"factors": {}}', "completed"))
    with pytest.raises(SweepError, match="which signal"):
        load_effects(store, "s")
    with pytest.raises(SweepError, match="no sweep"):
        load_effects(store, "t")


def test_names_and_levels_are_quoted():
    sql = pairs_sql("s'1", {'a"b': ["o'clock", "x"]})
    assert "'s''1'" in sql
    assert '"a""b"' in sql
    assert "'o''clock'" in sql


def test_ten_thousand_trials_take_seconds():
    """Without the store: reading it is measured with the report."""
    levels = {f"f{index}": tuple(range(size)) for index, size in enumerate((10, 10, 5, 4))}
    drawn = random.Random(0)
    rows = []
    for number in range(10_000):
        rest, chosen = number // 5, {}
        for factor, known in levels.items():
            rest, chosen[factor] = divmod(rest, len(known))
        label = "healthy" if drawn.random() < 0.7 else "pathological"
        rows.append(
            TrialRow(str(number), number % 5, chosen, "completed", label, None, drawn.random())
        )
    start = time.process_time()  # of a core: the machine may be busy
    table = effect_table(rows, levels, Goal.MINIMIZE)
    assert time.process_time() - start < 10.0
    assert sum(effect.pairs for effect in table.effects) == 9000 + 9000 + 8000 + 7500
