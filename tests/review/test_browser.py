"""A review in a real browser: what a person clicks is what edits.jsonl says, and what the screen says after the server was killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from coterie.report import page as report
from coterie.run import edits

from .conftest import K, serving

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="NO BROWSER: chromium is not installed, so the review was not looked at"),
]
PATIENCE = 90  # seconds, of a machine that is busy


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--window-size=1280,900",
        f"--user-data-dir={tmp_path_factory.mktemp('browser')}",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_page_load_timeout(PATIENCE)
    driver.set_script_timeout(PATIENCE)
    yield driver
    driver.quit()


def started(run):
    """A server of its own process, and where it is."""
    pytest.importorskip("uvicorn", reason="NO REVIEW: the extra is not installed")
    words = [sys.executable, "-m", "coterie", "review", str(run), "--no-open", "--json"]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    return server, json.loads(server.stdout.readline())["url"]


def until(true, what):
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.05)


class Page:
    def __init__(self, browser, url):
        self.browser = browser
        browser.get(url)
        until(lambda: self.js("return document.querySelector('#review b').textContent") != "", "the state never came")

    def js(self, code, *values):
        return self.browser.execute_script(code, *values)

    def screen(self):
        """What the page shows: the cluster of each picture, by id, and the names."""
        labels = self.js("return coterie.pictures.map(({id, kind}) => [id, kind])")
        names = self.js("return [...coterie.kinds].map(([number, {name, size}]) => [number, name, size])")
        return [kind for _, kind in sorted(labels)], {number: name for number, name, size in names if name and size}

    def acts(self):
        return int(self.js("return document.querySelector('#review b').textContent").split()[0])

    def wait_for(self, n):
        until(lambda: self.acts() == n, f"act {n} never came: {self.js('return document.querySelector(`#review span`).textContent')}")

    def click(self, text, inside):
        self.js(
            "const one = [...document.querySelectorAll(arguments[1] + ' button')].find((b) => b.textContent.startsWith(arguments[0]));"
            "if (!one || one.disabled || !one.getClientRects().length) throw new Error('no button ' + arguments[0]); one.click()",
            text, inside,
        )  # fmt: skip

    def write(self, text):
        field = self.browser.find_element("css selector", "#ask input")
        field.clear()
        field.send_keys(text + "\n")

    def key(self, keys):
        from selenium.webdriver import ActionChains

        ActionChains(self.browser).send_keys(keys).perform()


def same(page, run):
    found = edits.edited(run)
    labels, names = page.screen()
    assert labels == found.cluster_N.tolist()
    assert names == {number: name for number, name in found.names.items() if (found.cluster_N == number).any()}
    return found


def test_what_the_file_says_is_what_the_screen_says(browser, run):
    server, url = started(run)
    try:
        page = Page(browser, url)
        assert same(page, run).n_acts == 0
        page.js("coterie.show(1)")
        page.click("Rename", "#kind-actions")
        page.write("seals")
        page.wait_for(1)
        assert "seals" in page.js("return document.querySelector('#open-kind h2').textContent") and same(page, run).names == {1: "seals"}

        page.key("j")  # merge it with another, found by its number
        page.write("cluster 2")
        page.wait_for(2)
        assert same(page, run).clusters == (0, 1, 3)

        page.js("coterie.show(0); coterie.select(coterie.shown.slice(0, 3))")
        page.click("Move to", "#actions")
        page.write("new kind")
        page.wait_for(3)
        assert same(page, run).clusters == (0, 1, 3, 4)

        page.js("coterie.show(3); coterie.select(coterie.shown.slice(0, 2))")
        page.key("u")
        page.wait_for(4)
        assert (same(page, run).cluster_N == -1).sum() == 2

        page.js("coterie.show(1)")
        page.key("s")
        page.write("2")
        page.wait_for(5)
        assert len(same(page, run).clusters) == 5

        page.click("Not a kind", "#kind-actions")
        page.wait_for(6)
        assert edits.edited(run).not_kinds == {1}
        page.click("Is a kind", "#kind-actions")
        page.wait_for(7)
        assert not edits.edited(run).not_kinds

        for n in range(8, 11):
            page.click("Undo", "#review")
            page.wait_for(n)
        assert len(same(page, run).applied) == 4
        page.key("y")
        page.wait_for(11)
        before = same(page, run)
        assert len(before.applied) == 5 and len(before.undone) == 2

        server.send_signal(signal.SIGKILL)
        server.wait()
        page.click("Undo", "#review")
        until(lambda: "is gone" in page.js("return document.querySelector('#review').textContent"), "nobody said that the server is gone")
        assert edits.edited(run).n_acts == 11, "and nothing was written"
        gone = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
        assert all("ERR_CONNECTION_REFUSED" in entry["message"] for entry in gone), gone

        server, url = started(run)
        page = Page(browser, url)
        again = same(page, run)
        np.testing.assert_array_equal(again.cluster_N, before.cluster_N)
        page.click("Redo", "#review")
        page.wait_for(12)
        same(page, run)
        assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
        if folder := os.environ.get("COTERIE_SCREENSHOTS"):
            look(page, browser, folder)
    finally:
        server.kill()
        server.wait()


def test_two_windows(browser, run):
    server, url = started(run)
    try:
        page = Page(browser, url)
        page.js("document.documentElement.style.scrollBehavior = 'auto'; coterie.show(1, true)")
        edits.append(run, {"act": "rename", "cluster": 2, "name": "cats"})  # as another window does
        page.key("c")
        until(lambda: "was faster" in page.js("return document.querySelector('#review span').textContent"), "no conflict was said")
        assert same(page, run).names == {2: "cats"} and not edits.edited(run).confirmed_N.any()
        page.key("c")
        page.wait_for(2)
        assert same(page, run).confirmed_N.sum() == 15
        until(lambda: page.js("return document.querySelectorAll('#grid [data-confirmed]').length") > 0, "what is confirmed has no mark")
        severe = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
        assert len(severe) == 1 and "409 (Conflict)" in severe[0]
    finally:
        server.kill()
        server.wait()


def test_pictures_beside_the_page(browser, run, monkeypatch):
    monkeypatch.setattr(report, "MOST_IN_ONE", 10)
    with serving(run) as served:
        page = Page(browser, served.url)
        page.js("document.documentElement.style.scrollBehavior = 'auto'; coterie.show(2, true)")
        drawn = "return [...document.querySelectorAll('#grid img')].filter((image) => image.naturalWidth).length"
        until(lambda: page.js(drawn) == 15, "the pictures never came")
        page.key("k")
        page.wait_for(1)
        assert same(page, run).not_kinds == {2}
        assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []


def test_with_the_keys_alone(browser, run):
    """From the top of the page: a name, a merger, a picture moved, all of it taken back; no mouse."""
    from selenium.webdriver import Keys

    with serving(run) as served:
        page = Page(browser, served.url)
        page.js("document.documentElement.style.scrollBehavior = 'auto'")
        page.key("n")
        cluster = page.js("return coterie.kind")
        page.key("r")
        page.key("seals" + Keys.ENTER)
        page.wait_for(1)
        assert same(page, run).names == {cluster: "seals"}
        page.key("g")
        page.key(Keys.ARROW_RIGHT)
        page.key("x")
        (chosen,) = page.js("return [...coterie.selection]")
        page.key("v")
        page.key("new" + Keys.ENTER)
        page.wait_for(2)
        assert same(page, run).cluster_N[chosen] == K and not page.js("return coterie.selection.size")
        page.key("j")
        page.key(Keys.TAB + Keys.TAB + Keys.ENTER)  # from the search past the first of the list to its second
        page.wait_for(3)
        assert len(same(page, run).clusters) == K
        page.key("g")
        page.key(Keys.ENTER)
        until(lambda: page.js("return document.querySelector('#viewer').open"), "Enter opens nothing")
        here = page.js("return coterie.shown[0]")
        page.key("c")
        page.wait_for(4)
        until(lambda: "Confirmed" in page.js("return document.querySelector('#viewer-more').textContent"), "the large view is not told")
        assert edits.edited(run).confirmed_N[here]
        page.key(Keys.ESCAPE)
        for n in range(5, 9):
            page.key("z")
            page.wait_for(n)
        assert not same(page, run).applied
        assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []


def test_it_asks(browser, run):
    """One picture after the other: what is answered is an anchor, what is skipped is not, and no picture is asked about twice."""
    with serving(run) as served:
        page = Page(browser, served.url)
        here = "return document.querySelector('#viewer').open && document.querySelector('#viewer .name').textContent"
        page.key("q")
        until(lambda: page.js(here), "nothing was asked")
        assert "20 questions left" in page.js("return document.querySelector('#viewer-more').textContent")
        first = page.js(here)
        page.key("c")
        page.wait_for(1)
        until(lambda: page.js(here) != first, "the next question never came")
        second = page.js(here)
        page.key("q")
        until(lambda: page.js(here) != second, "it cannot be skipped")
        third = page.js(here)
        page.key("v")
        page.write("new")
        page.wait_for(2)
        until(lambda: page.js(here) != third, "the next question never came")
        assert "17 questions left" in page.js("return document.querySelector('#viewer-more').textContent")
        page.js("coterie.close()")
        found = same(page, run)
        name_of = page.js("return coterie.pictures.map(({id, name}) => [name, id])")
        assert set(found.confirmed_N.nonzero()[0]) == {dict(name_of)[first], dict(name_of)[third]}
        assert found.cluster_N[dict(name_of)[third]] == K
        page.key("q")
        until(lambda: "20 questions left" in page.js("return document.querySelector('#viewer-more').textContent"), "no second round")
        assert page.js(here) not in (first, third)
        assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []


def look(page, browser, folder):
    """Screenshots, for eyes."""
    page.js("scrollTo(0, 0)")
    browser.save_screenshot(f"{folder}/review-top.png")
    page.js("document.documentElement.style.scrollBehavior = 'auto'; coterie.show(0); coterie.select(coterie.shown.slice(1, 4))")
    page.js("document.querySelector('#pictures').scrollIntoView()")
    time.sleep(1)
    browser.save_screenshot(f"{folder}/review-kind.png")
    page.key("v")
    browser.save_screenshot(f"{folder}/review-ask.png")
    page.js("document.querySelector('#ask').close(); coterie.open(coterie.shown[0])")
    time.sleep(1)
    browser.save_screenshot(f"{folder}/review-large.png")
    page.js("coterie.close()")
    for name, width, dark in (("phone", 390, "light"), ("dark", 1280, "dark")):
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": dark}]})
        size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 800}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        page.js("document.querySelector('#pictures').scrollIntoView()")
        time.sleep(1)
        browser.save_screenshot(f"{folder}/review-{name}.png")
        assert page.js("return document.documentElement.scrollWidth") <= width
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
