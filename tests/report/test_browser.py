"""The page in a real browser, driven as a person would: what the screen shows is what the run holds, and nothing complains."""

import csv
import io
import shutil

import numpy as np
import pytest

from coterie.report.data import read
from coterie.report.page import write

from .fake_run import blobs, drawings, fake_run

webdriver = pytest.importorskip("selenium.webdriver", reason="NO BROWSER: selenium is not installed, so the page was not looked at")
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = [
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--hide-scrollbars", "--window-size=1280,1000"),
]
DRAWN = """const done = arguments[0];
Promise.all([...document.querySelectorAll("#store img, #grid img")].map(async (image) => {
  image.loading = "eager";
  await image.decode().catch(() => 0);
  return image.naturalWidth > 0;
})).then((all) => done([all.length, all.filter(Boolean).length]));"""
CONTRAST = """
const dot = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
const rgb = (colour) => {
  dot.clearRect(0, 0, 1, 1);
  dot.fillStyle = colour;
  dot.fillRect(0, 0, 1, 1);
  return [...dot.getImageData(0, 0, 1, 1).data];
};
const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
const light = (colour) => rgb(colour).slice(0, 3).reduce((sum, c, i) => sum + linear(c / 255) * [0.2126, 0.7152, 0.0722][i], 0);
const paper = (element) => {
  const found = getComputedStyle(element).backgroundColor;
  return rgb(found)[3] > 250 || !element.parentElement ? found : paper(element.parentElement);
};
const bad = new Set();
for (const element of document.querySelectorAll("body *:not(script, style, option, i, svg *, td)")) {
  const text = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  if (!text || !element.getClientRects().length) continue;
  const [a, b] = [light(getComputedStyle(element).color), light(paper(element))].sort((x, y) => y - x);
  if ((a + 0.05) / (b + 0.05) < 4.5) bad.add(`${element.tagName}.${element.className} ${((a + 0.05) / (b + 0.05)).toFixed(2)}`);
}
return [...bad];"""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None or DRIVER is None, reason="NO BROWSER: chromium or chromedriver is not installed, so the page was not looked at"
    ),
]


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


def look(browser, page, width=1280, height=900, dark=False):
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    asked = {"prefers-color-scheme": "dark" if dark else "light", "prefers-reduced-motion": "reduce"}  # scrolled to is there at once
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": name, "value": value} for name, value in asked.items()]})
    browser.get("about:blank")
    browser.get_log("browser")
    browser.get(page.as_uri())
    until(browser, "return coterie.pictures.length > 0")


def until(browser, script, *arguments):
    return WebDriverWait(browser, 30).until(lambda found: found.execute_script(script, *arguments))


def tile(browser, i):
    """The i-th picture of the grid."""
    return browser.find_element(By.CSS_SELECTOR, f'#grid [data-index="{i}"]')


def press(browser, *keys):
    ActionChains(browser).send_keys(*keys).perform()


def selected(browser):
    return set(browser.execute_script("return [...coterie.selection]"))


def complaints(browser):
    return browser.get_log("browser")


@pytest.mark.parametrize("run", ["plain_run", "hostile_run", "looked_at_run"])
def test_every_picture_is_drawn_and_nothing_complains(run, request, tmp_path, browser):
    run = request.getfixturevalue(run)
    look(browser, write(run, tmp_path / "page.html"))
    assert browser.execute_async_script(DRAWN) == [60, 60]
    assert len(browser.find_elements(By.CSS_SELECTOR, "[data-image-id]")) == 60
    names = read(run).assigned.paths
    assert browser.execute_script("return coterie.pictures.map(({id, name}) => [id, name])") == [
        [i, names[i]] for i in browser.execute_script("return coterie.pictures.map(({id}) => id)")
    ]
    assert complaints(browser) == []


def test_the_prototype_alone_is_framed(plain_run, tmp_path, browser):
    look(browser, write(plain_run, tmp_path / "page.html"))
    until(browser, "return document.querySelectorAll('#grid .prototype img').length")
    framed = "return [...document.querySelectorAll('#grid img')].filter((one) => getComputedStyle(one).boxShadow !== 'none')"
    found = browser.execute_script(framed + ".map((one) => one.closest('figure').className)")
    assert found and all("prototype" in names.split() for names in found)


