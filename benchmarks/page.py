"""What the page of a run costs: seconds to write, bytes, and in headless Chromium the first paint, the tab's memory and frames a second.

`python -m benchmarks.page [RUN ...]`: of copies of these runs; without any, of k-means on Lite0's features of Imagenette (96 px).
The page is opened from its file; then all kinds are shown and scrolled through. `write_seconds` are of the first report, which makes the
map, `cpu_seconds` those of its processor; `memory_mb` is what the tab's process holds after it, at its highest; `slowest_frame_ms` is
the longest wait between two frames. Needs chromium, chromedriver and the extra `test`.
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
from coterie.run.files import read_config

FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--window-size=1280,900")  # fmt: skip
PAINTED = "return performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
SCROLL = """const done = arguments[0], times = [];
coterie.show(null);
document.querySelector('#pictures').scrollIntoView({behavior: 'instant'});
const step = (now) => {
  times.push(now);
  scrollBy({top: 40, behavior: 'instant'});
  if (now - times[0] < 5000) return requestAnimationFrame(step);
  done([(times.length - 1) / ((now - times[0]) / 1000), Math.max(...times.slice(1).map((time, i) => time - times[i]))]);
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
    arguments.add_argument("runs", type=Path, nargs="*")
    arguments.add_argument("--images", type=int, nargs="+", default=[1_000, 10_000], help="of Imagenette, where no run is named")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for number, run in enumerate(given.runs or given.images):
            copy = Path(folder) / (f"imagenette96-{run}" if isinstance(run, int) else str(number))
            if isinstance(run, int):
                imagenette(run, copy)
            else:
                shutil.copytree(run, copy, ignore=shutil.ignore_patterns("report*", "map.parquet", "edits*"))
            measure(copy)


def imagenette(n: int, run: Path) -> None:
    pictures, _, _ = load_packed("imagenette96")
    order = np.random.default_rng(0).permutation(len(pictures))[np.arange(n) % len(pictures)]  # some come twice
    np.save(run.with_suffix(".npy"), pictures[order])
    coterie("fit", str(run.with_suffix(".npy")), "-o", str(run), "--method", "kmeans", "--encoder", "lite0", "--clusters", "10")


def measure(run: Path) -> None:
    before = os.times()
    seconds = coterie("report", str(run))
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    files = [run / "report.html", *(run / "report").glob("*")]
    source = read_config(run)["source"]
    row = {"set": source["name"], "images": source["n_images"], "write_seconds": round(seconds, 1), "cpu_seconds": round(cpu, 1)}
    row |= {
        "files": len(files),
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
        frames, slowest = driver.execute_async_script(SCROLL)
        driver.execute_async_script(THROUGH)
        told = {"first_paint_seconds": round(painted / 1000, 2), "frames_per_second": round(frames, 1)}
        return told | {"slowest_frame_ms": round(slowest), "memory_mb": tab_memory(driver)}
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
