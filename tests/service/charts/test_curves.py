"""Curves with NaN and infinity: hand-worked quantiles, and the page against the report."""

import math

import numpy as np
import pytest
from fastapi.testclient import TestClient
from report_samples import SampleTrial, write_sample

from sickbay.service.api.app import create_app
from sickbay.service.charts.curves import curve_rows, spread_of
from sickbay.service.summary.collect import report_values
from sickbay.trials.contract import Row, TrialConfig
from sickbay.trials.store import EpochRecord, start_attempt, write_epochs

SWEEP = "sample-abc123"
NAN, INF = math.nan, math.inf
WAYS = [  # five seeds of one arm: three finite to the end, one NaN, one that ends early
    (1.0, 0.5, 0.25),
    (1.0, 0.75, 0.5),
    (1.0, 1.0, 1.0),
    (1.0, NAN, NAN),
    (1.0, INF),
]


def curve(values):
    return np.arange(1.0, len(values) + 1), np.array(values)


def test_nan_counts_as_the_worst_value_and_is_counted():
    spread = spread_of([curve(values) for values in WAYS], INF)
    assert spread.epochs.tolist() == [1, 2, 3]
    assert spread.counts.tolist() == [5, 5, 4]
    assert spread.not_finite.tolist() == [0, 2, 1]
    assert spread.low.tolist() == [1.0, 0.5, 0.25]
    assert spread.middle.tolist() == [1.0, 1.0, 1.0]  # of 0.25, 0.5, 1, worst: the third
    assert spread.high.tolist() == [1.0, INF, INF]
    assert spread_of([curve(values) for values in WAYS], -INF).low.tolist() == [1.0, -INF, -INF]


@pytest.mark.parametrize("goal", ["minimize", "maximize"])
def test_the_page_shows_what_the_report_shows(tmp_path, goal):
    trials = [
        SampleTrial({"lr": lr}, seed, way) for lr in (0.1, 0.2) for seed, way in enumerate(WAYS)
    ]
    spec = {"factors": {"lr": [0.1, 0.2]}, "objective": {"signal": "val_loss", "goal": goal}}
    store = write_sample(tmp_path, trials, spec=spec, goal=goal)
    [report] = curve_rows(store, report_values(store, SWEEP)).rows
    client = TestClient(create_app(store), base_url="http://127.0.0.1")
    page = client.get(f"/api/sweeps/{SWEEP}/curves").json()
    assert [panel.title for panel in report.panels] == [arm["arm"] for arm in page["arms"]]
    for panel, arm in zip(report.panels, page["arms"], strict=True):
        [band] = panel.bands
        for part in ("low", "middle", "high"):
            shown = [float(value) for value in arm[part]]
            assert shown == getattr(band.spread, part).tolist()
        assert arm["n"] == [5, 5, 4]
        assert arm["not_finite"] == [0, 2, 1]
    assert page["sql"] == report.sql
    drawn = [line.values.tolist() for panel in report.panels for line in panel.lines]
    lines = [[float(value) for value in line["values"]] for line in page["lines"]]
    assert repr(sorted(map(repr, lines))) == repr(sorted(map(repr, drawn)))


def test_a_trial_that_has_not_ended_is_drawn_from_its_first_row(tmp_path):
    store = write_sample(tmp_path, [SampleTrial({"lr": 0.1}, 0, (1.0, 0.5))])
    config = TrialConfig("open", "toy", {"lr": 0.1}, 1, 20, ())
    start_attempt(store, SWEEP, "open", device="cpu", started_at=1.0, trial=config, arm="lr=0.1")
    client = TestClient(create_app(store), base_url="http://127.0.0.1")
    assert len(client.get(f"/api/sweeps/{SWEEP}/curves").json()["lines"]) == 1
    write_epochs(store, SWEEP, "open", [EpochRecord(1, 0.5, Row(1, 4, {"val_loss": 0.9}))])
    page = client.get(f"/api/sweeps/{SWEEP}/curves?trial=open").json()
    [line] = page["lines"]
    assert (line["arm"], line["seed"], line["values"]) == ("lr=0.1", 1, [0.9])
    assert line["verdict"] == "interrupted"  # there is no driver
    assert page["arms"][0]["n"] == [1]
    assert client.get(f"/api/sweeps/{SWEEP}/running").json() == {"trials": [], "total": 0}