def test_printed_it_is_the_verdict_and_the_kinds(plain_run, tmp_path, browser):
    look(browser, write(plain_run, tmp_path / "page.html"))
    browser.execute_script("coterie.select(coterie.shown.slice(0, 2)); dispatchEvent(new Event('beforeprint'))")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        seen = "return [...document.querySelectorAll(arguments[0])].filter((one) => one.getClientRects().length).length"
        controls = "nav, form, button, select, #selected, #grid, #cloud, main > section:not(#kinds)"
        assert browser.execute_script(seen, controls) == 0
        cards = browser.execute_script(seen, ".card")
        assert cards == len({picture["kind"] for picture in browser.execute_script("return coterie.pictures")})
        assert browser.execute_script("return [...document.querySelectorAll('.others span')].every((place) => place.querySelector('img'))")
        torn = "return [...document.querySelectorAll('.card')].filter((card) => getComputedStyle(card).breakInside !== 'avoid').length"
        assert browser.execute_script(torn) == 0
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("run", ["hostile_run", "looked_at_run"])
def test_it_fits_a_phone_and_can_be_read(run, dark, request, tmp_path, browser):
    look(browser, write(request.getfixturevalue(run), tmp_path / "page.html"), 390, 844, dark)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    browser.execute_script("coterie.select(coterie.shown.slice(0, 2)); coterie.open(coterie.shown[0])")
    assert browser.execute_script("return document.querySelector('#viewer').getBoundingClientRect().width") <= 390
    browser.execute_script("for (const each of document.querySelectorAll('details')) each.open = true")
    assert browser.execute_script(CONTRAST) == []


def test_a_picture_is_seen_large(plain_run, tmp_path, browser):
    data = read(plain_run)
    look(browser, write(plain_run, tmp_path / "page.html"))
    first, second = browser.execute_script("return coterie.shown.slice(0, 2)")
    tile(browser, 0).click()
    viewer = browser.find_element(By.ID, "viewer")
    assert data.assigned.paths[first] in viewer.text and f"Cluster {data.assigned.labels_N[first]}" in viewer.text
    near = [int(one.get_attribute("data-id")) for one in viewer.find_elements(By.CSS_SELECTOR, ".alike button")]
    assert near == data.near_NL[first].tolist()
    press(browser, Keys.ARROW_RIGHT)
    assert data.assigned.paths[second] in viewer.text
    viewer.find_elements(By.CSS_SELECTOR, ".alike button")[0].click()
    assert data.assigned.paths[data.near_NL[second][0]] in viewer.text
    press(browser, Keys.ESCAPE)
    assert not viewer.is_displayed() and complaints(browser) == []


def test_selecting_and_keeping_the_list(plain_run, tmp_path, browser):
    data = read(plain_run)
    look(browser, write(plain_run, tmp_path / "page.html"))
    browser.execute_script("document.querySelector('#pictures').scrollIntoView()")
    shown = browser.execute_script("return coterie.shown")
    assert {int(data.assigned.labels_N[i]) for i in shown} == {0} and len(shown) == 15, "the largest kind, in full"
    ActionChains(browser).move_to_element_with_offset(tile(browser, 1), -50, -60).click().perform()
    assert selected(browser) == {shown[1]}, "its corner"
    ActionChains(browser).key_down(Keys.SHIFT).click(tile(browser, 4)).key_up(Keys.SHIFT).perform()
    assert selected(browser) == set(shown[1:5])
    tile(browser, 2).click()
    assert selected(browser) == {shown[1], shown[3], shown[4]}, "while some are selected, a click selects"
    rows = list(csv.DictReader(io.StringIO(browser.execute_script("return coterie.csv(coterie.selection)"))))
    assert [(int(row["id"]), row["path"], int(row["cluster"])) for row in rows] == [
        (i, data.assigned.paths[i], 0) for i in sorted({shown[1], shown[3], shown[4]})
    ]
    assert "3 selected" in browser.find_element(By.ID, "selected").text
    press(browser, Keys.ESCAPE)
    assert selected(browser) == set() and complaints(browser) == []


