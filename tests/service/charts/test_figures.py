"""Pictures: their numbers are the store's, their bytes repeat, and their words can be read."""

import hashlib
import itertools
import math
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text as FigureText
from report_samples import SampleTrial, large, small, write_sample

from sickbay.service.charts.axes import FEW_BINS, axis_of, telling_axes
from sickbay.service.charts.curves import curve_rows
from sickbay.service.charts.draw_curves import curves
from sickbay.service.charts.draw_forest import forest
from sickbay.service.charts.draw_health import flow, health_map
from sickbay.service.charts.draw_parallel import parallel
from sickbay.service.charts.drawing import Box, Scale, Text, inside, short, ticks
from sickbay.service.charts.figure_files import as_figure
from sickbay.service.charts.figures import wide_pictures, write_figures
from sickbay.service.charts.frame import effect_span
from sickbay.service.charts.health import flows, health_maps
from sickbay.service.charts.svg import as_svg
from sickbay.service.formats import FigureFormat
from sickbay.service.query.engine import query
from sickbay.service.reports.html import report_values, sweep_effects
from sickbay.service.summary.values import sample
from sickbay.trials.contract import Health

SWEEP = "sample-abc123"
OBJECTIVE = {"signal": "val_loss", "goal": "minimize"}
LONG = ["the same long beginning of a level, first", "the same long beginning of a level, second"]


def long_names():
    """Two factors of long levels, a quarter of the trials ill, and one enormous objective."""
    trials = []
    for number, (a, b, seed) in enumerate(
        itertools.product(LONG, ["$x_1^{2}$", "ü & <b>"], range(3))
    ):
        ill = number % 4 == 1
        kind = {"label": Health.PATHOLOGICAL, "pathology": "no_skill", "onset": 2} if ill else {}
        last = 1e30 if number == 1 else 0.1 + 0.01 * seed + 0.02 * (a == LONG[1])
        trials.append(SampleTrial({"first": a, "second": b}, seed, (0.9, 0.5, last), **kind))
    return trials


def spec_of(trials):
    factors = {}
    for trial in trials:
        for name, level in trial.levels.items():
            factors.setdefault(name, {})[level] = None
    return {"factors": {k: list(v) for k, v in factors.items()}, "objective": OBJECTIVE}


def stored(folder, trials):
    store = write_sample(folder, trials, spec=spec_of(trials))
    values = report_values(store, SWEEP)
    return store, values, sweep_effects(store, SWEEP)[0]


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    return stored(tmp_path_factory.mktemp("many"), large(240, 6))


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    return stored(tmp_path_factory.mktemp("long"), long_names())


def pictures(charted):
    store, values, effects = charted
    data = curve_rows(store, values)
    yield from (
        picture.draw()
        for some in wide_pictures(store, values, effects).values()
        for picture in some
    )
    yield from (curves(row) for row in (*data.rows, data.by_seed))


def assert_readable(drawing):
    """No words are cut off, and no two lie over one another by more than a hair."""
    figure = as_figure(drawing)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [
        (artist.get_text(), artist.get_window_extent(canvas.get_renderer()))
        for artist in figure.findobj(FigureText)
        if artist.get_text() and artist.get_visible() and artist.get_rotation() in (0, 90)
    ]
    width, height = canvas.get_width_height()
    for text, box in boxes:
        assert box.x0 > -2, text
        assert box.x1 < width + 2, text
        assert box.y0 > -2, text
        assert box.y1 < height + 2, text
    for (label, a), (other, b) in itertools.combinations(boxes, 2):
        wide = min(a.x1, b.x1) - max(a.x0, b.x0)
        high = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert wide < 2 or high < 2.5, (label, other)


@pytest.mark.parametrize("which", [pytest.param("many", marks=pytest.mark.slow), "long"])
def test_words_of_pictures_are_whole_and_apart(which, request):
    drawn = list(pictures(request.getfixturevalue(which)))
    assert len(drawn) >= 7
    for drawing in drawn:
        assert_readable(drawing)
        svg = ET.fromstring(as_svg(drawing))
        assert {mark.text for mark in drawing.marks if isinstance(mark, Text)} == {
            element.text for element in svg.iter("text")
        }


