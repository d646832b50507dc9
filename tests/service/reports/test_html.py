"""The report: complete, honest, self-contained; every number is the answer to the SQL under it."""

import base64
import hashlib
import html
import math
import re
import subprocess
import sys
import time
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from report_samples import SampleTrial, large, small, write_sample

from sickbay.service.query.engine import query
from sickbay.service.query.lookup import SweepError
from sickbay.service.reports.html import render_markdown, render_report, report_values
from sickbay.service.summary.formatting import as_float, number, printable, span
from sickbay.service.sweeps.runner import Options, run
from sickbay.trials.contract import Goal, Health, Objective
from sickbay.trials.store import SweepRecord, open_store, write_sweep

SWEEP = "sample-abc123"
VOID = {"meta", "input", "br", "path", "rect", "circle", "line", "polyline", "polygon"}


class Page(HTMLParser):
    """A page as a test reads it: the tables of each section, its scripts, ids and addresses."""

    def __init__(self, text):
        super().__init__()
        self.open, self.section = [], "top"
        self.rows, self.texts, self.ids, self.addresses, self.scripts = {}, {}, [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        assert not [key for key in values if key.startswith("on")]
        self.ids += [values["id"]] if "id" in values else []
        self.addresses += [values[key] for key in ("src", "href", "action") if key in values]
        if tag == "section":
            self.section = values["id"]
        if tag == "tr":
            self.rows.setdefault(self.section, []).append([])
        if tag in ("td", "th"):
            self.rows[self.section][-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        self.handle_starttag(tag, attrs) if tag in VOID else self.handle_endtag(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if "script" in self.open:
            self.scripts.append(data)
        self.texts[self.section] = self.texts.get(self.section, "") + data
        if {"td", "th"} & set(self.open):
            self.rows[self.section][-1][-1] += data

    def table(self, section, width):
        rows = [[cell.strip() for cell in row] for row in self.rows[section]]
        return [row for row in rows[1:] if len(row) == width]


def sql_of(page, start):
    """The SQL printed in the page that begins like this."""
    printed = re.findall(r"<pre><code>(.*?)</code>", page, re.DOTALL)
    return next(
        statement for statement in map(html.unescape, printed) if statement.startswith(start)
    )


def pictures_of(page):
    return re.findall(r"<figure.*?</figure>", page, re.DOTALL)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_sample(tmp_path_factory.mktemp("store"), small(), planned=12)


@pytest.fixture(scope="module")
def page(store):
    return render_report(store, SWEEP)


def test_the_page_is_sound_and_asks_for_nothing_from_outside(page):
    seen = Page(page)
    assert len(seen.ids) == len(set(seen.ids))
    assert all(address.startswith("#") for address in seen.addresses)
    assert {address[1:] for address in seen.addresses} <= set(seen.ids)
    assert "http://" not in page
    assert "https://" not in page
    assert "@import" not in page
    assert re.findall(r"url\((?!#)", page) == []
    digest = hashlib.sha256("".join(seen.scripts).encode()).digest()
    assert f"script-src &#39;sha256-{base64.b64encode(digest).decode()}&#39;" in page or (
        f"script-src 'sha256-{html.escape(base64.b64encode(digest).decode())}'" in page
    )


def test_the_header_counts_every_trial(page):
    top = Page(page).texts["top"]
    for phrase in ("10 ended, 12 planned", "val_loss, minimize", "0, 1", "finished", "lr"):
        assert phrase in top
    bar = re.search(r'role="img" aria-label="([^"]*)"', page)[1]
    assert bar == "2 healthy, 4 pathological, 1 inconclusive, 2 failed, 1 cancelled, 2 pending"


def test_the_summary_is_the_answer_to_its_sql(store, page):
    shown = {row[0]: row for row in Page(page).table("summary", 7)}
    rows = query(store, sql_of(page, 'SELECT arm, "lr", count(*) FILTER (o.')).rows
    assert len(shown) == len(rows) == 5
    for (
        arm,
        _,
        trials,
        healthy,
        sick,
        _,
        failed,
        cancelled,
        pruned,
        middle,
        lowest,
        highest,
        non_finite,
        *_,
    ) in rows:
        cells = shown[arm]
        assert cells[1] == f"{healthy} of {trials}"
        counts = {"✗": sick, "!": failed, "–": cancelled, "✂": pruned}
        assert all((f"{sign} {n} " in cells[2]) == bool(n) for sign, n in counts.items())
        span_of = f"{number(lowest)} – {number(highest)}" if lowest is not None else ""
        assert cells[4:] == [number(middle), span_of, str(non_finite or "")]
    causes = query(store, sql_of(page, 'SELECT arm, "lr", pathology')).rows
    assert [row[0] for row in causes] == ["lr=0.2", "lr=5.0"]
    for arm, _, cause, n, first, last in causes:
        assert shown[arm][3] == f"{cause} {n} of 2 ({span(first, last)})"


def test_what_to_believe_comes_first_and_the_celebrated_trap_is_marked(store):
    groups = [(arm.arm, arm.group) for arm in report_values(store, SWEEP).arms]
    assert groups == [
        ("lr=0.1", "believe"),
        ("lr=0.2", "trap"),
        ("lr=5.0", "disbelieve"),
        ("lr=0.01", "none"),
        ("lr=7.0", "none"),
    ]
    markup = render_report(store, SWEEP)
    assert re.search(r'<tr class="trap">\s*<td class="text">lr=0.2</td>', markup)
    assert '<figure class="trap"><figcaption>⚠ <b>lr=0.2</b>' in markup


def test_every_trial_is_listed_as_its_sql_answers(store, page):
    found = query(store, sql_of(page, "SELECT trial_id, arm")).records()
    shown = Page(page).table("verdicts", 13)
    assert len(shown) == len(found) == 10
    for row, cells in zip(found, shown, strict=True):
        assert cells[:4] == [row["trial_id"], row["arm"], str(row["seed"]), row["state"]]
        assert cells[4].endswith(row["label"] or row["state"])
        onset = row["onset_epoch"]
        assert cells[5:7] == [row["pathology"] or "", "–" if onset is None else str(onset)]
        assert cells[8:10] == [number(as_float(row[n])) for n in ("objective", "best_objective")]
        ran = f"{row['epochs_run']} / {row['epochs_planned']}"
        assert cells[10:12] == [ran, f"{row['wall_seconds']:.1f}"]


def test_the_other_tables_are_the_answers_to_their_sql(store, page):
    for verdict, n in query(store, sql_of(page, "SELECT coalesce(label, state)")).rows:
        assert f"{n} {verdict}" in Page(page).texts["top"].replace("\n", " ")
    text = " ".join(Page(page).texts["causes"].split())
    for name, trials, arms, first, middle, last in query(
        store, sql_of(page, "SELECT pathology")
    ).rows:
        assert (
            f"{trials} trials of {arms} arm; onset at epoch {span(first, last)}, median {middle:g}"
            in text
        )
        assert name in text
    time_line = sql_of(page, "SELECT f.trial_id, f.detector, f.state, f.severity, f.onset")
    onset_rows = query(store, time_line).rows
    lines = " ".join(row[3] for row in Page(page).table("time-line", 4))
    assert len(onset_rows) == lines.count("@") == 8
    curves = query(store, sql_of(page, "SELECT trial_id, epoch")).rows
    assert len(curves) == 4 * 6 + 1 + 4 + 1


def test_no_trial_is_dropped_and_nan_is_shown_as_nan(page):
    shown = Page(page).table("verdicts", 13)
    assert [row[8] for row in shown].count("NaN") == 2
    failed = [row for row in shown if row[3] == "failed"]
    assert [row[12] for row in failed] == ["RuntimeError: <b>planted</b> & done"] * 2
    assert [row[8] for row in failed] == ["0.9", "–"]


def test_causes_say_what_to_change_and_lead_to_the_rule(page):
    text = Page(page).texts
    assert "Change: Lower the <lr>." in text["causes"]
    assert "“0 of 2 <groups>”" in text["causes"]
    assert "For two epochs in a row: no group changes at all" in text["rules"]
    assert 'href="#rule-no_parameter_update"' in page


def test_a_cause_whose_detector_is_gone_is_still_reported(tmp_path):
    sick = {"label": Health.PATHOLOGICAL, "pathology": "their_alarm", "onset": 1}
    store = write_sample(tmp_path, [SampleTrial({"lr": 1.0}, 0, (0.5, 0.4), **sick)])
    page = render_report(store, SWEEP)
    assert "The detector their_alarm is not installed here" in page
    assert Page(page).texts["rules"].strip() == ""


def test_curves_are_coloured_by_label_and_never_by_colour_alone(page):
    pictures = pictures_of(page)
    sound, trap = (
        next(picture for picture in pictures if f"<b>lr={lr}</b>" in picture) for lr in (0.1, 0.2)
    )
    assert "var(--healthy)" in sound
    assert "var(--pathological)" not in sound
    assert "var(--pathological)" in trap
    assert "var(--healthy)" not in trap
    dashed = re.findall(r'stroke="var\(--pathological\)"[^>]*stroke-dasharray', trap)
    assert len(dashed) == 2  # two seeds
    assert re.search(r'stroke="var\(--healthy\)"', sound)
    assert not re.search(r'stroke="var\(--healthy\)"[^>]*stroke-dasharray', sound)
    assert "<style" not in "".join(pictures)


def test_reference_lines_and_onsets_are_drawn_and_explained(page):
    text = " ".join(Page(page).texts["curves"].split())
    assert "A = the best constant predictor (H0): 1" in text
    assert "B = the <noise> & nothing else: 0.05" in text
    trap = next(
        figure
        for figure in re.findall(r"<figure.*?</figure>", page, re.DOTALL)
        if "lr=0.2" in figure
    )
    letters = re.findall(r"<text[^>]*>([^<]*)</text>", trap)
    assert {"A", "B", "epoch"} <= set(letters)
    marks = re.findall(r'<polygon [^>]*fill="var\(--pathological\)"/>', trap)
    assert len(marks) == 2  # one onset a seed


def test_signals_of_the_causes_are_drawn_beside_the_objective(page):
    titles = re.findall(r"<h3>(\w+)( \(the objective\))?</h3>", page)
    assert titles == [("val_loss", " (the objective)"), ("group_grad_max", "")]
    assert "with the 0 at its foot" in page or "Logarithmic" in page


def test_a_name_that_is_markup_stays_text(tmp_path):
    evil = "</title><script>alert(1)</script>$x^{ \x07 ]]>"
    stranger = SampleTrial(
        {}, 9, (0.5,), "<img src=x onerror=alert(2)>", 1, label=Health.PATHOLOGICAL
    )
    trials = [
        replace(trial, levels={"note": evil}, reason=evil, remedy=evil)
        for trial in [*small()[:4], stranger]
    ]
    store = write_sample(tmp_path, trials)
    page = render_report(store, SWEEP)
    assert page.count("<script") == 1
    assert "<img" not in page
    assert "alert(1)</script>$x^{ \ufffd ]]>" in Page(page).rows["verdicts"][1][1]
    tables = re.sub(r"```.*?```", "", render_markdown(store, SWEEP), flags=re.DOTALL)
    assert "\\<script\\>" in tables
    assert re.findall(r"(?<!\\)<", tables) == []


def test_the_same_store_gives_the_same_bytes(store, page):
    assert render_report(store, SWEEP) == page


def test_a_sweep_without_trials_has_a_page(tmp_path):
    store = open_store(str(tmp_path))
    spec = '{"name":"new","factors":{"lr":[1,2]}}'
    write_sweep(store, SweepRecord("new-1", "new", "toy", "grid", spec, "running", 1.0, None, 4))
    page = render_report(store, "new-1")
    assert "No trial has ended yet" in page
    assert "interrupted" in page
    assert 'aria-label="4 pending"' in page
    assert "No trial" in render_markdown(store, "new-1") or "no trial" in render_markdown(
        store, "new-1"
    )


def test_an_unknown_sweep_is_an_error(store):
    with pytest.raises(SweepError, match="no sweep 'nothing'"):
        render_report(store, "nothing")


def test_the_objective_is_found_in_the_store(tmp_path):
    trials = [
        SampleTrial(
            {"lr": 1.0},
            seed,
            (0.1, 0.9, 0.5 + seed),
            signals={"val_accuracy": (0.1, 0.9, 0.5 + seed)},
        )
        for seed in (0, 1)
    ]
    rising = write_sample(tmp_path / "up", trials, goal="maximize")
    assert report_values(rising, SWEEP).objective == Objective("val_loss", Goal.MAXIMIZE)
    spec = {"factors": {"lr": [1.0]}, "objective": {"signal": "val_accuracy", "goal": "maximize"}}
    named = write_sample(tmp_path / "said", trials, spec=spec, goal="maximize")
    assert report_values(named, SWEEP).objective == Objective("val_accuracy", Goal.MAXIMIZE)


def test_a_real_sweep_as_a_page(tmp_path):
    open_store(str(tmp_path))
    spec = {
        "name": "toy",
        "workload": "sickbay_demo.task:WORKLOAD",
        "design": "one_factor",
        "factors": {"lr": [0.1, 0.0]},
        "seeds": 2,
    }
    result = run(spec, str(tmp_path), Options(in_process=True))
    store = open_store(str(tmp_path))
    groups = {arm.arm: arm.group for arm in report_values(store, result.sweep_id).arms}
    assert groups == {"baseline": "believe", "lr=0.0": "disbelieve"}
    page = render_report(store, result.sweep_id)
    assert "Not one parameter of 2 groups has changed" in page
    markdown = render_markdown(store, result.sweep_id)
    for row in query(store, "SELECT trial_id FROM trials").rows:
        assert row[0] in page
        assert row[0] in markdown


def test_markdown_has_every_trial_and_stays_markdown(store):
    text = render_markdown(store, SWEEP)
    assert all(f"| {number:016x} |" in text for number in range(10))
    assert "RuntimeError: \\<b\\>planted\\</b\\> & done" in text
    assert "⚠ Do not believe, although the objective looks good" in text
    pipes = {line.replace("\\|", "").count("|") for line in text.splitlines() if line[:1] == "|"}
    assert len(pipes) == 4  # arms, causes, trials, fixes: every row has its table's cells


def test_a_report_is_written_without_matplotlib_or_torch(store):
    code = f"""
import sys
from sickbay.service.reports.html import render_report
from sickbay.trials.store import open_store
render_report(open_store({str(store.root)!r}), {SWEEP!r})
print({{"matplotlib", "torch", "ray"}} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_words():
    assert [number(value) for value in (None, math.nan, math.inf, -math.inf, 0.123456, 1e30)] == [
        "–",
        "NaN",
        "∞",
        "−∞",
        "0.1235",
        "1e+30",
    ]
    assert [span(None, None), span(3, 3), span(3, 6)] == ["", "3", "3–6"]
    assert printable("a\x00\ud800b") == "a\ufffd\ufffdb"


@pytest.mark.slow
def test_a_thousand_trials_are_quick_and_small(tmp_path):
    store = write_sample(tmp_path, large())
    began = time.monotonic()
    page = render_report(store, SWEEP)
    assert time.monotonic() - began < 20
    assert len(page.encode()) < 5e6
    assert len(Page(page).table("verdicts", 13)) == 1000
    assert "A panel is a level of a factor" in page
    assert "areas 10 % to 90 %" in page
