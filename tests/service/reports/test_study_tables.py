"""Interactions, importance and fixes on a page: their counts are what their SQL answers."""

import html
import itertools
import re

import pytest
from report_samples import SampleTrial, write_compared

from sickbay.service.analysis.study import EffectOptions
from sickbay.service.charts.draw_forest import forest
from sickbay.service.charts.drawing import Text
from sickbay.service.query.engine import query
from sickbay.service.reports import tables as report_study
from sickbay.service.reports.html import (
    effects_asked_for,
    render_latex,
    render_markdown,
    render_report,
    report_data,
    report_values,
)
from sickbay.service.reports.tables import fixes_table, study_section, sweep_study
from sickbay.service.reports.trial_tables import causes_table
from sickbay.service.summary.formatting import signed
from sickbay.trials.contract import Health

SWEEP = "sample-abc123"


def together():
    """Two factors that are well alone and, in the last levels, better or ill only together."""
    trials = []
    for a, b, seed in itertools.product((1, 2, 3), ("x", "y"), range(6)):
        noise = 0.01 * (seed * (a + 2 * (b == "y")) % 7)
        value = 1.0 + 0.1 * a + 0.2 * (b == "y") + (a == 2 and b == "y") * 0.7 + noise
        ill = a == 3 and b == "y"
        kind = {"label": Health.PATHOLOGICAL, "pathology": "no_skill", "onset": 2} if ill else {}
        trials.append(SampleTrial({"a": a, "b": b}, seed, (2.0, value), **kind))
    return trials


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_compared(tmp_path_factory.mktemp("store"), together())


@pytest.fixture(scope="module")
def values(store):
    return report_values(store, SWEEP)


def test_interactions_are_what_their_sql_answers(store, values):
    study, _ = sweep_study(store, values)
    section = study_section(study)
    assert section.unknown == 1  # ill together
    rows = {row[1::2][:2]: row[4:] for row in query(store, study.sql["interactions"]).rows}
    [row] = section.interactions.rows
    interaction = dict(zip(section.interactions.columns, row, strict=True))
    assert (interaction["first"], interaction["second"]) == ("a: 1 → 2", "b: x → y")
    assert interaction["verdict"] == "× interacts"
    quads, sound, difference = rows["2", "y"]
    assert interaction["all four healthy"] == f"{sound:.0f} of {quads:.0f}"
    assert interaction["difference of differences [95 %]"].startswith(f"{signed(difference, 3)} [")


def test_comparisons_asked_for_are_in_the_data_and_in_a_forest_of_their_own(store):
    asked = EffectOptions(within=("b",), all_pairs=True)
    [more] = effects_asked_for(store, SWEEP, asked)
    strata = [
        effect["stratum"]
        for effect in report_data(store, SWEEP, asked)["effects_asked_for"][0]["effects"]
    ]
    assert strata == [{"b": "x"}] * 3 + [{"b": "y"}] * 3
    heads = [
        mark.text
        for mark in forest(more.table, "val_loss").marks
        if isinstance(mark, Text) and mark.bold
    ]
    assert heads == ["a where b=x"] * 2 + ["a where b=y"] * 2  # compared with 1, and with 2
    assert report_data(store, SWEEP)["effects_asked_for"] == []


def test_causes_are_a_table_in_html_and_markdown(store, values):
    [row] = causes_table(values).rows
    assert row[:4] == ("no_skill", "6", "1", "2")
    assert "| no\\_skill | 6 | 1 | 2 |" in render_markdown(store, SWEEP)
    assert '<td class="num">6</td><td class="num">1</td><td class="num">2</td>' in render_report(
        store, SWEEP
    )


def test_importance_names_how_many_trials_went_into_it(store, values):
    study, _ = sweep_study(store, values)
    table = study_section(study).importance
    assert table.columns[-3:] == ("a", "b", "pairs, rest")
    for target, trials, *_ in table.rows:
        [row] = query(store, table.sql[f"importance {target}"]).rows
        counts = f"{row[0]:.0f}" if target == "objective" else f"{row[1]:.0f} of {row[0]:.0f}"
        assert trials == counts
    assert [row[0] for row in table.rows] == ["objective", "pathological", "no_skill"]


def test_the_smallest_fixes_are_on_the_page(store, values):
    table = fixes_table(store, values)
    [(_, _, changes, counts)] = table.rows
    assert changes.split("\n")[:3] == ["a 3 -> 1", "a 3 -> 2", "b y -> x"]
    assert set(counts.split("\n")) == {"6 of 6"}
    [sql] = table.sql.values()
    assert len(query(store, sql).rows) >= 3
    page = render_report(store, SWEEP)
    section = re.search(r'<section id="causes">(.*?)</section>', page, re.DOTALL)[1]
    text = html.unescape(re.sub(r"<[^>]*>", " ", section))
    assert "b y -> x" in text
    for paper in (render_markdown(store, SWEEP), render_latex(store, SWEEP)):
        assert "The smallest changes" in paper or "the smallest changes" in paper


def test_too_many_pathological_configurations_are_reported(store, values, monkeypatch):
    monkeypatch.setattr(report_study, "_MOST_COMPARISONS", 1)
    table = fixes_table(store, values)
    assert table.rows == ()
    assert "`sickbay explain TRIAL`" in table.notes[0]


def test_few_trials_have_no_importance(store, values, monkeypatch):
    monkeypatch.setattr(report_study, "FEWEST_WEIGHED", 1000)
    section = study_section(sweep_study(store, values)[0])
    assert section.importance is None
    assert "sickbay effects SWEEP --importance" in section.importance_note