def test_the_keys_do_all_of_it(plain_run, tmp_path, browser):
    look(browser, write(plain_run, tmp_path / "page.html"))
    shown = browser.execute_script("return coterie.shown")
    press(browser, "g", Keys.ARROW_RIGHT, "x")
    assert selected(browser) == {shown[1]} and browser.switch_to.active_element.get_attribute("data-image-id") == str(shown[1])
    assert browser.execute_script("return getComputedStyle(document.activeElement.querySelector('img')).outlineStyle") == "solid"
    ActionChains(browser).key_down(Keys.SHIFT).send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT).key_up(Keys.SHIFT).perform()
    assert selected(browser) == set(shown[1:4])
    press(browser, Keys.END, Keys.ENTER)
    assert browser.execute_script("return document.querySelector('#viewer').open")
    press(browser, Keys.ESCAPE)
    assert len(selected(browser)) == 3, "the first Esc closes, the second clears"
    press(browser, Keys.ESCAPE)
    press(browser, "n")
    assert browser.execute_script("return coterie.kind") == 1 and selected(browser) == set()
    press(browser, "a")
    assert selected(browser) == set(browser.execute_script("return coterie.shown"))
    press(browser, "?")
    assert browser.find_element(By.ID, "help").is_displayed()
    press(browser, Keys.ESCAPE, "m", Keys.ARROW_DOWN, Keys.ENTER)
    assert browser.execute_script("return document.querySelector('#viewer').open"), "from the map"
    press(browser, Keys.ESCAPE, "/", "no such name")
    assert browser.find_element(By.ID, "nothing").is_displayed() and complaints(browser) == []


def test_the_filter(plain_run, tmp_path, browser):
    data = read(plain_run)
    look(browser, write(plain_run, tmp_path / "page.html"))
    form = browser.find_element(By.ID, "filter")
    browser.find_element(By.CSS_SELECTOR, "#filter [name=kind] option[value='']").click()
    assert len(browser.execute_script("return coterie.shown")) == 60
    form.find_element(By.NAME, "text").send_keys("KIND2/")
    assert sorted(browser.execute_script("return coterie.shown")) == [i for i, path in enumerate(data.assigned.paths) if "kind2/" in path]
    form.find_element(By.NAME, "text").clear()
    browser.execute_script("coterie.show(null); const range = document.querySelector('#filter [type=range]'); range.value = 98; "
                           "document.querySelector('#filter').dispatchEvent(new Event('input'))")  # fmt: skip
    assert set(browser.execute_script("return coterie.shown")) == set(
        np.flatnonzero((1000 * data.assigned.confidence_N).round() <= 980).tolist()
    )
    browser.find_element(By.CSS_SELECTOR, "#filter [name=order] option[value=doubt]").click()
    lead = data.assigned.confidence_N - data.assigned.second_confidence_N
    leads = [lead[i] for i in browser.execute_script("return coterie.shown")]
    assert leads == sorted(leads) or np.allclose(leads, sorted(leads), atol=0.002)
    browser.find_element(By.CSS_SELECTOR, ".card[data-kind='3']").click()
    assert browser.execute_script("return coterie.kind") == 3 and complaints(browser) == []


