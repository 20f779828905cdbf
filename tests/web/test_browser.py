"""The pages as a person has them, in a real browser: Chromium, without a screen. Skipped, with the reason, where there is none.

One browser and one server for the module. Pictures of all pages are left in build/screens/.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.described_jobs import describe
from tests.rig import Rig, wait_until
from tests.web.viewing import Viewed, viewed

webdriver = pytest.importorskip("selenium.webdriver")
CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("browser"),
    pytest.mark.skipif(
        CHROMIUM is None or DRIVER is None, reason="needs chromium and chromium-driver (make packages-web)"
    ),
]
SCREENS = Path(__file__).parents[2] / "build" / "screens"
AXE = Path(__file__).with_name("axe.min.js")
WIDTHS = ((360, 780), (1280, 800), (1920, 1080))
ODD = "<script>document.title='broken'.0"
# What a page may not have, as the browser tells it.
_WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective));
"""


class Browser:
    """A browser that was let in, and the jar that it looks at."""

    def __init__(self, driver: Any, view: Viewed, rig: Rig) -> None:
        self.driver, self.view, self.rig = driver, view, rig
        self.base = view.address.partition("/?")[0]

    def go(self, path: str) -> None:
        self.driver.get(self.base + path)

    def text(self, css: str) -> str:
        return str(self.run("return document.querySelector(arguments[0])?.textContent.trim() ?? ''", css))

    def texts(self, css: str) -> list[str]:
        found: list[str] = self.run(
            "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent.trim())", css
        )
        return found

    def run(self, script: str, *words: object) -> Any:
        return self.driver.execute_script(script, *words)

    def resize(self, width: int, height: int, is_dark: bool = False) -> None:
        colours = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [colours]})
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def find_barriers(self, options: dict[str, Any]) -> list[dict[str, Any]]:
        """What axe, which the page has by now, calls serious."""
        found = self.driver.execute_async_script("axe.run(arguments[0]).then(arguments[1])", options)
        return [each for each in found["violations"] if each["impact"] in ("serious", "critical")]

    def assert_clean(self) -> None:
        """No error on the console, and nothing that the policy had to forbid."""
        said = [each for each in self.driver.get_log("browser") if each["level"] in ("SEVERE", "WARNING")]
        assert said == [] and self.run("return window.violations") == []


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    rig = Rig(tmp_path_factory.mktemp("browser") / "jar")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    profile = tmp_path_factory.mktemp("profile")
    for word in ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    try:
        fill(rig)
        with viewed(rig) as view:
            service = webdriver.ChromeService(
                executable_path=DRIVER, env={"PATH": "/usr/bin:/bin", "HOME": str(profile)}
            )
            driver = webdriver.Chrome(options=options, service=service)
            try:
                driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": _WATCH})
                driver.get(view.address)
                yield Browser(driver, view, rig)
            finally:
                driver.quit()
    finally:
        rig.end_everything()


def fill(rig: Rig) -> None:
    """A jar as people have it: jobs that ended in several ways, an array, a batch with variables, some that wait."""
    rig.drop(ODD, "#!/bin/sh\nprintf '\\033[31mred\\033[0m <b>bold</b>\\n'\n")
    for number in range(12):
        rig.submit("--id", f"step-{number}", "-c", "" if number % 3 else "LINUX", "true")
    for number in range(4):
        rig.submit("--id", f"bad-{number}", "sh", "-c", f"'echo no such file: part {number}; exit 3'")
    rig.run("jobjar", "submit", "--array", "1-600", "sh", "-c", "test $((JJ_ARRAY_INDEX % 97)) != 0")
    for seed in range(12):
        told = f"printf 'loss = %s\\nwork_done = %s\\n' 0.{99 - seed * 7:02} {seed} > jug_monitor.vars"
        describe(rig, f"train-{seed}", batch="training", seed=seed, run_command=told)
    rig.run_until_idle("LINUX")
    rig.run("workload_limit", "GPU", "2")
    for number in range(5):
        rig.submit("--id", f"waits-{number}", "-c", "GPU", "true")


def pages_of(browser: Browser) -> dict[str, str]:
    """The address of each kind of page."""
    pages = {"overview": "/", "week": "/?span=week", "jobs": "/jobs", "arrays": "/arrays", "batches": "/batches"}
    pages |= {"workers": "/workers", "failures": "/failures", "batch": "/batch?name=training", "error": "/job?id=nix"}
    for name, path, css in (("job", "/jobs?outcome=failed", "td.name a"), ("array", "/arrays", "h2 a")):
        browser.go(path)
        pages[name] = browser.run("return document.querySelector(arguments[0]).getAttribute('href')", css)
    pages["task"] = pages["array"].replace("/array", "/task") + "&number=97"
    return pages


def test_each_page_is_readable_by_all_at_every_width_and_has_its_picture(browser: Browser) -> None:
    SCREENS.mkdir(parents=True, exist_ok=True)
    axe = AXE.read_text()
    pages = pages_of(browser)
    browser.driver.get_log("browser")
    for name, path in pages.items():
        browser.resize(*WIDTHS[0])
        browser.go(path)
        for width, height in WIDTHS:
            is_dark = width == 1920
            browser.resize(width, height, is_dark)
            wide = browser.run("return document.documentElement.scrollWidth")
            assert wide <= width, f"{name} is {wide} wide at {width}"
            tall = min(2400, max(height, browser.run("return document.documentElement.scrollHeight")))
            browser.resize(width, tall, is_dark)
            browser.driver.save_screenshot(str(SCREENS / f"{name}-{width}.png"))
        # It is dark now; the rest of what is to be found is the same by day.
        browser.run(axe)
        bad = browser.find_barriers({"runOnly": ["color-contrast"]})
        browser.resize(*WIDTHS[1])
        bad += browser.find_barriers({})
        assert bad == [], f"{name}: {json.dumps(bad, indent=1)[:3000]}"
        if name != "error":
            browser.assert_clean()
        browser.driver.get_log("browser")


