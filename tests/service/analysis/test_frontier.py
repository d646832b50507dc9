"""The frontier of a stored sweep over ranges."""

import json

import numpy as np
import pytest
import toy_sweeps
from typer.testing import CliRunner

from sickbay.service.analysis.frontier import as_plain, load_frontier
from sickbay.service.cli.app import app
from sickbay.service.query.engine import query
from sickbay.service.query.lookup import SweepError
from sickbay.service.sweeps.runner import Options, run
from sickbay.trials.store import open_store

SPEC = toy_sweeps.spec(
    name="edge",
    design="random",
    factors={"lr": {"low": 0.01, "high": 10.0, "log": True}},
    seeds=1,
    budget={"trials": 30},
)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("edge") / "store"
    run(SPEC, str(folder), Options(in_process=True))
    run(
        toy_sweeps.spec(factors={"fault": ["none"]}, seeds=1), str(folder), Options(in_process=True)
    )
    return open_store(str(folder))


def sweep(store, name):
    return query(store, "SELECT sweep_id FROM sweeps WHERE name = ?", [name]).rows[0][0]


def test_small_steps_are_sound_and_large_ones_are_not(store):
    frontier = load_frontier(store, sweep(store, "edge")).found
    assert frontier.fitted
    assert frontier.healthy + frontier.pathological + frontier.unsure == 30
    rates = frontier.axes[0]
    assert frontier.probability[np.searchsorted(rates, 0.1)] < 0.3
    assert frontier.probability[-1] > 0.7
    assert (frontier.lower <= frontier.probability).all()


def test_the_sql_gives_the_labels_that_were_fitted(store):
    sweep_frontier = load_frontier(store, sweep(store, "edge"))
    labels = [row[-1] for row in query(store, sweep_frontier.sql).rows]
    plain = as_plain(sweep_frontier)
    assert plain["pathological"] == labels.count("pathological")
    assert plain["healthy"] == labels.count("healthy")


def test_the_verb_prints_and_gives_json(store):
    said = CliRunner().invoke(app, ["frontier", "edge", "--store", store.uri])
    assert "P(pathological)" in said.stdout
    as_json = CliRunner().invoke(app, ["frontier", "edge", "--store", store.uri, "--json"])
    assert len(json.loads(as_json.stdout)["probability"]) == len(
        json.loads(as_json.stdout)["axes"]["lr"]
    )


def test_a_sweep_without_ranges_has_no_frontier(store):
    with pytest.raises(SweepError, match="has 0 ranges"):
        load_frontier(store, sweep(store, "toy"))
