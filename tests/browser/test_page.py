"""The page in a real Chromium: a sweep is submitted, watched to its end and understood."""

import os
import re
import shutil

import pytest
import toy_sweeps
import yaml
from hostile_text import ESCAPES, LEVELS, LONG, write_hostile
from serving_samples import InlineLauncher, served

from sickbay.service.reports.html import render_report
from sickbay.service.server.tokens import Role, create_token
from sickbay.service.sweeps.runner import Options, run
from sickbay.trials.store import open_store
from sickbay.trials.store.reader import list_sweeps

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
WAIT = 30_000  # milliseconds
SPEC = toy_sweeps.spec(name="seen", factors={"fault": ["none", "nan"], "lr": [0.1, 0.05]}, seeds=2)


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


def near(url):
    return url.startswith(("http://127.0.0.1:", "data:", "blob:", "file:"))


@pytest.fixture
def page(browser):
    """A page that fails the test for any error it meets, and for anything loaded from elsewhere."""
    made = browser.new_page(viewport={"width": 1280, "height": 900})
    made.set_default_timeout(WAIT)
    troubles = []
    made.on("pageerror", lambda error: troubles.append(str(error)))
    made.on("console", lambda m: m.type == "error" and troubles.append(m.text))
    made.on("request", lambda request: near(request.url) or troubles.append(request.url))
    yield made
    made.close()
    refused = ("status of 401", "status of 422")  # Chromium logs what the page handles
    assert [trouble for trouble in troubles if not any(word in trouble for word in refused)] == []


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page") / "store"
    run(SPEC, str(folder), Options(in_process=True))
    return open_store(str(folder))


@pytest.fixture(scope="module")
def url(store):
    with served(store, code_role=Role.SUBMIT) as url:
        yield url


def shot(page, name):
    """Keep a picture of the page where `SICKBAY_SHOTS` names a folder to look at it."""
    if folder := os.environ.get("SICKBAY_SHOTS"):
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


def drawn(page, count=1):
    """Wait until so many charts have something on them."""
    page.wait_for_function(
        """(count) => {
          const canvases = [...document.querySelectorAll("canvas")];
          const inked = canvases.filter((one) => {
            const { width, height } = one;
            if (!width || !height) return false;
            const data = one.getContext("2d").getImageData(0, 0, width, height).data;
            return data.some((value, i) => i % 4 === 3 && value > 0);
          });
          return inked.length >= count;
        }""",
        arg=count,
    )


def test_a_sweep_is_submitted_watched_and_understood(page, tmp_path):
    launcher = InlineLauncher()
    made = open_store(str(tmp_path / "store"))
    with served(made, launcher, code_role=Role.SUBMIT) as url:
        page.goto(url)
        page.get_by_text("No sweep yet").wait_for()
        page.get_by_role("link", name="Submit", exact=True).click()
        box = page.get_by_role("textbox", name="spec")
        box.fill(yaml.safe_dump({**SPEC, "seedz": 3}))
        page.get_by_text("seedz").first.wait_for()
        assert page.get_by_role("button", name="Submit").is_disabled()
        box.fill(yaml.safe_dump({**SPEC, "fixed": {"sleep_ms": 20.0}}))
        page.get_by_text("8 trials, 8 to run").wait_for()
        page.get_by_role("button", name="Submit").click()
        page.get_by_text("finished", exact=True).wait_for(timeout=90_000)
        page.get_by_text("8 of 8 ended").wait_for()
        page.get_by_role("combobox", name="verdict").select_option("pathological")
        page.get_by_text("1 to 4 of 4 trials").wait_for()
        page.locator("tbody a").first.click()
        page.get_by_text("non_finite", exact=True).first.wait_for()
        page.get_by_text("fault nan → none").wait_for()
        drawn(page, 1)
        page.get_by_role("link", name="SQL").click()
        page.get_by_role("textbox", name="SQL").fill(
            "SELECT fault, label, count(*) AS n FROM trials GROUP BY ALL ORDER BY ALL"
        )
        page.get_by_role("button", name="Ask").click()
        page.get_by_role("cell", name="pathological").wait_for()
    launcher.wait()


