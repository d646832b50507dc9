"""Effects in reports: every number is what the SQL under the table answers."""

import html
import math
import re

import pytest
from latex_reader import check_latex
from report_samples import SampleTrial, large, small, uneven, write_compared, write_sample

from sickbay.service.analysis.sql import effects_sql
from sickbay.service.analysis.study import load_effects
from sickbay.service.query.engine import query
from sickbay.service.reports.html import render_latex, render_markdown, render_report, report_values
from sickbay.service.summary.formatting import healthy_of, probability, signed

SWEEP = "sample-abc123"


@pytest.fixture(
    scope="module",
    params=[uneven, small, pytest.param(lambda: large(240, 3), marks=pytest.mark.slow)],
    ids=["uneven", "small", "large"],
)
def store(request, tmp_path_factory):
    return write_compared(tmp_path_factory.mktemp("store"), request.param())


def answers(store):
    table = load_effects(store, SWEEP).table
    sql = effects_sql(SWEEP, table, report_values(store, SWEEP).factors)
    return table, [
        dict(zip(query(store, sql).columns, row, strict=True)) for row in query(store, sql).rows
    ]


def same(number, other):
    if other is None or math.isnan(other):
        return math.isnan(number)
    return number == pytest.approx(other, rel=1e-9, abs=1e-12)


def test_the_sql_recomputes_every_number_of_the_effects(store):
    table, rows = answers(store)
    assert len(rows) == len(table.effects) > 2
    for effect, row in zip(table.effects, rows, strict=True):
        assert (row["pairs"], row["sound_pairs"]) == (effect.pairs, effect.sound_pairs)
        assert same(effect.difference.mean, row["difference"])
        assert same(effect.difference.low, row["low"])
        assert same(effect.difference.high, row["high"])
        assert row["better_pairs"] in (effect.ranked_pairs, None)
        assert same(effect.improvement.value, row["better"])
        for side, name in ((effect.of_level, "healthy"), (effect.of_baseline, "baseline")):
            healthy = row["healthy" if name == "healthy" else "baseline_healthy"]
            trials = row["trials" if name == "healthy" else "baseline_trials"]
            assert (healthy or 0, trials or 0) == (side.healthy, side.trials)
            if side.trials:
                assert same(side.low, row[f"{name}_low"])
                assert same(side.high, row[f"{name}_high"])
        if effect.ranked_pairs:
            assert same(effect.improvement.low, row["better_low"])
            assert same(effect.improvement.high, row["better_high"])


def test_the_page_shows_what_the_printed_sql_answers(store):
    page = render_report(store, SWEEP)
    section = re.search(r'<section id="effects">(.*?)</section>', page, re.DOTALL)[1]
    sql = html.unescape(re.search(r"<pre><code>(.*?)</code>", section, re.DOTALL)[1])
    result = query(store, sql)
    cells = [
        [html.unescape(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL)]
        for row in re.findall(r"<tbody>(.*?)</tbody>", section, re.DOTALL)[0].split("<tr>")[1:]
    ]
    assert len(cells) == len(result.rows)
    for shown, values in zip(cells, result.rows, strict=True):
        row = dict(zip(result.columns, values, strict=True))
        assert shown[0] == str(row["nr"])
        assert shown[4] == f"{row['sound_pairs']} of {row['pairs']}"
        assert shown[5].startswith(
            "none" if row["difference"] is None else signed(row["difference"])
        )
        if row["low"] is not None and not math.isnan(row["low"]):
            difference = shown[5].split("<br>")[0]
            assert difference.endswith(f"[{signed(row['low'])}, {signed(row['high'])}]")
        if row["better"] is not None:
            assert (
                shown[7].split("<br>")[0]
                == f"{row['better']:.2f} [{row['better_low']:.2f}, {row['better_high']:.2f}]"
            )
        for cell, healthy, trials, low, high in (
            (shown[8], row["healthy"], row["trials"], row["healthy_low"], row["healthy_high"]),
            (
                shown[9],
                row["baseline_healthy"],
                row["baseline_trials"],
                row["baseline_low"],
                row["baseline_high"],
            ),
        ):
            if trials:
                assert cell == f"{healthy:.0f} of {trials} [{100 * low:.0f}, {100 * high:.0f}] %"


def test_markdown_names_the_pathologies_in_footnotes(store):
    text = render_markdown(store, SWEEP)
    table = load_effects(store, SWEEP).table
    for name in {cause for effect in table.effects for cause in effect.of_level.causes}:
        escaped = name.replace("_", "\\_")
        assert re.search(rf"^\[\^\d+\]: {re.escape(escaped)}$", text, re.MULTILINE)
    assert "Sickbay 0.1.0" in text
    assert "c0de" in text
    for effect in table.effects:
        better, side = effect.improvement, effect.of_level
        written = probability(better.value, better.low, better.high)
        assert written.replace("[", "\\[").replace("]", "\\]") in text
        assert healthy_of(side.healthy, side.trials, 0, 1).split(" [")[0] in text


def test_a_sweep_without_objective_or_factors_says_why(tmp_path):
    trials = [SampleTrial({"lr": 0.1}, seed, (1.0, 0.5)) for seed in (0, 1)]
    one_level = write_compared(tmp_path / "one", trials)
    assert "there is nothing to compare" in render_report(one_level, SWEEP)
    nameless = write_sample(tmp_path / "two", trials)
    page = render_report(nameless, SWEEP)
    assert "does not say which signal" in page
    assert "does not say which signal" in render_markdown(nameless, SWEEP)
    check_latex(render_latex(nameless, SWEEP))
