"""The Pareto front: dominance by brute force, and who competes, of a stored sweep."""

import json
import math

import numpy as np
import pytest
import toy_sweeps
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from sickbay.service.cli.app import app
from sickbay.service.query.engine import QueryError, query
from sickbay.service.reports.best import metrics_of, non_dominated, pareto_front
from sickbay.service.reports.html import render_markdown, render_report
from sickbay.service.sweeps.runner import Options, run
from sickbay.trials.store import open_store

GOALS = [
    {"signal": "val_loss", "goal": "minimize"},
    {"signal": "output_variance_ratio", "goal": "maximize"},
]
points = st.integers(1, 4).flatmap(
    lambda m: st.lists(st.tuples(*[st.integers(-3, 3)] * m), max_size=30)
)


@given(points)
def test_a_point_is_kept_exactly_where_no_other_dominates_it(rows):
    def dominates(p, q):
        return all(a <= b for a, b in zip(p, q, strict=True)) and p != q

    width = len(rows[0]) if rows else 2
    kept = non_dominated(np.array(rows, dtype=float).reshape(len(rows), width))
    assert kept.tolist() == [not any(dominates(p, q) for p in rows) for q in rows]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A search by two objectives, some trials of which diverge or become NaN."""
    folder = str(tmp_path_factory.mktemp("pareto"))
    factors = {"lr": [0.1, 0.05, 0.02, 10.0], "fault": ["none", "nan", "raise"]}
    spec = toy_sweeps.spec(
        design="nsga2", factors=factors, objective=GOALS, seeds=1, budget={"trials": 12}
    )
    made = run(spec | {"fixed": {"epochs": 5}}, folder, Options(in_process=True))
    return open_store(folder), made.sweep_id


def shown(sweep, *words):
    store, sweep_id = sweep
    verb = ["results", sweep_id, "--store", store.uri]
    return CliRunner().invoke(app, [*verb, *words])


def test_healthy_trials_compete_and_the_others_are_counted_and_named(sweep):
    store, sweep_id = sweep
    front = json.loads(shown(sweep, "--pareto", "objectives", "--json").output)
    sql = """
        SELECT trial_id, label, any_value(outcome) AS outcome,
          last(e.val_loss ORDER BY epoch), last(e.output_variance_ratio ORDER BY epoch)
        FROM outcomes JOIN epochs e USING (trial_id) GROUP BY ALL"""
    rows = query(store, sql, sweep_ids=[sweep_id]).rows
    healthy = {row[0]: (row[3], -row[4]) for row in rows if row[2] == "healthy"}
    expected = {
        name
        for name, q in healthy.items()
        if not any(p != q and p[0] <= q[0] and p[1] <= q[1] for p in healthy.values())
    }
    assert {trial["trial_id"] for trial in front["front"]} == expected
    assert front["competing"] == len(healthy)
    ended = query(store, "SELECT count(*) FROM trials", sweep_ids=[sweep_id]).rows[0][0]
    assert front["competing"] + sum(front["left_out"].values()) == ended
    assert any(reason.startswith("pathological (") for reason in front["left_out"])
    for trial in front["pathological"]:
        assert all(map(math.isfinite, trial["values"].values()))
    again = query(store, front["sql"]).rows  # the query that is printed gives the same numbers
    assert {row[0] for row in again} >= expected


def test_without_a_finite_value_a_trial_is_left_out_even_where_any_label_competes(sweep):
    store, sweep_id = sweep
    metrics = metrics_of(["val_loss:min,epochs_run"], {})
    front = pareto_front(store, sweep_id, metrics, any_label=True)
    sql = "SELECT count(*) FROM outcomes WHERE label IS NOT NULL AND NOT isfinite(objective)"
    lost = query(store, sql, sweep_ids=[sweep_id]).rows[0][0]
    assert lost > 0
    assert front.left_out["without a finite val_loss"] == lost
    assert all(math.isfinite(value) for trial in front.front for value in trial.values)


def test_the_command_the_page_and_the_reports_show_it_beside_the_best(sweep):
    store, sweep_id = sweep
    output = shown(sweep, "--pareto", "val_loss", "--pareto", "output_variance_ratio:max").output
    assert "of 2 trials is on the front of val_loss (minimize), output_variance_ratio" in output
    assert "not competing: " in output
    assert "best healthy" in output
    assert "pareto" in shown(sweep).output
    assert "<h3>Pareto front</h3>" in render_report(store, sweep_id)
    assert "## Pareto front" in render_markdown(store, sweep_id)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["val_accuracy", "val_loss:min"], "val_accuracy:min or val_accuracy:max"),
        (["val_loss:up", "wall_seconds"], "val_loss:min or val_loss:max"),
        (["val_loss:min"], "a front needs two metrics or more"),
        (["val_los:min", "wall_seconds"], "never recorded; did you mean val_loss?"),
    ],
)
def test_a_metric_that_cannot_be_read_is_named(sweep, words, says):
    store, sweep_id = sweep
    with pytest.raises(QueryError, match=says.replace("?", r"\?")):
        pareto_front(store, sweep_id, metrics_of(words, {}))