@pytest.mark.slow
def test_every_picture_is_written_in_every_format_and_its_bytes_repeat(long, tmp_path):
    store, values, effects = long
    names = None
    for style in FigureFormat:
        paths = write_figures(store, values, (effects, effects), tmp_path / "one", style)
        again = write_figures(store, values, (effects, effects), tmp_path / "two", style)
        assert [hashlib.sha256(file.read_bytes()).digest() for file in paths] == [
            hashlib.sha256(file.read_bytes()).digest() for file in again
        ]
        head = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[style]
        assert all(file.read_bytes().startswith(head) for file in paths)
        assert names in (None, [file.stem for file in paths])
        names = [file.stem for file in paths]
    assert {
        "forest",
        "forest-asked-for",
        "parallel-coordinates",
        "seeds",
        "curves-val_loss",
    } <= set(names)
    assert {"health-map-first-second", "cause-flow-first", "cause-flow-second"} <= set(names)
    for path in (tmp_path / "one").glob("*.svg"):
        ET.fromstring(path.read_text())


def test_a_health_map_counts_what_the_store_has(many):
    store, values, _ = many
    maps = health_maps(store, values)
    assert [pair_map.title for pair_map in maps] == ["f1 × f3", "f1 × f4", "f3 × f4"] or len(
        maps
    ) == 3
    for pair_map in maps:
        a, b = (values.factors.index(axis.factor) for axis in (pair_map.x, pair_map.y))
        expected = {}
        for trial in values.trials:
            place = pair_map.x.find(trial.key[1 + a]), pair_map.y.find(trial.key[1 + b])
            healthy, trials = expected.get(place, (0, 0))
            expected[place] = healthy + (trial.label == "healthy"), trials + 1
        assert pair_map.cells == expected
        assert [tuple(row[2:]) for row in query(store, pair_map.sql).rows] == [
            expected[place] for place in _in_sql_order(store, pair_map)
        ]


def _in_sql_order(store, pair_map):
    return [
        (pair_map.x.place(a), pair_map.y.place(b)) for a, b, *_ in query(store, pair_map.sql).rows
    ]


def test_a_cause_flow_has_every_trial_once(tmp_path):
    store, values, _ = stored(tmp_path, small())
    [level_flow] = flows(store, values)
    assert sum(level_flow.counts.values()) == len(values.trials)
    assert level_flow.outcomes[0] == "healthy"
    assert set(level_flow.outcomes) == {
        "healthy",
        "no_parameter_update",
        "non_finite",
        "inconclusive",
        "failed",
        "cancelled",
    }
    assert_readable(flow(level_flow))


def test_ranges_are_binned_as_their_sql_bins_them_and_have_a_frontier(tmp_path):
    rng = np.random.default_rng(4)
    sampled = []
    for seed in range(60):
        lr, width = float(10 ** rng.uniform(-5, -1)), float(rng.uniform(0, 3))
        ill = lr > 1e-3
        kind = {"label": Health.PATHOLOGICAL, "pathology": "divergence"} if ill else {}
        sampled.append(SampleTrial({"lr": lr, "width": width}, seed, (1.0, 0.5), **kind))
    ranges = {"lr": {"low": 1e-5, "high": 0.1, "log": True}, "width": {"low": 0.0, "high": 3.0}}
    store = write_sample(tmp_path, sampled, spec={"factors": ranges, "objective": OBJECTIVE})
    values = report_values(store, SWEEP)
    lr, width = axis_of(values, "lr"), axis_of(values, "width")
    assert (lr.log, width.log) == (True, False)
    assert (lr.edges[0], width.edges[-1]) == (pytest.approx(1e-5), 3.0)
    assert len(lr.names) == len(width.names) == FEW_BINS
    [pair_map] = health_maps(store, values)
    assert sum(trials for _, trials in pair_map.cells.values()) == 60
    for (x, _), (healthy, trials) in pair_map.cells.items():
        assert x == 3 or healthy == (trials if x < 4 else 0)  # four bins up to 1e-3
    middle = pair_map.frontier.probability[:, 32]
    crossing = pair_map.frontier.axes[0][int(np.argmax(middle > 0.5))]
    assert 3e-4 < crossing < 3e-3
    assert_readable(health_map(pair_map))
    assert_readable(parallel(values))


def test_factors_that_differ_most_in_health_come_first(many):
    _, values, _ = many
    first, *_ = telling_axes(values, 4)
    sizes = [(axis.factor, len(axis.names)) for axis in telling_axes(values, 9)]
    assert first.factor in {name for name, _ in sizes}
    assert dict(sizes) == {"f1": 5, "f2": 2, "f3": 4, "f4": 2}