@pytest.mark.parametrize("tab", ["curves", "health", "effects", "parallel", "causes"])
def test_every_tab_draws(page, url, tab):
    page.goto(f"{url}/#/sweep/seen?tab={tab}")
    drawn(page)
    page.get_by_role("link", name=tab, exact=True).and_(page.locator("[aria-current]")).wait_for()


def test_curves_by_arm_and_another_signal(page, url):
    page.goto(f"{url}/#/sweep/seen?tab=curves")
    drawn(page)
    page.get_by_label("logarithmic").check()
    kind = (
        "() => echarts.getInstanceByDom(document.querySelector('.chart')).getOption().yAxis[0].type"
    )
    assert page.evaluate(kind) == "log"
    page.get_by_label("logarithmic").uncheck()
    assert page.evaluate(kind) == "value"
    page.get_by_label("arms").check()
    page.get_by_label("signal").select_option("train_loss")
    page.wait_for_url("**signal=train_loss&by=arm&log=0")
    drawn(page)
    page.reload()
    page.get_by_text("Medians and the middle 80 %").wait_for()


def test_two_trials_side_by_side(page, url):
    page.goto(f"{url}/#/sweep/seen")
    boxes = page.get_by_role("checkbox")
    boxes.nth(0).check()
    boxes.nth(1).check()
    page.get_by_role("link", name="compare the two").click()
    page.get_by_role("heading", name="Two trials").wait_for()
    drawn(page)


def test_keys_lead_everywhere(page, url):
    page.goto(url)
    page.get_by_role("link", name="seen-").wait_for()
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="seen-").wait_for()
    page.keyboard.press("3")
    page.wait_for_url("**tab=curves")
    page.keyboard.press("g")
    page.keyboard.press("q")
    page.get_by_role("heading", name="SQL").wait_for()
    page.locator("body").click()
    page.get_by_role("heading", name="SQL").click()
    page.keyboard.press("?")
    page.get_by_role("dialog").wait_for()
    page.get_by_role("button", name="Close").click()
    before = page.evaluate("document.documentElement.dataset.theme")
    page.keyboard.press("t")
    assert page.evaluate("document.documentElement.dataset.theme") != before


VIEWS = {
    "sweeps": "#/sweeps",
    **{
        tab: f"#/sweep/seen?tab={tab}"
        for tab in ("trials", "arms", "curves", "health", "effects", "parallel", "causes")
    },
    "trial": "#/sweep/seen/trial/TRIAL",
    "sql": "#/sql?sql=SELECT%201%20AS%20one",
    "submit": "#/submit",
}


def a_trial(page, url, verdict="pathological", sweep="seen"):
    found = page.request.get(f"{url}/api/sweeps/{sweep}/trials?verdict={verdict}").json()
    return found["trials"][0]["trial_id"]


def open_view(page, url, view, sweep="seen"):
    place = VIEWS[view].replace("TRIAL", a_trial(page, url, sweep=sweep))
    page.goto(f"{url}/{place.replace('/seen', f'/{sweep}')}")
    page.get_by_role("heading").first.wait_for()
    page.wait_for_function("() => !document.body.innerText.includes('Loading …')")
    assert page.locator("[role=alert]").all_inner_texts() == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_view_passes_axe_and_needs_no_sideways_scrolling(page, url, theme, width):
    from axe_playwright_python.sync_playwright import Axe

    page.emulate_media(color_scheme=theme)
    page.set_viewport_size({"width": width, "height": 800})
    wrong = []
    for view in VIEWS:
        open_view(page, url, view)
        shot(page, f"{view}-{width}-{theme}")
        found = Axe().run(page).response["violations"]
        wrong += [(view, one["id"], node["html"]) for one in found for node in one["nodes"]]
        if not page.evaluate("document.documentElement.scrollWidth <= innerWidth + 1"):
            wrong.append((view, "scrolls sideways"))
    assert wrong == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_report_passes_axe_and_needs_no_sideways_scrolling(page, store, tmp_path, theme, width):
    from axe_playwright_python.sync_playwright import Axe

    file = tmp_path / "report.html"
    [sweep] = list_sweeps(store)
    file.write_text(render_report(store, sweep.sweep_id))
    page.emulate_media(color_scheme=theme)
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(file.as_uri())
    shot(page, f"report-{width}-{theme}")
    found = Axe().run(page).response["violations"]
    assert [(one["id"], node["html"]) for one in found for node in one["nodes"]] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth + 1")


