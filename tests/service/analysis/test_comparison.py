"""Two halves side by side: matched by configuration, drift with its interval, changed labels."""

import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import typer
from report_samples import SampleTrial, write_sample
from rich.console import Console
from scipy import stats
from typer.testing import CliRunner

from sickbay.service.analysis.comparison import Drift, LabelChange, compare, open_half
from sickbay.service.cli.analysis import add_verbs
from sickbay.service.query.engine import query
from sickbay.service.query.lookup import SweepError
from sickbay.service.reports.terminal import print_comparison
from sickbay.trials.contract import Health, TrialState
from sickbay.trials.store import open_store

SICK = {"label": Health.PATHOLOGICAL, "pathology": "no_skill"}
OBJECTIVE = {"signal": "val_loss", "goal": "minimize"}


def sampled(shift=0.0, seeds=range(5), init=("zeros", "random"), noise=0, ways=None, **more):
    rng = np.random.default_rng(noise)
    return [
        SampleTrial(
            {"init": level, **more},
            seed,
            (1.0 + 0.1 * seed + shift * (seed + 1) + (0.01 * rng.normal() if noise else 0.0),),
            **(ways or (lambda *_: {}))(level, seed),
        )
        for level in init
        for seed in seeds
    ]


def half(folder, trials, sweep_id="one-000001", **objective):
    spec = {
        "name": "sample",
        "factors": {"init": ["zeros", "random"]},
        "objective": {**OBJECTIVE, **objective},
    }
    write_sample(folder, trials, sweep_id=sweep_id, spec=spec)
    return open_half(lambda: open_store(str(folder), create=False), sweep_id)


def test_the_same_trials_are_identical_and_nothing_drifted(tmp_path):
    comparison = compare(half(tmp_path / "a", sampled()), half(tmp_path / "b", sampled()))
    assert [pair.drift for pair in comparison.arms] == [Drift.IDENTICAL] * 2
    assert [(pair.pairs, pair.identical) for pair in comparison.arms] == [(5, 5)] * 2
    assert comparison.drifted == ()
    assert comparison.only_a == comparison.only_b == comparison.notes == ()


def test_a_shift_is_the_paired_t_test_of_the_seeds(tmp_path):
    a, b = half(tmp_path / "a", sampled(noise=1)), half(tmp_path / "b", sampled(0.02, noise=2))
    comparison = compare(a, b)
    for pair in comparison.arms:
        values = {}
        for name, side in (("a", a), ("b", b)):
            mine = [t.row for t in side.trials if t.arm == pair.arm]
            values[name] = [row.objective for row in sorted(mine, key=lambda row: row.seed)]
        independent = stats.ttest_rel(values["b"], values["a"])
        assert pair.difference.p_value == pytest.approx(independent.pvalue)
        assert (pair.difference.low, pair.difference.high) == pytest.approx(
            tuple(independent.confidence_interval(0.95))
        )
        assert pair.drift is Drift.DRIFTED
        assert pair.a.mean == pytest.approx(np.mean(values["a"]))


def test_a_baseline_that_drifted_is_flagged(tmp_path):
    halves = [half(tmp_path / "a", sampled(noise=1)), half(tmp_path / "b", sampled(0.05, noise=2))]
    a, b = (
        replace(
            side,
            trials=tuple(replace(t, baseline=t.row.levels["init"] == "zeros") for t in side.trials),
        )
        for side in halves
    )
    comparison = compare(a, b)
    [baseline] = comparison.drifted
    assert baseline.config["init"] == "zeros"
    assert comparison.arms[0] is baseline
    assert comparison.as_data()["drifted"] == [baseline.arm]
    console = Console(width=160, record=True, file=io.StringIO())
    print_comparison(console, comparison)
    text = console.export_text()
    assert "! baseline drifted: B - A +" in text
    assert "0 of 5 pairs to the last bit" in text


def test_other_seeds_are_compared_by_welch(tmp_path):
    a = half(tmp_path / "a", sampled(noise=1, init=("zeros",)))
    b = half(tmp_path / "b", sampled(0.01, seeds=range(10, 18), noise=2, init=("zeros",)))
    [pair] = compare(a, b).arms
    values = [[t.row.objective for t in side.trials] for side in (b, a)]
    independent = stats.ttest_ind(*values, equal_var=False)
    interval = independent.confidence_interval(0.95)
    assert not pair.paired
    assert pair.shared_seeds == 0
    assert pair.difference.p_value == pytest.approx(independent.pvalue)
    assert (pair.difference.low, pair.difference.high) == pytest.approx(tuple(interval))