def test_the_charts_are_the_ledger_s_and_filters_filter(browser: Browser) -> None:
    browser.go("/")
    status = browser.rig.status()
    ended = {row["outcome"]: row["last_hour"] for row in status["outcomes"]}
    for outcome in ("succeeded", "failed"):
        assert browser.text(f"#throughput [data-sum={outcome}]") == f"{ended[outcome]:,}"
    assert browser.text("#counts [data-count=waiting]") == "5" == browser.text("#depth [data-sum=waiting]")
    # A bar's height is its share of the round number at the top.
    heights = browser.run(
        "return [...document.querySelectorAll('#failures rect.failed')].map(e => +e.getAttribute('height'))"
    )
    top = float(browser.text("#failures .top").replace(",", ""))
    assert sum(heights) / 240 * top == pytest.approx(ended["failed"], rel=0.02)
    browser.go("/batch?name=training&variable=loss")
    points = browser.run("return document.querySelectorAll('#variable-1 .point').length")
    assert points == 12 and browser.text("#variable-1 .top") == "0.99" and browser.text("#variable-1 .low") == "0.22"
    assert "66 by 12 jobs" in str(browser.run("return document.querySelector('#work svg').getAttribute('aria-label')"))
    browser.go("/jobs")
    browser.run(
        "document.querySelector('#outcome').value = 'failed'; document.querySelector('form.filters').requestSubmit()"
    )
    wait_until(lambda: "outcome=failed" in browser.driver.current_url, "the filtered page")
    rows = browser.texts("#list td.name a")
    assert sorted(rows) == [f"bad-{number}" for number in range(4)]
    browser.go("/jobs?search=step-1&category=-")
    assert sorted(browser.texts("#list td.name a")) == ["step-1", "step-10", "step-11"]
    browser.go("/jobs?order=oldest&state=waiting")
    # Names of one second are in the order of their ids.
    assert sorted(browser.texts("#list td.name a")) == [f"waits-{number}" for number in range(5)]
    browser.assert_clean()


def test_what_a_job_is_called_and_writes_stays_text_and_the_keyboard_leads_everywhere(browser: Browser) -> None:
    browser.go("/jobs?search=script")
    assert browser.texts("#list td.name a") == [ODD] and "Jobs" in browser.driver.title
    browser.run("document.querySelector('#list td.name a').focus()")
    keys = webdriver.Keys
    browser.driver.switch_to.active_element.send_keys(keys.ENTER)
    wait_until(lambda: "/job?" in browser.driver.current_url, "the job's page")
    assert browser.text("#output").startswith("\\x1b[31mred\\x1b[0m <b>bold</b>")
    assert browser.run("return document.querySelector('#output').children.length") == 0
    assert browser.driver.title != "broken"
    browser.go("/")
    browser.driver.switch_to.active_element.send_keys(keys.TAB)
    assert browser.run("return document.activeElement.className") == "skip"
    names = []
    for _ in range(8):
        browser.driver.switch_to.active_element.send_keys(keys.TAB)
        names.append(browser.run("return document.activeElement.textContent.trim() || document.activeElement.id"))
    assert names == ["Job Jar", "Overview", "Jobs", "Arrays", "Batches", "Workers", "Failures", "find"]
    browser.driver.switch_to.active_element.send_keys("bad-2", keys.ENTER)
    wait_until(lambda: "search=bad-2" in browser.driver.current_url, "the search")
    assert browser.texts("#list td.name a") == ["bad-2"]
    browser.assert_clean()


def test_numbers_and_output_change_while_jobs_run_and_also_where_events_are_cut_off(browser: Browser) -> None:
    browser.go("/")
    wait_until(lambda: browser.text("#live") == "live", "the page to listen")
    browser.run("window.same = document.querySelector('main')")
    go_on = browser.rig.home.parent / "go-on"
    name = browser.rig.submit(
        "--id", "talks", "sh", "-c", f"'echo begun; until test -e {go_on}; do sleep 0.1; done; echo over'"
    )
    wait_until(lambda: browser.text("#counts [data-count=waiting]") == "6", "the new job to be counted")
    worker = browser.rig.start_worker()
    wait_until(lambda: browser.text("#counts [data-count=running]") == "1", "the job to be shown as running")
    assert browser.run("return window.same === document.querySelector('main')"), "the page was loaded again"
    uid = browser.rig.show(name)["id"]
    browser.go(f"/job?id={uid}")
    wait_until(lambda: "begun" in browser.text("#output"), "the output")
    go_on.touch()
    wait_until(lambda: "over" in browser.text("#output"), "the rest of the output")
    wait_until(lambda: browser.text("#state") == "succeeded", "the job's end")
    browser.go("/?poll")
    assert browser.text("#live") == "live (asking)"
    before = int(browser.text("#counts [data-count=ended]"))
    browser.rig.submit("true")
    wait_until(lambda: int(browser.text("#counts [data-count=ended]")) == before + 1, "the poll")
    browser.rig.stop_worker(worker)
    browser.assert_clean()
