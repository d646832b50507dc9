"""The page in a real Chromium: a sweep is submitted, watched to its end and understood."""

import shutil

import pytest
import toy_sweeps
import yaml
from serving_samples import InlineLauncher, served

from sickbay.service.server.tokens import Role, create_token
from sickbay.service.sweeps.runner import Options, run
from sickbay.trials.store import open_store

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
    return url.startswith(("http://127.0.0.1:", "data:", "blob:"))


@pytest.fixture
def page(browser):
    """A page that fails the test for any error it meets, and for anything loaded from elsewhere."""
    made = browser.new_page(viewport={"width": 1280, "height": 900})
    made.set_default_timeout(WAIT)
    troubles = []
    made.on("pageerror", lambda error: troubles.append(str(error)))
    made.on("console", lambda m: m.type == "error" and troubles.append(m.text))
    made.on("request", lambda one: near(one.url) or troubles.append(one.url))
    yield made
    made.close()
    refused = ("status of 401", "status of 422")  # Chromium logs what the page handles
    assert [one for one in troubles if not any(word in one for word in refused)] == []


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page") / "store"
    run(SPEC, str(folder), Options(in_process=True))
    return open_store(str(folder))


@pytest.fixture(scope="module")
def url(store):
    with served(store, code_role=Role.SUBMIT) as url:
        yield url


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
        page.get_by_label("label", exact=True).select_option("pathological")
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
    page.get_by_label("arms").check()
    page.get_by_label("signal").select_option("train_loss")
    page.wait_for_url("**signal=train_loss&by=arm")
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
    page.keyboard.press("2")
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


def test_a_phone_needs_no_sideways_scrolling(page, url):
    page.set_viewport_size({"width": 390, "height": 800})
    for view in ("#/sweeps", "#/sweep/seen", "#/sweep/seen?tab=curves", "#/submit"):
        page.goto(f"{url}/{view}")
        page.get_by_role("heading").first.wait_for()
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth + 1"), view


def test_a_token_is_asked_for_and_kept_for_the_session(page, tmp_path):
    made = open_store(str(tmp_path / "store"))
    secret = create_token(made, "me", Role.READ)
    with served(made) as url:
        page.goto(url)
        page.get_by_label("token").fill(secret)
        page.get_by_role("button", name="Enter").click()
        page.get_by_text("No sweep yet").wait_for()
        page.reload()
        page.get_by_text("No sweep yet").wait_for()


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
