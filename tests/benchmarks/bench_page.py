"""First paint of a sweep of 10,000 trials: `python tests/benchmarks/bench_page.py [TRIALS]`.

Every tab is opened in a fresh Chromium context (nothing cached in the browser), twice: `cold` is
the first time that the service is asked for it, `warm` the second. Seconds from the navigation to
what a user can read: the tab's rows, or ink on its charts. First contentful paint is the browser's
own figure. Exit code 1 if a tab's first paint, or the trials' rows, take longer than the limit;
give it a quiet machine. Without Chromium it says so and measures nothing.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "support")]

from bench_report import RUN, SWEEP, write_large  # noqa: E402
from figures import Figure, tell  # noqa: E402

from sickbay.service.client import Client  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
TABS = ("trials", "curves", "health", "effects", "parallel", "causes")
LIMIT = 2.0  # seconds to the first paint of a sweep's page
INKED = """() => [...document.querySelectorAll("canvas")].some((one) => {
  const { width, height } = one;
  if (!width || !height) return false;
  const { data } = one.getContext("2d").getImageData(0, 0, width, height);
  return data.some((value, i) => i % 4 === 3 && value > 0);
})"""
PAINT = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime"


def opened(browser, url: str, tab: str) -> dict[str, float]:
    """Open a tab in a context of its own; give its seconds to the first paint and to its data."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(60_000)
    began = time.perf_counter()
    page.goto(f"{url}/#/sweep/{SWEEP}?tab={tab}")
    if tab == "trials":
        page.locator("tbody tr").first.wait_for()
    else:
        page.wait_for_function(INKED)
    data = time.perf_counter() - began
    paint = page.evaluate(PAINT) / 1000
    context.close()
    return {"paint": round(paint, 2), "data": round(data, 2)}


def main() -> int:
    """Serve a large store, open every tab, print, and compare with the limit."""
    if CHROMIUM is None:
        print("no Chromium is installed: nothing was measured")
        return 0
    from playwright.sync_api import sync_playwright

    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as folder, socket.socket() as listener:
        store = str(write_large(Path(folder), trials).root)
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        listener.close()
        command = [sys.executable, "-c", RUN, "serve", "--store", store, "--port", str(port)]
        server = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=dict(os.environ))
        try:
            url = f"http://127.0.0.1:{port}"
            answering(url)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path=CHROMIUM, args=["--no-sandbox"]
                )
                timings = {
                    tab: {name: opened(browser, url, tab) for name in ("cold", "warm")}
                    for tab in TABS
                }
                browser.close()
        finally:
            server.terminate()
            server.wait()
    print(json.dumps(timings, indent=1))
    first = max(timing["cold"]["paint"] for timing in timings.values())
    rows = timings["trials"]["cold"]["data"]
    return tell(
        [
            Figure(f"first paint of the slowest tab of {trials:,} trials", first, "s", LIMIT),
            Figure(f"rows of the table of {trials:,} trials", rows, "s", LIMIT),
        ]
    )


def answering(url: str) -> None:
    """Wait until the service answers."""
    for _ in range(300):
        try:
            Client(url).sweeps()
        except ConnectionError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError("the service did not come up")


if __name__ == "__main__":
    sys.exit(main())