def test_text_that_looks_like_markup_is_text_on_every_view_and_in_the_report(page, tmp_path):
    """A script in a level would open a dialog; a level of 10 kB would push the page sideways."""
    dialogs = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    made = open_store(str(tmp_path / "store"))
    run(yaml.safe_load(write_hostile(tmp_path).read_text()), made.uri, Options(in_process=True))
    sideways = "document.documentElement.scrollWidth > innerWidth + 1"
    wide = []
    with served(made, code_role=Role.SUBMIT) as url:
        for width in (1280, 390):
            page.set_viewport_size({"width": width, "height": 800})
            for view in VIEWS:
                open_view(page, url, view, "hostile")
                wide += [(view, width)] if page.evaluate(sideways) else []
                shot(page, f"hostile-{view}-{width}")
        open_view(page, url, "trials", "hostile")
        for level in set(LEVELS) - {ESCAPES, LONG}:
            page.get_by_role("cell", name=level, exact=True).first.wait_for()
        assert LONG not in page.locator("table").first.inner_text()
        page.goto(f"{url}/#/sweep/hostile/trial/{a_trial(page, url, 'failed', 'hostile')}")
        page.get_by_text("RuntimeError: no such level: [/INST] [red]x[/INST]").first.wait_for()
        page.goto("about:blank")
    file = tmp_path / "report.html"
    [sweep] = list_sweeps(made)
    file.write_text(render_report(made, sweep.sweep_id))
    page.goto(file.as_uri())
    page.get_by_text("<script>alert(1)</script>").first.wait_for()
    wide += ["report"] if page.evaluate(sideways) else []
    assert (dialogs, wide) == ([], [])


def test_trials_are_sorted_searched_and_their_columns_kept(page, url):
    page.goto(f"{url}/#/sweep/seen")
    page.get_by_role("button", name="objective").click()
    page.get_by_role("button", name="objective").click()
    page.wait_for_url("**sort=objective&desc=1")
    page.locator("th[aria-sort=descending]").wait_for()
    cells = page.locator("tbody tr td:nth-child(7)").all_inner_texts()
    numbers = [float(one) for one in cells if one != "NaN"]
    assert numbers == sorted(numbers, reverse=True)
    assert cells[len(numbers) :] == ["NaN"] * 4
    page.get_by_label("find").fill("non_finite")
    page.get_by_text("1 to 4 of 4 trials").wait_for()
    page.get_by_label("find").fill("")
    page.get_by_text("1 to 8 of 8 trials").wait_for()
    page.get_by_role("combobox", name="pathology").select_option("non_finite")
    page.get_by_text("1 to 4 of 4 trials").wait_for()
    page.get_by_text("columns", exact=True).click()
    page.get_by_label("best_objective").check()
    page.get_by_label("since").uncheck()
    page.get_by_role("button", name="best_objective").wait_for()
    page.reload()
    page.get_by_role("button", name="best_objective").wait_for()
    page.get_by_text("1 to 4 of 4 trials").wait_for()
    assert page.get_by_role("button", name="since").count() == 0


