"""What the page of a run costs: seconds to write, bytes, and in headless Chromium the first paint, the tab's memory and frames a second.

The run is k-means on the pixels of Imagenette's pictures of 96 px. The page is opened from its file; then all kinds are shown and scrolled
through. `write_seconds` are of the first report, which makes the map, `cpu_seconds` those of its processor; `memory_mb` is what the tab's
process holds after it, at its highest. Needs chromium, chromedriver and the extra `test`.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from benchmarks.data import load_packed
from benchmarks.record import record

FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--window-size=1280,900")  # fmt: skip
PAINTED = "return performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
SCROLL = """const done = arguments[0], times = [];
coterie.show(null);
document.querySelector('#pictures').scrollIntoView({behavior: 'instant'});
const step = (now) => {
  times.push(now);
  scrollBy({top: 40, behavior: 'instant'});
  if (now - times[0] < 5000) requestAnimationFrame(step); else done((times.length - 1) / ((now - times[0]) / 1000));
};
requestAnimationFrame(step);"""
THROUGH = """const done = arguments[0], grid = document.querySelector('#grid');
const end = grid.offsetTop + grid.offsetHeight;
const step = () => {
  scrollBy({top: 600, behavior: 'instant'});
  if (scrollY + innerHeight < end) setTimeout(step, 30); else setTimeout(done, 500);
};
step();"""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--images", type=int, nargs="+", default=[1_000, 2_000, 10_000])
    with tempfile.TemporaryDirectory() as folder:
        for n in arguments.parse_args().images:
            measure(n, Path(folder) / str(n))


def measure(n: int, run: Path) -> None:
    pictures, _, _ = load_packed("imagenette96")
    order = np.random.default_rng(0).permutation(len(pictures))[np.arange(n) % len(pictures)]  # some come twice
    np.save(run.with_suffix(".npy"), pictures[order])
    coterie("fit", str(run.with_suffix(".npy")), "-o", str(run), "--method", "kmeans", "--encoder", "pixels", "--clusters", "10")
    before = os.times()
    seconds = coterie("report", str(run))
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    files = [run / "report.html", *(run / "report").glob("*")]
    row = {"images": n, "write_seconds": round(seconds, 1), "cpu_seconds": round(cpu, 1), "files": len(files)}
    row |= {
        "page_mb": round((run / "report.html").stat().st_size / 1e6, 2),
        "all_mb": round(sum(file.stat().st_size for file in files) / 1e6, 2),
    }
    record("page", row | seen(run / "report.html") | {"load": round(os.getloadavg()[0], 1)})


def coterie(*words: str) -> float:
    """Seconds of a command."""
    begun = time.monotonic()
    subprocess.run([sys.executable, "-m", "coterie", *words, "--json"], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - begun


def seen(page: Path) -> dict[str, float]:
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or sys.exit("chromium is not installed")
    for flag in FLAGS:
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        driver.set_script_timeout(300)
        driver.get(page.as_uri())
        while (painted := driver.execute_script(PAINTED)) is None:
            time.sleep(0.1)
        frames = driver.execute_async_script(SCROLL)
        driver.execute_async_script(THROUGH)
        return {"first_paint_seconds": round(painted / 1000, 2), "frames_per_second": round(frames, 1), "memory_mb": tab_memory(driver)}
    finally:
        driver.quit()


def tab_memory(driver: webdriver.Chrome) -> float:
    """Highest resident memory, so far, of the largest process below the driver's that draws a tab."""
    parents = {
        int(path.name): int(path.joinpath("stat").read_text().rpartition(")")[2].split()[1]) for path in Path("/proc").glob("[0-9]*")
    }
    below = {driver.service.process.pid}
    while more := {pid for pid, parent in parents.items() if parent in below} - below:
        below |= more
    tabs = [pid for pid in below if b"--type=renderer" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    peaks = [line.split()[1] for pid in tabs for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return round(max(map(int, peaks)) / 1000)


if __name__ == "__main__":
    main()