def test_the_map(plain_run, tmp_path, browser):
    look(browser, write(plain_run, tmp_path / "page.html"))
    cloud = browser.find_element(By.ID, "cloud")
    browser.execute_script("arguments[0].scrollIntoView({block: 'start', behavior: 'instant'})", cloud)
    wide, high = cloud.size["width"], cloud.size["height"]
    middle = browser.execute_script("return [innerWidth, innerHeight]")
    assert wide > 900 and high > 250 and middle[0] >= wide
    target, x, y = browser.execute_script("""const width = document.querySelector('#cloud').clientWidth;
        const {id, x, y} = coterie.pictures.reduce((a, b) => a.y < b.y ? a : b);
        return [id, (0.024 + x * 0.952) * width, (0.024 + y * 0.952) * width];""")
    box = browser.execute_script("const {left, top} = arguments[0].getBoundingClientRect(); return [left, top]", cloud)
    pointer = ActionChains(browser, duration=20).w3c_actions.pointer_action
    pointer.move_to_location(int(box[0] + x), int(box[1] + y)).click()
    perform(browser, pointer)
    assert browser.find_element(By.CSS_SELECTOR, "#viewer .name").text == browser.execute_script(
        "return coterie.by.get(arguments[0]).name", target
    )
    press(browser, Keys.ESCAPE)
    far = 30  # a ring around that point
    ring = [(x - far, y - 20), (x + far, y - 20), (x + far, y + far), (x - far, y + far)]
    pointer = ActionChains(browser, duration=20).w3c_actions.pointer_action
    pointer.move_to_location(*(int(a + b) for a, b in zip(box, ring[0]))).pointer_down()
    for corner in ring[1:]:
        pointer.move_to_location(*(int(a + b) for a, b in zip(box, corner)))
    pointer.pointer_up()
    perform(browser, pointer)
    inside = browser.execute_script("""const [x, y, far] = arguments, width = document.querySelector('#cloud').clientWidth;
        const at = (part) => (0.024 + part * 0.952) * width;
        return coterie.pictures
          .filter((one) => Math.abs(at(one.x) - x) < far - 2 && at(one.y) > y - 18 && at(one.y) < y + far - 2).map(({id}) => id);""",
        x, y, far)  # fmt: skip
    assert target in selected(browser) and set(inside) <= selected(browser) and len(selected(browser)) < 30
    assert complaints(browser) == []


def perform(browser, pointer):
    chain = ActionChains(browser, duration=20)
    chain.w3c_actions.pointer_action.source.actions = pointer.source.actions
    chain.perform()


def test_another_script_can_build_on_it(plain_run, tmp_path, browser):
    """The hooks that script.js promises."""
    look(browser, write(plain_run, tmp_path / "page.html"))
    told = browser.execute_script("""const told = [];
        coterie.onSelect.push((selection) => told.push(selection.size));
        coterie.onShow.push((kind) => told.push(`kind ${kind}`));
        coterie.onOpen.push((picture, place) => { place.textContent = "more"; told.push(picture.id); });
        const [a, b] = coterie.shown;
        coterie.select([a, b], "add");
        coterie.open(a);
        coterie.close();
        coterie.refresh([[a, 7], [b, 7]], [[7, "new kind"]]);
        coterie.show(7);
        return [told, [a, b], coterie.shown, document.querySelector(".card[data-kind='7']").innerText, coterie.kinds.get(0).size];""")
    a, b = told[1]
    assert told[0] == [2, a, "kind 0", "kind 7"] and sorted(told[2]) == sorted([a, b]) and "new kind" in told[3] and told[4] == 13
    browser.execute_script("coterie.refresh([[arguments[0], 0], [arguments[1], 0]])", a, b)
    assert browser.execute_script("return [document.querySelector(\".card[data-kind='7']\"), coterie.kinds.get(0).size]") == [None, 15]
    assert complaints(browser) == []


def test_many_pictures_are_loaded_as_they_are_scrolled_to(tmp_path, browser, monkeypatch):
    monkeypatch.setattr("coterie.report.layout.AT_MOST", 300)  # seconds instead of a minute
    labels = np.arange(2500) % 4
    features, p = blobs(labels, 4)
    few = drawings(labels[:50], 40)
    run = fake_run(tmp_path / "run", [f"{i}.png" for i in labels], few * 50, labels, p, features)
    look(browser, write(run))
    browser.execute_script("coterie.show(null)")
    assert len(browser.execute_script("return coterie.shown")) == 2500
    sheets = "return document.querySelectorAll('head script').length"
    assert browser.execute_script(sheets) < 6, "those of the covers and the first rows"
    browser.execute_script("document.querySelector('#map').scrollIntoView({block: 'end', behavior: 'instant'})")
    last = "#grid [data-index='2499']"
    assert until(browser, "return document.querySelector(arguments[0])?.querySelector('img')?.naturalWidth > 0", last)
    assert browser.execute_script("return document.querySelectorAll('#grid figure').length") < 300
    assert complaints(browser) == []