def test_a_trial_says_what_weighed_and_is_seen_in_its_sweep(page, url):
    page.goto(f"{url}/#/sweep/seen/trial/{a_trial(page, url, 'healthy')}")
    page.get_by_text("Evidence:").wait_for()
    assert page.locator(".weighed li b").first.inner_text()[0] in "+−"
    drawn(page)
    page.get_by_label("with the other trials of the sweep").uncheck()
    drawn(page)


def test_the_verdict_of_a_forest_is_on_a_phones_screen(page, url):
    page.set_viewport_size({"width": 390, "height": 800})
    open_view(page, url, "effects")
    head = page.locator("th", has_text="verdict").bounding_box()
    assert head["x"] + head["width"] <= 390


def test_running_trials_are_listed_and_drawn_from_their_first_row(page, tmp_path):
    launcher = InlineLauncher()
    made = open_store(str(tmp_path / "store"))
    spec = {**SPEC, "factors": {}, "seeds": 1, "fixed": {"sleep_ms": 1000.0, "epochs": 60}}
    with served(made, launcher, code_role=Role.SUBMIT) as url:
        sweep = page.request.post(f"{url}/api/sweeps", data=spec).json()["sweep_id"]
        page.goto(f"{url}/#/sweep/{sweep}?tab=curves")
        page.get_by_text("No evaluation has been stored yet").wait_for()
        drawn(page)
        page.get_by_text("1 of 1 trials.").wait_for()
        page.goto(f"{url}/#/sweep/{sweep}")
        page.get_by_role("heading", name="Running now: 1").wait_for()
        page.get_by_role("cell", name=re.compile(r"^[1-9]\d* of 60$")).wait_for()
        page.locator("tbody a").first.click()
        page.get_by_role("heading", name="Curves so far").wait_for()
        drawn(page)
        page.request.post(f"{url}/api/sweeps/{sweep}/cancel")
        page.goto("about:blank")  # which asks for nothing when the service ends
        launcher.wait()


def test_a_token_is_asked_for_and_kept_for_new_tabs_until_its_owner_signs_out(browser, tmp_path):
    made = open_store(str(tmp_path / "store"))
    secret = create_token(made, "me", Role.READ)
    person = browser.new_context()
    person.set_default_timeout(WAIT)
    first = person.new_page()
    first.set_viewport_size({"width": 390, "height": 800})
    with served(made) as url:
        first.goto(url)
        first.get_by_label("access token").fill("sickbay_wrong")
        first.get_by_role("button", name="Sign in").click()
        first.get_by_text("is not accepted").wait_for()
        assert first.evaluate("document.documentElement.scrollWidth <= innerWidth + 1")
        first.get_by_label("access token").fill(secret)
        first.get_by_role("button", name="Sign in").click()
        first.get_by_text("No sweep yet").wait_for()
        second = person.new_page()
        second.goto(url)
        second.get_by_text("No sweep yet").wait_for()
        second.get_by_role("button", name="Sign out").click()
        second.get_by_role("heading", name="Sign in").wait_for()
    person.close()


EVIL = "<img src=x onerror=alert(1)>"
EVIL_TASK = f"""
from dataclasses import replace
from sickbay_demo.task import WORKLOAD as toy


def train(config, context):
    raise ValueError({EVIL!r})
    yield


WORKLOAD = replace(toy, name="evil", train=train)
"""


def test_words_from_the_store_are_never_read_as_html(page, tmp_path, monkeypatch):
    (tmp_path / "evil_task.py").write_text(EVIL_TASK)
    monkeypatch.syspath_prepend(str(tmp_path))
    where = str(tmp_path / "store")
    spec = toy_sweeps.spec(name="evil", workload="evil_task:WORKLOAD", factors={}, seeds=1)
    run(spec, where, Options(in_process=True))
    with served(open_store(where)) as url:
        page.goto(f"{url}/#/sweep/evil")
        page.get_by_text(EVIL).first.wait_for()
        page.locator("tbody a").first.click()
        page.get_by_text(EVIL).first.wait_for()
        assert page.locator("main img").count() == 0
