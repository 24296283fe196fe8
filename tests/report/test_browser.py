"""The page in a real browser: every picture is drawn, nothing complains, nothing is wider than a phone."""

import json
import re
import shutil
import subprocess

import pytest

from coterie.report.page import write

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--virtual-time-budget=5000",
]
PROBE = """<script>addEventListener("load", () => {
  const images = [...document.querySelectorAll("img[src]")].filter((image) => !image.closest("dialog"));
  const circle = document.querySelector("circle"), form = document.querySelector("#filter"), figure = document.querySelector("figure");
  circle.dispatchEvent(new PointerEvent("pointermove", {bubbles: true, clientX: 40, clientY: 40}));
  const copies = [...document.querySelectorAll("[data-copy] img:not(.over)")].filter((image) => image.getClientRects().length).length;
  const peek = !document.querySelector("#peek").hidden;
  form.elements.cluster.value = "1";
  form.dispatchEvent(new Event("input"));
  const sections = [...document.querySelectorAll("[data-section]")].filter((section) => !section.hidden).length;
  form.elements.cluster.value = "";
  form.elements.text.value = "no such name";
  form.dispatchEvent(new Event("input"));
  const nothing = !document.querySelector("#nothing").hidden;
  form.reset();
  form.dispatchEvent(new Event("input"));
  figure.querySelector("img").click();
  const open = document.querySelector("#viewer").open;
  document.querySelector("#viewer button").click();
  const loose = [...document.querySelectorAll(".warm")].filter((warm) => {
    const [below, above] = [...warm.querySelectorAll("img")].map((image) => image.getBoundingClientRect());
    return ["left", "top", "width", "height"].some((side) => Math.abs(below[side] - above[side]) > 0.5);
  }).length;
  const drawn = images.filter((image) => image.naturalWidth > 0).length, closed = !document.querySelector("#viewer").open;
  const width = document.documentElement.scrollWidth;
  document.title = JSON.stringify({images: images.length, drawn, copies, peek, sections, nothing, open, closed, width, loose});
  if (parent !== window) parent.postMessage(document.title, "*");
});</script>"""
PHONE = """<!doctype html><body style="margin:0"><iframe src="probed.html" style="width:390px;height:800px;border:0"></iframe>
<script>addEventListener("message", (event) => { document.title = event.data; });</script>"""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="NO BROWSER: chromium is not installed, so the page was not looked at"),
]


def browse(page, tmp_path, *flags):
    assert CHROMIUM is not None
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", *flags, "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    title = re.search("<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert title is not None, done.stdout[:500]
    return json.loads(title[1]), console


AGAIN = 2 * 4 * 7 + 4 * 2  # neighbours, and the two smaller pictures of each card


@pytest.mark.parametrize("run, again", [("plain_run", AGAIN), ("hostile_run", AGAIN), ("looked_at_run", AGAIN + 4 * 3 * 2)])
def test_the_page_works(run, again, request, tmp_path):
    probed = write(request.getfixturevalue(run), tmp_path / "probed.html")
    probed.write_text(probed.read_text(encoding="utf-8").replace("</body>", PROBE + "</body>"), encoding="utf-8")
    found, console = browse(probed, tmp_path, "--window-size=1280,900")
    assert console == []
    assert found["images"] >= 60 and found["drawn"] == found["images"]
    assert found["copies"] == again, "they are shown again from the pictures that are there"
    assert found["loose"] == 0, "every map lies over its picture"
    assert found["peek"] and found["sections"] == 1 and found["nothing"] and found["open"] and found["closed"]


@pytest.mark.parametrize("run", ["hostile_run", "looked_at_run"])
def test_it_fits_a_phone(run, request, tmp_path):
    probed = write(request.getfixturevalue(run), tmp_path / "probed.html")
    probed.write_text(probed.read_text(encoding="utf-8").replace("</body>", PROBE + "</body>"), encoding="utf-8")
    (tmp_path / "phone.html").write_text(PHONE, encoding="utf-8")
    found, _ = browse(tmp_path / "phone.html", tmp_path, "--window-size=600,900")
    assert found["width"] <= 390