def test_labels_that_changed_are_named_and_flag_a_baseline(tmp_path):
    ways = lambda level, seed: SICK if seed == 3 and level == "zeros" else {}  # noqa: E731
    a = half(tmp_path / "a", sampled())
    b = half(tmp_path / "b", sampled(ways=ways))
    comparison = compare(a, b)
    zeros = next(pair for pair in comparison.arms if pair.config["init"] == "zeros")
    assert zeros.label_changes == (LabelChange(3, "healthy", "no_skill"),)
    assert (zeros.a.healthy, zeros.b.healthy, zeros.b.causes) == (5, 4, {"no_skill": 1})
    assert zeros.pairs == 4
    assert comparison.as_data()["labels_changed"] == 1


def test_arms_that_only_one_side_has_and_settings_that_differ_are_listed(tmp_path):
    a = half(tmp_path / "a", sampled(init=("zeros", "random"), lr=0.1))
    b = half(tmp_path / "b", sampled(init=("zeros", "preset"), lr=0.2))
    comparison = compare(a, b)
    assert comparison.arms == ()
    assert comparison.settings == {"lr": ("0.1", "0.2")}
    assert "no configuration is on both sides" in comparison.notes
    ignoring = compare(a, b, ["lr"])
    assert [pair.config["init"] for pair in ignoring.arms] == ["zeros"]
    assert (len(ignoring.only_a), len(ignoring.only_b)) == (1, 1)


def test_settings_that_only_one_side_knows_do_not_matter(tmp_path):
    a, b = half(tmp_path / "a", sampled()), half(tmp_path / "b", sampled(new=1))
    comparison = compare(a, b)
    assert len(comparison.arms) == 2
    assert "has new" in comparison.notes[0]


def test_what_would_be_several_trials_of_a_seed_is_matched_with_none(tmp_path):
    a = half(tmp_path / "a", sampled(lr=0.1))
    b = half(tmp_path / "b", [*sampled(lr=0.1), *sampled(0.1, lr=0.2)])
    comparison = compare(a, b, ["lr"])
    assert comparison.arms == ()
    assert any("several trials of one seed" in note for note in comparison.notes)


def test_unlike_objectives_have_no_difference(tmp_path):
    a, b = half(tmp_path / "a", sampled()), half(tmp_path / "b", sampled(), signal="val_auroc")
    comparison = compare(a, b)
    assert all(math.isnan(pair.difference.mean) for pair in comparison.arms)
    assert "not the same signal" in comparison.notes[0]


def test_odd_trials_are_counted_and_in_no_difference(tmp_path):
    ways = lambda level, seed: {  # noqa: E731
        0: {"label": None, "state": TrialState.CANCELLED},
        1: {"label": None, "state": TrialState.FAILED},
    }.get(seed, {})
    comparison = compare(half(tmp_path / "a", sampled(ways=ways)), half(tmp_path / "b", sampled()))
    for pair in comparison.arms:
        assert (pair.a.trials, pair.a.healthy, pair.a.causes) == (4, 3, {"failed": 1})
        assert (pair.pairs, pair.shared_seeds) == (3, 5)


def test_counts_and_means_are_the_answer_to_the_sql(tmp_path):
    ways = lambda level, seed: SICK if seed == 2 else {}  # noqa: E731
    a = half(tmp_path / "a", sampled(ways=ways, noise=3))
    b = half(tmp_path / "b", sampled(noise=4))
    comparison = compare(a, b)
    for letter, side in (("a", a), ("b", b)):
        rows = query(open_store(side.store), comparison.sql[letter]).records()
        by_config = {json.loads(row["config"])["init"]: row for row in rows}
        for pair in comparison.arms:
            expected, row = getattr(pair, letter), by_config[pair.config["init"]]
            assert (row["trials"], row["healthy"]) == (expected.trials, expected.healthy)
            assert row["mean"] == pytest.approx(expected.mean)


def verb(*arguments, code=0):
    app = typer.Typer()
    add_verbs(app)
    app.command()(lambda: None)
    done = CliRunner().invoke(app, ["compare", *map(str, arguments)])
    assert done.exit_code == code, (done.output, done.exception)
    return done


def test_the_verb_takes_sweeps_and_stores(tmp_path):
    half(tmp_path / "a", sampled(noise=1))
    half(tmp_path / "a", sampled(0.05, noise=2), sweep_id="two-000002")
    half(tmp_path / "b", sampled(0.05, noise=2))
    text = verb("one-000001", "two-000002", "--sql", "--store", tmp_path / "a").stdout
    assert "drifted" in text
    assert "FROM outcomes" in text
    whole = verb(tmp_path / "b", f"{tmp_path / 'a'}#two-000002", "--json").stdout
    data = json.loads(whole)
    assert data["a"]["name"] == str(tmp_path / "b")
    assert data["b"]["sweeps"] == ["two-000002"]
    assert len(data["arms"]) == 2
    assert data["arms"][0]["drift"] == "identical"
    done = verb("one-000001", "nobody", "--store", tmp_path / "a", code=1)
    assert isinstance(done.exception, SweepError)
    assert "STORE#SWEEP" in str(done.exception)