def test_one_factor_is_mapped_over_the_seeds(tmp_path):
    store, values, _ = stored(tmp_path, small())
    [pair_map] = health_maps(store, values)
    assert (pair_map.x.factor, pair_map.y.factor) == ("seed", "lr")
    assert pair_map.cells[0, pair_map.y.place(0.1)] == (1, 1)
    assert pair_map.cells[0, pair_map.y.place(5.0)] == (0, 1)
    assert (1, pair_map.y.place(0.01)) not in pair_map.cells  # cancelled


def test_levels_stand_in_the_order_of_the_spec(long):
    _, values, _ = long
    assert list(axis_of(values, "first").names) == LONG
    assert axis_of(values, "second").names[0] == "$x_1^{2}$"


def test_an_enormous_difference_does_not_squeeze_the_others(tmp_path):
    trials = []
    for seed, (lr, last) in itertools.product(
        range(3), zip((1, 2, 3, 4), (0, 1, 2, 1e30), strict=True)
    ):
        trials.append(SampleTrial({"lr": lr}, seed, (3.0, last + 0.1 * seed)))
    _, _, effects = stored(tmp_path, trials)
    drawing = forest(effects.table, "val_loss")
    low, high = effect_span(effects.table.effects)
    assert -1 < low < high < 1000
    assert_readable(drawing)


def test_the_forest_says_of_a_level_what_the_table_says(tmp_path):
    ill = {"label": Health.PATHOLOGICAL, "pathology": "no_skill", "onset": 2}
    kinds = {"ill": ill, "well": {}}
    trials = [
        SampleTrial({"lr": lr}, seed, (3.0, mean + 0.01 * (seed * lr % 5)), **kinds[kind(seed)])
        for lr, mean, kind in (
            (1, 2.0, lambda seed: "well"),
            (2, 1.0, lambda seed: "ill"),
            (3, 1.0, lambda seed: "ill" if seed < 2 else "well"),
        )
        for seed in range(7)
    ]
    _, _, effects = stored(tmp_path, trials)
    drawing = forest(effects.table, "val_loss")
    words = {mark.text for mark in drawing.marks if isinstance(mark, Text)}
    assert {"broken", "better", "but less healthy"} <= words
    assert_readable(drawing)


def test_a_sample_keeps_every_cause(many):
    _, values, _ = many
    chosen = sample(values.trials, 30)
    assert 28 <= len(chosen) <= 34
    assert {line.pathology for line in chosen} == {line.pathology for line in values.trials}
    assert chosen == sample(values.trials, 30)
    assert sample(values.trials, 1000) == values.trials


def test_short():
    assert short("abc", 5) == "abc"
    assert short("abcdefgh", 5) == "ab…gh"
    assert short("a\nb  c\x07", 9) == "a b c\ufffd"


def test_a_line_is_cut_where_it_leaves_its_box():
    box = Box(0, 0, 9, 10)
    xs = np.arange(6.0)
    assert inside(xs, np.array([1.0, 2, 3, 4, 5, 6]), box) == [
        [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6)]
    ]
    # up through the top at x = 0.5, back at x = 1.5; NaN breaks it; outside from x = 4.5 on
    ys = np.array([5.0, -5.0, 5.0, np.nan, 5.0, 15.0])
    assert inside(xs, ys, box) == [[(0, 5), (0.5, 0)], [(1.5, 0), (2, 5)], [(4, 5), (4.5, 10)]]
    assert inside(xs[:2], np.array([-1.0, 11.0]), box) == [[(1 / 12, 0), (11 / 12, 10)]]
    assert inside(xs[:2], np.array([-1.0, -1.0]), box) == []


def test_scales_and_ticks():
    linear, log = Scale(1.0, 3.0, 100.0, 0.0), Scale(0.01, 100.0, 0.0, 40.0, log=True)
    assert [linear.at(value) for value in (1, 2, 3)] == [100, 50, 0]
    assert [log.at(value) for value in (0.01, 1, 10)] == pytest.approx([0, 20, 30])
    assert math.isfinite(linear.at(1e308))
    assert math.isnan(linear.at(math.nan))
    assert ticks(0.0, 1.0) == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert ticks(0.6, 20.4, whole=True) == [5, 10, 15, 20]
    assert ticks(0.6, 2.4, whole=True) == [1, 2]
    assert ticks(2.0, 2.0) == [2.0]
